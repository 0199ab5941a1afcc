"""Checks of what a request says, in the form in which Vertex AI lists them.

The list's form is Vertex AI's; the messages in it are the emulator's own words where the real ones are not known.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from trilho.testing.emulator.rules import Refusal

LOCATION = re.compile(r"projects/[a-z0-9][a-z0-9.:-]*/locations/[a-z][a-z0-9-]*")
LABEL = re.compile(r"[^\W\dA-Z_][\w-]{0,63}", re.UNICODE)
LABEL_VALUE = re.compile(r"[\w-]{0,63}", re.UNICODE)
LONGEST_NAME = 128
MOST_LABELS = 64


class Findings:
    """What is wrong with a request; `done` refuses it when there is something.

    >>> findings = Findings()
    >>> findings.need("display_name", "")
    False
    >>> findings.found
    [('display_name', 'Required field is not set.')]
    """

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add(self, field: str, message: str) -> None:
        """Note something wrong with a field."""
        self.found.append((field, message))

    def need(self, field: str, value: Any) -> bool:
        """Note a required field that is not set; say whether it is."""
        if not value:
            self.add(field, "Required field is not set.")
        return bool(value)

    def location(self, parent: str) -> None:
        """Check a parent that must be a location."""
        if self.need("parent", parent) and not LOCATION.fullmatch(parent):
            self.add("parent", f"{parent!r} is not projects/{{project}}/locations/{{location}}.")

    def display_name(self, field: str, name: str) -> None:
        """Check a display name, which is required."""
        if self.need(field, name) and len(name) > LONGEST_NAME:
            self.add(field, f"A display name has at most {LONGEST_NAME} characters; this has {len(name)}.")

    def labels(self, field: str, labels: Mapping[str, str]) -> None:
        """Check labels by the rules that the API's reference gives."""
        if len(labels) > MOST_LABELS:
            self.add(field, f"At most {MOST_LABELS} labels are allowed; there are {len(labels)}.")
        for key, value in labels.items():
            if not LABEL.fullmatch(key) or not LABEL_VALUE.fullmatch(value) or value != value.lower():
                rule = "lowercase letters, numbers, underscores and dashes, at most 64, a letter first in the key"
                self.add(field, f"Label {key}={value!r} is not made of {rule}.")

    def done(self) -> None:
        """Refuse the request when something was noted."""
        if self.found:
            listed = "".join(
                f"{number}.Field: {field}; Message: {message}\t"
                for number, (field, message) in enumerate(self.found, start=1)
            )
            raise Refusal("INVALID_ARGUMENT", f"List of found errors:\t{listed}")


def invalid(field: str, message: str) -> Refusal:
    """Refuse a request for one thing that is wrong with it."""
    return Refusal("INVALID_ARGUMENT", f"List of found errors:\t1.Field: {field}; Message: {message}\t")


def masked(mask: Any, allowed: Collection[str], wrong: str = "cannot be updated.") -> list[str]:
    """Give the paths of an update mask; refuse one without any, or with a field that is not `allowed`."""
    paths = list(mask.paths)
    if not paths:
        raise invalid("update_mask", "Required field is not set.")
    if others := {path for path in paths if path not in allowed and path.split(".")[0] not in allowed}:
        raise invalid("update_mask", f"{', '.join(sorted(others))} {wrong}")
    return paths
