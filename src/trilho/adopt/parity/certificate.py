"""The certificate: what was compared, how, and what came of it. `parity.json` in a project holds one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from trilho.config import Settings, load_settings
from trilho.core.files import write_whole
from trilho.errors import DataError, UsageError
from trilho_runtime.steps.digest import digest_file, digest_json
from trilho_runtime.steps.fingerprint import code_digest

SCHEMA = 1
FILE = "parity.json"
PAGE = "parity.html"
STAGES = ("load", "features", "fit", "evaluate", "pipeline", "package", "http")
State = Literal["equal", "different", "not compared"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What one comparison came to."""

    name: str
    state: State
    required: bool = True
    """Whether there is something to compare: a batch model, say, has no endpoint."""
    rows: int = 0
    max_difference: float | None = None
    tolerance: float | None = None
    reason: str = ""
    first_difference: Mapping[str, Any] | None = None

    @property
    def holds(self) -> bool:
        """Say whether the stage lets the certificate be given."""
        return self.state == "equal" or (self.state == "not compared" and not self.required)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One metric, as the notebook has it and as the project does."""

    name: str
    notebook: float
    project: float | None


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model of the notebook's: its name there, and the cell that fitted it."""

    name: str
    cell: int | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Digests:
    """What the certificate is about, by content."""

    notebook: str
    data: str
    code: str
    environment: str
    model: str = ""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Whether a project gives the notebook's answers, and how that was found out."""

    project: str
    notebook: str
    stages: tuple[Stage, ...]
    metrics: tuple[Measure, ...]
    rows: int
    """How many rows were compared one by one to the end; of a model of lags all of them over HTTP, the newest in
    the pipeline and the package too."""
    data_rows: int
    shipped: Model
    evaluated: Model | None
    enforcement: str
    """"landlock", or "hooked": then what the notebook wrote was not kept from the disk by the system."""
    form: str
    batch_only: bool
    digests: Digests
    sample: Mapping[str, Any]
    made: str
    task: str = "regression"
    problems: tuple[str, ...] = ()
    """What else stands against it, such as another version of a library."""
    fallback: tuple[Mapping[str, Any], ...] = ()
    past: Mapping[str, Any] | None = None
    """For a model of lags that is answered row by row: whose newest past rows ("entity") are looked up, how many
    ("rows"), by which "time"."""
    lags: tuple[str, ...] = ()
    """What needs other rows than the one that is predicted, as the notebook wrote it."""
    python: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)
    pairs: tuple[tuple[Any, Any], ...] = ()
    """Of a few rows of the sample: the notebook's prediction and the project's, for the picture."""

    @property
    def certified(self) -> bool:
        """Say whether every stage that there is was compared and equal, and nothing else stands against it."""
        complete = [stage.name for stage in self.stages] == list(STAGES)
        return complete and not self.problems and all(stage.holds for stage in self.stages) and self.rows > 0

    @property
    def max_difference(self) -> float | None:
        """Give the largest difference between two predictions of one row, None where none were compared."""
        named = ("fit", "pipeline", "package", "http")
        found = [s.max_difference for s in self.stages if s.name in named and s.max_difference is not None]
        return max(found, default=None)

    def reasons(self) -> list[str]:
        """Say why it is not given; nothing where it is."""
        stages = [f"{s.name}: {s.reason or s.state}" for s in self.stages if not s.holds]
        if self.certified or stages or self.problems:
            return [*self.problems, *stages]
        return ["no rows were compared"]

    def summary(self) -> dict[str, Any]:
        """Give the few facts that `trilho adopt --json` prints."""
        first = asdict(self.metrics[0]) if self.metrics else None
        return {"metric": first, "rows": self.rows, "max_difference": self.max_difference, "certified": self.certified}

    def to_json(self) -> dict[str, Any]:
        """Give it as parity.json holds it."""
        told = {name: value for name, value in asdict(self).items() if name != "pairs"}
        data = {"schema": SCHEMA, **self.summary(), **told, "reasons": self.reasons(), "pairs": self.pairs}
        return {**data, "seal": seal(data)}


def seal(data: Mapping[str, Any]) -> str:
    """Give the digest of all that a certificate says, so that a change by hand is seen."""
    told = {name: value for name, value in data.items() if name != "seal"}
    return digest_json(json.loads(json.dumps(told)))


def write_certificate(project: Path, certificate: Certificate, language: str = "en") -> list[Path]:
    """Write parity.json and the page beside it, and give both."""
    from trilho.adopt.parity.page import page

    files = [project / FILE, project / PAGE]
    text = json.dumps(certificate.to_json(), ensure_ascii=False, allow_nan=False, indent=1)
    write_whole(files[0], f"{text}\n")
    write_whole(files[1], page(certificate, language))
    return files


def read_certificate(project: Path) -> Certificate:
    """Read a project's certificate. Raises UsageError where there is none, DataError where it was changed."""
    file = project / FILE
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{project} has no {FILE}", hint="trilho adopt NOTEBOOK --into DIR writes one") from None
    except ValueError as error:
        raise DataError(f"{file}: not JSON: {error}", hint="take it from the version control again") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else type(data).__name__
        raise DataError(f"{file}: schema {found!r}; {SCHEMA} is read", hint="use the trilho that wrote it")
    certificate = _certificate(data)
    if data.get("seal") != seal(data) or data.get("certified") != certificate.certified:
        raise DataError(f"{file}: it was changed after it was written", hint="adopt the notebook again")
    return certificate


def _certificate(data: Mapping[str, Any]) -> Certificate:
    given = {name: data[name] for name in Certificate.__dataclass_fields__ if name in data}
    given["stages"] = tuple(Stage(**stage) for stage in data["stages"])
    given["metrics"] = tuple(Measure(**measure) for measure in data["metrics"])
    given["shipped"] = Model(**data["shipped"])
    given["evaluated"] = Model(**data["evaluated"]) if data["evaluated"] else None
    given["digests"] = Digests(**data["digests"])
    for name in ("problems", "fallback", "lags"):
        given[name] = tuple(data.get(name, ()))
    given["pairs"] = tuple((a, b) for a, b in data.get("pairs", ()))
    return Certificate(**given)


@dataclass(frozen=True)
class Verification:
    """Whether a certificate still is about the project as it lies there."""

    state: Literal["valid", "stale", "not certified"]
    changed: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.state == "stale":
            return f"stale: {' and '.join(self.changed)} changed since the certificate was made"
        return self.state


def verify(project: Path) -> Verification:
    """Check a project's certificate against its code and its data files as they are now."""
    certificate = read_certificate(project)
    now = {"code": digest_code(project), "data": digest_data(data_files(project, load_settings(project)))}
    changed = tuple(name for name, digest in now.items() if getattr(certificate.digests, name) != digest)
    if changed:
        return Verification("stale", changed)
    return Verification("valid" if certificate.certified else "not certified")


def data_files(project: Path, settings: Settings) -> list[Path]:
    """Give the files that `[data] source` names."""
    return sorted(path for path in project.glob(settings.data.source) if path.is_file())


def digest_code(project: Path) -> str:
    """Give the digest of a project's code; a comment does not count."""
    source = project / "src"
    return code_digest(source if source.is_dir() else project, ["*"])


def digest_data(files: list[Path]) -> str:
    """Give the digest of data files: of one, its own."""
    found = [digest_file(file) for file in files]
    return found[0] if len(found) == 1 else digest_json(found)
