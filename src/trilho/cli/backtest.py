"""`trilho watch backtest`: how a setting of the watcher would have done on history."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trilho.cli.session import Session, verb
from trilho.errors import NotYet, UsageError

if TYPE_CHECKING:
    from trilho.config import Settings
    from trilho.watch.backtest import Backtest, Outcome
    from trilho.watch.replay import History
    from trilho.watch.setting import Setting

Ignored = Annotated[list[str] | None, typer.Option("--ignore", metavar="COLUMN", help="A column to leave out.")]
MOST_SHOWN = 20


def add_to(app: typer.Typer) -> None:
    """Add this module's verb."""

    @verb(app, "backtest", examples=[
        "trilho watch backtest history.parquet --time day",
        "trilho watch backtest history.parquet --time day --plant price:0.2sd@2024-05-01 --wanted '1 per quarter'",
        "trilho watch backtest served.csv --time at --prediction score --label paid --json",
        "trilho watch backtest",
    ])  # fmt: skip
    def backtest(
        here: Session,
        table: Annotated[
            str | None, typer.Argument(metavar="TABLE", help="Parquet or CSV; by default what the project served.")
        ] = None,
        time: Annotated[str | None, typer.Option("--time", metavar="COLUMN", help="The column of times.")] = None,
        prediction: Annotated[str | None, typer.Option("--prediction", metavar="COLUMN", help="The model's.")] = None,
        label: Annotated[str | None, typer.Option("--label", metavar="COLUMN", help="What came true.")] = None,
        since: Annotated[
            str | None, typer.Option("--since", metavar="DATE", help="Replay from here; before it is the reference.")
        ] = None,
        window: Annotated[str | None, typer.Option("--window", help='As in [watch], such as "1 day".')] = None,
        false_alarms: Annotated[str | None, typer.Option("--false-alarms", help='The promise, "1 per year".')] = None,
        tolerance: Annotated[str | None, typer.Option("--tolerance", help="auto, or a total variation.")] = None,
        plant: Annotated[
            list[str] | None,
            typer.Option("--plant", metavar="CHANGE", help="As price:0.2sd@2024-05-01 or city:5%unseen."),
        ] = None,
        change: Annotated[
            list[str] | None, typer.Option("--change", metavar="DATE", help="When something is known to have changed.")
        ] = None,
        within: Annotated[int, typer.Option("--within", min=1, help="Windows in which a change is to be found.")] = 30,
        wanted: Annotated[
            str | None, typer.Option("--wanted", metavar="RATE", help='Propose a setting for "1 per quarter".')
        ] = None,
        ignore: Ignored = None,
    ) -> None:
        """Replay history under a setting.

        Says how many alarms a month there would have been, how late a change is found and what is missed; with
        --wanted, which setting to take for that many alarms.
        """
        from trilho.watch.backtest import Backtest
        from trilho.watch.planting import Plant, moment_of
        from trilho.watch.setting import read_rate

        settings = settings_here(here) if table is not None else here.project.settings
        setting = _setting(settings, window, false_alarms, tolerance)
        plants = [Plant.parse(text) for text in plant or ()]
        changes = [moment_of(text) for text in change or ()]
        goal = None if wanted is None else read_rate(wanted)
        start = None if since is None else moment_of(since)
        hidden = [*(ignore or ()), *(settings.watch.ignore if settings else ())]
        named = {"time": time, "prediction": prediction, "label": label}
        history = _log(here, hidden, start) if table is None else _table(table, settings, named, hidden, start)
        with history as opened:
            _replayed(here, Backtest(opened, plants, changes, within), setting, goal, table=table)


def settings_here(here: Session) -> Settings | None:
    """Give the settings of the project in the folder, where there is one."""
    from trilho.config import FILE, load_settings

    folder = here.folder or Path()
    return load_settings(folder) if (folder / FILE).exists() else None


def _setting(settings: Settings | None, window: str | None, false_alarms: str | None, tolerance: str | None) -> Setting:
    """Give what is typed, else what the project sets, else what projects set by default."""
    from trilho.config.watching import Watch
    from trilho.watch.setting import rate_words, settings_of, span_words

    watched = settings.watch if settings else Watch()
    return settings_of(
        {
            "window": window or span_words(watched.window.total_seconds()),
            "false_alarms": false_alarms or rate_words(watched.false_alarms),
            "tolerance": tolerance or str(watched.tolerance),
        }
    )


@contextmanager
def _table(
    table: str, settings: Settings | None, named: dict[str, str | None], hidden: Sequence[str], since: float | None
) -> Iterator[History]:
    from trilho.watch.comparison.source import opened
    from trilho.watch.replay import TableHistory

    with opened(table) as (source,):
        model = settings.model if settings else None
        there = source.types.keys()
        own = {"time": model.time, "label": model.target} if model else {}
        given = {**named, **{key: name for key, name in own.items() if name in there and named.get(key) is None}}
        timed = [name for name, type_ in source.types.items() if type_.startswith(("TIMESTAMP", "DATE"))]
        time = given["time"] or (timed[0] if len(timed) == 1 else None)
        if time is None:
            said = f"several columns are times: {', '.join(timed)}" if timed else "no column is a time"
            raise UsageError(f"{table}: {said}", hint="--time COLUMN, of dates, timestamps or seconds since 1970")
        key = [model.key] if model and model.key else []
        yield TableHistory(source, time, given["prediction"], given["label"], {*hidden, *key}, since)


@contextmanager
def _log(here: Session, hidden: Sequence[str], since: float | None) -> Iterator[History]:
    """Give what the project served, against the champion's reference."""
    import numpy as np

    from trilho.watch.performance import losses
    from trilho.watch.reference import load_reference
    from trilho.watch.replay import LogHistory

    project, settings = here.project, here.project.settings
    champion = project.state().champion
    if champion is None:
        raise NotYet(
            f"{project.name} has no champion, so nothing was served by one", hint="trilho train, or name a table"
        )
    package, model = project.package(champion), settings.model
    left_out = {model.target, model.time or "", model.key or "", *settings.serve.mask, *hidden}
    reference = load_reference(package / "reference.json").without(left_out)
    metric = "mae" if model.task == "regression" else "brier"
    held = None
    with np.load(package / "validation.npz") as file:
        if file["prediction"].dtype.kind in "fiu" and file["value"].dtype.kind in "fiub":
            held = losses(metric, file["prediction"], file["value"])
    yield LogHistory(project.log, reference, metric, held, since)


def _replayed(here: Session, test: Backtest, setting: Setting, goal: float | None, *, table: str | None) -> None:
    from trilho.watch.backtest import WINDOWS, keeps
    from trilho.watch.setting import iso, rate_words

    outcome = test.run(setting)
    here.say(
        f"{outcome.windows:,} windows in {outcome.months:.1f} months, after {outcome.reference_windows:,} of reference."
    )
    _show_outcomes(here, [("this setting", outcome)])
    changes = list(dict.fromkeys(one.change for one in outcome.found))
    here.say(f"Changes that were to be found: {', '.join(changes)}." if changes else "No change was to be found.")
    for one in outcome.opened[:MOST_SHOWN]:
        said = "" if one.false else ", of a known change"
        here.say(f"  {iso(one.time)[:16].replace('T', ' ')}  {one.kind}: {one.column}{said}")
    for note in outcome.notes:
        here.say(f"Note: {note}.")
    if goal is None:
        named = f" {shlex.quote(table)}" if table else ""
        here.done(f"trilho watch backtest{named} --wanted '1 per quarter'", **outcome.to_json())
        return
    best, tried = test.propose(goal, setting, WINDOWS if table else ())
    here.say("", f"Settings that come to at most {rate_words(goal)}, the best first:")
    _show_outcomes(here, [(f"{place}.", one) for place, one in enumerate(tried, 1)])
    kept = keeps(best, goal)
    if not kept:
        here.say("No setting that was tried has so few alarms on this history; this one has the fewest.")
    written = best.setting.to_json()
    tolerance = '"auto"' if written["tolerance"] == "auto" else written["tolerance"]
    here.say("", "Proposed, for trilho.toml:", "[watch]", f'window = "{written["window"]}"',
             f'false_alarms = "{written["false_alarms"]}"', f"tolerance = {tolerance}")  # fmt: skip
    here.done("trilho config watch", **outcome.to_json(), wanted=rate_words(goal), kept=kept,
              proposed={**written, "outcome": best.to_json()}, tried=[one.to_json() for one in tried])  # fmt: skip


def _show_outcomes(here: Session, outcomes: list[tuple[str, Outcome]]) -> None:
    from trilho.govern.wording import number

    rows = []
    for name, one in outcomes:
        rate, low, high = one.per_month
        setting = one.setting.to_json()
        delay = (
            "not known"
            if not one.found
            else "none found"
            if one.delay is None
            else f"{one.delay:g} window{'s' * (one.delay != 1)}"
        )
        rows.append((name, setting["window"], setting["false_alarms"], str(setting["tolerance"]),
                     f"{number(rate)} ({number(low)} to {number(high)})", delay,
                     f"{one.missed} of {len(one.found)}" if one.found else "not known"))  # fmt: skip
    here.table(("", "window", "false_alarms", "tolerance", "alarms a month (95%)", "delay", "missed"), rows)
