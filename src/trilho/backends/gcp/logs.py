"""What tasks printed, from Cloud Logging, over its REST API: one call does not justify another client library."""

from __future__ import annotations

from typing import Any

from trilho.backends.gcp.cloud import CALL_SECONDS, Cloud

ADDRESS = "https://logging.googleapis.com"
PAGE = 1000
MOST_LINES = 5000


def read_log(cloud: Cloud, run: str, task: str, container_job: str | None) -> str:
    """Give a task's lines, oldest first: of its container's custom job where one is known, else of the pipeline's."""
    chosen = log_filter(run, task, container_job)
    lines: list[str] = []
    token = ""
    while len(lines) < MOST_LINES:
        page = cloud.call(f"reading the log of {task}", lambda token=token: _page(cloud, chosen, token))  # type: ignore[misc]
        lines += [line for entry in page.get("entries", []) if (line := line_of(entry)) is not None]
        token = page.get("nextPageToken", "")
        if not token:
            break
    return "".join(f"{line}\n" for line in reversed(lines[:MOST_LINES]))


def log_filter(run: str, task: str, container_job: str | None) -> str:
    """Give the query of a task's lines.

    >>> log_filter("r1", "fit", "123")
    'resource.type="ml_job" AND resource.labels.job_id="123"'
    """
    if container_job:
        return f'resource.type="ml_job" AND resource.labels.job_id="{container_job}"'
    job = f'resource.type="aiplatform.googleapis.com/PipelineJob" AND resource.labels.pipeline_job_id="{run}"'
    return f'{job} AND (labels.task_name="{task}" OR jsonPayload.taskName="{task}")'


def line_of(entry: dict[str, Any]) -> str | None:
    """Give a log entry's text; None for one that has none.

    >>> line_of({"jsonPayload": {"message": "42 rows"}})
    '42 rows'
    """
    payload = entry.get("jsonPayload") or {}
    text = entry.get("textPayload") or payload.get("message")
    return str(text).rstrip("\n") if text else None


def _page(cloud: Cloud, chosen: str, token: str) -> dict[str, Any]:
    from google.api_core import exceptions

    answer = cloud.web.post(
        f"{cloud.logging or ADDRESS}/v2/entries:list",
        json={
            "resourceNames": [f"projects/{cloud.project}"],
            "filter": chosen,
            "orderBy": "timestamp desc",
            "pageSize": PAGE,
            **({"pageToken": token} if token else {}),
        },
        timeout=CALL_SECONDS,
    )
    if answer.status_code >= 400:
        raise exceptions.from_http_response(answer)  # type: ignore[no-untyped-call]
    found: dict[str, Any] = answer.json()
    return found


def last_words(cloud: Cloud, endpoint: str, deployed: str, most: int = 15) -> str:
    """Give the last lines that the containers of a deployed model printed; empty where none can be had."""
    from trilho.errors import TrilhoError

    chosen = endpoint_filter(endpoint, deployed)
    try:
        page = cloud.call("reading the container's log", lambda: _page(cloud, chosen, ""))
    except TrilhoError:  # there is something worse to tell
        return ""
    lines = [line for entry in page.get("entries", []) if (line := line_of(entry)) is not None]
    return "\n".join(reversed(lines[:most]))


def endpoint_filter(endpoint: str, deployed: str) -> str:
    """Give the query of what a deployed model's containers print.

    >>> endpoint_filter("bikes", "30123")
    'resource.type="aiplatform.googleapis.com/Endpoint" AND resource.labels.endpoint_id="bikes" AND "30123"'
    """
    where = f'resource.type="aiplatform.googleapis.com/Endpoint" AND resource.labels.endpoint_id="{endpoint}"'
    return f'{where} AND "{deployed}"'
