"""What a step takes and gives, read from its source and never by importing it.

So that a pipeline is checked and compiled in milliseconds, and by an interpreter that has none of the project's
libraries. What the text cannot say is a problem that names its line.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trilho_runtime
from trilho.pipeline.definition.annotation import ARTIFACTS, Read, read_annotation, type_of_value
from trilho.pipeline.definition.modules import Definitions, Found, definitions_of
from trilho_runtime.describe import look_for, module_file
from trilho_runtime.steps.function import OUTPUT, option_problem

PACKAGES = Path(__file__).parents[3]
OWN = {"trilho": PACKAGES, "trilho_runtime": Path(trilho_runtime.__file__).parents[1]}
DECORATORS = ("trilho_runtime.step.step", "trilho_runtime.steps.function.step")
MISSING: Any = object()


@dataclass(frozen=True)
class Problem:
    """Why a step's text does not say what it takes and gives."""

    rule: str
    message: str
    line: int
    hint: str = ""


@dataclass(frozen=True)
class Input:
    """An artifact that a step reads."""

    kind: str
    """table, model, metrics or file."""
    is_list: bool = False


@dataclass(frozen=True)
class Parameter:
    """A plain value that a step takes."""

    type: str
    """str, int, float, bool, list or dict."""
    is_optional: bool = False
    """Whether it may be None."""
    default: Any = MISSING

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is MISSING


@dataclass(frozen=True, kw_only=True)
class StepInterface:
    """What a step takes and gives."""

    reference: str
    inputs: Mapping[str, Input] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    """The kind of each artifact that it leaves."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    """The type of each value that it returns."""
    elements: Mapping[str, str] = field(default_factory=dict)
    """Of values that are lists: the type of what is in them, where it is said."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What @step says."""
    file: str = ""
    line: int = 0
    found: bool = True
    problems: tuple[Problem, ...] = ()

    @property
    def takes(self) -> tuple[str, ...]:
        """Everything that it can be given, by name."""
        return (*self.inputs, *self.parameters)

    @property
    def gives(self) -> tuple[str, ...]:
        """Everything that others can read of it, by name."""
        return (*self.outputs, *self.values)


def source_of(reference: str, source: Path | None) -> Path | None:
    """Give the folder that a step's module is found in: the project's, or for a step of ours the package's own."""
    return OWN.get(reference.partition(":")[0].partition(".")[0], source)


def read_step(source: Path | None, reference: str) -> StepInterface:
    """Read a step, named as "module:function". What is wrong with it is in its problems; nothing is raised."""
    root = source_of(reference, source)
    if "<locals>" in reference or reference.startswith("__main__:"):
        problem = Problem("unknown step", f"{reference} cannot be imported", 0, "define it at the top of a module")
        return StepInterface(reference=reference, found=False, problems=(problem,))
    module, _, name = reference.partition(":")
    file = module_file(root, module) if root is not None and module else None
    found = definitions_of(root, module).follow(name) if root is not None and file is not None else None
    if found is None or not isinstance(found.node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return StepInterface(reference=reference, found=False, problems=(_unknown(root, reference, found),))
    return _Reader(reference, found.node, found.definitions).read()


def _unknown(root: Path | None, reference: str, found: Found | None) -> Problem:
    if ":" not in reference:
        return Problem(
            "unknown step", f"{reference!r} names no function", 0, 'a step is named "package.module:function"'
        )
    if root is None:
        return Problem("unknown step", f"no source folder is known to hold {reference}", 0)
    if found is not None:
        return Problem("unknown step", f"{reference} is no function", 0)
    looked = look_for(root, reference)
    return Problem("unknown step", looked.problem, 0, f"did you mean {looked.near!r}?" if looked.near else "")


class _Reader:
    """Reads one function."""

    def __init__(self, reference: str, node: ast.FunctionDef | ast.AsyncFunctionDef, definitions: Definitions) -> None:
        self.reference = reference
        self.node = node
        self.definitions = definitions
        self.problems: list[Problem] = []
        self.inputs: dict[str, Input] = {}
        self.outputs: dict[str, str] = {}
        self.parameters: dict[str, Parameter] = {}
        self.elements: dict[str, str] = {}

    def read(self) -> StepInterface:
        options = self._options()
        self._arguments()
        values = self._values()
        for name in sorted(set(values) & set(self.outputs)):
            self._problem("duplicate name", f"{name} is both an output artifact and an output value", self.node)
        return StepInterface(
            reference=self.reference,
            inputs=self.inputs,
            outputs=self.outputs,
            parameters=self.parameters,
            values=values,
            elements=self.elements,
            options=options,
            file=str(self.definitions.file),
            line=self.node.lineno,
            problems=tuple(self.problems),
        )

    def _problem(self, rule: str, message: str, node: ast.AST, hint: str = "") -> None:
        line = getattr(node, "lineno", self.node.lineno)
        self.problems.append(Problem(rule, f"step {self.reference}: {message}", line, hint))

    def _options(self) -> dict[str, Any]:
        for node in self.node.decorator_list:
            called = node.func if isinstance(node, ast.Call) else node
            if self.definitions.resolve(called) in DECORATORS:
                return dict(self._read_options(node)) if isinstance(node, ast.Call) else {}
        self._problem("not a step", "it is a function without @step", self.node, "from trilho_runtime.step import step")
        return {}

    def _read_options(self, node: ast.Call) -> Iterator[tuple[str, Any]]:
        for given in node.args:
            said = f"@step is given {ast.unparse(given)} without a name"
            self._problem("unknown option", said, given, "options are given by name: @step(retries=2)")
        for keyword in node.keywords:
            value = self.definitions.literal(keyword.value)
            if keyword.arg is None or value is None:
                said = ast.unparse(keyword.value)
                self._problem(
                    "unknown option",
                    f"option {keyword.arg or '**'} of @step is {said}; it is read without importing the module",
                    keyword.value,
                    "write a literal",
                )
            elif problem := option_problem(keyword.arg, value[0]):
                self._problem("unknown option", problem, keyword.value)
            else:
                yield keyword.arg, value[0]

    def _arguments(self) -> None:
        given = self.node.args
        if isinstance(self.node, ast.AsyncFunctionDef):
            self._problem("unsupported annotation", "it is async; a step is a plain function", self.node)
        for star in filter(None, (given.vararg, given.kwarg)):
            self._problem("unsupported annotation", f"*{star.arg} has no names that a pipeline could give", star)
        for one in given.posonlyargs:
            self._problem("unsupported annotation", f"{one.arg} is positional only; arguments are given by name", one)
        named = [*given.posonlyargs, *given.args]
        defaults: list[ast.expr | None] = [None] * (len(named) - len(given.defaults)) + list(given.defaults)
        for argument, default in zip([*named, *given.kwonlyargs], [*defaults, *given.kw_defaults], strict=True):
            self._argument(argument, default)

    def _argument(self, argument: ast.arg, default: ast.expr | None) -> None:
        read = read_annotation(argument.annotation, self.definitions)
        if read.problem:
            hint = f"did you mean {read.near}?" if read.near else read.hint
            self._problem("unsupported annotation", f"{argument.arg} {read.problem}", argument, hint)
        elif read.role == "in":
            self.inputs[argument.arg] = Input(read.type, read.is_list)
        elif read.role == "out":
            self.outputs[argument.arg] = read.type
        else:
            self.parameters[argument.arg] = Parameter(
                read.type, read.is_optional, self._default(argument, default, read)
            )
        if read.role in ARTIFACTS and default is not None:
            self._problem("unserializable default", f"{argument.arg} is an artifact and cannot have a default", default)

    def _default(self, argument: ast.arg, default: ast.expr | None, read: Read) -> Any:
        if default is None:
            return MISSING
        value = self.definitions.literal(default)
        if value is None or type_of_value(value[0]) == "":
            self._problem(
                "unserializable default",
                f"the default of {argument.arg} is {ast.unparse(default)}, which no pipeline can hold",
                default,
                "a literal of text, numbers, true and false, lists and objects can be; it is read, not run",
            )
            return None
        if not read.takes(value[0]):
            self._problem(
                "type mismatch", f"{argument.arg} is {read.written}, and its default is {value[0]!r}", default
            )
        return value[0]

    def _values(self) -> dict[str, str]:
        node = self.node.returns
        if node is None or (isinstance(node, ast.Constant) and node.value is None):
            return {}
        fields = self.definitions.fields(node)
        if fields is None:
            return self._single(node)
        values = {}
        for name, annotation, where in fields:
            read = read_annotation(annotation, where)
            if read.problem or read.role != "parameter" or read.is_optional:
                said = (
                    "may be None, which no pipeline can pass on"
                    if read.is_optional
                    else read.problem or "is an artifact"
                )
                self._problem("unsupported annotation", f"the output value {name} {said}", node, read.hint)
            else:
                values[name] = read.type
                self.elements |= {name: read.element} if read.element else {}
        return values

    def _single(self, node: ast.expr) -> dict[str, str]:
        read = read_annotation(node, self.definitions)
        written = ast.unparse(node)
        if not read.problem and read.role == "parameter" and read.type != "dict" and not read.is_optional:
            self.elements |= {OUTPUT: read.element} if read.element else {}
            return {OUTPUT: read.type}
        hint = "a type of text, number or list, or a NamedTuple or TypedDict class; artifacts are arguments: Out[...]"
        if read.type == "dict" and not read.problem:
            said = "does not say which outputs it has"
            hint = "return a NamedTuple or TypedDict class with a field for each"
        elif read.is_optional:
            said = "may be None, which no pipeline can pass on"
        else:
            said = "cannot be passed on by a pipeline"
        self._problem("unsupported annotation", f"-> {written} {said}", node, hint)
        return {}
