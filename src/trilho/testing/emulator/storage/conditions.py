"""Preconditions on generation and metageneration: what makes two writers safe from each other."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from trilho.testing.emulator.http import ApiError

Parameter = Callable[[str], str]
MISSED = "At least one of the pre-conditions you specified did not hold."


class Versioned(Protocol):
    """What has a generation and a metageneration."""

    @property
    def generation(self) -> int:
        """The number of the content."""

    @property
    def metageneration(self) -> int:
        """The number of the metadata, for this content."""


def require(parameter: Parameter, current: Versioned | None, *, kind: str = "if", reading: bool = False) -> None:
    """Raise 412 where a precondition does not hold; 304 where a reader has what it asks for.

    An object that does not exist has generation 0: `ifGenerationMatch=0` means "only if it is new".
    """
    generation = current.generation if current else 0
    metageneration = current.metageneration if current else 0
    for name, actual in (("Generation", generation), ("Metageneration", metageneration)):
        match = _number(parameter, f"{kind}{name}Match")
        differ = _number(parameter, f"{kind}{name}NotMatch")
        if differ is None and name == "Metageneration":
            differ = _number(parameter, f"{kind}MetaGenerationNotMatch")  # as the Python client writes it in uploads
        if match is not None and match != actual:
            raise missed(f"{kind}{name}Match")
        if differ is not None and differ == actual:
            raise ApiError(304, "Not Modified") if reading else missed(f"{kind}{name}NotMatch")


def missed(parameter: str) -> ApiError:
    """Make the error of a precondition that did not hold."""
    return ApiError(412, MISSED, reason="conditionNotMet", locationType="parameter", location=parameter)


def in_document(document: dict[str, Any]) -> Parameter:
    """Read preconditions that stand in a JSON document, as those of a composition's sources do."""
    return lambda name: str(document.get(name, ""))


def _number(parameter: Parameter, name: str) -> int | None:
    given = parameter(name)
    if not given:
        return None
    if not re.fullmatch(r"-?\d+", given):
        raise ApiError(400, f"Invalid value for {name}: {given!r} is not a whole number.", reason="invalidParameter")
    return int(given)
