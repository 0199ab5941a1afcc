"""The decision: the business rule on top of a score, with a version of its own.

A threshold, a cost, an exclusion: such rules change more often than models, and for other reasons. A decision version
is a folder with the code that the project's `decide` reaches and a manifest of digests; a server is told which one
holds and follows a change within a second, without loading its model again.

    decide(score)         one row's value or probability; of more than two classes {label: probability}
    decide(score, row)    the same, and the row's raw fields

It answers true or false, a number, a text, or None for "no decision".

    python -m trilho_runtime.decision check FOLDER
    python -m trilho_runtime.decision compare OLD NEW < SCORES
"""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trilho_runtime.describe import module_file
from trilho_runtime.fingerprint import closure, package_data
from trilho_runtime.function import StepError
from trilho_runtime.isolated import Isolated

SCHEMA = 1
MANIFEST = "decision.json"
CODE = "code"
LARGEST_DATA = 5_000_000  # bytes of data files beside the rule's code

Answer = bool | int | float | str | None


class DecisionError(Exception):
    """A decision cannot be loaded, or is not what its manifest says."""


@dataclass(frozen=True)
class Decision:
    """A rule that is ready to decide."""

    reference: str
    digest: str
    _function: Callable[..., Any]
    _takes_row: bool

    def decide(self, score: Any, row: Mapping[str, Any]) -> Answer:
        """Decide one row. Raises whatever the rule raises, and TypeError for an answer that JSON has no value for."""
        found = self._function(score, row) if self._takes_row else self._function(score)
        found = found.item() if hasattr(found, "item") else found
        if found is not None and type(found) not in (bool, int, float, str):
            raise TypeError(
                f"{self.reference} answered a {type(found).__name__}; allowed: true or false, a number, a text"
            )
        return found  # type: ignore[no-any-return]

    def decide_all(self, scores: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> tuple[list[Answer], int, str]:
        """Decide rows; a row on which the rule fails has no decision. Gives also how many failed, and how the last."""
        found: list[Answer] = []
        failed, why = 0, ""
        for score, row in zip(scores, rows, strict=True):
            try:
                found.append(self.decide(score, row))
            except Exception as error:  # noqa: BLE001  the project's own code: the score stands whatever it does
                failed, why = failed + 1, f"{type(error).__name__}: {error}"
                found.append(None)
        return found, failed, why


def write_decision(source: Path, reference: str, out: Path) -> str:
    """Write a decision's folder from the project's code and give its digest; the same code gives the same bytes.

    Raises StepError when the function is not there or takes other than one or two arguments.
    """
    module, _, name = reference.partition(":")
    file = module_file(source, module)
    if file is None:
        raise StepError(f"{reference}: there is no module {module} in {source}")
    _arguments(file, name, reference)
    files = closure(source, [module])
    names = sorted(path.relative_to(source).as_posix() for path in files)
    data = [path for path in package_data(source, names) if path not in files]
    if sum(path.stat().st_size for path in data) <= LARGEST_DATA:
        names = sorted([*names, *(path.relative_to(source).as_posix() for path in data)])
    shutil.rmtree(out, ignore_errors=True)
    for name_ in names:
        place = out / CODE / name_
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name_, place)
    listed = {name_: hashlib.sha256((out / CODE / name_).read_bytes()).hexdigest() for name_ in names}
    manifest = json.dumps({"schema": SCHEMA, "reference": reference, "files": listed}, indent=1, sort_keys=True)
    (out / MANIFEST).write_text(manifest, encoding="utf-8")
    return hashlib.sha256(manifest.encode()).hexdigest()


def load_decision(folder: Path) -> Decision:
    """Check a decision's files and import its rule, apart from all else. Raises DecisionError."""
    try:
        text = (folder / MANIFEST).read_bytes()
        manifest = json.loads(text)
        if manifest["schema"] != SCHEMA:
            raise DecisionError(f"{folder}: schema {manifest['schema']!r}; this trilho-runtime reads {SCHEMA}")
        reference, listed = str(manifest["reference"]), dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DecisionError(f"{folder / MANIFEST}: {type(error).__name__}: {error}") from None
    _check(folder / CODE, listed)
    try:
        module, _, name = reference.partition(":")
        file = module_file(folder / CODE, module)
        count = _arguments(file, name, reference) if file is not None else 1
        function = Isolated((folder / CODE).resolve()).function(reference)
    except (Exception, SystemExit) as error:
        raise DecisionError(f"{folder}: {reference} cannot be loaded: {type(error).__name__}: {error}") from error
    return Decision(reference, hashlib.sha256(text).hexdigest(), function, count == 2)


def _check(code: Path, listed: Mapping[str, str]) -> None:
    found = {path.relative_to(code).as_posix(): path for path in sorted(code.rglob("*")) if path.is_file()}
    for name in sorted(found.keys() - listed.keys()):
        if "__pycache__" not in name:
            raise DecisionError(f"{code / name} is not in the manifest: a decision holds what was packed, nothing else")
    for name, digest in sorted(listed.items()):
        path = found.get(name)
        if path is None or path.is_symlink():
            raise DecisionError(f"{code / name} is missing, but the manifest lists it")
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise DecisionError(f"{code / name}: its digest is not the manifest's: it was changed or cut")


def _arguments(file: Path, name: str, reference: str) -> int:
    """Give how many positional arguments a function has, one or two; read, not imported.

    Of what is no plain function in its module (a partial, an import) nothing is known: it is asked with the score.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError as error:
        raise StepError(f"{reference}: {file.name}:{error.lineno} is not valid Python: {error.msg}") from None
    defined = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    if not defined:
        if not any(isinstance(node, ast.Assign | ast.ImportFrom) and name in ast.dump(node) for node in tree.body):
            raise StepError(f"{reference}: {file.name} has no function {name}")
        return 1
    arguments = defined[-1].args
    count = len(arguments.posonlyargs) + len(arguments.args)
    needed = count - len(arguments.defaults)
    if not count or needed > 2 or any(default is None for default in arguments.kw_defaults):
        raise StepError(f"{reference} takes {needed} arguments; it is given the score, or the score and the row")
    second = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args][1:2]]
    return 2 if needed == 2 or second == ["row"] else 1


class Following:
    """The decision that holds, as a file says: {"schema": 1, "version": 3, "folder": "..."}; without it there is none.

    The file is looked at for another time of writing; a decision that cannot be loaded leaves the one before in place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self.version: int | None = None
        self.decision: Decision | None = None
        self.problem = ""

    def changed(self) -> bool:
        """Say whether the file is another one than was last read: cheap enough to be asked often."""
        return self._state() != self._seen

    def look(self) -> None:
        """Read the file, and load the decision that it names."""
        self._seen = self._state()
        try:
            told = json.loads(self._path.read_bytes())
            found = load_decision(Path(told["folder"]))
        except FileNotFoundError:
            self.version, self.decision, self.problem = None, None, ""
        except (OSError, ValueError, KeyError, TypeError, DecisionError) as error:
            self.problem = f"{self._path}: {error}"
        else:
            self.version, self.decision, self.problem = int(told["version"]), found, ""

    def _state(self) -> tuple[int, int, int]:
        try:
            state = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (state.st_mtime_ns, state.st_size, state.st_ino)


@dataclass(frozen=True)
class Comparison:
    """How two decisions differ on the same scores."""

    rows: int
    changed: int
    before: Mapping[str, int]
    after: Mapping[str, int]
    failed: int


def compare(
    old: Decision | None, new: Decision, scores: Sequence[Any], rows: Sequence[Mapping[str, Any]]
) -> Comparison:
    """Decide the same rows by two decisions, and count where they differ; without an old one every row is new."""
    after, failed, _ = new.decide_all(scores, rows)
    before = old.decide_all(scores, rows)[0] if old is not None else [None] * len(after)
    changed = sum(type(a) is not type(b) or a != b for a, b in zip(after, before, strict=True))
    counts = (Counter(json.dumps(value) for value in values) for values in (before, after))
    told = [dict(count.most_common(20)) for count in counts]
    return Comparison(len(after), changed, told[0], told[1], failed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a decision, or compare two on scores given as {"scores": [...], "rows": [...]}."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.decision", description=main.__doc__)
    parser.add_argument("verb", choices=["check", "compare"])
    parser.add_argument("folders", type=Path, nargs="+")
    given = parser.parse_args(arguments)
    try:
        found = [load_decision(folder) for folder in given.folders]
    except DecisionError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if given.verb == "check":
        sys.stdout.write(f"{found[-1].reference} is what its manifest says\n")
        return 0
    told = json.load(sys.stdin)
    rows = told.get("rows") or [{}] * len(told["scores"])
    result = compare(found[0] if len(found) > 1 else None, found[-1], told["scores"], rows)
    json.dump(vars(result), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
