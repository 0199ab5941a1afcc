"""Trilho takes a validated model to production and keeps it healthy there."""
