"""A project's files on the disk: all of them or none, whatever happens in between."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from trilho.adopt.standard.render import is_script
from trilho.config import FILE
from trilho.errors import TrilhoError, Unreachable, UsageError

EXECUTABLE = 0o755
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


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


@contextmanager
def drafted(folder: Path) -> Iterator[Path]:
    """Give a place for a project that takes long to make; at the end it becomes `folder`, on an error nothing is left.

    It lies in a hidden folder beside, as write_tree's does, and that it can be written is found out before the work.
    Raises UsageError where something is there already, Unreachable where another process makes it right now, and
    TrilhoError where it cannot be written.
    """
    require_free(folder)
    target = Path(os.path.abspath(folder))  # noqa: PTH100  no link followed
    made = _make_parents(target.parent)
    place = target.parent / f".{target.name}.{os.getpid()}.part"
    try:
        _sweep(target)
        _require_alone(target, place)
        place.mkdir()
        draft = place / target.name
        yield draft
        require_free(folder)
        _move(draft, target)
        _correct_environment(target, draft)
    except OSError as error:
        said = _disk(error)
        if not said and place.exists():  # it is not about this folder
            raise
        said = said or error.strerror or str(error)
        raise TrilhoError(f"{folder} cannot be written: {said}", hint="make room, or name another folder") from None
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if not target.exists():
            _remove_empty(made)


def _disk(error: OSError) -> str:
    """Give what an error says of a disk that takes no more, "" for another error; copying a tree gives many at once."""
    return next((os.strerror(n) for n in FULL if error.errno == n or f"[Errno {n}]" in str(error)), "")


def _require_alone(target: Path, own: Path) -> None:
    others = [path for path in target.parent.glob(f".{target.name}.*.part") if path != own]
    if others:
        number = others[0].name.removesuffix(".part").rpartition(".")[2]
        raise Unreachable(f"process {number} is making {target} right now", hint="wait for it, or name another folder")


def _correct_environment(target: Path, draft: Path) -> None:
    """Let the programs in .venv, which name their interpreter by its whole path, name it where it is now."""
    programs = target / ".venv" / "bin"
    for path in [*programs.glob("*"), programs.parent / "pyvenv.cfg"]:
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        corrected = content.replace(os.fsencode(draft), os.fsencode(target))
        if b"\0" not in content and corrected != content:
            path.write_bytes(corrected)


def require_free(folder: Path) -> None:
    """Raise UsageError where a folder is not a new or empty one."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        kind = "a link" if folder.is_symlink() else "a file"
        raise UsageError(f"{folder} is there already, {kind}", hint="name another folder")
    if folder.exists() and any(folder.iterdir()):
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
    if target.stat().st_dev != draft.stat().st_dev:
        _copy(draft, target)
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


def _copy(draft: Path, target: Path) -> None:
    """Fill an empty folder that is a disk of its own, or leave it empty."""
    try:
        shutil.copytree(draft, target, symlinks=True, dirs_exist_ok=True)
    except BaseException as error:
        for child in target.iterdir():
            shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
        if isinstance(error, shutil.Error):  # one line for each file
            raise OSError(errno.ENOSPC, str(error.args[0][0][2])) from None
        raise
