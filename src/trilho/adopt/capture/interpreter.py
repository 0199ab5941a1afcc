"""Which interpreter a notebook runs in: the one that is named, its kernel's, or the one whose environment is active."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trilho.adopt.notebook import Notebook
from trilho.errors import UsageError

OLDEST = (3, 8)
PROBE = """
import importlib.util, json, sys
def there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
sys.path.insert(0, sys.argv[1])
print(json.dumps([list(sys.version_info[:3]), sys.prefix, [n for n in sys.argv[2:] if not there(n)]]))
"""
DISTRIBUTIONS = {
    "sklearn": "scikit-learn", "cv2": "opencv-python", "PIL": "pillow", "yaml": "pyyaml", "bs4": "beautifulsoup4",
    "imblearn": "imbalanced-learn", "skimage": "scikit-image", "dotenv": "python-dotenv", "umap": "umap-learn",
    "dateutil": "python-dateutil", "google.cloud.bigquery": "google-cloud-bigquery",
    "google.cloud.storage": "google-cloud-storage",
}  # fmt: skip
"""What pip calls them, where it is not the module's name."""
NEVER_THERE = {"IPython", "google.colab", "ipywidgets"}


@dataclass(frozen=True)
class Interpreter:
    """A Python that has what a notebook imports."""

    python: str
    version: str
    source: str  # "--python", "kernelspec NAME", "VIRTUAL_ENV", ...


def find_interpreter(notebook: Notebook, python: str = "") -> Interpreter:
    """Find the notebook's own interpreter, and check that it has its packages. Raises UsageError.

    Never trilho's own, unless it is named: what is proven there says nothing of the notebook's environment.
    """
    modules = [name for name in notebook.modules if name not in NEVER_THERE]
    if python:
        path = shutil.which(os.path.expanduser(python)) or ""  # noqa: PTH111  a bare name stays one
        if not path:
            raise UsageError(f"--python is {python}, which is no program", hint="--python ~/venv/bin/python")
        return _checked(os.path.abspath(path), "--python", modules, notebook.path)  # noqa: PTH100  no link followed
    tried: list[tuple[str, str]] = []
    for path, source in _candidates(notebook):
        probed = _probe(path, modules, notebook.path.parent)
        if probed is None:
            continue
        version, missing = probed
        if not missing and version >= OLDEST:
            return Interpreter(path, ".".join(map(str, version)), source)
        tried.append((source, ", ".join(missing) or f"Python {'.'.join(map(str, version))}"))
    found = "; ".join(f"{source} lacks {lacks}" for source, lacks in tried) or "none was found"
    raise UsageError(
        f"no interpreter has what {notebook.path.name} imports: {found}",
        hint=f"trilho adopt {notebook.path} --python PATH, the Python that the notebook runs with",
    )


def _candidates(notebook: Notebook) -> Iterator[tuple[str, str]]:
    seen = {_resolved(sys.executable)}
    for path, source in _all_candidates(notebook):
        if os.access(path, os.X_OK) and _resolved(path) not in seen:
            seen.add(_resolved(path))
            yield path, source


def _all_candidates(notebook: Notebook) -> Iterator[tuple[str, str]]:
    if notebook.kernel and notebook.kernel not in ("python3", "python"):
        yield from _kernel(notebook.kernel)
    for folder in list(notebook.path.resolve().parents)[:3]:
        for name in (".venv", "venv", "env"):
            yield str(folder / name / "bin" / "python"), f"{name} beside the notebook"
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if os.environ.get(variable):
            yield str(Path(os.environ[variable]) / "bin" / "python"), variable
    if notebook.kernel in ("python3", "python"):
        yield from _kernel(notebook.kernel)
    for name in ("python3", "python"):
        for each in os.environ.get("PATH", "").split(os.pathsep):
            yield str(Path(each) / name), f"{name} on the PATH"


def _kernel(name: str) -> Iterator[tuple[str, str]]:
    for folder in _kernel_folders():
        try:
            told = json.loads((folder / name / "kernel.json").read_text(encoding="utf-8"))
            first = str(told["argv"][0])
        except (OSError, ValueError, LookupError, TypeError):
            continue
        path = first if Path(first).is_absolute() else shutil.which(first)
        if path:
            yield path, f"kernelspec {name}"


def _kernel_folders() -> Iterator[Path]:
    for folder in os.environ.get("JUPYTER_PATH", "").split(os.pathsep):
        if folder:
            yield Path(folder) / "kernels"
    data = os.environ.get("JUPYTER_DATA_DIR")
    yield Path(data) / "kernels" if data else Path.home() / ".local" / "share" / "jupyter" / "kernels"
    yield Path.home() / "Library" / "Jupyter" / "kernels"
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if os.environ.get(variable):
            yield Path(os.environ[variable]) / "share" / "jupyter" / "kernels"
    yield Path("/usr/local/share/jupyter/kernels")
    yield Path("/usr/share/jupyter/kernels")


def _checked(path: str, source: str, modules: Sequence[str], notebook: Path) -> Interpreter:
    probed = _probe(path, modules, notebook.parent)
    if probed is None:
        raise UsageError(f"{path} does not run as Python", hint="name a Python interpreter: --python ~/venv/bin/python")
    version, missing = probed
    shown = ".".join(map(str, version))
    if version < OLDEST:
        raise UsageError(f"{path} is Python {shown}; 3.8 or newer is needed", hint="name another with --python")
    if missing:
        wanted = " ".join(DISTRIBUTIONS.get(name, name) for name in missing)
        raise UsageError(
            f"{notebook.name} imports {', '.join(missing)}, which {path} does not have",
            hint=f"{path} -m pip install {wanted}, or name another with --python",
        )
    return Interpreter(path, shown, source)


def _probe(path: str, modules: Sequence[str], folder: Path) -> tuple[tuple[int, ...], list[str]] | None:
    """Ask an interpreter for its version, and for the modules that it does not have."""
    try:
        done = subprocess.run(
            [path, "-c", PROBE, str(folder), *modules], capture_output=True, text=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        version, _, missing = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return tuple(version), list(missing)


def _resolved(path: str) -> str:
    """Name an environment: two links to one program, in two environments, are two interpreters."""
    return os.path.realpath(os.path.dirname(path)) + os.sep + os.path.basename(os.path.realpath(path))  # noqa: PTH119, PTH120
