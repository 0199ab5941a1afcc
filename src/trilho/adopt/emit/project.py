"""A project's own files, all of them: code, tests with what they compare with, settings, contract, lock, README."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from trilho.adopt.emit.contract import contract_text, personal_columns
from trilho.adopt.emit.describing import documented
from trilho.adopt.emit.golden import Observed, observe
from trilho.adopt.emit.hints import hints_seen, with_hints
from trilho.adopt.emit.lock import live_modules, lock_text, needed
from trilho.adopt.emit.modules import annotated, table_file, write_modules
from trilho.adopt.emit.polish import polish
from trilho.adopt.emit.queries import find_queries, held, query_files
from trilho.adopt.emit.settings import settings_text
from trilho.adopt.emit.story import story, summary_of, title_of
from trilho.adopt.emit.tests import golden_text, write_tests
from trilho.adopt.notebook import Notebook
from trilho.adopt.plan import Choice, Finding, Plan
from trilho.adopt.standard.render import GOLDEN
from trilho.adopt.trace import Read, Trace
from trilho.errors import TrilhoError

HOLDS = {
    "load": "the data, read as the notebook read it",
    "features": "raw rows to features, the same in training and in serving",
    "state": "what is learnt from the training rows besides the model",
    "predict": "raw rows and a model to predictions; `PYTHONPATH=src .venv/bin/python -m {package}.predict`",
    "fit": "rows and their true values to a fitted model",
    "evaluate": "the notebook's split and metrics; `PYTHONPATH=src .venv/bin/python -m {package}.evaluate DATA`",
    "decide": "the rule on top of the score",
}
EXPECTED = "what the tests expect of the answers; `make golden` keeps new ones, after a change that is meant"


@dataclass(frozen=True)
class Emitted:
    """What a project of its own consists of, the standard's files apart."""

    texts: Mapping[str, str]
    contents: Mapping[str, bytes]  # small files that are no text: golden tables
    copies: Mapping[str, Path]  # where each large or foreign file is copied from
    summary: str
    story: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...]  # for the README: path, and what it holds
    libraries: tuple[str, ...]  # what the code imports, as distributions
    personal: tuple[str, ...]
    findings: tuple[Finding, ...] = field(default_factory=tuple)


def emit(
    name: str, plan: Plan, choice: Choice, trace: Trace, notebook: Notebook, scratch: Path, *, python: str = ""
) -> Emitted:
    """Write a project from its plan, in memory; its code is run once, by the notebook's interpreter.

    `python` goes into trilho.toml. Raises TrilhoError where the code does not parse, or fails on the notebook's data.
    """
    plan = annotated(plan, choice, trace)
    code = write_code(plan, choice, trace, notebook)
    copies = data_files(plan, choice, trace, notebook, scratch)
    source = data_path(choice, trace)
    observed = _observed(plan, choice, trace, scratch, code, copies, copies[source])
    facts = observed.facts
    if facts["past"]["problem"]:
        raise TrilhoError(f"past rows cannot be looked up: {facts['past']['problem']}",
                          hint="keep the lags to rows of one entity that are strictly earlier")  # fmt: skip
    personal = personal_columns(facts["columns"])
    tests = {f"tests/{file}": text for file, text in write_tests(plan, choice, facts, source).items()}
    kept = {one.read: f"src/{plan.package}/tables/{table_file(one, _read(trace, one.read))}" for one in plan.lookups}
    queries = find_queries(plan, choice, trace, source, kept)
    asked = query_files(queries, notebook, trace)
    texts = polish({**code, **tests, **asked})  # together: what is first-party is told by the folder
    texts["tests/golden/golden.json"] = golden_text(choice, facts, loaded_types(plan, choice, trace))
    texts["contract.toml"] = contract_text(facts, choice)
    texts["trilho.toml"] = settings_text(name, plan, choice, source, facts, personal, python)
    wanted = needed(live_modules(code, plan.package), trace)
    texts["requirements.lock"] = lock_text(wanted, facts["versions"])
    return Emitted(
        texts, {f"tests/golden/{file}": content for file, content in observed.tables.items()}, copies,
        summary_of(notebook, choice), story(plan, choice, trace, notebook),
        (*_held(code, plan.package), *held(queries), (GOLDEN, EXPECTED)),
        (*wanted, "pytest"), tuple(personal), tuple(_findings(choice, observed, personal)),
    )  # fmt: skip


def write_code(plan: Plan, choice: Choice, trace: Trace, notebook: Notebook) -> dict[str, str]:
    """Give the package's modules by their paths, formatted."""
    seen = hints_seen(notebook, trace)
    own = {
        name: tuple(replace(p, source=documented(with_hints(p.source, seen), p.cell)) for p in parts)
        for name, parts in plan.definitions.items()
    }
    modules = write_modules(
        replace(plan, definitions=own), choice, trace, title_of(notebook) or summary_of(notebook, choice)
    )
    return polish({f"src/{plan.package}/{file}": text for file, text in modules.items()})


def data_files(plan: Plan, choice: Choice, trace: Trace, notebook: Notebook, scratch: Path) -> dict[str, Path]:
    """Give where the project's data, its lookup tables, the notebook and modules beside it are copied from."""
    reads = {read.id: read for read in trace.reads}
    found = {data_path(choice, trace): scratch / reads[choice.main_read].file,
             f"notebooks/{notebook.path.name}": notebook.path}  # fmt: skip
    for lookup in plan.lookups:
        read = reads[lookup.read]
        found[f"src/{plan.package}/tables/{table_file(lookup, read)}"] = scratch / read.file
    return found | _modules_beside(plan, trace, notebook)


def loaded_types(plan: Plan, choice: Choice, trace: Trace) -> dict[str, str]:
    """Give the types that the notebook's own table had once it was loaded, by column; load may derive the target."""
    last = max((part.statement for part in plan.load.parts), default=-1)
    for statement in trace.statements:
        value = statement.values.get(plan.load.returns)
        if statement.id == last and value is not None and value.columns and value.dtypes:
            types = dict(zip(value.columns, value.dtypes, strict=True))
            own = (choice.target.column, choice.time)
            return {column: kind for column, kind in types.items() if column not in own}
    return {}


def data_path(choice: Choice, trace: Trace) -> str:
    """Give the path of the data in the project."""
    read = next(read for read in trace.reads if read.id == choice.main_read)
    return f"data/{_file_name(read)}"


def _file_name(read: Read) -> str:
    kept = Path(read.file)
    source = Path(read.source.partition("?")[0]) if not read.query else Path("extract")
    if source.name and source.suffix == kept.suffix:
        return source.name
    stem = source.stem if source.stem.isidentifier() else "extract"
    return f"{stem}{kept.suffix}"


def _modules_beside(plan: Plan, trace: Trace, notebook: Notebook) -> dict[str, Path]:
    """Find the user's own modules, which lie beside the notebook and are of no distribution."""
    found = {}
    for module in sorted(set(notebook.modules) - set(trace.modules)):
        path = notebook.path.parent / f"{module}.py"
        used = any(module in line.replace(".", " ").split() for line in plan.imports)
        if used and path.is_file():
            found[f"src/{module}.py"] = path
    return found


def _observed(
    plan: Plan, choice: Choice, trace: Trace, scratch: Path, code: Mapping[str, str], copies: Mapping[str, Path],
    data: Path,
) -> Observed:  # fmt: skip
    if not data.is_file():
        raise TrilhoError(f"the frozen copy of the notebook's data is missing: {data.name}")
    with tempfile.TemporaryDirectory(prefix="trilho-emit-") as place:
        folder = Path(place).resolve()
        for file, text in code.items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for file, source in copies.items():
            if file.startswith("src/"):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).symlink_to(source.resolve())
        wanted = needed(live_modules(code, plan.package), trace)
        return observe(folder, plan, choice, trace, scratch.resolve(), data.resolve(), wanted)


def _read(trace: Trace, id_: int) -> Read:
    return next(read for read in trace.reads if read.id == id_)


def _held(code: Mapping[str, str], package: str) -> tuple[tuple[str, str], ...]:
    files = [(f"src/{package}/{module}.py", holds.format(package=package)) for module, holds in HOLDS.items()]
    return tuple((file, holds) for file, holds in files if file in code)


def _findings(choice: Choice, observed: Observed, personal: list[str]) -> list[Finding]:
    found = [
        Finding("personal-data", None, None, f"{column} looks like personal data, which needs a reason and a term",
                "note", "leave it out of the data if no feature needs it")
        for column in personal
    ]  # fmt: skip
    time = next((c for c in observed.facts["columns"] if c["name"] == choice.time), None)
    if time is not None and time["kind"] != "timestamp" and not time.get("time"):
        found.append(Finding("time-as-text", None, None,
                             f"{choice.time} is no time as it is read, so that no holdout or watch can follow it",
                             "warning", "let load parse it"))  # fmt: skip
    if not observed.facts["alone"] and not choice.lags:
        found.append(Finding("row-alone", None, None, "a row is predicted differently alone",
                             "warning",
                             "find what looks at other rows in features.py"))  # fmt: skip
    return found
