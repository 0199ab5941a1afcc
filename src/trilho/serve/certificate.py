"""A version's certificate: what its server was seen to answer and to bear, before anybody was sent to it.

HOME/certificates/MODEL-vN.json holds the newest; the journal holds those that a release, or a verdict, rested on. It is
of one package under the settings that make its server what it is: with another package, another peak, or other workers
the server would have been another one, and is tried again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trilho.config import Serve
from trilho.core.checks import compose
from trilho.core.files import write_whole
from trilho.core.records import VersionCertified, encode
from trilho.serve.endpoint import read_json
from trilho.serve.trial import Trial

SCHEMA = 1
MAKES_THE_SERVER = ("peak", "workers", "fsync", "max_rows", "max_body", "entries", "mask")
Say = Callable[[str], None]


def certificate_path(home: Path, model: str, version: int) -> Path:
    """Give the file that holds a version's certificate."""
    return home / "certificates" / f"{model}-v{version}.json"


def read_certificate(home: Path, model: str, version: int) -> VersionCertified | None:
    """Give a version's newest certificate, whatever it says; None where there is none that can be read."""
    found = read_json(certificate_path(home, model, version))
    try:
        if found is None or found.pop("schema") != SCHEMA:
            return None
        return VersionCertified(**found)
    except (KeyError, TypeError):
        return None


def keep_certificate(home: Path, found: VersionCertified) -> VersionCertified:
    """Write a version's certificate, whole or not at all."""
    path = certificate_path(home, found.model, found.version)
    write_whole(path, json.dumps({"schema": SCHEMA, **encode(found)}, indent=1))
    return found


@dataclass(frozen=True, kw_only=True)
class Certifier:
    """Makes the certificates of a model's versions."""

    model: str
    home: Path
    python: Path
    settings: Serve
    latency: float | None = None

    @property
    def conditions(self) -> dict[str, Any]:
        """The settings under which a certificate holds."""
        return {**{name: getattr(self.settings, name) for name in MAKES_THE_SERVER}, "latency": self.latency}

    def current(self, version: int, package: str) -> VersionCertified | None:
        """Give a version's certificate where it passed, and is of this package under today's settings."""
        found = read_certificate(self.home, self.model, version)
        if found is None or found.verdict != "pass" or found.package != package:
            return None
        return found if found.conditions == json.loads(json.dumps(self.conditions)) else None

    def certify(self, version: int, package: Path, say: Say | None = None) -> VersionCertified:
        """Try a version's server, and keep what came of it."""
        load = [round(x, 2) for x in os.getloadavg()]  # as it was before the trial added to it
        trial = Trial(
            package=package, version=version, python=self.python, settings=self.settings, home=self.home,
            latency=self.latency,
        )  # fmt: skip
        checks, figures = trial.run(say or (lambda _: None))
        verdict, found = compose("pass", {"reason": "it answers, and bears, what it must"}, checks)
        certificate = VersionCertified(
            model=self.model,
            version=version,
            package=package.name,
            verdict=verdict,
            reason=str(found["reason"]),
            conditions=json.loads(json.dumps(self.conditions)),
            checks=found["checks"],
            figures=figures,
            machine={"cores": os.cpu_count(), "load": load},
            made=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        return keep_certificate(self.home, certificate)
