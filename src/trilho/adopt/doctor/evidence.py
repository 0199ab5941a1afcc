"""What a project shows of itself, as the readiness tests ask for it: files, tests, CI, the facts of its journal."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trilho.adopt.doctor.requirements import Requirements, read_requirements
from trilho.adopt.doctor.subject import Subject
from trilho.adopt.plan import Finding

WORKFLOWS = (".github/workflows/*.y*ml", "cloudbuild*.y*ml", ".gitlab-ci.yml", "Jenkinsfile", ".circleci/config.yml")
UPDATES = (".github/dependabot.y*ml", "renovate.json*", ".github/renovate.json*")


@dataclass(frozen=True)
class Facts:
    """What a journal says was done; all nothing where there is no journal."""

    versions: int = 0
    runs: int = 0
    contracts: int = 0  # datasets that were held against the contract
    gates: int = 0
    approvals: int = 0
    rollouts: int = 0
    canaries: int = 0  # rollouts that went through a part of the traffic
    rollbacks: int = 0
    windows: int = 0  # of served rows that were measured
    judged: int = 0  # of those, with labels
    judged_versions: int = 0
    alerts: int = 0
    retrainings: int = 0
    lead_times: int = 0  # versions of which commit and first answer are both known
    log: bool = False  # whether predictions are logged
    parity: str = ""  # how the certificate stands: "valid", or what it is instead


@dataclass(frozen=True)
class Evidence:
    """A subject, what was found in it, and what its journal says."""

    subject: Subject
    findings: tuple[Finding, ...]
    facts: Facts = Facts()

    @property
    def folder(self) -> Path:
        """The folder that is searched."""
        return self.subject.folder

    @property
    def project(self) -> bool:
        """Whether there is a trilho.toml."""
        return self.subject.settings is not None

    @cached_property
    def tests(self) -> str:
        """The text of all tests."""
        return "\n".join(chunk.source for chunk in self.subject.tests)

    @cached_property
    def code(self) -> str:
        """The text of the code."""
        return "\n".join(chunk.source for chunk in self.subject.chunks)

    @cached_property
    def notebooks(self) -> str:
        """The code of the notebooks that are kept with a project, or of the notebook itself."""
        if self.subject.kind == "notebook":
            return self.code
        return "\n".join(
            text.text for text in self.subject.texts if text.file.endswith(".ipynb") and text.kind == "prose"
        )

    @cached_property
    def documents(self) -> str:
        """The text of README and docs; for a notebook its prose."""
        if self.subject.kind == "notebook":
            return "\n".join(text.text for text in self.subject.texts if text.kind == "prose")
        return "\n".join(text.text for text in self.subject.texts if text.file.endswith(".md"))

    @cached_property
    def ci(self) -> str:
        """The text of what runs by itself at every change; "" where nothing does."""
        if self.subject.kind == "notebook":
            return ""
        files = [path for pattern in WORKFLOWS for path in sorted(self.folder.glob(pattern))]
        text = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in files)
        make = self.folder / "Makefile"
        return text + (
            "\n" + make.read_text(encoding="utf-8", errors="replace") if "make " in text and make.exists() else ""
        )

    @property
    def tests_run(self) -> bool:
        """Whether CI runs the tests."""
        return bool(re.search(r"pytest|make (test|check)|nox|tox|unittest", self.ci))

    @cached_property
    def contract(self) -> dict[str, Any]:
        """The columns of the data contract; {} where there is none."""
        settings = self.subject.settings
        path = self.folder / (settings.data.contract if settings is not None else "contract.toml")
        try:
            columns = tomllib.loads(path.read_text(encoding="utf-8")).get("columns", {})
        except (OSError, tomllib.TOMLDecodeError):
            return {}
        return columns if isinstance(columns, dict) else {}

    @cached_property
    def requirements(self) -> Requirements:
        """What it says of its packages."""
        return read_requirements(self.folder)

    @property
    def certified(self) -> bool:
        """Whether there is a parity certificate, given, and about the code and the data as they are."""
        return self.facts.parity == "valid"

    def has(self, *patterns: str) -> str:
        """Give the first file that is there, "" where none is."""
        if self.subject.kind == "notebook":
            return ""
        found = (path for pattern in patterns for path in sorted(self.folder.glob(pattern)))
        return next((path.relative_to(self.folder).as_posix() for path in found), "")

    def rules(self, *names: str) -> int:
        """Count the findings of some rules."""
        return sum(one.rule in names for one in self.findings)
