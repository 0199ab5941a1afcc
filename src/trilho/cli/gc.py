"""`trilho gc`: frees what no live version or run needs, and says what first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trilho.cli.session import DryRun, Session, Yes, verb
from trilho.errors import DataError, UsageError

if TYPE_CHECKING:
    from trilho.project import Project


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(app, "gc", examples=["trilho gc --dry-run", 'trilho gc --yes --older-than "7 days"'])
    def gc(
        here: Session,
        yes: Yes = False,
        dry_run: DryRun = False,
        older_than: Annotated[
            str,
            typer.Option("--older-than", metavar="TIME", help="Spare what was made since, as a run under way may be."),
        ] = "1 hour",
    ) -> None:
        """Free the artifacts that nothing needs any more.

        Kept is what a version that serves, served or may be released needs, and what the newest run left.
        """
        from trilho.config import parse_duration

        try:
            spare = parse_duration(older_than)
        except ValueError as error:
            raise UsageError(f"--older-than is {older_than!r}; allowed: {error}") from None
        project = here.project
        keep = _kept(project)
        found = project.store.gc(keep, True, spare)
        lines = [f"{name[:12]}  {_size(size)}" for name, size in found]
        total = sum(size for _, size in found)
        plan = [*lines, f"{len(found)} artifacts of {project.home} are removed: {_size(total)}"]
        done = bool(found) and here.agreed(plan, yes=yes, dry_run=dry_run, lasting=True)
        if done:
            found = project.store.gc(keep, False, spare)
            here.say(f"Freed {_size(sum(size for _, size in found))}.")
        elif not found:
            here.say("Nothing to free.")
        here.done("trilho" if done or not found else "trilho gc --yes", done=done, bytes=sum(size for _, size in found),
                  artifacts=[{"digest": name, "bytes": size} for name, size in found])  # fmt: skip


def _kept(project: Project) -> set[str]:
    from trilho.data.version import read_manifest
    from trilho.govern.retention import live_digests

    def files_of(dataset: str) -> list[str]:
        try:
            return [file["digest"] for file in read_manifest(dataset, project.store)["files"]]
        except DataError:  # freed before, or lost: then its files cannot be named either
            return []

    def caches() -> Iterator[dict[str, Any]]:
        for path in (project.home / "cache").glob("*.json"):
            try:
                yield json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue

    return live_digests(project.reader.state(), files_of, caches())


def _size(size: int) -> str:
    amount = float(size)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
