"""One leaf on this machine: a fork of a warm interpreter, or a process of a keeper; and what is in its way."""
