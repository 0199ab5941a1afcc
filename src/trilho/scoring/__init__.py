"""A project's tables scored: which versions score, what of it is served, and what a rollback changes of it."""

from trilho.scoring.places import open_table
from trilho.scoring.request import Request
from trilho.scoring.rollbacks import repoint, repoint_all, rolled_back, tables
from trilho.scoring.scores import explain, score_table, span, summary, today

__all__ = [
    "Request",
    "explain",
    "open_table",
    "repoint",
    "repoint_all",
    "rolled_back",
    "score_table",
    "span",
    "summary",
    "tables",
    "today",
]
