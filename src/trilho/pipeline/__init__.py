"""A graph of functions over artifacts, and its execution on this machine."""
