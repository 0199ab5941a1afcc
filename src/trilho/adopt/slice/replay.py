"""The notebook's own statements, word for word: in functions that run them again, with the file's path given.

What is rewritten is where a file is read, names that would hide the project's own, and prints; nothing is taken apart.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Collection, Iterable, Sequence

from trilho.adopt.plan import Lookup, Part
from trilho.adopt.slice.clear import clear_names
from trilho.adopt.slice.constants import free_names
from trilho.adopt.slice.learn import Learner
from trilho.adopt.slice.live import SEEDS
from trilho.adopt.slice.program import Program, Step
from trilho.adopt.slice.reading import extract_read, is_extract, lookup_of, read_call, read_of, with_path
from trilho.adopt.slice.roles import Roles
from trilho.adopt.slice.shared import Shared
from trilho.adopt.slice.text import Edit, comments_above, end_comment, finished, inside, span_of

PATHS = ("path", "file", "data_file", "path_of_data")


class Replay:
    """Statements of a run, to be written into functions; definitions stand above them where that is the same."""

    def __init__(self, program: Program) -> None:
        self.program = program
        imported = {
            n for s in program.steps.values() if isinstance(s.node, ast.Import | ast.ImportFrom) for n in s.writes
        }
        self.renames = {old: new for old, new in clear_names(program).items() if old not in imported}
        self.shared = Shared(Roles.of(program), program.choice.target.column, renames=self.renames)
        self.lookups: list[Lookup] = []
        taken = program.names | {
            a.arg for s in program.steps.values() for a in ast.walk(s.node) if isinstance(a, ast.arg)
        }
        self.path = next(name for name in PATHS if name not in taken)
        self._texts: dict[int, str] = {}
        self.constants = self._find_constants()
        self.lifted = self._find_lifted()

    def new(self, name: str) -> str:
        """Give a name as the project has it."""
        return self.renames.get(name, name)

    def reads_rows(self, id_: int) -> bool:
        """Say whether a step reads a table, the main one or another."""
        return any(read.statement == id_ for read in self.program.trace.reads)

    def is_work(self, id_: int) -> bool:
        """Say whether a step does something, other than to define a function or to import."""
        node = self.program.steps[id_].node
        return not isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)

    def chain(self, names: Iterable[str], before: int) -> list[int]:
        """Give all steps that make these names, seeds and the definitions that they need included."""
        steps = self.program.steps
        found = set(self.program.backward(names, before))
        found |= {i for i in steps if i < before and self.is_seed(i)}
        while True:
            wanted = {n for i in found for n in self.needs(i)}
            more = {i for i in steps if i not in found and not self.is_work(i) and steps[i].writes & wanted}
            more |= set(self.program.backward({n for i in more for n in self.needs(i)}, before))
            if not more - found:
                break
            found |= more
        imports = {i for i in found if isinstance(steps[i].node, ast.Import | ast.ImportFrom)}
        return sorted(found - imports - self.lifted)

    def needs(self, id_: int) -> set[str]:
        """Give the notebook's names that a step's code reads, those inside functions and classes included."""
        step = self.program.steps[id_]
        if self.is_work(id_):
            return set(step.reads | step.mutates)
        return free_names(self.program.code[step.cell].at(_whole_span(step.node))) & self.program.names

    def parts(self, ids: Sequence[int]) -> list[Part]:
        """Write steps as parts of a function."""
        return [part for i in ids for part in [self.part(i)] if part.source.strip()]

    def part(self, id_: int, edits: Sequence[Edit] = ()) -> Part:
        """Write one step, with edits besides those that any step gets."""
        step = self.program.steps[id_]
        return Part(comments_above(step.statement.source) + self.text(step, edits) +
                    end_comment(step.statement.source, step.node), step.cell, step.node.lineno, id_)  # fmt: skip

    def text(self, step: Step, edits: Sequence[Edit] = ()) -> str:
        """Write a step's code without the comments around it."""
        learner = self.learner(step)
        every = [*edits, *self._reading(step), *self._noise(step, learner), *learner.base(step.node)]
        every += [Edit(span_of(n), f"nonlocal {', '.join(map(self.new, n.names))}")
                  for n in ast.walk(step.node) if isinstance(n, ast.Global)]  # fmt: skip
        text = finished(learner.code.edited(_whole_span(step.node), every))
        name = getattr(step.node, "name", "")
        renamed = rf"\1 {self.new(name)}"
        return re.sub(rf"^((?:async )?def|class) {name}\b", renamed, text, flags=re.MULTILINE) if name else text

    def expression(self, step: Step, node: ast.expr, edits: Sequence[Edit] = ()) -> str:
        """Write an expression of a step."""
        learner = self.learner(step)
        return learner.code.edited(span_of(node), [*edits, *learner.base(node)])

    def learner(self, step: Step) -> Learner:
        """Give what edits the step's code."""
        learner = Learner(self.shared, step.id, step.cell, {})
        learner.learning = True
        return learner

    def definition_text(self, step: Step) -> str:
        """Write a function or class with the comments above it."""
        return comments_above(step.statement.source) + self.text(step)

    def _reading(self, step: Step) -> list[Edit]:
        """Put the path in the main table's read, and the kept tables in place of the other reads."""
        found = []
        for read in {read.span: read for read in self.program.trace.reads if read.id == self.program.main}.values():
            if read.cell == step.cell and inside(read.span, span_of(step.node)):
                remote = is_extract(read)
                call = extract_read(read, self.path) if remote else with_path(self.program, read, self.path)
                found.append(Edit(span_of(read_call(self.program, read)), call))
        for lookup in lookup_of(self.program, step):
            read = read_of(self.program, lookup.read)
            if read.cell == step.cell and inside(read.span, span_of(step.node)):
                found.append(Edit(read.span, f"{lookup.name}()"))
                self.lookups += [lookup] if lookup not in self.lookups else []
        return found

    def _noise(self, step: Step, learner: Learner) -> list[Edit]:
        found = []
        for node in ast.walk(step.node):
            for body in (getattr(node, "body", None), getattr(node, "orelse", None)):
                if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
                    noisy = [n for n in body if learner.is_noise(n)]
                    found += [Edit(span_of(n), "pass" if len(noisy) == len(body) and n is noisy[0] else "\0")
                              for n in noisy]  # fmt: skip
        return found

    def is_seed(self, id_: int) -> bool:
        """Say whether a step sets a seed for all that comes."""
        step = self.program.steps[id_]
        return isinstance(step.node, ast.Expr) and any(word in step.statement.source for word in SEEDS)

    def _find_constants(self) -> set[int]:
        """Find what is assigned once, is made of no rows, and that nothing changes: it may stand above functions."""
        steps = self.program.steps
        changed = {n for one in self.program.effects.values() for n in one.mutates | one.writes}
        changed |= {n for s in steps.values() for n in s.mutates}
        bound = [n for s in steps.values() for n in s.writes]
        found = set[int]()
        for id_ in sorted(steps):
            step = steps[id_]
            plain = isinstance(step.node, ast.Assign | ast.AnnAssign) and not self.shared.roles.depends(id_)
            once = all(bound.count(n) == 1 for n in step.writes) and not step.writes & changed
            read = {n for n in self.needs(id_) if any(n in s.writes for s in steps.values() if self.is_work(s.id))}
            known = all(any(n in steps[i].writes for i in found) for n in read)
            if plain and once and known and not self.reads_rows(id_) and not self.program.fits_of(id_):
                found.add(id_)
        return found

    def _find_lifted(self) -> set[int]:
        """Find the definitions that may stand above functions: they read nothing that a run computes."""
        steps = self.program.steps
        found = {i for i, s in steps.items() if not self.is_work(i) and hasattr(s.node, "name")}
        twice = [n for i in found for n in steps[i].writes]
        reads = [(read.cell, read.span) for read in self.program.trace.reads]
        found = {
            i for i in found
            if all(twice.count(n) == 1 for n in steps[i].writes)
            and not any(cell == steps[i].cell and inside(span, span_of(steps[i].node)) for cell, span in reads)
            and not any(isinstance(n, ast.Global) for n in ast.walk(steps[i].node))
        }  # fmt: skip
        while True:
            kept = {i for i in found if all(self._is_above(n, found) for n in self.needs(i))}
            if kept == found:
                return found
            found = kept

    def _is_above(self, name: str, lifted: Collection[int]) -> bool:
        makers = [i for i, s in self.program.steps.items() if name in s.defines]
        if not makers:
            return True
        imports = all(isinstance(self.program.steps[i].node, ast.Import | ast.ImportFrom) for i in makers)
        return imports or all(i in lifted or i in self.constants for i in makers)


def unknown_names(texts: Iterable[str]) -> set[str]:
    """Give the names that code reads and no Python knows by itself."""
    found = {name for text in texts if text.strip() for name in free_names(text)}
    return {name for name in found if not hasattr(builtins, name)}


def _whole_span(node: ast.stmt) -> tuple[int, int, int, int]:
    """Give where a statement stands, its decorators included."""
    first = min((n.lineno for n in getattr(node, "decorator_list", [])), default=node.lineno)
    line, column, *end = span_of(node)
    return (min(first, line), column, end[0], end[1])
