"""Alarms within seconds: counts that servers publish as they go, against the reference's same hour of the day."""
