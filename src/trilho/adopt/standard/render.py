"""The files of the standard: templates and a few values in, texts out. Nothing is written here.

Templates are Jinja with `<< value >>` and `<% block %>`, since the files themselves are full of braces. The same
values give the same texts, so that a later standard can be merged with what was rendered before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import trilho.secrets
from trilho.adopt.standard import pins

if TYPE_CHECKING:
    import jinja2

Task = Literal["classification", "regression"]
TEMPLATES = Path(__file__).parents[1] / "templates"
SYSTEM = {"lightgbm": "libgomp1"}  # Debian's packages that wheels expect to find
GOLDEN = "tests/golden/"  # of projects whose tests compare with what a notebook answered
FILES = (("src/{package}/features.py", "raw rows to features, one row at a time"),
         ("src/{package}/train.py", "features and target to a fitted estimator"))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Values:
    """What is different from project to project. All of it is kept with the project, for `trilho upgrade`."""

    name: str
    package: str
    task: Task
    python: str = f"{pins.OLDEST_PLATFORM}"
    """The project's Python as "3.12": the image's, and what CI sets up."""
    summary: str = ""
    """One sentence: what the model is for."""
    story: tuple[tuple[str, str], ...] = ()
    """The README's own sections, as heading and Markdown."""
    files: tuple[tuple[str, str], ...] = ()
    """The project's own files, each with what it holds."""
    libraries: tuple[str, ...] = ("pandas", "pyarrow", "scikit-learn", "pytest")
    """What requirements.txt names besides trilho-runtime."""
    owner: str = ""
    """Who reviews changes, as GitHub names them: "@shop/forecasting"."""
    secrets: tuple[str, ...] = ()
    """Environment variables that hold secrets."""
    beginning: str = "The project was begun."
    """The first line of the change log."""
    runtime: str = field(default_factory=lambda: pins.requirement("trilho-runtime"))
    trilho: str = field(default_factory=lambda: pins.requirement("trilho"))
    version: str = field(default_factory=lambda: pins.version_of("trilho", "0"))
    ruff: str = field(default_factory=lambda: pins.version_of("ruff", pins.RUFF))
    platform: tuple[str, ...] = field(default_factory=lambda: tuple(pins.platform_lock()))

    def as_json(self) -> dict[str, Any]:
        """Give what is kept with the project."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Values:
        """Read what was kept; keys of another standard are left out."""
        known = {one.name for one in fields(cls)}
        return cls(**{key: _tuples(value) for key, value in kept.items() if key in known})

    def renewed(self) -> Values:
        """Give the values with what this trilho is, where another one wrote them.

        With the same trilho they stay: what else is installed differs from machine to machine.
        """
        version = pins.version_of("trilho", "0")
        if version == self.version:
            return self
        return replace(
            self,
            version=version,
            ruff=pins.version_of("ruff", pins.RUFF),
            platform=tuple(pins.platform_lock()),
            trilho=pins.renewed(self.trilho),
            runtime=pins.renewed(self.runtime),
        )


def render(values: Values) -> dict[str, str]:
    """Give the texts of the standard's files by their paths in the project."""
    found = render_folder("standard", values, _more(values))
    found["tools/check_secrets.py"] = Path(trilho.secrets.__file__).read_text(encoding="utf-8")
    return found


def render_folder(folder: str, values: Values, more: Mapping[str, Any]) -> dict[str, str]:
    """Render every template of a folder; PACKAGE in a path is the project's own package."""
    top = TEMPLATES / folder
    environment = _environment()
    given = {**asdict(values), **more}
    found = {}
    for template in sorted(path for path in top.rglob("*.txt") if path.is_file()):
        relative = template.relative_to(top).as_posix().removesuffix(".txt").replace("PACKAGE", values.package)
        found[relative] = environment.from_string(template.read_text(encoding="utf-8")).render(given)
    return found


def is_script(text: str) -> bool:
    """Say whether a file is to be run by itself.

    >>> is_script("#!/bin/sh\\n"), is_script("run:\\n")
    (True, False)
    """
    return text.startswith("#!")


def system_packages(libraries: Sequence[str]) -> list[str]:
    """Name Debian's packages that these libraries' wheels need and a slim image has not.

    >>> system_packages(["pandas", "lightgbm==4.6.0"])
    ['libgomp1']
    """
    names = {re.split(r"[\s=<>!~;\[@]", line.lower())[0] for line in libraries}
    return sorted({package for name, package in SYSTEM.items() if name in names})


def _more(values: Values) -> dict[str, Any]:
    python = values.python if values.python in pins.BASES else next(reversed(pins.BASES))
    files = values.files or tuple((path.format(package=values.package), holds) for path, holds in FILES)
    return {
        "python": python,
        "base": f"python:{python}-slim-trixie",
        "digest": pins.BASES[python],
        "old": _minor(python) < _minor(pins.OLDEST_PLATFORM),
        "system": system_packages(values.libraries),
        "actions": pins.ACTIONS,
        "files": files,
        "adopted": any(file == GOLDEN for file, _ in files),
        "title": values.name,
        "summary": " ".join(values.summary.split()) or f"A model of {values.task} in trilho's standard.",
        "published": f"trilho=={values.version}",
        "published_runtime": f"trilho-runtime=={pins.version_of('trilho-runtime', values.version)}",
    }


def _minor(python: str) -> tuple[int, ...]:
    return tuple(int(part) for part in python.split("."))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def _environment() -> jinja2.Environment:
    from jinja2 import Environment, StrictUndefined

    return Environment(  # noqa: S701  nothing here is HTML
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
