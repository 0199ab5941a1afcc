"""The decision: the business rule on top of a score, with a version of its own.

A threshold, a cost, an exclusion: such rules change more often than models, and for other reasons. A decision version
is a folder with the code that the project's `decide` reaches and a manifest of digests; a server is told which one
holds and follows a change within a second, without loading its model again.

    decide(score)         one row's value or probability; of more than two classes {label: probability}
    decide(score, row)    the same, and the row's raw fields

It answers true or false, a number, a text, or None for "no decision". The row is the same online and in a batch: every
field of the model's signature, None where it was not given, times in one spelling.

    python -m trilho_runtime.decision check FOLDER < SCORES
    python -m trilho_runtime.decision compare [OLD] NEW < SCORES
"""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trilho_runtime.describe import module_file
from trilho_runtime.steps.fingerprint import closure, package_data
from trilho_runtime.steps.function import StepError
from trilho_runtime.steps.isolated import Isolated

SCHEMA = 1
MANIFEST = "decision.json"
CODE = "code"
LARGEST_DATA = 5_000_000  # bytes of data files beside the rule's code
LARGEST_NUMBER = 2**63  # JSON as it is written here holds no larger integer
TRIED = (0.0, 0.5, 1.0)
MOST_COUNTED = 20  # different decisions that a comparison lists
PACKAGE = "package"  # the version of a decision that came with its model

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

    @property
    def takes_row(self) -> bool:
        """Say whether the rule looks at the row besides the score."""
        return self._takes_row

    def decide(self, score: Any, row: Mapping[str, Any]) -> Answer:
        """Decide one row. Raises whatever the rule raises, and TypeError for an answer that JSON has no value for.

        The rule is given copies: what it changes of a row is not what is logged.
        """
        given = dict(score) if isinstance(score, Mapping) else score
        found = self._function(given, dict(row)) if self._takes_row else self._function(given)
        return _checked(found.item() if hasattr(found, "item") else found, self.reference)

    def decide_all(self, scores: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> tuple[list[Answer], int, str]:
        """Decide rows; a row on which the rule fails has no decision. Gives also how many failed, and how the last."""
        found: list[Answer] = []
        failed, why = 0, ""
        for place, score in enumerate(scores):
            try:
                found.append(self.decide(score, rows[place] if self._takes_row else {}))
            except (Exception, SystemExit) as error:  # noqa: BLE001  the project's code: the score stands all the same
                failed, why = failed + 1, f"{type(error).__name__}: {error}"
                found.append(None)
        return found, failed, why


def _checked(found: Any, reference: str) -> Answer:
    """Give an answer that JSON can carry. Raises TypeError for any other."""
    if found is None or type(found) in (bool, float):
        return found  # type: ignore[no-any-return]
    if type(found) is int and -LARGEST_NUMBER <= found < LARGEST_NUMBER:
        return found
    if type(found) is str and not any("\ud800" <= c <= "\udfff" for c in found):
        return found
    kind = type(found).__name__
    said = {"int": "an integer of more than 64 bits", "str": "half a character"}.get(kind, f"a {kind}")
    raise TypeError(f"{reference} answered {said}; allowed: true or false, a number, a text")


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
        count, function = _function(folder / CODE, reference)
    except (Exception, SystemExit) as error:
        raise DecisionError(f"{folder}: {reference} cannot be loaded: {type(error).__name__}: {error}") from error
    return Decision(reference, hashlib.sha256(text).hexdigest(), function, count == 2)


def packaged_decision(folder: Path, manifest: Mapping[str, Any]) -> Decision | None:
    """Give the decision that a model's package carries, imported apart; None where it has none. Raises DecisionError.

    The package's files were checked against its manifest when it was opened.
    """
    told = manifest.get("decision")
    if not told:
        return None
    reference = str(told["reference"])
    try:
        count, function = _function(folder / CODE, reference)
    except (Exception, SystemExit) as error:
        raise DecisionError(f"{folder}: {reference} cannot be loaded: {type(error).__name__}: {error}") from error
    return Decision(reference, str(told["digest"]), function, count == 2)


def _function(code: Path, reference: str) -> tuple[int, Callable[..., Any]]:
    module, _, name = reference.partition(":")
    file = module_file(code, module)
    count = _arguments(file, name, reference) if file is not None else 1
    return count, Isolated(code.resolve()).function(reference)


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
        self._lock = threading.Lock()
        self.held: tuple[int, Decision] | None = None
        self.problem = ""

    @property
    def version(self) -> int | None:
        """Give the version that holds."""
        return None if self.held is None else self.held[0]

    @property
    def decision(self) -> Decision | None:
        """Give the decision that holds."""
        return None if self.held is None else self.held[1]

    def changed(self) -> bool:
        """Say whether the file is another one than was last read: cheap enough to be asked often."""
        return self._state() != self._seen

    def look(self) -> None:
        """Read the file, and load the decision that it names; one that cannot be loaded leaves the one before in place.

        What is wrong then is the `problem`. Version and rule change together: a reader takes `held` once.
        """
        with self._lock:
            self._seen = self._state()
            try:
                self.held, self.problem = self._read(), ""
            except (OSError, ValueError, KeyError, TypeError, DecisionError) as error:
                said = str(error) if isinstance(error, DecisionError) else f"{type(error).__name__}: {error}"
                self.problem = f"{self._path}: {said}"

    def _read(self) -> tuple[int, Decision] | None:
        try:
            told = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        if told["schema"] != SCHEMA:
            raise DecisionError(f"schema {told['schema']!r}; this trilho-runtime reads {SCHEMA}")
        version, found = int(told["version"]), load_decision(Path(told["folder"]))
        return version, found

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
    why: str = ""


def compare(
    old: Decision | None, new: Decision, scores: Sequence[Any], rows: Sequence[Mapping[str, Any]]
) -> Comparison:
    """Decide the same rows by two decisions, and count where they differ; without an old one every row is new."""
    after, failed, why = new.decide_all(scores, rows)
    before = old.decide_all(scores, rows)[0] if old is not None else [None] * len(after)
    changed = sum(not _equal(a, b) for a, b in zip(after, before, strict=True))
    counts = (Counter(json.dumps(value) for value in values) for values in (before, after))
    told = [dict(count.most_common(MOST_COUNTED)) for count in counts]
    return Comparison(len(after), changed, told[0], told[1], failed, why)


def _equal(one: Answer, other: Answer) -> bool:
    if isinstance(one, float) and isinstance(other, float) and one != one:
        return other != other
    return type(one) is type(other) and one == other


def check(decision: Decision, scores: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """Have a decision decide scores that it must be able to. Raises DecisionError for the first that it fails on."""
    found = []
    for place, score in enumerate(scores):
        try:
            found.append(decision.decide(score, rows[place] if place < len(rows) else {}))
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {error}"
            raise DecisionError(f"{decision.reference} fails on the score {json.dumps(score)}: {said}") from error
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a decision on scores, or compare two on them; they are read as {"scores": [...], "rows": [...]}.

    Without any given, a check tries 0, 0.5 and 1; a rule that looks at rows is tried on rows alone.
    """
    import argparse

    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.decision", description=main.__doc__)
    parser.add_argument("verb", choices=["check", "compare"])
    parser.add_argument("folders", type=Path, nargs="+")
    given = parser.parse_args(arguments)
    try:
        text = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
        out, sys.stdout = sys.stdout, sys.stderr  # what the rule prints is no answer of ours
        try:
            told = _ran(given.verb, [load_decision(folder) for folder in given.folders], json.loads(text or "{}"))
        finally:
            sys.stdout = out
    except DecisionError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    json.dump(told, sys.stdout)
    sys.stdout.write("\n")
    return 0


def _ran(verb: str, found: Sequence[Decision], told: Mapping[str, Any]) -> dict[str, Any]:
    rule, rows = found[-1], told.get("rows")
    if verb == "compare":
        scores = told["scores"]
        result = compare(found[0] if len(found) > 1 else None, rule, scores, rows or [{}] * len(scores))
        return dict(vars(result))
    scores = [] if rule.takes_row and not rows else told.get("scores", TRIED)
    decided = check(rule, scores, rows or [])
    return {"reference": rule.reference, "digest": rule.digest, "decided": decided, "takes_row": rule.takes_row}


if __name__ == "__main__":
    sys.exit(main())
