"""Metrics as OpenMetrics text: families with a type and a sentence, samples with labels, and an end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
Labels = Mapping[str, object]


@dataclass
class Family:
    """One metric with all its samples; a counter's samples get the suffix `_total`, and a unit ends the name."""

    name: str
    help: str
    kind: Literal["gauge", "counter"] = "gauge"
    unit: str = ""
    samples: list[tuple[Labels, float]] = field(default_factory=list)

    def add(self, value: float | None, **labels: object) -> None:
        """Add a sample; what is not known, or no number, is left out."""
        if value is not None and not math.isnan(value):
            self.samples.append((labels, float(value)))

    def lines(self) -> list[str]:
        """Give the family's lines; none without samples.

        >>> family = Family("trilho_incidents_open", "Incidents not closed.")
        >>> family.add(2, model="bike"); family.lines()[-1]
        'trilho_incidents_open{model="bike"} 2.0'
        """
        if not self.samples:
            return []
        head = [f"# TYPE {self.name} {self.kind}", f"# HELP {self.name} {_escaped(self.help)}"]
        head[1:1] = [f"# UNIT {self.name} {self.unit}"] if self.unit else []
        shown = f"{self.name}_total" if self.kind == "counter" else self.name
        return head + [f"{shown}{_labels(labels)} {_number(value)}" for labels, value in self.samples]


def render(families: Iterable[Family]) -> str:
    """Give families as one exposition.

    >>> render([])
    '# EOF\\n'
    """
    return "".join(f"{line}\n" for family in families for line in family.lines()) + "# EOF\n"


def _number(value: float) -> str:
    return repr(value) if math.isfinite(value) else "+Inf" if value > 0 else "-Inf"


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(str(value))}"' for name, value in labels.items()) + "}" if labels else ""


def _escaped(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
