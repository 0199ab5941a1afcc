"""Alerts: messages about incidents, and about rollouts that wait for a person, delivered at least once.

A message is queued in a table, and tried until its channel takes it, each channel on its own. Exactly once does not
exist between two systems: each message names its incident and itself, so that a repeat after a crash is recognised.
"""
