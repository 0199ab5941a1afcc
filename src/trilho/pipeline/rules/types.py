"""Rules about types: artifacts and their kinds, values and their types, what conditions compare."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from trilho.pipeline.definition.annotation import PLAIN, fits_type, type_of_value
from trilho.pipeline.definition.document import Group, Written, comparisons_in
from trilho.pipeline.definition.interface import Input, Parameter
from trilho.pipeline.rules.reading import Finding, Reading, Seen, Use, called, field_of, shown

ANY = "file"  # a kind that goes with every other
JSON_WORDS = "texts, numbers, true and false, None, lists and objects of them can be"
CONDITION = {"op", "all", "any", "not"}
PLACEHOLDER = re.compile(r"\{\{\$(?!\.pipeline_)")  # what a service would fill in; facts about the run may be meant
COMPARED = ("str", "int", "float", "bool")
NUMBERS = ("int", "float")


def unserializable(reading: Reading) -> Iterator[Finding]:
    """Find values that no pipeline can hold."""
    for use in reading.uses():
        if "unserializable" in use.value:
            said = f"{use.value['unserializable']}, a {use.value['type']}, which no pipeline can hold"
            yield reading.finding("unserializable default", f"{use.where} is {said}", use.at, JSON_WORDS)
        if use.value.keys() & CONDITION:
            message = f"{use.where} is a condition, which is asked by when() and is no value"
            yield reading.finding("type mismatch", message, use.at)
        if "const" in use.value and PLACEHOLDER.search(json.dumps(use.value["const"])):
            message = f"{use.where} is {use.value['const']!r}, and services fill in what stands after {{{{$"
            yield reading.finding("odd constant", message, use.at, "a parameter of the pipeline travels as it is")


def odd_parameter(reading: Reading) -> Iterator[Finding]:
    """Find parameters of the pipeline whose type or default no pipeline can hold."""
    for name, declared in reading.definition.parameters.items():
        at, message = reading.definition.at, ""
        if "unserializable" in declared:
            message = f"the default of the pipeline's parameter {name} is {declared['unserializable']}"
            yield reading.finding("unserializable default", f"{message}, which no pipeline can hold", at, JSON_WORDS)
        elif declared["type"] == "NoneType":
            message = f"the pipeline's parameter {name} has the default None, which is of no type"
            yield reading.finding("unsupported annotation", message, at, 'give a value of its type, as "" or 0')
        elif declared["type"] not in PLAIN:
            message = f"the pipeline's parameter {name} is of the type {declared['type']}"
            hint = f"{', '.join(PLAIN)} are allowed, or a default value of one of them"
            yield reading.finding("unsupported annotation", message, at, hint)


def type_mismatch(reading: Reading) -> Iterator[Finding]:
    """Find arguments that are of another type than their step takes."""
    for use in reading.uses():
        interface = reading.interface(use.task) if use.task is not None else None
        if use.task is not None and use.task.import_ is not None:
            yield from _parameter(reading, use, Parameter("str"))
        elif interface is not None and use.argument in interface.inputs:
            yield from _input(reading, use, interface.inputs[use.argument])
        elif interface is not None and use.argument in interface.parameters:
            yield from _parameter(reading, use, interface.parameters[use.argument])


def _input(reading: Reading, use: Use, wanted: Input) -> Iterator[Finding]:
    seen = reading.seen(use.value)
    if seen is None or not (seen.type or "const" in use.value):
        return
    fits = seen.is_artifact and (seen.type == wanted.kind or ANY in (seen.type, wanted.kind))
    if fits and seen.is_list == wanted.is_list:
        return
    asked = Seen(wanted.kind, True, wanted.is_list)
    hint = '"TASK.OUTPUT" names one' if not seen.is_artifact else ""
    if fits:
        hint = "Collected(...) of a task in a loop is one" if wanted.is_list else "In[list[...]] takes all of them"
    said = f"{use.where} wants {asked}, and {shown(use.value)} is {_what(use.value, seen)}"
    yield reading.finding("type mismatch", said, use.at, hint)


def _parameter(reading: Reading, use: Use, wanted: Parameter) -> Iterator[Finding]:
    if "const" in use.value:
        value = use.value["const"]
        if not (wanted.is_optional if value is None else fits_type(value, wanted.type)):
            message = f"{use.where} is {value!r}; {wanted.type} is wanted"
            yield reading.finding("type mismatch", message, use.at, _meant(reading, value))
        return
    seen = reading.seen(use.value)
    if seen is None or not seen.type or (not seen.is_artifact and seen.type not in PLAIN):
        return
    if seen.is_artifact or not _goes(seen.type, wanted.type):
        message = f"{use.where} wants {wanted.type}, and {shown(use.value)} is {seen}"
        hint = "In[...] takes an artifact" if seen.is_artifact else ""
        yield reading.finding("type mismatch", message, use.at, hint)


def _meant(reading: Reading, value: Any) -> str:
    return f'Value("{value}") is what that task found' if isinstance(value, str) and reading.output(value) else ""


def _goes(given: str, wanted: str) -> bool:
    return given == wanted or (given == "int" and wanted == "float")


def _what(value: Written, seen: Seen) -> str:
    return "a constant" if "const" in value else str(seen)


def odd_comparison(reading: Reading) -> Iterator[Finding]:
    """Find conditions that compare what cannot be compared."""
    for group in reading.definition.groups:
        for one in comparisons_in(group.condition) if group.condition is not None else ():
            left, right = (reading.seen(one[side]) for side in ("left", "right"))
            problem = _problem(left, right, one["op"])
            if problem:
                said = f"{shown(one['left'])} {one['op']} {shown(one['right'])}"
                yield reading.finding("type mismatch", f"the condition of {called(group)}: {said} {problem}", group.at)


def _problem(left: Seen | None, right: Seen | None, op: str) -> str:
    for seen in (left, right):
        if seen is not None and (seen.is_artifact or (seen.type and seen.type not in COMPARED)):
            return f"compares {seen}; texts, numbers, true and false can be compared"
    if left is None or right is None or not left.type or not right.type:
        return ""
    if left.type != right.type and not {left.type, right.type} <= {*NUMBERS}:
        return f"compares {left} with {right}"
    return "compares bool; == and != can" if "bool" in (left.type, right.type) and op not in ("==", "!=") else ""


def not_a_list(reading: Reading) -> Iterator[Finding]:
    """Find loops over what is no list."""
    for group in reading.definition.groups:
        if group.over is None:
            continue
        seen = reading.seen(group.over)
        if seen is not None and seen.type and not (seen.is_list if seen.is_artifact else seen.type == "list"):
            message = f"{called(group)} goes over {shown(group.over)}, which is {seen}; a list is wanted"
            yield reading.finding("type mismatch", message, group.at)
        if isinstance(group.over.get("const"), list):
            for problem in _odd_items(reading, group, group.over["const"]):
                yield reading.finding("type mismatch", f"{called(group)} {problem}", group.at)


def _odd_items(reading: Reading, group: Group, items: list[Any]) -> Iterator[str]:
    """Say what is wrong with a list that is written out."""
    if not items:
        yield "goes over an empty list"
    elif (types := _mixed(items)) or None in items:
        yield f"goes over items of different types: {types}" if types else "goes over None, which is of no type"
    uses = (use.value for use in reading.uses() if use.value.get("item") == group.name)
    for path in dict.fromkeys(tuple(value.get("path") or ()) for value in uses):
        found = [field_of(item, path) for item in items]
        said = f"goes over items whose {'.'.join(path)} is"
        if path and None in found:
            yield f"{said} not there in item {found.index(None)}, or None"
        elif path and (types := _mixed(found)):
            yield f"{said} of different types: {types}"


def _mixed(items: list[Any]) -> str:
    types = {type_of_value(item) for item in items}
    return "" if len(types) == 1 or types == {*NUMBERS} else ", ".join(sorted(types))
