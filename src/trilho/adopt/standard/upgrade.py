"""Bring a project to the standard of this trilho, keeping what was changed in it by hand.

Each file is merged from three: what the standard was when it was written here, what the file is now, and what the
standard is today. What cannot be merged is left as it is, and FILE.rej says what the standard wanted. All files are
made ready before the first is put in place, and the base is renewed last: an upgrade that was interrupted is repeated.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trilho.adopt.standard.base import BASE, base_text, read_base
from trilho.adopt.standard.merge import Conflict, Merged, merge
from trilho.adopt.standard.render import Values, is_script, render
from trilho.adopt.standard.sanity import problem_of
from trilho.errors import TrilhoError

Outcome = Literal["added", "updated", "merged", "removed", "conflict", "kept"]
REJECTED = ".rej"


@dataclass(frozen=True)
class Change:
    """What an upgrade does with one file, and why; `text` is what the file becomes, None where it goes or stays."""

    file: str
    outcome: Outcome
    reason: str
    text: str | None = None
    rejected: str = ""


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade of a project does."""

    folder: Path
    before: str
    """The trilho whose standard the project has; "" where it never had one."""
    after: str
    changes: list[Change]
    base: str = field(repr=False)
    renews_base: bool = False

    @property
    def is_current(self) -> bool:
        """Whether there is nothing to do."""
        return not self.renews_base and all(change.outcome == "kept" for change in self.changes)

    @property
    def conflicts(self) -> list[Change]:
        """The files of which something is left for a person."""
        return [change for change in self.changes if change.rejected]


def plan_upgrade(folder: Path, otherwise: Values) -> Upgrade:
    """Say what an upgrade of a project would do, without doing it.

    `otherwise` are the values of a project that was never written by the standard. Raises ConfigError where the base
    cannot be read.
    """
    base = read_base(folder)
    values = base.values.renewed() if base is not None else otherwise
    new = render(values)
    known = base.files if base is not None else {}
    changes = [_change(folder, name, known.get(name), new.get(name)) for name in sorted({*known, *new})]
    text = base_text(values, new)
    return Upgrade(
        folder=folder,
        before=base.version if base is not None else "",
        after=values.version,
        changes=[change for change in changes if change is not None],
        base=text,
        renews_base=base is None or base.files != new,
    )


def carry_out(upgrade: Upgrade) -> None:
    """Put an upgrade's files in place. Raises TrilhoError where they cannot be written; then nothing was changed."""
    draft = upgrade.folder / f".trilho-upgrade.{os.getpid()}.part"
    try:
        ready = _make_ready(upgrade, draft)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise TrilhoError(
            f"{upgrade.folder} cannot be upgraded: {error.strerror or error}", hint="make room; nothing was changed"
        ) from None
    try:
        for change in upgrade.changes:
            if change.outcome == "removed":
                (upgrade.folder / change.file).unlink(missing_ok=True)
        for source, target in ready:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
    except OSError as error:
        raise TrilhoError(
            f"{upgrade.folder} is upgraded in part: {error.strerror or error}", hint="put that right, and repeat it"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _make_ready(upgrade: Upgrade, draft: Path) -> list[tuple[Path, Path]]:
    """Write what will be put in place beside it: pairs of a finished file and where it goes, the base last."""
    draft.mkdir()
    ready: list[tuple[Path, Path]] = []

    def put(name: str, text: str, like: Path | None = None) -> None:
        path = draft / str(len(ready))
        with path.open("w", encoding="utf-8", newline="") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        if like is not None and like.exists():
            shutil.copymode(like, path)
        elif is_script(text):
            path.chmod(0o755)
        ready.append((path, upgrade.folder / name))

    for change in upgrade.changes:
        if change.text is not None:
            put(change.file, change.text, upgrade.folder / change.file)
        if change.rejected:
            put(change.file + REJECTED, _with_earlier(upgrade.folder / (change.file + REJECTED), change.rejected))
    put(BASE, upgrade.base)
    return ready


def _with_earlier(path: Path, text: str) -> str:
    """Keep what an earlier upgrade left to do; the same conflicts again are not written twice."""
    try:
        earlier = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return text
    return earlier if text in earlier else f"{text}\n{earlier}"


def _change(folder: Path, name: str, base: str | None, new: str | None) -> Change | None:
    """Decide on one file; None where there is nothing to say of it."""
    if base == new:
        return None
    path = folder / name
    present = path.exists() or path.is_symlink()
    if not present:
        if new is not None and base is None:
            return Change(name, "added", "new in the standard", new)
        return Change(name, "kept", "it was deleted here, and stays so") if new is not None else None
    mine, ending, trouble = _read(path)
    if trouble or mine is None:
        return _left_alone(name, trouble, new)
    if mine == new:
        return None
    if new is None:
        if mine == base:
            return Change(name, "removed", "no longer of the standard")
        return Change(name, "kept", "no longer of the standard; it was changed here, and stays")
    if base is None:
        return _left_alone(name, "it was here before the standard had one", new)
    if mine == base:
        return Change(name, "updated", "it was as the standard had it", _with_ending(new, ending))
    return _merged(name, merge(base, mine, new), mine, new, ending)


def _left_alone(name: str, why: str, new: str | None) -> Change:
    if new is None:
        return Change(name, "kept", f"no longer of the standard; it stays: {why}")
    head = (
        f"{name} was left as it is: {why}.\n"
        "The standard's whole file follows. Take over what you want, then delete this one.\n"
    )
    return Change(name, "conflict", why, None, f"{head}\n{new}")


def _merged(name: str, merged: Merged, mine: str, new: str, ending: str) -> Change:
    problem = problem_of(name, merged.text)
    if problem:
        broken = problem_of(name, mine)
        why = f"before the upgrade {broken}" if broken else f"merged, {problem}"
        return _left_alone(name, why, new)
    text = _with_ending(merged.text, ending) if merged.text != mine else None
    if not merged.conflicts:
        return Change(name, "merged", "with what was changed here", text)
    count = len(merged.conflicts)
    why = f"{count} {'place' if count == 1 else 'places'} where both changed the same lines"
    return Change(name, "conflict", why, text, _rejected(name, merged.conflicts))


def _rejected(name: str, conflicts: list[Conflict]) -> str:
    lines = [f"{name} has your side where you and the standard changed the same lines. What the standard changed there",
             "follows, - as it was, + as it is now. Take over what you want, then delete this file."]  # fmt: skip
    for conflict in conflicts:
        last = conflict.line + max(len(conflict.ours), 1) - 1
        where = f"line {conflict.line}" if last == conflict.line else f"lines {conflict.line}-{last}"
        lines += ["", f"@@ {name}, {where} @@"]
        for sign, side in (("-", conflict.base), ("+", conflict.theirs)):
            lines += [f"{sign}{line.rstrip(chr(10))}" for line in side]
    return "\n".join(lines) + "\n"


def _read(path: Path) -> tuple[str | None, str, str]:
    """Give a file's text with plain line ends, its own line end, and what keeps it from being merged."""
    if path.is_symlink():
        return None, "", "it is a link"
    if not path.is_file():
        return None, "", "it is no file"
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None, "", "it is not UTF-8"
    except OSError as error:
        return None, "", f"it cannot be read: {error.strerror}"
    ending = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    return text.replace("\r\n", "\n") if ending == "\r\n" else text, ending, ""


def _with_ending(text: str, ending: str) -> str:
    return text if ending == "\n" else text.replace("\n", ending)
