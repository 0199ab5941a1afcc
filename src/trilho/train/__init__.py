"""The standard training pipeline: from data files to a proven model package."""
