"""A watcher in a process of its own, to be killed: incidents open and end, and what they have to tell is delivered."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from trilho.config import Settings
from trilho.core import records as r
from trilho.loops import WatchLoop
from trilho.project import Project
from trilho.watch.alerts import table

INCIDENTS = 6


def settings() -> Settings:
    """Give the project's settings."""
    return Settings.model_validate(
        {
            "model": {"name": "bike", "task": "regression", "target": "y", "time": "ts", "key": "id"},
            "data": {"source": "data.csv"},
            "steps": {"features": "bike.features:build", "train": "bike.train:fit"},
            "watch": {"alerts": ["slack", "hook"]},
            "alerts": {"hook": {"kind": "webhook", "address": "secret://hook"}},
        }
    )


def happen(project: Project) -> None:
    """Append what has not happened yet: each incident is opened, confirmed and closed."""
    state = project.state()
    for k in range(INCIDENTS):
        name = f"drift-{k}"
        held = state.incidents.get(name)
        if held is None:
            project.record(
                r.IncidentOpened(
                    model="bike", incident=name, kind="drift", alarm=f"a{k}", version=1, severity="low", title="Drift"
                )
            )
            return
        if not held.notes:
            project.record(r.IncidentUpdated(model="bike", incident=name, change="confirmed", note=""))
            return
        if held.closed is None:
            project.record(r.IncidentClosed(model="bike", incident=name, reason="version 2 took over"))
            return


def main(folder: Path) -> None:
    """Watch until everything that there is to tell is recorded as sent."""
    table.BURST = 1000  # one by one
    table.backoff = lambda attempts: 0.01 * attempts
    project = Project(folder, settings())
    loop = WatchLoop(project)
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    until = time.monotonic() + 60
    while len(project.state().alerts) < 2 * 3 * INCIDENTS and time.monotonic() < until:
        loop.outbox.queue(project.state())
        happen(project)
        loop.outbox.queue(project.state())
        loop.deliver(0.02)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
