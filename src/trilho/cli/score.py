"""`trilho score`: a table in, a table of scores out."""

from __future__ import annotations

import sys
import time
from datetime import date as Date  # noqa: N812
from typing import TYPE_CHECKING, Annotated

import typer

from trilho.cli.session import DryRun, Session, verb
from trilho.errors import UsageError

if TYPE_CHECKING:
    from trilho.scoring import Request
    from trilho.serve.batch.run import Outcome, Progress

From = Annotated[str, typer.Option("--from", metavar="TABLE", help='Parquet or CSV: a file, a folder, a glob; or bigquery://PROJECT.DATASET.TABLE; "{date}" in it is the date.')]  # fmt: skip  # noqa: E501
To = Annotated[str, typer.Option("--to", metavar="TABLE", help="A folder: what is served lies in its `current`; or bigquery://PROJECT.DATASET.TABLE.")]  # fmt: skip  # noqa: E501
At = Annotated[str, typer.Option("--at", metavar="DATE", help="The date that is scored, as 2026-01-31, in the project's timezone; by default today.")]  # fmt: skip  # noqa: E501
Since = Annotated[str, typer.Option("--since", metavar="DATE", help="Backfill: the first of several dates.")]
Until = Annotated[str, typer.Option("--until", metavar="DATE", help="Backfill: the last one; by default today.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(app, "score", examples=["trilho score --from data/customers.parquet --to scores --whole",
                                  "trilho score --from 'data/{date}/*.parquet' --to scores --at 2026-01-31",
                                  "trilho score --from data/all.parquet --to scores --since 2026-01-01 --until 2026-01-31",  # noqa: E501
                                  "trilho score --from bigquery://crm.customers --to bigquery://crm.scores --env prod"])  # fmt: skip  # noqa: E501
    def score(
        here: Session,
        source: From,
        to: To,
        at: At = "",
        since: Since = "",
        until: Until = "",
        whole: Annotated[
            bool, typer.Option("--whole", help="All rows of the table, whatever date their time says.")
        ] = False,
        version: Annotated[
            int | None, typer.Option("--version", metavar="N", help="This version; by default what serves.")
        ] = None,
        again: Annotated[bool, typer.Option("--again", help="Score anew what has not changed.")] = False,
        warn: Annotated[
            bool, typer.Option("--no-contract", help="Score rows that break the contract, as long as the model can.")
        ] = False,
        part_rows: Annotated[int, typer.Option("--part-rows", min=1000, help="Rows in memory at once.")] = 100_000,
        environment: Annotated[
            str | None, typer.Option("--env", metavar="NAME", help="[environments.NAME] reaches BigQuery.")
        ] = None,
        dry_run: DryRun = False,
    ) -> None:
        """Score a table into a table, one date at a time.

        The same package, decision and checks as at the endpoint. A date that is scored again is replaced, never added
        to; nothing is computed where rows, version and decision are what they were; a run that was killed goes on.
        Of BigQuery it reads one query's result; there a view has what is served. What is served is watched as what the
        endpoint answers. While a version is on its way to users it scores beside the champion, and the rows of its
        share are served from it: the same customers as at the endpoint. Exits with 3 where rows break the contract.
        """
        from trilho import scoring

        dates = _dates(at, since, until, scoring.today(here.project))
        request = scoring.Request(
            source=source,
            to=to,
            dates=dates,
            whole=whole,
            version=version,
            again=again,
            warn=warn,
            part_rows=part_rows,
            environment=environment,
        )
        if dry_run:
            _plan(here, request)
            return
        outcomes = []
        for outcome in scoring.score_table(here.project, request, _progress(here), here.say):
            here.say(_sentence(outcome))
            outcomes.append(outcome)
        if len(outcomes) > 1:
            here.say(_altogether(outcomes))
        here.say(f"Served: {to}" if "://" in to else f"Served: {to.rstrip('/')}/current")
        told = [scoring.summary(outcome) for outcome in outcomes]
        here.done("trilho watch", model=here.project.name, to=to, dates=told)


def _dates(at: str, since: str, until: str, today: Date) -> list[Date]:
    from trilho.scoring import span

    if at and (since or until):
        raise UsageError("--at beside --since or --until", hint="--at is one date, --since and --until are a backfill")
    if until and not since:
        raise UsageError("--until without --since", hint="add --since DATE, or say --at DATE")
    if since:
        return span(_date("--since", since), _date("--until", until) if until else today)
    return [_date("--at", at) if at else today]


def _date(option: str, text: str) -> Date:
    try:
        return Date.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option} {text}; allowed: a date such as 2026-01-31", hint="write year, month, day"
        ) from None


def _plan(here: Session, request: Request) -> None:
    from trilho.scoring import explain

    lines = explain(here.project, request)
    here.agreed(lines, yes=False, dry_run=True)
    here.done("trilho score", model=here.project.name, plan=lines, dates=[date.isoformat() for date in request.dates])


def _progress(here: Session) -> Progress:
    began: dict[int, tuple[float, int]] = {}

    def shown(version: int, done: int, rows: int) -> None:
        if not sys.stderr.isatty() or here.as_json:
            return
        now = time.monotonic()
        since, before = began.get(version, (now, done))
        if version not in began or done < before:  # another date has begun
            since, before = began[version] = now, done
        rate = (done - before) / (now - since) if now > since else 0.0
        left = f", {rate:,.0f} a second, {(rows - done) / rate:.0f} s left" if rate and done < rows else ""
        sys.stderr.write(f"\r\033[K  version {version}: {done:,} of {rows:,} rows ({done / rows:.0%}){left}")
        sys.stderr.write("\n" if done == rows else "")
        sys.stderr.flush()

    return shown


def _sentence(outcome: Outcome) -> str:
    if outcome.empty:
        return f"{outcome.date}: nothing to score, {outcome.empty}."
    if not outcome.scored:
        return f"{outcome.date}: {outcome.rows:,} rows, unchanged{_served(outcome)}."
    parts = [f"version {number} in {one.seconds:.1f} s" for number, one in sorted(outcome.scored.items())]
    undecided = sum(one.undecided for one in outcome.scored.values())
    more = f"; the decision failed on {undecided:,} rows, which have none" if undecided else ""
    kept = f", {outcome.resumed} parts taken from a run that was stopped" if outcome.resumed else ""
    far = "; too long ago to be watched" if outcome.watched is None else ""
    scored = f"{outcome.rows:,} rows scored by {', '.join(parts)} ({outcome.path}){kept}"
    return f"{outcome.date}: {scored}{_served(outcome)}{more}{far}."


def _served(outcome: Outcome) -> str:
    """Say what is served where that is not plain: of a canary each version's share, of a shadow that it is unseen."""
    shares = {version: share for version, share in sorted(outcome.shares.items()) if share}
    unseen = sorted({*outcome.scored, *outcome.unchanged} - shares.keys())
    told = (
        [f"served: {', '.join(f'{share}% from version {n}' for n, share in shares.items())}"] if len(shares) > 1 else []
    )
    told += [f"version {version} is not served" for version in unseen]
    return f"; {'; '.join(told)}" if told else ""


def _altogether(outcomes: list[Outcome]) -> str:
    """Say what came of a backfill.

    >>> from trilho.serve.batch.run import Outcome
    >>> _altogether([Outcome("2026-01-01", 5, unchanged=[1]), Outcome("2026-01-02", empty="it has no rows")])
    '2 dates, 5 rows: 1 unchanged, 1 without rows.'
    """
    scored = sum(bool(one.scored) for one in outcomes)
    empty = sum(bool(one.empty) for one in outcomes)
    counted = {"scored": scored, "unchanged": len(outcomes) - scored - empty, "without rows": empty}
    told = ", ".join(f"{count} {what}" for what, count in counted.items() if count)
    return f"{len(outcomes)} dates, {sum(one.rows for one in outcomes):,} rows: {told}."
