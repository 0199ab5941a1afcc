"""A run drawn as the graph it was: a box for each task with its state and time, lying (wide) or standing (phone)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from trilho.core.records import TaskResult
from trilho.govern.wording import duration

WIDTH, NARROW, HEIGHT, GAP = 142, 102, 46, 34
SIGNS = {
    "ran": "M-4 0-1 3 4-3",
    "cached": "M-4-3H4M-4 0H4M-4 3H4",
    "skipped": "M-3-3 0 0-3 3M1-3 4 0 1 3",
    "failed": "M-3-3 3 3M3-3-3 3",
    "running": "M0-4A4 4 0 1 1-4 0",
}


ITERATION = re.compile(r"/\d+/")
WORST = ("failed", "running", "ran", "cached", "skipped")


def fold_iterations(tasks: Sequence[TaskResult]) -> list[TaskResult]:
    """Make one task of a loop's iterations: a fan-out of 500 is one box, in the worst state that any of them has.

    >>> t = [TaskResult(name=f"each/{i}/fit", state="ran", seconds=2.0, needs=["plan"], reason="") for i in range(3)]
    >>> [(x["name"], x["seconds"]) for x in fold_iterations(t)]
    [('each/3 times/fit', 6.0)]
    """
    alike: dict[str, list[TaskResult]] = {}
    groups = {task["name"].rpartition("/")[0] for task in tasks}
    for task in tasks:
        if task["name"] in groups:  # its tasks are drawn
            continue
        alike.setdefault(_shape(task["name"]), []).append(task)
    named = {shape: ITERATION.sub(f"/{len(same)} times/", same[0]["name"]) for shape, same in alike.items()}
    return [
        TaskResult(
            name=named[shape],
            state=min((task["state"] for task in same), key=WORST.index),
            seconds=sum(task["seconds"] for task in same),
            needs=list(dict.fromkeys(named.get(_shape(need), need) for task in same for need in task["needs"])),
            reason=same[0]["reason"],
        )
        for shape, same in alike.items()
    ]


def _shape(name: str) -> str:
    return ITERATION.sub("/*/", name)


@dataclass(frozen=True)
class Place:
    """A task and where it stands: how far along, and in which lane."""

    task: TaskResult
    column: int
    lane: float


def layout(tasks: Sequence[TaskResult]) -> list[Place]:
    """Put every task one column after the last it needs, the lanes of a column centred.

    >>> t = [TaskResult(name=n, state="ran", seconds=1.0, needs=needs, reason="")
    ...      for n, needs in (("extract", []), ("fit", ["extract"]), ("fit-window", ["extract"]), ("pack", ["fit"]))]
    >>> [(p.task["name"], p.column, p.lane) for p in layout(t)]
    [('extract', 0, 0.5), ('fit', 1, 0.0), ('fit-window', 1, 1.0), ('pack', 2, 0.5)]
    """
    known = {task["name"]: task for task in tasks}
    columns: dict[str, int] = {}

    def column(name: str, path: tuple[str, ...] = ()) -> int:
        if name not in columns:
            needs = [n for n in known[name]["needs"] if n in known and n not in path]
            columns[name] = 1 + max((column(n, (*path, name)) for n in needs), default=-1)
        return columns[name]

    rows: dict[int, list[TaskResult]] = {}
    for task in tasks:
        rows.setdefault(column(task["name"]), []).append(task)
    widest = max(len(row) for row in rows.values()) if rows else 0
    return [
        Place(task, at, i + (widest - len(row)) / 2) for at, row in sorted(rows.items()) for i, task in enumerate(row)
    ]


def graph(tasks: Sequence[TaskResult], *, standing: bool) -> Markup:
    """Draw a run's tasks; the table beside it says the same in words."""
    places = layout(fold_iterations(tasks))
    spots = {p.task["name"]: _spot(p, standing) for p in places}
    if not spots:
        return Markup("")
    across = NARROW if standing else WIDTH
    width = max(x for x, _ in spots.values()) + across + 1
    height = max(y for _, y in spots.values()) + HEIGHT + 1
    edges = [
        _edge(spots[need], spots[place.task["name"]], standing)
        for place in places
        for need in _direct(place.task, places)
    ]
    boxes = [_box(place.task, *spots[place.task["name"]], across) for place in places]
    css = "standing" if standing else "lying"
    return Markup(  # noqa: S704  names are escaped in _box
        f'<svg class="graph {css}" width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}" '
        f'aria-hidden="true">{"".join(edges)}{"".join(boxes)}</svg>'
    )


def _direct(task: TaskResult, places: Sequence[Place]) -> list[str]:
    """Leave out needs that another need has too: the picture shows order, the table every need."""
    by_name = {place.task["name"]: place.task for place in places}
    needs = [need for need in task["needs"] if need in by_name]
    behind = {n for need in needs for n in _behind(need, by_name, set())}
    return [need for need in needs if need not in behind]


def _behind(name: str, by_name: dict[str, TaskResult], seen: set[str]) -> set[str]:
    for need in by_name[name]["needs"]:
        if need in by_name and need not in seen:
            seen.add(need)
            _behind(need, by_name, seen)
    return seen


def _spot(place: Place, standing: bool) -> tuple[float, float]:
    if standing:
        return 1 + place.lane * (NARROW + 8), 1 + place.column * (HEIGHT + 24)
    return 1 + place.column * (WIDTH + GAP), 1 + place.lane * (HEIGHT + 18)


def _edge(start: tuple[float, float], end: tuple[float, float], standing: bool) -> str:
    if standing:
        x1, y1, x2, y2 = start[0] + NARROW / 2, start[1] + HEIGHT, end[0] + NARROW / 2, end[1]
        middle = (y1 + y2) / 2
        return f'<path class="edge" d="M{x1:g} {y1:g}C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g}"/>'
    x1, y1, x2, y2 = start[0] + WIDTH, start[1] + HEIGHT / 2, end[0], end[1] + HEIGHT / 2
    middle = (x1 + x2) / 2
    return f'<path class="edge" d="M{x1:g} {y1:g}C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}"/>'


def _label(name: str, most: int) -> str:
    """Name a box by the end of a nested task's path, which is what tells it from the others.

    >>> _label("condition-1/deploy", 14), _label("a-very-long-name", 10)
    ('deploy', 'a-very-lo…')
    """
    path, _, last = name.rpartition("/")
    times = path.rpartition("/")[2] if path.endswith(" times") else ""
    shown = f"{last} ×{times.partition(' ')[0]}" if times else last
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _box(task: TaskResult, x: float, y: float, width: int) -> str:
    most = 17 if width == WIDTH else 14
    name = _label(task["name"], most)
    time = duration(task["seconds"]) if task["state"] in ("ran", "failed") else task["state"]
    left = 12 if width == WIDTH else 8
    sign = f'<path class="sign" transform="translate({width - 14} 32)" d="{SIGNS[task["state"]]}"/>'
    return (
        f'<g class="task {task["state"]}" transform="translate({x:g} {y:g})"><title>{escape(task["name"])}</title>'
        f'<rect width="{width}" height="{HEIGHT}" rx="6"/>'
        f'<text class="name" x="{left}" y="20">{escape(name)}</text>'
        f'<text class="time" x="{left}" y="36">{escape(time)}</text>{sign}</g>'
    )
