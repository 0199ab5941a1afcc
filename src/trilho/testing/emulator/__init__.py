"""Vertex AI, storage, BigQuery and secrets on this machine, for the unmodified Google clients."""
