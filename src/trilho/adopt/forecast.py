"""What a notebook would do if it were run: what it reads, writes, sends, starts, and roughly what that costs.

It is told before anything runs, from the text alone: paths are put together as far as their parts are constants,
loops over lists that are known are followed, notebook functions are followed where they are called.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from trilho.adopt.fits import Fits
from trilho.adopt.notebook import Notebook
from trilho.adopt.survey import Access, Survey

USD_PER_TIB = 6.25
PRICED = "on-demand list price in the US of August 2025"
"""What BigQuery takes for the bytes that a query reads; other regions ask for more."""


@dataclass(frozen=True)
class Cost:
    """Roughly what running it takes."""

    bytes: int  # of local files that it reads
    queries: int  # to BigQuery; what they read is known from a dry run only
    fits: Fits = field(default_factory=Fits)


@dataclass(frozen=True)
class Forecast:
    """What a notebook would do, before anything of it is run."""

    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    sends: tuple[Access, ...]
    runs: tuple[Access, ...]
    cost: Cost

    def lines(self) -> list[str]:
        """Give the forecast for people, a heading and what is under it."""
        made = {access.target for access in self.writes}
        lines = [
            *_listed("It reads", [(a, "" if a.exists is not False or a.target in made else ", not there")
                                  for a in self.reads]),
            *_listed("It writes", [(a, ", there already" if a.exists else "") for a in self.writes]),
            *_listed("It sends to, or connects to", [(a, "") for a in self.sends]),
            *_listed("It starts", [(a, "") for a in self.runs]),
        ]  # fmt: skip
        return [*(lines or ["It reads and writes nothing that its text tells"]), *self._cost_lines()]

    def _cost_lines(self) -> Iterator[str]:
        fits, queries = self.cost.fits, self.cost.queries
        if self.cost.bytes:
            yield f"Local data: {size(self.cost.bytes)}"
        if queries:
            yield (f"BigQuery: {queries} {'query' if queries == 1 else 'queries'}; a dry run tells the bytes of each "
                   f"before it is run, at {USD_PER_TIB} USD per TiB ({PRICED})")  # fmt: skip
        if fits.number:
            more = f", {fits.most} of them in cell {fits.most_cell}" if 1 < fits.most < fits.number else ""
            least = "at least " if fits.unknown else ""
            yield f"Models fitted: {least}{fits.number}{more}"


def price(bytes_: int) -> float:
    """Say what BigQuery takes for a query that reads so many bytes, in USD, by the dated list price.

    >>> price(2**40)
    6.25
    """
    return bytes_ / 2**40 * USD_PER_TIB


def size(bytes_: int) -> str:
    """Give a number of bytes for people.

    >>> size(812), size(3_400_000)
    ('812 B', '3.4 MB')
    """
    if bytes_ < 1000:
        return f"{bytes_} B"
    unit, name = next((u, n) for u, n in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")) if bytes_ >= u)
    return f"{bytes_ / unit:.1f} {name}"


def forecast(notebook: Notebook) -> Forecast:
    """Say what a notebook would read, write, send, start and cost."""
    walk = Survey(notebook.path.parent)
    for statement in notebook.statements:
        walk.cell = statement.cell
        walk.statement(statement.node)
    runs = {*walk.runs, *_shell(notebook)}
    reads = tuple(dict.fromkeys(walk.reads))
    local = {access.target: access.bytes for access in reads if access.bytes is not None}
    queries = sum(access.kind == "bigquery" for access in reads)
    return Forecast(reads, tuple(dict.fromkeys(walk.writes)), tuple(dict.fromkeys(walk.sends)),
                    tuple(sorted(runs, key=lambda access: (access.cell, access.line))),
                    Cost(sum(local.values()), queries, walk.fits))  # fmt: skip


def _shell(notebook: Notebook) -> Iterator[Access]:
    for cell in notebook.cells:
        for magic in cell.magics:
            shell = magic.kind == "shell" or re.match(r"%%(bash|sh|script|!|cmd)", magic.text)
            if shell and magic.effect == "refused":
                said = cell.source.partition("\n")[2] if magic.kind == "cell" else magic.text.lstrip("!% ")
                yield Access(cell.index, magic.line, "shell", said)


def _listed(title: str, accesses: Iterable[tuple[Access, str]]) -> list[str]:
    lines = []
    for access, said in accesses:
        target = " ".join((access.target or "(known only when it runs)").split())
        target = target if len(target) <= 90 else f"{target[:87]}..."
        big = f", {size(access.bytes)}" if access.bytes is not None else ""
        lines.append(f"  cell {access.cell}, line {access.line}: {access.kind}  {target}{big}{said}")
    return [f"{title}:", *lines] if lines else []
