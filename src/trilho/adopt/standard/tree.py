"""A project's files on the disk: all of them or none, whatever happens in between."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from trilho.adopt.standard.render import is_script
from trilho.config import FILE
from trilho.errors import TrilhoError, UsageError

EXECUTABLE = 0o755


def write_tree(folder: Path, files: Mapping[str, str], data: Mapping[str, Path] | None = None) -> list[Path]:
    """Write texts and copies of files into a new or empty folder and give their paths.

    They are written into a hidden folder beside it, which then takes its name: on an error nothing is left, and what a
    killed process left is removed by the next one. Raises UsageError where something is there already, TrilhoError
    where it cannot be written.
    """
    data = data or {}
    require_free(folder)
    target = Path(os.path.abspath(folder))  # noqa: PTH100  no link followed
    made = _make_parents(target.parent)
    draft = target.parent / f".{target.name}.{os.getpid()}.part"
    try:
        _sweep(target)
        _fill(draft, files, data)
        _move(draft, target)
    except OSError as error:
        said = error.strerror or str(error)
        raise TrilhoError(f"{folder} cannot be written: {said}", hint="make room, or name another folder") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if not target.exists():
            _remove_empty(made)
    return [folder / name for name in [*files, *data]]


def require_free(folder: Path) -> None:
    """Raise UsageError where a folder is not a new or empty one."""
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise UsageError(f"{folder} is there already, and not empty", hint="name another folder")


def _make_parents(folder: Path) -> list[Path]:
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _remove_empty(missing)
        raise TrilhoError(f"{folder} cannot be made: {error.strerror}", hint="name another folder") from None
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _sweep(target: Path) -> None:
    """Remove the drafts of processes that are gone."""
    for draft in target.parent.glob(f".{target.name}.*.part"):
        number = draft.name.removesuffix(".part").rpartition(".")[2]
        if number.isdigit() and not _runs(int(number)):
            shutil.rmtree(draft, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return process != os.getpid()


def _fill(draft: Path, files: Mapping[str, str], data: Mapping[str, Path]) -> None:
    draft.mkdir()
    for name, text in files.items():
        path = _inside(draft, name)
        path.write_text(text, encoding="utf-8", newline="\n")
        if is_script(text):
            path.chmod(EXECUTABLE)
    for name, source in data.items():
        shutil.copyfile(source, _inside(draft, name))


def _inside(draft: Path, name: str) -> Path:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"{name} is no path within a project")
    path = draft / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _move(draft: Path, target: Path) -> None:
    """Give the draft its name; an empty folder that is there already stays the folder it is, and is filled."""
    if not target.exists():
        draft.rename(target)
        return
    moved: list[Path] = []
    try:
        for child in sorted(draft.iterdir(), key=lambda path: path.name == FILE):  # what makes it a project is last
            child.rename(target / child.name)
            moved.append(target / child.name)
    except BaseException:
        for path in moved:
            path.rename(draft / path.name)
        raise
