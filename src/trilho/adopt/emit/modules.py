"""The package's modules: what goes where, and the imports that each then needs.

Names are resolved in this order: what another module of the package defines, what the notebook imported, a few that
annotations need. Modules import in one direction: state, load, features, predict's Model, fit, evaluate.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from trilho.adopt.emit.code import function_text, reads
from trilho.adopt.emit.naming import bound_names, cells_phrase, changed_parameter, docstring, free_names, renamed
from trilho.adopt.emit.scoring import decide_text, has_model, model_text, predict_text
from trilho.adopt.emit.typing import STANDARD, hint_of, is_annotation
from trilho.adopt.plan import Choice, Function, Lookup, Part, Plan
from trilho.adopt.trace import Read, Trace

TEMPLATES = Path(__file__).parent / "templates"
DOCS = {
    "load": "Read the data: raw rows as the notebook read them.",
    "features": "Raw rows to features: the same in training and in serving.",
    "fit": "Rows and their true values in, the fitted model out.",
    "predict": "Raw rows and a fitted model in, predictions out.",
    "evaluate": "Judge the model as the notebook did: its split, its metrics.",
    "decide": "The business rule on top of the score: changed, tested and released without a retraining.",
}
ORDER = ("state", "load", "features", "predict", "fit", "evaluate", "decide")


@dataclass
class Module:
    """A module as it is put together: blocks in order, each a few lines of code."""

    name: str
    blocks: list[str] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)
    doc: str = ""

    @property
    def body(self) -> str:
        """Give its code without its imports."""
        return "\n\n\n".join(self.blocks)


def write_modules(plan: Plan, choice: Choice, trace: Trace, title: str = "") -> dict[str, str]:
    """Give the text of each module of the package by its file's name, not yet formatted."""
    plan = annotated(plan, choice, trace)
    modules = _drafts(plan, choice, trace)
    provided = _providers(modules)
    known = imports_by_name(plan.imports)
    stars = [line for line in plan.imports if line.endswith("import *")]
    for module in modules.values():
        wanted = free_names(module.body)
        for name in sorted(wanted):
            module.imports |= _lines_for(name, module, provided, known, stars, plan.package)
        module.imports |= _enabling(module.imports, plan.imports)
    texts = {f"{name}.py": _text(module) for name, module in modules.items()}
    return {"__init__.py": docstring(title or f"The model {plan.package}") + "\n", **texts}


def annotated(plan: Plan, choice: Choice, trace: Trace) -> Plan:
    """Say of the estimator which class it is, where the plan does not, and import that."""
    known = imports_by_name(plan.imports)
    seen = next((o.type for o in trace.objects if o.id == choice.shipped), "")
    told = plan.estimator_type
    hint = hint_of(seen if told in ("", "object") and seen else told, known)
    if "." in told and told.partition(".")[0] in {**known, **STANDARD} and is_annotation(told):
        hint = replace(hint, text=told, line="")
    lines = (*plan.imports, *((hint.line,) if hint.line and hint.line not in plan.imports else ()))

    def better(function: Function) -> Function:
        return replace(function, returns_type=_better(function.returns_type, told, hint.text))

    return replace(plan, estimator_type=hint.text, imports=lines, fit=tuple(map(better, plan.fit)))


def _better(written: str, told: str, public: str) -> str:
    return public if written in ("", "object", told) and public else written


def imports_by_name(lines: Iterable[str]) -> dict[str, str]:
    """Give for each name the import that binds it, one name a line.

    >>> imports_by_name(["import numpy as np, os.path", "from a import b as c"])
    {'np': 'import numpy as np', 'os': 'import os.path', 'c': 'from a import b as c'}
    """
    found: dict[str, str] = {}
    for node in (node for line in lines for node in ast.parse(line.strip()).body):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                text = f"import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
                same = found.get(bound, "")
                found[bound] = f"{same}\n{text}" if same.startswith("import ") and same != text else text
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                text = f"from {module} import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
                if alias.name != "*":
                    found[alias.asname or alias.name] = text
    return found


def _drafts(plan: Plan, choice: Choice, trace: Trace) -> dict[str, Module]:
    modules = {name: Module(name, doc=DOCS[name]) for name in ORDER if name != "state"}
    if plan.form == "whole":
        del modules["features"]
    own = _moved(plan)
    for name, module in modules.items():
        module.blocks += _items(plan, own, name)
    load = modules["load"]
    load.blocks += _tables(plan.lookups, trace)
    load.blocks += _loading(plan, choice, trace)
    if "features" in modules:
        changing = _changing(plan)
        modules["features"].blocks += [function_text(function, changing=changing) for function in plan.features]
    else:
        load.blocks[-1:-1] = map(function_text, plan.features)
    if has_model(plan):
        modules["predict"].blocks.append(model_text(plan, choice))
    modules["predict"].blocks += predict_text(plan, choice)
    modules["fit"].blocks += [function_text(_done(function)) for function in plan.fit]
    modules["evaluate"].blocks += [*map(function_text, plan.evaluate), _evaluation(plan, choice)]
    if choice.threshold is not None and choice.task == "classification":
        modules["decide"].blocks += decide_text(choice.threshold)
    if not modules["evaluate"].blocks or not plan.evaluate:
        del modules["evaluate"]
    if not modules["decide"].blocks:
        del modules["decide"]
    if any("State" in free_names(module.body) for module in modules.values()):
        modules["state"] = Module("state", [])
    return {name: modules[name] for name in ORDER if name in modules}


def _changing(plan: Plan) -> set[str]:
    """Name the notebook's functions that change the table that they are given."""
    found: set[str] = set()
    for part in (part for parts in plan.definitions.values() for part in parts):
        node = ast.parse(part.source).body[-1]
        if isinstance(node, ast.FunctionDef) and node.args.args:
            body = "\n".join(ast.unparse(statement) for statement in node.body)
            if any(changed_parameter(argument.arg, body) for argument in node.args.args):
                found.add(node.name)
    return found


def _done(function: Function) -> Function:
    """Let the state learn no more once it is part of a model."""
    if "Model(" not in function.returns or "state" not in free_names(function.returns):
        return function
    if any("state.learning = False" in part.source for part in function.parts) or ".done()" in function.returns:
        return function
    return replace(function, returns=renamed(function.returns, {"state": "state.done()"}))


def _moved(plan: Plan) -> dict[int, str]:
    """Say in which module each constant and definition stands: the first that needs it, "" where none does."""
    named = [
        (part, name) for kind in (plan.constants, plan.definitions) for name, parts in kind.items() for part in parts
    ]
    texts = {
        "load": [plan.load, *(plan.features if plan.form == "whole" else ())],
        "features": [] if plan.form == "whole" else list(plan.features),
        "predict": [plan.predict] if plan.predict is not None else [],
        "fit": list(plan.fit),
        "evaluate": list(plan.evaluate),
    }
    place: dict[int, str] = {}
    for module, functions in texts.items():
        wanted = set().union(*(reads(function) for function in functions))
        for part in _needed([part for part, _ in named], wanted):
            place.setdefault(id(part), module)
    unread = {id(part) for part, _ in named if id(part) not in place and bound_names(part.source)}
    return {id(part): "" if id(part) in unread else place.get(id(part), name) for part, name in named}


def _needed(parts: list[Part], wanted: set[str]) -> list[Part]:
    """Give the parts that bind wanted names, and those that these need."""
    found: list[Part] = []
    again = True
    while again:
        again = False
        for part in parts:
            if part not in found and bound_names(part.source) & wanted:
                found.append(part)
                wanted = wanted | free_names(part.source)
                again = True
    return found


def _items(plan: Plan, own: Mapping[int, str], module: str) -> list[str]:
    """Give a module's constants, then its functions and classes, each in the notebook's order."""
    constants = [part for parts in plan.constants.values() for part in parts if own[id(part)] == module]
    definitions = [part for parts in plan.definitions.values() for part in parts if own[id(part)] == module]
    if plan.form == "whole" and module == "load":
        constants += [part for parts in plan.constants.values() for part in parts if own[id(part)] == "features"]
        definitions += [part for parts in plan.definitions.values() for part in parts if own[id(part)] == "features"]
    early, late = _by_need(constants, definitions)
    blocks = [_lines(early)] if early else []
    for part in sorted(definitions, key=lambda part: part.statement):
        if late and _read_at_once(part.source) & {name for one in late for name in bound_names(one.source)}:
            first = [one for one in late if one.statement < part.statement]
            blocks += [_lines(first)] if first else []
            late = [one for one in late if one not in first]
        blocks.append(part.source.strip("\n"))
    return blocks + ([_lines(late)] if late else [])


def _lines(parts: list[Part]) -> str:
    return "\n".join(part.source.strip("\n") for part in parts)


def _read_at_once(source: str) -> set[str]:
    """Give the names that a definition reads when it is made: defaults, decorators, bases, a class's own values.

    >>> sorted(_read_at_once("def f(x, n=LIMIT):\\n    return x + K"))
    ['LIMIT']
    """
    found: set[str] = set()
    waiting: list[ast.AST] = [*ast.parse(source).body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += [*node.args.defaults, *(d for d in node.args.kw_defaults if d)]
            waiting += getattr(node, "decorator_list", [])
        else:
            found |= {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) else set()
            waiting += ast.iter_child_nodes(node)
    return found


def _by_need(constants: list[Part], definitions: list[Part]) -> tuple[list[Part], list[Part]]:
    """Part constants into those that stand alone and those that are made by a function of the module."""
    ordered = sorted(constants, key=lambda part: (part.statement, part.line))
    made = {name for part in definitions for name in bound_names(part.source)}
    late: list[Part] = []
    for part in ordered:
        if free_names(part.source) & made:
            late.append(part)
            made |= bound_names(part.source)
    return [part for part in ordered if part not in late], late


def _tables(lookups: Iterable[Lookup], trace: Trace) -> list[str]:
    if not lookups:
        return []
    reads_by_id = {read.id: read for read in trace.reads}
    blocks = ['TABLES = Path(__file__).parent / "tables"']
    for lookup in lookups:
        read = reads_by_id[lookup.read]
        call = _lookup_call(lookup, read)
        doc = docstring(
            f"Read {Path(read.source).name or lookup.name}, which is kept with the code",
            cells_phrase([read.cell]),
            "    ",
        )
        blocks.append(f"@cache\ndef {lookup.name}() -> pd.DataFrame:\n    {doc}\n    return {call}")
    return blocks


def _lookup_call(lookup: Lookup, read: Read) -> str:
    file = f'TABLES / "{table_file(lookup, read)}"'
    if read.kind in ("bigquery", "sql", "dataset", "http") and read.file.endswith((".parquet", ".pkl")):
        return f"pd.read_{'parquet' if read.file.endswith('.parquet') else 'pickle'}({file})"
    return re.sub(r"\bPATH\b", lambda _: file, lookup.call)


def table_file(lookup: Lookup, read: Read) -> str:
    """Give the file's name of a table that is kept with the code."""
    return f"{lookup.name}{Path(read.file or read.source).suffix or '.csv'}"


def _loading(plan: Plan, choice: Choice, trace: Trace) -> list[str]:
    kept = kept_columns(plan, choice, trace)
    if kept is None:
        return [function_text(plan.load)]
    name = (
        "COLUMNS"
        if not any("COLUMNS" in bound_names(p.source) for ps in plan.constants.values() for p in ps)
        else "KEPT"
    )
    load = replace(plan.load, returns=f"{_operand(plan.load.returns)}.filter(items={name})")  # the target may be absent
    return [f"{name} = {kept!r}", function_text(load)]


def _operand(expression: str) -> str:
    return expression if isinstance(ast.parse(expression, mode="eval").body, ast.Name) else f"({expression})"


def kept_columns(plan: Plan, choice: Choice, trace: Trace) -> list[str] | None:
    """Give the columns that `load` keeps of what was read, in the notebook's order; None where it keeps all."""
    if plan.columns is None or plan.form == "whole":
        return None
    read = next(read for read in trace.reads if read.id == choice.main_read)
    there = read.value.columns or []
    wanted = [*plan.columns, *(name for name in (choice.key, choice.time) if name), choice.target.column]
    kept = [column for column in there if column in wanted]
    kept += [column for column in dict.fromkeys(wanted) if column not in kept]
    return None if kept == there else kept


def _evaluation(plan: Plan, choice: Choice) -> str:
    target = choice.target.column
    if plan.prepared:
        return 'if __name__ == "__main__":\n    print(evaluate(Path(sys.argv[1])))'
    return f"""if __name__ == "__main__":
    table = load(Path(sys.argv[1]))
    print(evaluate(table.drop(columns={target!r}), table[{target!r}]))"""


def _providers(modules: Mapping[str, Module]) -> dict[str, str]:
    provided: dict[str, str] = {"State": "state"} if "state" in modules else {}
    for name in reversed(ORDER):
        if name in modules and name != "state":
            provided |= dict.fromkeys(bound_names(modules[name].body), name)
    return provided


def _lines_for(
    name: str, module: Module, provided: Mapping[str, str], known: Mapping[str, str], stars: list[str], package: str
) -> set[str]:
    if name in provided and provided[name] != module.name:
        return {f"from {package}.{provided[name]} import {name}"}
    if name in known:
        return set(known[name].splitlines())
    if name in STANDARD or name in ("sys", "argparse"):
        return {STANDARD.get(name, f"import {name}")}
    if len(stars) == 1:
        return {stars[0].replace("*", name)}
    return set()


def _enabling(lines: set[str], all_lines: Iterable[str]) -> set[str]:
    """Keep imports that are made for what they switch on: scikit-learn's experimental estimators."""
    needs = any("sklearn." in line for line in lines)
    return {f"{line}  # noqa: F401" for line in all_lines if needs and "sklearn.experimental import" in line}


def _text(module: Module) -> str:
    if module.name == "state":
        return (TEMPLATES / "state.py.txt").read_text(encoding="utf-8")
    return "\n".join([docstring(module.doc), "", *sorted(module.imports), "", module.body, ""])
