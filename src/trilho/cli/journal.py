"""`trilho journal`: read, verify, back up and restore the record of everything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trilho.cli.session import Session, Yes, group, verb
from trilho.errors import JournalError, UsageError

if TYPE_CHECKING:
    from trilho.core.journal import Head, Record


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    journal = typer.Typer()
    app.add_typer(journal, name="journal")

    @group(journal)
    def list_(
        here: Session,
        kind: Annotated[str, typer.Option("--type", help="Only records whose type begins so, as `alarm`.")] = "",
        model: Annotated[str, typer.Option("--model", help="Only records about this model.")] = "",
        actor: Annotated[str, typer.Option("--actor", help="Only records by this person or service.")] = "",
        since: Annotated[
            str, typer.Option("--since", metavar="DATE", help="Only records from then on, ISO 8601.")
        ] = "",
        limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many of the newest at most.")] = 20,
    ) -> None:
        """List records; verify, back up or restore them.

        The journal is that of all projects that share this home.
        """
        from collections import deque

        wanted = (
            x
            for x in here.project.journal.read_from(1)
            if x.type.startswith(kind) and model in ("", x.subject) and actor in ("", x.actor) and x.time >= since
        )
        found = deque(wanted, maxlen=limit)
        if found:
            rows = [(str(x.seq), x.time[:19], x.actor, x.subject, x.type, gist(x)) for x in found]
            here.table(("seq", "time (UTC)", "by", "model", "type", "what"), rows)
        else:
            here.say("No such record.")
        next_ = f"trilho journal show {found[-1].seq}" if found else "trilho train"
        here.done(next_, records=[{"seq": x.seq, "hash": x.hash, **json.loads(x.text)} for x in found])

    @verb(journal, "show", examples=["trilho journal show 12"])
    def show(here: Session, seq: Annotated[int, typer.Argument(min=1, help="A record's position.")]) -> None:
        """Show one record, as it was hashed."""
        record = next(iter(here.project.journal.read_from(seq)), None)
        if record is None or record.seq != seq:
            raise UsageError(f"the journal has no record {seq}", hint=here.command("trilho journal"))
        here.say(json.dumps(json.loads(record.text), indent=2, ensure_ascii=False), f"hash {record.hash}")
        here.done("trilho journal verify", seq=seq, hash=record.hash, record=json.loads(record.text))

    @verb(journal, "verify", examples=["trilho journal verify", "trilho journal verify --anchor 41:9f2c..."])
    def verify(
        here: Session,
        anchor: Annotated[
            str, typer.Option("--anchor", metavar="SEQ:HASH", help="A head kept outside the journal.")
        ] = "",
    ) -> None:
        """Check the chain of records.

        A changed, missing or reordered record is found; a cut tail too, with --anchor.
        """
        proof = here.project.journal.verify(_anchor(anchor) if anchor else None)
        if proof.problem:
            raise JournalError(f"the journal is broken: {proof.problem}",
                               hint=here.command("trilho journal restore FILE"))  # fmt: skip
        here.say(f"The journal holds: {proof.records} records, each linked to the one before.", f"Head {proof.head}")
        if proof.proven is not None and not proof.tail_proven:
            here.say(f"Proven up to record {proof.proven}: those cut off after it show only against a newer head.")
        elif not proof.tail_proven:
            here.say(
                "The tail is unproven: that records were cut off its end shows only against a head kept elsewhere."
            )
        unknown = here.project.reader.state().unknown
        if unknown:
            here.say(f"{unknown} records are passed over: a newer trilho wrote them, or they are about what it wrote.")
        next_ = (
            f"trilho journal verify --anchor {proof.head}" if not proof.tail_proven else "trilho journal backup FILE"
        )
        here.done(next_, records=proof.records, head=str(proof.head), problem=None, tail_proven=proof.tail_proven,
                  proven=proof.proven, unknown=unknown)  # fmt: skip

    @verb(journal, "backup", examples=["trilho journal backup /backups/journal.sqlite"])
    def backup(here: Session, to: Annotated[Path, typer.Argument(metavar="FILE", help="Where to.")]) -> None:
        """Write a verified copy, also while others append."""
        head = here.project.journal.backup(to)
        here.say(f"{head.seq} records in {to}.", f"Head {head}: keep it elsewhere, to prove the tail later.")
        here.done(f"trilho journal verify --anchor {head}", file=str(to), head=str(head), records=head.seq)

    @verb(journal, "restore", examples=["trilho journal restore /backups/journal.sqlite --yes"])
    def restore(
        here: Session, source: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")], yes: Yes = False
    ) -> None:
        """Put a backup in the journal's place.

        What it replaces is kept beside it.
        """
        if not source.is_file():
            raise UsageError(f"{source} is not a file", hint=here.command("trilho journal backup FILE"))
        project = here.project
        plan = [f"{project.home / 'journal.sqlite'} is replaced by {source}, for all projects of this home"]
        done = here.agreed(plan, yes=yes, dry_run=False, lasting=True)
        head = project.journal.restore(source) if done else project.journal.head()
        if done:
            here.say(f"The journal has {head.seq} records now.")
        here.done("trilho journal verify", done=done, head=str(head), records=head.seq)


def gist(record: Record) -> str:
    """Say in a few words what a record is about."""
    data: dict[str, Any] = record.data
    parts = [f"version {data['version']}" if "version" in data else "", str(data.get("run") or "")]
    parts.append(f"{data['rows']:,} rows" if "rows" in data else "")
    if "pipeline" in data:
        runner = data.get("runner") or "local"
        parts.append(f"{data['pipeline']}{f' on {runner}' if runner != 'local' else ''}")
    for name in (
        "verdict",
        "state",
        "outcome",
        "result",
        "summary",
        "title",
        "reason",
        "cause",
        "change",
        "why",
        "note",
    ):
        value = data.get(name)
        if value:
            parts.append(str(value))
            break
    if "share" in data:
        parts.append(f"{data['share']}%")
    text = " ".join(part for part in parts if part)
    return text if len(text) <= 70 else text[:69] + "…"


def _anchor(text: str) -> Head:
    from trilho.core.journal import Head

    seq, _, hash_ = text.partition(":")
    if not seq.isdigit() or len(hash_) != 64:
        raise UsageError(f"--anchor is {text!r}; allowed: SEQ:HASH, as `trilho journal verify` prints its head")
    return Head(int(seq), hash_)
