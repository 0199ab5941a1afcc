"""A model's file and a sample become a project: inspected, written, held against the file's own predictions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trilho.adopt.emit.lock import lock_text
from trilho.adopt.emit.polish import polish
from trilho.adopt.environment import make_environment
from trilho.adopt.parity.certificate import Certificate, write_certificate
from trilho.adopt.plan import Finding
from trilho.adopt.scaffold import nearest_name, package_of, runtime_requirement, standard_files
from trilho.adopt.standard.render import Values
from trilho.adopt.standard.tree import drafted, require_free, write_tree
from trilho.adopt.trained.certify import certify_handed
from trilho.adopt.trained.handed import Handed, inspect_model, kind_of
from trilho.adopt.trained.sources import (
    can_retrain,
    contract_text,
    copies,
    literal,
    model_file,
    settings_text,
    sources,
)
from trilho.errors import UsageError

FILES = (
    ("model.py", "the model as it was handed over, behind its digest"),
    ("features.py", "the columns that it takes"),
    ("fit.py", "the adopted model as version 1, and what a retraining does"),
    ("predict.py", "predictions for a file of rows"),
)


@dataclass(frozen=True)
class Adopted:
    """A project that was made of a model's file."""

    folder: Path
    name: str
    handed: Handed
    files: int
    certificate: Certificate
    findings: tuple[Finding, ...]


def adopt_model(
    path: Path,
    sample: Path,
    into: Path,
    *,
    python: str,
    name: str = "",
    target: str = "",
    time: str = "",
    key: str = "",
    say: Callable[..., None] = lambda *_: None,
) -> Adopted:
    """Make a project of a model that was trained elsewhere; `python` is the interpreter that has its libraries.

    Raises UsageError, Refused or DataError in two lines, and leaves nothing then.
    """
    name = name or nearest_name(into.resolve().name)
    package = package_of(name)
    require_free(into)
    if not python:
        raise UsageError(
            "the interpreter that made the model is not known",
            hint=f"trilho adopt {path} --sample {sample} --python PATH",
        )
    if kind_of(path) in ("pickle", "mlflow"):
        say(f"{path.name} is opened with {python}: a pickle is code, so open only what you trust.")
    with drafted(into) as draft:
        with tempfile.TemporaryDirectory(prefix="trilho-model-") as place:
            scratch = Path(place).resolve()
            handed = inspect_model(path, sample, scratch, python=Path(python), target=target, key=key, time=time)
            what = f"a {handed.class_name} (sha256 {handed.digest[:12]})"
            say(f"It holds {what} that takes {len(handed.features)} columns.")
            files = _write(handed, draft, name, package, target=target, time=time, key=key)
        interpreter = make_environment(draft, python, runtime_requirement())
        certificate = certify_handed(
            draft, handed, python=interpreter, progress=lambda text: say(f"  comparing {text}")
        )  # fmt: skip
        written = write_certificate(draft, certificate)
    return Adopted(into, name, handed, files + len(written), certificate, tuple(findings(handed)))


def findings(handed: Handed) -> list[Finding]:
    """Say what is not known of a model, and what follows from it."""
    found = [
        Finding(
            "training-unknown",
            None,
            None,
            f"how {handed.class_name} was trained, on which rows and how well it does on new ones is not in its file",
            "warning",
            "adopt the notebook that trained it, or write its training into fit.py",
            handed.path.name,
        )
    ]
    if handed.metrics:
        found.append(
            Finding(
                "sample-metric",
                None,
                None,
                f"on the sample it has {literal(handed.metrics)}; whether it was trained on these rows is not known",
                "note",
                "judge it on rows that came later",
            )
        )
    if not handed.target:
        found.append(
            Finding(
                "no-truth",
                None,
                None,
                "the sample has no true values: no version can be judged or registered before labelled rows come",
                "warning",
                "give a sample that has it: --target COLUMN",
            )
        )
    if not can_retrain(handed):
        found.append(
            Finding(
                "no-retraining",
                None,
                None,
                "it cannot be retrained: fit() refuses more rows than the sample's",
                "warning",
                "write its training into fit.py",
            )
        )
    if handed.assumed:
        found.append(
            Finding(
                "columns-assumed",
                None,
                None,
                "the model knows no names of columns: their order is taken to be the sample's",
                "warning",
                "compare some predictions with ones that are known",
            )
        )
    if not handed.alone:
        found.append(
            Finding("batch-only", None, None, "a row is predicted differently alone and among others", "warning")
        )
    if not handed.enforced:
        found.append(
            Finding("not-enforced", None, None, "the file was opened without a sandbox: this system has none", "note")
        )
    found += [
        Finding("versions", None, None, said, "warning", "open it with the versions that made it: --python PATH")
        for said in handed.warnings
    ]
    return found


def _write(handed: Handed, into: Path, name: str, package: str, *, target: str, time: str, key: str) -> int:
    column = handed.target or target or "target"
    there = {column["name"] for column in handed.columns}
    texts = polish(sources(handed, package))
    texts["trilho.toml"] = settings_text(
        handed, name, package, target=column, time=time if time in there else "", key=key if key in there else ""
    )
    texts["contract.toml"] = contract_text(handed)
    wanted = sorted({"pandas", "pyarrow", *_library(handed)})
    texts["requirements.lock"] = lock_text(wanted, handed.versions)
    values = Values(
        name=name,
        package=package,
        task=handed.task,
        python=".".join(handed.python.split(".")[:2]),
        summary=f"A {handed.class_name} that was trained elsewhere, adopted from {handed.path.name}.",
        story=(("The model", _story(handed, package)),),
        files=tuple((f"src/{package}/{file}", holds) for file, holds in FILES),
        libraries=(*wanted, "pytest"),
        beginning=f"Adopted from {handed.path.name}, as version 1.",
    )
    return len(write_tree(into, {**standard_files(values), **texts}, copies(handed, package)))


def _library(handed: Handed) -> list[str]:
    top = handed.type.partition(".")[0]
    known = {"sklearn": "scikit-learn", "imblearn": "imbalanced-learn"}.get(top, top)
    joblib = ["joblib"] if Path(handed.file).suffix in (".joblib", ".pkl", ".pickle", ".sav") else []
    return [name for name in (known.replace("_", "-"), *joblib) if name in handed.versions]


def _story(handed: Handed, package: str) -> str:
    lines = [
        f"`src/{package}/model/{model_file(handed)}` is the file as it was handed over ({handed.path.name}, SHA-256 "
        f"`{handed.digest}`): a `{handed.type}` that takes {len(handed.features)} columns.",
        "",
        "Not known, since a model's file does not hold it:",
        "",
        "- how it was trained, and on which rows",
        "- how rows were split, and how well it does on new ones",
        "- what its columns were made of",
    ]
    if handed.metrics:
        lines += [
            "",
            f"On the {handed.rows} rows of the sample: {literal(handed.metrics)}. If it was trained on them, that "
            "says little.",
        ]
    if handed.parameters and handed.class_name != "Pipeline":
        shown = ", ".join(f"`{name}={value}`" for name, value in list(handed.parameters.items())[:12])
        lines += ["", f"Its parameters: {shown}."]
    if handed.task == "classification" and handed.positive not in ("1", "True"):
        lines += ["", f"Class 1 is {handed.positive}; the other one is 0."]
    again = "`fit` gives it for the sample's rows; for more it fits a new estimator with the same parameters."
    lines += ["", again if can_retrain(handed) else "`fit` gives it, and refuses to retrain: write its training there."]
    return "\n".join(lines)
