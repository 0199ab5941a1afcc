"""Google Cloud: Cloud Storage, Vertex AI Pipelines and schedules, Cloud Logging. Clients are imported when used."""
