"""Hourly demand for shared bikes."""
