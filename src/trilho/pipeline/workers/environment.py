"""Environments for what KFP components ask pip for: made once, kept under a home, shared by all that ask the same.

HOME/environments/<digest of what is asked and of the interpreter>/ is one; `ready.json` in it is written last, and
what has none is not there. A lock lets one process at a time make it. Packages without a version stay as they were
when it was made: remove the folder to have newer ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from trilho.core.digest import digest_json, digest_path
from trilho.core.files import write_whole
from trilho.errors import StepFailed
from trilho.pipeline.workers.keeper import Ended

SCHEMA = 1
MARK = "ready.json"
LOOK_SECONDS = 0.1
ASK = "import json,site,sys; print(json.dumps([sys.version, site.getsitepackages()]))"
SPOILING = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "__PYVENV_LAUNCHER__")
Installs = Sequence[Sequence[str]]


class Run(Protocol):
    """Runs a command to its end, killed with this process."""

    def __call__(self, words: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path) -> Ended:
        """Run it, with its output added to the log."""
        ...


class Environments:
    """Those under a home, made by `run`; threads and processes may share them."""

    def __init__(self, home: Path, run: Run, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._root = home / "environments"
        self._run, self._folder = run, folder
        self._settings = clean({**os.environ, **(environment or {})})
        self._failed: dict[str, StepFailed] = {}
        self._stops = 0

    def find(self, installs: Installs, base: Path, *, beside: Path | None = None) -> Path | None:
        """Give the interpreter of an environment that is there."""
        place = self._place(installs, base, beside)
        python = place / "bin" / "python"
        if not (place / MARK).exists() or not os.access(python, os.X_OK):
            return None
        with contextlib.suppress(OSError):
            os.utime(place / MARK)  # in use: what frees old environments spares it
        return python

    def make(
        self,
        installs: Installs,
        bases: Sequence[Path],
        *,
        beside: Path | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> Path:
        """Give the interpreter of an environment; it is made with the first of `bases` that can make one.

        With `beside`, an interpreter, its packages are seen as well, as those of an image are. Raises StepFailed, with
        what pip said, and leaves nothing behind; a second call in the same process does not try again.
        """
        found = self.find(installs, bases[0], beside=beside)
        if found is not None:
            return found
        place = self._place(installs, bases[0], beside)
        with self._alone(place.with_suffix(".lock")):
            found = self.find(installs, bases[0], beside=beside)
            if found is not None:
                return found
            if place.name in self._failed:
                raise self._failed[place.name]
            stops = self._stops
            try:
                return self._made(place, installs, bases, beside, say)
            except StepFailed as error:
                if stops == self._stops:
                    self._failed[place.name] = error
                raise

    def make_empty(self, place: Path, bases: Sequence[Path], log: Path) -> Path:
        """Make an environment without packages in a folder, and give its interpreter."""
        said = ""
        for base in dict.fromkeys(bases):
            shutil.rmtree(place, ignore_errors=True)
            words = [str(base), "-m", "venv", str(place)]
            try:
                ended = self._run(words, environment=self._settings, folder=self._folder, log=log)
            except StepFailed as error:
                said = error.fact
                continue
            if ended.code == 0:
                return place / "bin" / "python"
            said = " ".join(ended.said.split())
        raise StepFailed(f"no environment can be made with {bases[0]}: {said}", hint=f"{bases[0]} -m venv must work")

    def stop(self) -> None:
        """Let those that wait for others to make an environment wait no longer."""
        self._stops += 1

    def _place(self, installs: Installs, base: Path, beside: Path | None) -> Path:
        real = base.resolve()
        made_of = {
            "schema": SCHEMA,
            "installs": [list(words) for words in installs],
            "files": {word: digest_path(Path(word)) for words in installs for word in words if _is_path(word)},
            "python": [str(real), real.stat().st_size if real.exists() else 0],
            "beside": str(beside.parent) if beside is not None else None,
        }
        return self._root / digest_json(made_of)[:24]

    @contextlib.contextmanager
    def _alone(self, lock: Path) -> Iterator[None]:
        """Wait until nobody else makes the same environment; a process that is killed lets go of it."""
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            stops = self._stops
            while not _locked(descriptor):
                time.sleep(LOOK_SECONDS)
                if self._stops != stops:
                    raise StepFailed("it was stopped while another run installed what it needs")
            yield
        finally:
            os.close(descriptor)

    def _made(
        self, place: Path, installs: Installs, bases: Sequence[Path], beside: Path | None, say: Callable[[str], None]
    ) -> Path:
        asked, begun = words_of(installs), time.monotonic()
        say(f"installing {asked} into an environment of its own, once")
        log = place.with_suffix(".log")
        log.unlink(missing_ok=True)
        try:
            python = self.make_empty(place, bases, log)
            for words in installs:
                self._install(python, words, log)
            if beside is not None:
                _see(python, beside)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        facts = {"schema": SCHEMA, "packages": asked, "python": str(bases[0])}  # an index's URL may hold a password
        write_whole(place / MARK, json.dumps(facts))
        say(f"installed {asked} in {time.monotonic() - begun:.0f} s")
        return python

    def _install(self, python: Path, words: Sequence[str], log: Path) -> None:
        retries = () if "PIP_RETRIES" in self._settings else ("--retries", "2")
        command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *retries, *words]
        ended = self._run(command, environment=self._settings, folder=self._folder, log=log)
        if ended.code != 0:
            raise StepFailed(
                f"pip could not install {words_of([words])}: {_complaint(ended)}",
                hint=f"all that it said is in {log}; with --no-install what is installed already is used",
            )


def satisfies(python: Path, installs: Installs, run: Run, folder: Path, log: Path) -> bool:
    """Say whether an interpreter has all that is asked for already, in the versions asked for."""
    environment = {name: value for name, value in clean(os.environ).items() if not name.startswith("PIP_")}
    for words in installs:
        command = [str(python), "-m", "pip", "--isolated", "install", "--dry-run", "--no-index", "--no-input"]
        wanted = [word for index, word in enumerate(words) if not _is_index(words, index)]
        try:
            ended = run([*command, *wanted], environment=environment, folder=folder, log=log)
        except StepFailed:
            return False
        if ended.code != 0 or "Would install" in ended.said:
            return False
    return True


def words_of(installs: Installs) -> str:
    """Name the packages of some calls of pip, without its options.

    >>> words_of([["--index-url", "https://x/simple", "tiny==1.0"], ["kfp==2.17.0", "--no-deps"]])
    'tiny==1.0, kfp==2.17.0'
    """
    named = [
        word.partition(";")[0].strip()
        for words in installs
        for index, word in enumerate(words)
        if not word.startswith("-") and not _is_index(words, index)
    ]
    return ", ".join(dict.fromkeys(named)) or "nothing"


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out of an environment what would lead a Python, or its pip, to another one's packages."""
    return {name: value for name, value in environment.items() if name not in SPOILING}


def _is_index(words: Sequence[str], at: int) -> bool:
    options = ("-i", "--index-url", "--extra-index-url", "--trusted-host", "-f", "--find-links")
    return words[at].startswith(options) or (at > 0 and words[at - 1] in options)


def _is_path(word: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return word.startswith(("/", "./", "../")) and Path(word).exists()
    return False


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _see(python: Path, beside: Path) -> None:
    """Let an environment see the packages of another one of the same Python, after its own."""
    own, theirs = _asked(python), _asked(beside)
    if own is not None and theirs is not None and own[0] == theirs[0]:
        lines = [f"import site; site.addsitedir({folder!r})" for folder in theirs[1]]
        Path(own[1][0], "beside.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _asked(python: Path) -> tuple[str, list[str]] | None:
    """Ask an interpreter for its version and the folders of its packages."""
    try:
        done = subprocess.run([str(python), "-I", "-c", ASK], capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    version, folders = json.loads(done.stdout)
    return str(version), list(folders)


def _complaint(ended: Ended) -> str:
    """Give what matters of a failed pip's output: its errors, else its last line."""
    lines = [line.strip() for line in ended.said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return "; ".join(errors[-2:]) or (lines[-1] if lines else f"exit {ended.code}")


def old_environments(home: Path, before: float) -> list[Path]:
    """Give the environments of components, and halves of some, that nothing used since a moment."""
    folders = [path for path in sorted((home / "environments").glob("*")) if path.is_dir()]
    marks = {path: path / MARK if (path / MARK).exists() else path for path in folders}
    return [path for path, mark in marks.items() if mark.stat().st_mtime <= before]
