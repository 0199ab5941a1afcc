"""Servers of other products, each in an environment of its own, asked in turns with ours."""
