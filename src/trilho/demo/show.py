"""What a person sees of the demo: a line per model while it runs, a table per model at its end."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from trilho.core.metrics import HIGHER_IS_BETTER
from trilho.demo.run import Demo, ModelResult, OnProgress, Progress


@contextmanager
def progress_display(console: Console) -> Iterator[OnProgress]:
    """Show a bar per model; on something else than a terminal, a line for each stage or period."""
    if not console.is_terminal:
        yield _line_printer(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("windows, {task.fields[stage]}"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        tasks: dict[str, int] = {}
        lock = threading.Lock()

        def show(progress: Progress) -> None:
            with lock:
                if progress.model not in tasks:
                    tasks[progress.model] = bars.add_task(progress.model, total=None, stage="")
            bars.update(
                tasks[progress.model],  # type: ignore[arg-type]
                completed=progress.windows_played,
                total=progress.windows or None,
                stage=f"{progress.stage} {progress.period}".strip(),
            )

        yield show


def _line_printer(console: Console) -> OnProgress:
    last: dict[str, str] = {}
    lock = threading.Lock()

    def show(progress: Progress) -> None:
        text = f"{progress.stage} {progress.period}".strip()
        with lock:
            if last.get(progress.model) != text:
                last[progress.model] = text
                console.print(f"{progress.model}: {text}", highlight=False, soft_wrap=True)

    return show


def print_results(demo: Demo, console: Console) -> None:
    """Print a table per model, and what it adds up to."""
    for result in demo.results:
        console.print(_table(result))
        console.print(summary(result), highlight=False, soft_wrap=True)
        for problem in result.problems:
            console.print(f"  failed: {problem}", style="red", highlight=False, soft_wrap=True)
        console.print()


def _table(result: ModelResult) -> Table:
    metric = result.metric.upper().replace("ROC_", "")
    better = "higher is better" if result.metric in HIGHER_IS_BETTER else "lower is better"
    title = f"{result.model}: {metric} by period, {better}"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for name, justify in (
        ("period", "left"), ("rows", "right"), ("static", "right"), ("managed", "right"), ("alarms", "right"),
        ("retrained", "right"), ("released", "right"), ("seconds", "right"), ("champion", "right"),
    ):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    digits = 3 if result.metric in HIGHER_IS_BETTER else 1
    for period in result.periods:
        seconds = period["seconds_to_serving"]
        table.add_row(
            period["period"],
            f"{period['rows']:,}",
            _number(period["static"], digits),
            _number(period["managed"], digits),
            str(len(period["alarms"]) or ""),
            str(period["retrained"] or ""),
            str(period["released"] or ""),
            f"{seconds:.1f}" if seconds is not None else "",
            f"v{period['champion']}",
        )
    static, managed = means(result)
    table.add_section()
    table.add_row("mean", "", _number(static, digits), _number(managed, digits), style="bold")
    return table


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def means(result: ModelResult) -> tuple[float | None, float | None]:
    """Give the mean over periods of the metric of the static and of the managed model."""
    pairs = [
        (p["static"], p["managed"]) for p in result.periods if p["static"] is not None and p["managed"] is not None
    ]
    if not pairs:
        return None, None
    return statistics.fmean(p[0] for p in pairs), statistics.fmean(p[1] for p in pairs)


def summary(result: ModelResult) -> str:
    """Say in one line what was asked, what failed, and how the retrainings ended."""
    c = result.counts
    return (
        f"  {c['requests']:,} requests ({c['single_row_requests']:,} of one row), {c['failed_requests']} failed; "
        f"{c['retrainings']} retrainings: {c['promotions']} promoted, {c['rejected']} rejected."
    )
