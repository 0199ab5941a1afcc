"""Answering for the models: health, lead times, lineage, the handover."""
