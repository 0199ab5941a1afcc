"""Three-way merge of a text by lines: what both sides did to their common base, and where they disagree.

Both sides are aligned with the base by longest common subsequences; stretches where base, ours and theirs agree are
settled, and between them whatever only one side changed is taken. Changes that touch are a conflict, as in git.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher


@dataclass(frozen=True)
class Conflict:
    """A stretch that both sides changed: where it begins in the merged text, and the three versions."""

    line: int
    base: tuple[str, ...]
    ours: tuple[str, ...]
    theirs: tuple[str, ...]


@dataclass(frozen=True)
class Merged:
    """A merged text; in a conflict it has our side."""

    text: str
    conflicts: list[Conflict] = field(default_factory=list)


def merge(base: str, ours: str, theirs: str) -> Merged:
    """Merge two texts that were both made of a base.

    >>> merge("a\\nb\\nc\\n", "A\\nb\\nc\\n", "a\\nb\\nC\\n").text
    'A\\nb\\nC\\n'
    >>> merge("a\\n", "b\\n", "c\\n").conflicts
    [Conflict(line=1, base=('a\\n',), ours=('b\\n',), theirs=('c\\n',))]
    """
    a, x, y = (text.splitlines(keepends=True) for text in (base, ours, theirs))
    out: list[str] = []
    conflicts: list[Conflict] = []
    for old, mine, new in _stretches(a, x, y):
        if mine in (old, new):
            out += new
        elif new == old:
            out += mine
        else:
            head, tail = _shared(mine, new)
            conflicts.append(Conflict(len(out) + head + 1, tuple(old), tuple(mine[head : len(mine) - tail]),
                                      tuple(new[head : len(new) - tail])))  # fmt: skip
            out += mine
    return Merged("".join(out), conflicts)


def _stretches(a: list[str], x: list[str], y: list[str]) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """Cut the three texts at the lines that all have: settled lines, and between them what was changed."""
    at, in_x, in_y = 0, 0, 0
    partner_x, partner_y = _partners(a, x), _partners(a, y)
    for line in [*(i for i in range(len(a)) if i in partner_x and i in partner_y), None]:
        end_a, end_x, end_y = (len(a), len(x), len(y)) if line is None else (line, partner_x[line], partner_y[line])
        if (end_a, end_x, end_y) != (at, in_x, in_y):
            yield a[at:end_a], x[in_x:end_x], y[in_y:end_y]
        if line is not None:
            yield a[line : line + 1], a[line : line + 1], a[line : line + 1]
        at, in_x, in_y = end_a + 1, end_x + 1, end_y + 1


def _partners(a: Sequence[str], b: Sequence[str]) -> dict[int, int]:
    blocks = SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    return {block.a + i: block.b + i for block in blocks for i in range(block.size)}


def _shared(x: Sequence[str], y: Sequence[str]) -> tuple[int, int]:
    """Count the lines that two versions of a conflict begin and end with alike: those are none."""
    shortest = min(len(x), len(y))
    head = next((i for i in range(shortest) if x[i] != y[i]), shortest)
    tail = next((i for i in range(shortest - head) if x[-1 - i] != y[-1 - i]), shortest - head)
    return head, tail
