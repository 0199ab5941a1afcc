"""What a person at a terminal waits for: the command line's start, and a training of which nothing has changed."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ROOT, Figure, compare, environment, run

PROJECT_PYTHON = ROOT / "examples" / ".venv" / "bin" / "python"
HELP_MS = 250.0
UNCHANGED_MS = 300.0


@dataclass(frozen=True)
class Bike:
    """A copy of the bike example, and the home of its first training."""

    folder: Path
    home: Path

    def train(self, home: Path) -> float:
        """Run `trilho train` against a home and give its seconds."""
        env = environment(TRILHO_HOME=str(home), TRILHO_PYTHON=str(PROJECT_PYTHON))
        return run([sys.executable, "-m", "trilho", "-C", str(self.folder), "train"], env)

    @property
    def package(self) -> Path:
        """The folder of the model that was trained."""
        (manifest,) = (self.home / "store").glob("??/*/manifest.json")
        return manifest.parent


@contextmanager
def bike() -> Iterator[Bike]:
    """Give a trained copy of the bike example, for as long as the block lasts."""
    if not PROJECT_PYTHON.exists():
        raise SystemExit("examples/.venv is absent: make examples/.venv/.project")
    with tempfile.TemporaryDirectory(prefix="trilho-bench-") as folder:
        ignored = shutil.ignore_patterns(".trilho", "__pycache__", ".pytest_cache", "later")
        copy = shutil.copytree(ROOT / "examples" / "bike-demand", Path(folder, "bike-demand"), ignore=ignored)
        made = Bike(Path(copy), Path(folder, "home"))
        made.train(made.home)
        yield made


def start_up(turns: int = 15) -> list[Figure]:
    """`trilho --help`, beside a Python that does nothing and one that imports the parser of its commands."""
    env = environment()
    said = [sys.executable, "-m", "trilho", "--help"]
    return [
        compare(
            "trilho --help", lambda: run(said, env),
            "python -c pass", lambda: run([sys.executable, "-c", "pass"], env), turns=turns, most=HELP_MS,
        ),
        compare(
            "trilho --help", lambda: run(said, env),
            "python -c 'import typer'", lambda: run([sys.executable, "-c", "import typer"], env), turns=turns,
            most=HELP_MS,
        ),
    ]  # fmt: skip


def training(example: Bike, turns: int = 5) -> list[Figure]:
    """A second `trilho train` with nothing changed, beside a first one in an empty home."""

    def first() -> float:
        home = Path(tempfile.mkdtemp(prefix="first-", dir=example.home.parent))
        try:
            return example.train(home)
        finally:
            shutil.rmtree(home)

    return [
        compare("unchanged trilho train", lambda: example.train(example.home), "a first one", first, turns=turns,
                most=UNCHANGED_MS),
    ]  # fmt: skip
