"""`trilho watch`: one pass of the watcher and the readings so far; two tables compared."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trilho.cli import backtest
from trilho.cli.session import Session, group, verb
from trilho.errors import Refused, UsageError

if TYPE_CHECKING:
    from trilho.core.readings import Reading
    from trilho.watch.comparison.compare import Comparison

MOST_SHOWN = 20


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    watching = typer.Typer()
    app.add_typer(watching, name="watch")

    @group(watching)
    def watch(
        here: Session,
        limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many windows at most.")] = 12,
    ) -> None:
        """Measure what was served since the last look.

        Then show the newest windows: the metric where labels have come, the drift, the alarms.
        """
        from trilho.core.records import encode
        from trilho.errors import Unreachable
        from trilho.loops import WatchLoop

        project = here.project
        alarms = []
        if project.state().champion is not None:
            loop = WatchLoop(project)
            try:
                alarms = loop.once()
                loop.deliver()
            except Unreachable:
                here.say("The platform that is up watches; these are its readings.")
            finally:
                loop.stop()
        readings = project.readings()[-limit:]
        _show(here, readings)
        for alarm in alarms:
            here.say(f"New alarm ({alarm.kind}): {alarm.summary}")
        state = project.state()
        next_ = "trilho incidents" if state.open_incidents else "trilho up" if not readings else "trilho"
        here.done(next_, model=project.name, readings=[asdict(x) for x in readings], alarms=[encode(x) for x in alarms])

    @verb(watching, "compare", examples=[
        "trilho watch compare train.parquet june.parquet",
        "trilho watch compare 'served/2024-04/*.parquet' 'served/2024-05/*.parquet' --html may.html",
        "trilho watch compare before.csv after.csv --strict --floor 0.05 --json",
    ])  # fmt: skip
    def compare(
        here: Session,
        reference: Annotated[str, typer.Argument(metavar="REF", help="Parquet or CSV: a file, a folder or a pattern.")],
        current: Annotated[str, typer.Argument(metavar="CUR", help="What is compared with it.")],
        html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page to show.")] = None,
        rate: Annotated[float, typer.Option("--rate", help="False ones among the flagged columns, at most.")] = 0.05,
        floor: Annotated[float, typer.Option("--floor", help="The smallest distance that counts.")] = 0.02,
        strict: Annotated[bool, typer.Option("--strict", help="Ask for evidence that it is over the floor.")] = False,
        ignore: backtest.Ignored = None,
        language: Annotated[
            Literal["en", "pt-BR"] | None, typer.Option("--language", help="The page's: en or pt-BR.")
        ] = None,
        check: Annotated[bool, typer.Option("--check", help="Exit with 3 where a column drifted.")] = False,
    ) -> None:
        """Compare two tables, column by column.

        A column drifted where its difference is not chance's, at a stated false-discovery rate over all columns, and at
        least as large as the floor.
        """
        from trilho.watch.comparison.compare import compare as compared

        settings = backtest.settings_here(here)
        own = {*settings.watch.ignore, settings.model.key or ""} if settings else set()
        hidden = {*(ignore or ()), *own}
        found = compared(reference, current, rate=rate, floor=floor, strict=strict, ignore=hidden)
        _show_comparison(here, found)
        if html is not None:
            from trilho.console.comparison import comparison_page

            spoken = language or (settings.watch.language if settings else "en")
            _write(html, comparison_page(found, _named(reference), _named(current), language=spoken))
            here.say(f"Wrote {html}.")
        more = "--strict" if html else "--html comparison.html"
        here.done(
            f"trilho watch compare {shlex.quote(reference)} {shlex.quote(current)} {more}",
            **found.to_json(),
            **({"html": str(html)} if html else {}),
        )
        if check and found.drifted:
            raise Refused(f"{len(found.drifted)} of {len(found.columns)} columns drifted", hint="leave --check out")

    backtest.add_to(watching)


def _show_comparison(here: Session, found: Comparison) -> None:
    here.say(
        f"{found.rows[0]:,} rows against {found.rows[1]:,}, {len(found.columns)} columns: {len(found.drifted)} drifted "
        f"(at most {found.rate:.0%} of them for nothing, distances of {found.floor:g} or more)."
    )
    ordered = sorted(found.columns.items(), key=lambda x: (not x[1].decision.drifted, -x[1].decision.distance))
    rows = []
    for name, one in ordered[: max(MOST_SHOWN, len(found.drifted))]:
        before, after = one.shares
        moved = f"{one.pair.labels[one.moved]}: {before[one.moved]:.1%} -> {after[one.moved]:.1%}"
        rows.append(("DRIFTED" if one.decision.drifted else "", name, one.pair.kind, f"{one.decision.distance:.3f}",
                     f"{one.decision.low:.3f} to {one.decision.high:.3f}", moved))  # fmt: skip
    if rows:
        here.table(("", "column", "kind", "distance", "95% interval", "largest change"), rows)
    if len(ordered) > len(rows):
        here.say(f"and {len(ordered) - len(rows)} more that did not drift; --json and --html have all of them.")
    for name, why in found.skipped.items():
        here.say(f"  {name} is not compared: {why}")


def _named(place: str) -> str:
    return place if any(sign in place for sign in "*?[") else Path(place).name or place


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint="name another file with --html") from None


def _before_labels(x: Reading) -> str:
    """Say what the metric probably is, where that can be told before labels come; it cannot see concept drift."""
    from trilho.govern.wording import number

    found = x.estimate
    if found is None:
        return "no labels yet"
    if not found["observable"]:
        return "no labels yet, not observable"
    return f"no labels yet, estimated {number(found['value'])} ({number(found['low'])} to {number(found['high'])})"


def _show(here: Session, readings: list[Reading]) -> None:
    from trilho.govern.wording import metric_name, number, window

    if not readings:
        here.say(f"{here.project.name}: no window of served rows is complete yet.")
        return
    rows = []
    for x in readings:
        worst = max(x.features, key=lambda f: f.distance - f.tolerance, default=None)
        moved = f"{worst.feature} {number(worst.distance)}" if worst and worst.distance > worst.tolerance else ""
        interval = f" ({number(x.low)} to {number(x.high)})" if x.low is not None and x.high is not None else ""
        quality = f"{number(x.value)}{interval}" if x.value is not None else _before_labels(x)
        rows.append((window(x.window_start, x.window_end), f"v{x.version}", f"{x.rows:,}", quality, number(x.expected),
                     f"{number(x.evidence)} of {number(x.threshold)}", moved, "ALARM" if x.alarms else ""))  # fmt: skip
    metric = metric_name(readings[-1].metric)
    here.table(("window", "by", "rows", metric, "expected", "drift evidence", "moved", ""), rows)
