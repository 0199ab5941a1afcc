"""Timings of what people wait for, each beside a baseline in the same run."""
