"""The one question that the Vertex AI SDK asks the Resource Manager: a project's number. Every project is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.cloud import resourcemanager_v3

NUMBER = "0"  # as the buckets of the emulated storage say whose they are


def handlers() -> Mapping[str, Callable[[Any, Any], Any]]:
    """Give the handlers by method."""
    return {"GetProject": get_project}


def get_project(_: Any, request: Any) -> Any:
    """Answer GetProject: its name is by number, as the real one's is."""
    id_ = request.name.rpartition("/")[2]
    return resourcemanager_v3.Project(name=f"projects/{NUMBER}", project_id=id_, display_name=id_, state="ACTIVE")
