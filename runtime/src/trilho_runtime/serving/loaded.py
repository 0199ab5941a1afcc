"""A model that is ready to answer: opened, loaded, and proven on the rows that its package holds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trilho_runtime.package import Package, Predictor, check_digest, open_package
from trilho_runtime.prediction.live import LiveProfile, Push, live_reference
from trilho_runtime.web.http import note

REFERENCE = "reference.json"
VALIDATION = "validation.npz"


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to answer."""

    package: Package
    predictor: Predictor
    names: frozenset[str]

    @property
    def name(self) -> str:
        """Give the model's name."""
        return str(self.package.manifest["name"])


def load_model(folder: Path, digest: str | None = None, trusted: Sequence[str] | None = None) -> Loaded:
    """Open, load and prove a package; the proof also warms what the first prediction would wait for.

    `digest` is what somebody else knows the package by: its manifest could have been changed with its files.
    """
    if digest is not None:
        check_digest(folder, digest)
    package = open_package(folder, trusted)
    predictor = package.load()
    package.prove(predictor)
    if predictor.compiled is None and (package.manifest.get("compiled") or {}).get("files"):
        note(f"{folder}: {predictor.why}; it is served as it was fitted, which is slower", "WARNING")
    return Loaded(package, predictor, predictor.signature.names)


def live_profile(model: Loaded, version: int, folder: Path | None, pushes: Sequence[Push] = ()) -> LiveProfile | None:
    """Give a profile to count a model's rows in; None where its package says nothing of its training table."""
    package, manifest = model.package, model.package.manifest
    if REFERENCE not in manifest["files"]:
        return None
    validation: Any = None
    if VALIDATION in manifest["files"]:
        with np.load(io.BytesIO(package.read(VALIDATION)), allow_pickle=False) as archive:
            validation = {name: archive[name] for name in ("prediction", "time")}
    reference = live_reference(package.read(REFERENCE), validation)
    time = manifest.get("time") or None
    return LiveProfile(reference, model=model.name, version=version, time=time, folder=folder, pushes=pushes)
