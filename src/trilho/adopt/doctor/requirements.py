"""What a folder says of the packages that it needs: requirements, locks, pyproject.toml, environment.yml."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

NAMES = {
    "sklearn": "scikit-learn", "PIL": "pillow", "cv2": "opencv-python", "yaml": "pyyaml", "bs4": "beautifulsoup4",
    "imblearn": "imbalanced-learn", "skimage": "scikit-image", "dateutil": "python-dateutil", "xgboost": "xgboost",
    "mpl_toolkits": "matplotlib", "pandas_gbq": "pandas-gbq", "category_encoders": "category-encoders",
    "dotenv": "python-dotenv", "umap": "umap-learn", "unidecode": "unidecode", "psycopg2": "psycopg2-binary",
}  # fmt: skip
"""Distributions that are not called like the module that they bring."""
ALSO = {"xgboost": ("xgboost-cpu",), "opencv-python": ("opencv-python-headless",), "psycopg2-binary": ("psycopg2",)}
LINE = re.compile(r"^\s*(?:-\s*)?([A-Za-z0-9][\w.-]*)(\[[^\]]*\])?\s*(.*)$")
PATTERNS = ("requirements*.txt", "requirements*.lock", "*.lock", "requirements/*.txt", "requirements/*.lock",
            "environment.y*ml", "constraints*.txt", "pyproject.toml")  # fmt: skip


@dataclass(frozen=True)
class Requirements:
    """The packages that files name, and whether an exact version is given."""

    files: tuple[str, ...] = ()
    pinned: frozenset[str] = frozenset()
    loose: frozenset[str] = frozenset()
    locked: bool = False  # with hashes
    lines: dict[str, tuple[str, int]] = field(default_factory=dict)

    def pins(self, module: str) -> bool:
        """Whether the distribution that brings a module has a version."""
        name = normal(NAMES.get(module, module))
        return bool({name, *map(normal, ALSO.get(name, ()))} & self.pinned)

    @property
    def unpinned(self) -> list[str]:
        """Give the packages that are named, in no file with a version."""
        return sorted(self.loose - self.pinned)


def normal(name: str) -> str:
    """Write a distribution's name as indexes do.

    >>> normal("Scikit_Learn")
    'scikit-learn'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def read_requirements(folder: Path) -> Requirements:
    """Read what is in a folder; the folder above counts where this one has nothing."""
    files = sorted({path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()})
    files = [path for path in files if path.name != "requirements-platform.lock"]  # trilho's own, not the model's
    files = [path for path in files if path.name != "pyproject.toml" or _dependencies(path)]
    pinned: set[str] = set()
    loose: set[str] = set()
    where: dict[str, tuple[str, int]] = {}
    locked = False
    for path in files:
        text = path.read_text(encoding="utf-8", errors="replace")
        locked |= "--hash=sha256:" in text or path.name in ("uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock")
        for number, name, is_pinned in _packages(path, text):
            (pinned if is_pinned else loose).add(normal(name))
            where.setdefault(normal(name), (path.name, number))
    names = tuple(path.relative_to(folder).as_posix() for path in files)
    return Requirements(names, frozenset(pinned), frozenset(loose), locked, where)


def _dependencies(path: Path) -> list[str]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8", errors="replace"))
    except tomllib.TOMLDecodeError:
        return []
    listed = data.get("project", {}).get("dependencies", [])
    return [str(line) for line in listed] if isinstance(listed, list) else []


def _packages(path: Path, text: str) -> list[tuple[int, str, bool]]:
    if path.name == "pyproject.toml":
        lines = _dependencies(path)
        return [(1, match[1], "==" in match[3]) for line in lines if (match := LINE.match(line))]
    if path.name in ("uv.lock", "poetry.lock", "pdm.lock"):
        return [(1, name, True) for name in re.findall(r'^name = "([^"]+)"', text, re.MULTILINE)]
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.split("#")[0].split(" ;")[0].strip().rstrip("\\").strip()
        match = LINE.match(bare)
        if match and not bare.startswith(("-r", "-c", "--", "-e")) and not bare.endswith(":"):
            yml = path.suffix in (".yml", ".yaml")
            if yml and not line.strip().startswith("- "):
                continue
            exact = re.match(r"={1,3}\s*\d|@\s", match[3]) is not None
            found.append((number, match[1], exact))
    return found
