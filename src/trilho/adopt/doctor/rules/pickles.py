"""Objects that were written to a file and can be read in the notebook only."""

from __future__ import annotations

from collections.abc import Iterator

from trilho.adopt.doctor.flow.names import last
from trilho.adopt.doctor.flow.values import Place
from trilho.adopt.doctor.subject import Subject, finding
from trilho.adopt.plan import Finding


def pickled_main(subject: Subject) -> Iterator[Finding]:
    """Find pickles of classes and functions that the notebook defines."""
    if subject.kind != "notebook":
        return
    found = {kept.place: _own(kept.kinds) for kept in subject.events.kept if _own(kept.kinds)}
    if subject.trace is not None:
        types = {one.id: one.type for one in subject.trace.objects}
        for save in subject.trace.saves:
            own = sorted(last(types[o]) for o in save.objects if types.get(o, "").startswith("__main__."))
            if own:
                found.setdefault(Place(save.cell, save.line), own)
    for place, names in found.items():
        listed = ", ".join(f"`{name}`" for name in names)
        if "<lambda>" in names:
            message = "a lambda is part of what is pickled: it cannot be written, or not be read again"
        else:
            message = (
                f"{listed} is defined in the notebook, and pickled as `__main__.{names[0]}`: whoever loads the file "
                "elsewhere gets an AttributeError"
            )
        yield finding(
            "pickled-main-class",
            place,
            message,
            "warning",
            "define it in a module of the project; `trilho adopt` moves it there",
        )


def _own(kinds: frozenset[str]) -> list[str]:
    return sorted(last(kind) for kind in kinds if kind.startswith("__main__."))
