"""An endpoint's files: who may serve it (a lease), where each share of its traffic goes, and how it is.

HOME/endpoints/MODEL/lease           held by the supervisor's process for as long as it lives
HOME/endpoints/MODEL/routes.json     what the router follows
HOME/endpoints/MODEL/endpoint.json   what everybody else reads
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trilho.core.files import write_whole
from trilho.core.lease import held
from trilho.core.readings import EndpointStatus, VersionStats
from trilho.errors import DataError

SCHEMA = 1


def folder_of(home: Path, model: str) -> Path:
    """Give the folder of a model's endpoint."""
    return home / "endpoints" / model


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON file that is there whole or not at all."""
    try:
        write_whole(path, json.dumps(data))
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}", hint="look for a full disk") from error


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None when there is none, or it is no object."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def publish(path: Path, status: EndpointStatus, more: Mapping[str, Any]) -> None:
    """Write how an endpoint is, for other processes."""
    write_json(path, {"schema": SCHEMA, **asdict(status), **more})


def read_status(home: Path, model: str) -> EndpointStatus | None:
    """Give an endpoint as its supervisor last saw it, None when there never was one; `running` is checked now."""
    folder = folder_of(home, model)
    data = read_json(folder / "endpoint.json")
    if data is None:
        return None
    running = bool(data["running"]) and held(folder / "lease")
    return EndpointStatus(
        model=model,
        address=data["address"],
        running=running,
        pid=data["pid"] if running else None,
        versions={int(number): state if running else "down" for number, state in data["versions"].items()},
        stats={int(number): VersionStats(**stats) for number, stats in data["stats"].items()},
        updated=data["updated"],
    )
