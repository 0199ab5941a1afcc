"""What several workers of one server say, as one: their counters add up, their facts are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COUNTED = frozenset({"extra_fields", "asked", "counts", "rows", "shed", "log_shed", "requests", "bytes", "undecided"})
LEAST = frozenset({"trilho_ready"})  # gauges that are as good as the worst of them
COMMON = ("_info",)  # gauges that say the same everywhere


def add_metrics(living: Sequence[str], ended: Sequence[str] = ()) -> str:
    """Add texts that Prometheus reads; of workers that have ended only what was counted, since their state is gone.

    >>> print(add_metrics(["# TYPE rows_total counter\\nrows_total 2"], ["# TYPE rows_total counter\\nrows_total 3"]))
    # TYPE rows_total counter
    rows_total 5
    """
    families: dict[str, _Family] = {}
    for text in living:
        _read(text, families, gauges=True)
    for text in ended:
        _read(text, families, gauges=False)
    return "".join(family.text() for family in families.values()).removesuffix("\n")


class _Family:
    """One metric: what is said of it, and its samples in the order they were seen."""

    def __init__(self, name: str) -> None:
        self.name, self.comments, self.kind = name, dict[str, str](), "untyped"
        self.samples: dict[str, float] = {}

    def add(self, sample: str, value: float) -> None:
        if sample not in self.samples or self.kind != "gauge":
            self.samples[sample] = self.samples.get(sample, 0) + value
        elif self.name in LEAST:
            self.samples[sample] = min(self.samples[sample], value)
        elif self.name.endswith(COMMON):
            self.samples[sample] = max(self.samples[sample], value)
        else:
            self.samples[sample] += value

    def text(self) -> str:
        lines = [*self.comments.values(), *(f"{sample} {value!r}" for sample, value in self.samples.items())]
        return "".join(f"{line}\n" for line in lines)


def _read(text: str, families: dict[str, _Family], *, gauges: bool) -> None:
    family = _Family("")
    for line in text.splitlines():
        if line.startswith("#"):
            _, word, name, *rest = [*line.split(" ", 3), ""]
            if family.name != name:
                family = families.setdefault(name, _Family(name))
            family.comments.setdefault(word, line)
            family.kind = rest[0] if word == "TYPE" else family.kind
        elif line.strip() and (gauges or family.kind != "gauge"):
            sample, _, value = line.rpartition(" ")
            family.add(sample, _number(value))


def _number(text: str) -> float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def add_json(parts: Sequence[Any], *, counted: bool = False) -> Any:
    """Give the first worker's facts with everybody's counters.

    >>> add_json([{"version": 3, "extra_fields": {"a": 1}}, {"version": 3, "extra_fields": {"a": 1, "b": 2}}])
    {'version': 3, 'extra_fields': {'a': 2, 'b': 2}}
    """
    first = parts[0]
    if isinstance(first, Mapping):
        tables = [part for part in parts if isinstance(part, Mapping)]
        names = dict.fromkeys(name for table in tables for name in table)
        return {
            name: add_json([table[name] for table in tables if name in table], counted=counted or name in COUNTED)
            for name in names
        }
    if not counted or isinstance(first, (str, bool)) or first is None:
        return first
    if isinstance(first, Sequence):
        lists = [part for part in parts if isinstance(part, Sequence) and len(part) == len(first)]
        return [add_json(items, counted=True) for items in zip(*lists, strict=True)]
    return sum(part for part in parts if isinstance(part, (int, float)))
