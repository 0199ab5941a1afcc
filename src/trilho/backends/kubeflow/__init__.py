"""Kubeflow Pipelines: runs and recurring runs through the v2beta1 API of its server."""
