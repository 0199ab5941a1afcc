"""Batch: a table scored as rows are, into a table of scores, one date at a time."""
