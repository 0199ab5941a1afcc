"""`trilho endpoint`: what answers at an environment's endpoint, and making it what the journal says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trilho.cli.session import DryRun, Session, Yes, group, verb
from trilho.errors import NotYet, UsageError

if TYPE_CHECKING:
    from trilho.core.ports import Served, Split

Env = Annotated[str, typer.Option("--env", metavar="NAME", help="Which [environments.NAME] of trilho.toml.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    endpoint = typer.Typer()
    app.add_typer(endpoint, name="endpoint")

    @group(endpoint)
    def status(here: Session, env: Env = "") -> None:
        """Say what answers in an environment; apply releases to it.

        Without a verb: what is deployed there, who gets what, and whether that is what the journal says.
        """
        from trilho.remote.endpoint import endpoint_of

        served = endpoint_of(here.project, env, say=here.say).status()
        wanted = _wanted(here)
        _show(here, served, wanted)
        where = f" --env {env}" if env else ""
        next_ = f"trilho endpoint apply{where}" if _differs(served, wanted) else f"trilho endpoint ask{where} rows.json"
        here.done(next_, model=here.project.name, **_told(served), wanted=_shares(wanted))

    @verb(
        endpoint, "apply", examples=["trilho endpoint apply --env prod", "trilho endpoint apply --env prod --dry-run"]
    )
    def apply(here: Session, env: Env = "", yes: Yes = False, dry_run: DryRun = False) -> None:
        """Make an environment's endpoint be what the journal says serves.

        After `trilho release`, each step of `trilho rollout` and `trilho rollback`. A version is deployed before it
        gets traffic; the one before stays deployed for a day, so that going back is one update of the traffic split.
        Cut off or called twice, it goes on from what is there.
        """
        from trilho.remote.endpoint import carry_out, endpoint_of

        chosen = endpoint_of(here.project, env, say=here.say)
        there, wanted = chosen.status(), _wanted(here)
        if wanted is None:
            raise NotYet(f"no version of {here.project.name} was released", hint="trilho release VERSION")
        agreed = here.agreed(_plan(there, wanted, here.project.name), yes=yes, dry_run=dry_run)
        served = carry_out(here.project, env, endpoint=chosen, say=here.say) if agreed else there
        if agreed:
            _show(here, served, wanted)
        where = f" --env {env}" if env else ""
        here.done(f"trilho endpoint{where}", model=here.project.name, applied=agreed, **_told(served))

    @verb(
        endpoint,
        "ask",
        examples=["trilho endpoint ask --env prod rows.json"],
    )
    def ask(
        here: Session,
        rows: Annotated[Path, typer.Argument(metavar="FILE", help="A JSON array of rows; - reads standard input.")],
        env: Env = "",
    ) -> None:
        """Ask an environment's endpoint for predictions, as its callers do."""
        from trilho.remote.endpoint import endpoint_of

        asked = _rows(rows)
        answer = endpoint_of(here.project, env, say=here.say).predict(asked)
        here.say(*(json.dumps(one, ensure_ascii=False) for one in answer.predictions))
        here.say(f"Answered by version {answer.version}.")
        here.done("trilho endpoint", version=answer.version, predictions=list(answer.predictions))


def _wanted(here: Session) -> Split | None:
    from trilho.remote.endpoint import split_of

    state = here.project.reader.state()
    return split_of(state.model(here.project.name), here.project.settings.serve.sticky, state.seq)


def _differs(served: Served, wanted: Split | None) -> bool:
    """Say whether what answers is not what the journal says; when it was decided says nothing about that."""
    there = served.split
    if wanted is None or there is None:
        return wanted is not there
    return (_shares(there), there.shadow, there.sticky) != (_shares(wanted), wanted.shadow, wanted.sticky)


def _plan(there: Served, wanted: Split, model: str) -> list[str]:
    if not _differs(there, wanted):
        return [f"the endpoint of {model} is what the journal says: {_words(wanted)}"]
    missing = [v for v in wanted.versions if there.versions.get(v) != "ready"]
    return [
        *(f"deploy version {version} of {model}" for version in missing),
        f"traffic: {_words(wanted)} (now {_words(there.split)})",
    ]


def _show(here: Session, served: Served, wanted: Split | None) -> None:
    if not served.versions:
        here.say(f"{here.project.name}: nothing is deployed there.")
    else:
        shares = _shares(served.split)
        rows = [(f"v{v}", state, f"{shares.get(str(v), 0)}%") for v, state in sorted(served.versions.items())]
        here.table(("version", "state", "traffic"), rows)
        here.say(f"Asked at {served.address}")
    if _differs(served, wanted):
        here.say(f"The journal says: {_words(wanted)}.")


def _words(split: Split | None) -> str:
    if split is None:
        return "nothing serves"
    shares = ", ".join(f"{share}% version {version}" for version, share in sorted(split.shares.items()))
    unseen = f", version {split.shadow} asked unseen" if split.shadow is not None else ""
    return f"{shares}{unseen}" + (f", by {split.sticky}" if split.sticky else "")


def _shares(split: Split | None) -> dict[str, int]:
    return {str(version): share for version, share in sorted(split.shares.items())} if split is not None else {}


def _told(served: Served) -> dict[str, Any]:
    versions = {str(version): state for version, state in served.versions.items()}
    return {"versions": versions, "shares": _shares(served.split), "address": served.address}


def _rows(path: Path) -> list[Any]:
    """Read the rows to ask for. Raises UsageError where they are no array of JSON."""
    try:
        found = json.loads(sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}", hint="a JSON file with an array of rows, or - for stdin"
        ) from None
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}", hint='such as [{"age": 41}]') from None
    if isinstance(found, dict):
        found = found.get("instances", [found])
    if not isinstance(found, list) or not found:
        raise UsageError(f"{path} holds no array of rows", hint='such as [{"age": 41}]')
    return found
