"""Pipelines that run elsewhere, on Vertex AI or Kubeflow: submitted, followed, brought home and put on record."""

from trilho.remote.ending import cancel_run, follow_run, log_of
from trilho.remote.environment import Target, resolve
from trilho.remote.record import RemoteRun, is_remote
from trilho.remote.run import Outcome, submit, target_of
from trilho.remote.schedule import create_schedule
from trilho.remote.train import submit_training

__all__ = [
    "Outcome",
    "RemoteRun",
    "Target",
    "cancel_run",
    "create_schedule",
    "follow_run",
    "is_remote",
    "log_of",
    "resolve",
    "submit",
    "submit_training",
    "target_of",
]
