"""Runs a notebook's statements one by one, and writes what was seen of them."""

from __future__ import annotations
import __future__ as futures

import ast
import asyncio
import inspect
import json
import linecache
import os
import shutil
import sys
import time
import traceback
import types
from typing import Any, Callable

from .bigquery import BigQuery
from .checkpoint import Checkpoint, is_redone
from .events import Events
from .files import Redirects
from .golden import describe_objects, golden
from .guard import Guard
from .libraries import distributions
from .modules import LocalFinder
from .namespace import Namespace
from .objects import Objects
from .places import current_place, place
from .reads import Reads
from .recorder import Call, Recorder, See
from .rewrite import CALL, SEE, Rewriter, Site, augmented_names, bound_names
from .rows import RowBook
from .shell import Shell
from .store import Store
from .values import kind_of
from .writes import Writes

SCHEMA = 1
KERNEL = os.path.dirname(os.path.abspath(__file__)) + os.sep


KEPT = (
    ("events", "events", ("calls", "metrics", "splits", "fits", "predicts", "asked", "made", "order")),
    ("reads", "reads", ("events", "frozen", "replays")),
    ("book", "book", ("reads", "lengths")),
    ("writes", "writes", ("saves",)),
    ("store", "store", ("files", "budget")),
    ("functions", "recorder", ("functions",)),
    ("connections", "guard", ("connections",)),
    ("answers", "asks", ("answers",)),
)


class Session:
    """One run of a notebook."""

    def __init__(self, job: dict[str, Any], enforcement: str, tell: Callable[..., None]) -> None:
        self.job, self.enforcement, self.tell = job, enforcement, tell
        self.scratch = job["scratch"]
        self.module = types.ModuleType("__main__")
        self.names = self.module.__dict__
        self.shell = Shell(self.names)
        self.sites: list[Site] = []
        self.book, self.objects, self.store = RowBook(), Objects(), Store(self.scratch)
        self.redirects = Redirects(self.scratch)
        self.reads = Reads(self.scratch, self.book, self.store, self.redirects, self._where)
        self.events = Events(self.book, self.store, self.objects, self._where)
        self.reads.safely = self.events.safely
        self.writes = Writes(self.redirects, self.events)
        self.events.handlers.update(read=self.reads.read, write=self.writes.write, connect=self.writes.connect)
        self.recorder = Recorder(self.sites, self.book, self.events.handle)
        self.namespace = Namespace(self.names, self.objects)
        self.guard = Guard(self.redirects, enforcement == "landlock", self.writes.refused)
        self.asks = BigQuery(self.reads, self.writes, self.guard, tell)
        self.events.handlers.update(ask=self.asks.ask, table=self.asks.table, rows=self.asks.rows, gbq=self.asks.gbq)
        self.checkpoint = Checkpoint(self.scratch, job)
        self.work = 0.0
        self.statements: list[dict[str, Any]] = []
        self.flags = 0
        self.current: Any = None
        self.loop = asyncio.new_event_loop()
        self.cells: dict[int, ast.Module] = {}

    def run(self) -> None:
        """Run all statements, up to one that raises; then write the trace."""
        started = time.monotonic()
        self._prepare()
        statements = self.job["statements"]
        done = self._resumed() if self.job["resume"] else 0
        if not done:
            self._clear()
        for number, statement in enumerate(statements):
            if number < done:
                continue
            last = number + 1 == len(statements) or statements[number + 1]["cell"] != statement["cell"]
            self.tell(
                "statement", id=statement["id"], cell=statement["cell"], line=statement["line"], of=len(statements)
            )
            record = self._statement(statement, last)
            self.statements.append(record)
            self.tell("done", id=statement["id"], cell=statement["cell"], seconds=record["seconds"])
            if record["state"] == "failed":
                break
            self.work += record["seconds"]
            if self.work >= self.job["checkpoint_seconds"] and number + 1 < len(statements):
                self._keep(number + 1)
        self._write(time.monotonic() - started)

    def _keep(self, done: int) -> None:
        """Write a checkpoint; where that fails the run goes on without."""
        self.work = 0.0
        own = {name: self.names[name] for name in self.namespace.own()}
        own.update({name: self.names[name] for name in ("_", "__", "___", "Out")})
        state: dict[str, Any] = {"globals": own, "sources": self.reads.sources(), "flags": self.flags}
        state.update({name: [getattr(getattr(self, part), field) for field in fields] for name, part, fields in KEPT})
        state.update(rows=self.book.kept(), objects=(self.objects.kept(), len(self.objects.alive)),
                     statements=self.statements, folder=os.getcwd(), path=list(sys.path))  # fmt: skip
        kinds = {name: kind_of(value) for name, value in own.items()}
        nodes = {statement["id"]: self._node(statement) for statement in self.job["statements"][:done]}
        redo = [record["id"] for record in self.statements if is_redone(nodes[record["id"]], record, kinds)]
        state["globals"] = {name: value for name, value in own.items() if not _is_defined(name, value)}
        with self.redirects.real_open(
            os.path.join(self.scratch, "checkpoint-redo.json"), "w", encoding="utf-8"
        ) as text:
            json.dump(redo, text)
        try:
            self.checkpoint.save(done, state, self.events.made)
        except Exception as error:  # noqa: BLE001  open files, threads, connections
            self.events.problems.append(f"no checkpoint: {error!r}")
            self.tell("note", text="no checkpoint was possible: " + str(error)[:200])

    def _resumed(self) -> int:
        """Take up the run from its checkpoint; give how many statements are done."""
        done = self.checkpoint.found()
        if not done:
            return 0
        try:
            self._redo(done)
            state = self.checkpoint.load()
        except Exception as error:  # noqa: BLE001  then it starts from the beginning
            self._start_over(error)
            return 0
        self._take_up(state)
        self.tell("note", text=f"goes on after {done} statements that were done before")
        return done

    def _redo(self, done: int) -> None:
        with open(os.path.join(self.scratch, "checkpoint-redo.json"), encoding="utf-8") as text:
            wanted = set(json.load(text))
        for statement in self.job["statements"][:done]:
            if statement["id"] in wanted:
                self.current = statement
                node, _ = self._rewritten(statement)
                self._execute(node, statement, False)

    def _take_up(self, state: dict[str, Any]) -> None:
        for name, part, fields in KEPT:
            for field, value in zip(fields, state[name]):
                setattr(getattr(self, part), field, value)
        self.names.update(state["globals"])
        self.flags, self.statements = state["flags"], state["statements"]
        self.book.restore(state["rows"])
        self.objects.restore(*state["objects"])
        self.events.made = {id(value): (value, made) for value, made in self.events.made.values()}
        os.chdir(state["folder"])
        sys.path[:] = state["path"]
        self.namespace.start()
        self.namespace.changes([], [])

    def _start_over(self, error: Exception) -> None:
        self.events.problems.append(f"the checkpoint could not be taken up: {error!r}")
        for name in self.namespace.own():
            del self.names[name]

    def _clear(self) -> None:
        """Take away what an earlier run left."""
        for name in ("values", "reads", "objects", "writes"):
            folder = os.path.join(self.scratch, name)
            shutil.rmtree(folder, ignore_errors=True)
            self.redirects.real["mkdir"](folder)

    def _prepare(self) -> None:
        sys.modules["__main__"] = self.module
        self.names.update({"__builtins__": __builtins__, SEE: See(self.recorder), CALL: Call(self.recorder)})
        self.shell.install()
        self.redirects.noticed = self.writes.noticed
        self.redirects.opened = self.reads.opened
        self.redirects.install()
        self.guard.install()
        helpers = {SEE: self.names[SEE], CALL: self.names[CALL]}
        sys.meta_path.insert(0, LocalFinder(self.redirects.libraries, self.sites, helpers, self.reads.module))
        os.chdir(self.job["folder"])
        sys.path.insert(0, "")
        for cell, code in self.job["cells"].items():
            name = f"<cell {cell}>"
            linecache.cache[name] = (len(code), None, [line + "\n" for line in code.split("\n")], name)

    def _statement(self, statement: dict[str, Any], last: bool) -> dict[str, Any]:
        if self.current is not None and self.current["cell"] != statement["cell"]:
            self.shell.execution_count += 1
        self.current = statement
        for part in (self.events, self.reads):
            part.start(statement["id"])
        self.writes.start(statement["cell"], statement["line"])
        self.guard.start(statement["id"], statement["cell"])
        self.recorder.start()
        self.namespace.start()
        record: dict[str, Any] = {"id": statement["id"], "state": "ran", "error": "", "error_line": 0}
        started = time.monotonic()
        stored: set[str] = set()
        augmented: set[str] = set()
        try:
            node, _ = self._rewritten(statement)
            augmented = augmented_names(node)
            stored = (
                bound_names([node]) if not isinstance(node, (ast.If, ast.For, ast.While, ast.Try, ast.With)) else set()
            )
            self._execute(node, statement, last)
        except BaseException as error:  # noqa: BLE001  SystemExit and KeyboardInterrupt end a notebook too
            refused = isinstance(error, Exception) and self._is_refused(error, statement)
            record.update(state="refused" if refused else "failed", **self._failure(error))
        record["seconds"] = time.monotonic() - started
        reads = [name for name in self.recorder.touched if self._is_own(name)]
        writes, mutates = self.namespace.changes({*self.recorder.touched, *augmented}, stored)
        values = {name: self._value(name) for name in [*writes, *mutates] if name in self.names}
        record.update(reads=reads, writes=writes, mutates=mutates, values=values,
                      expressions=self.recorder.expressions(), output=self.shell.taken())  # fmt: skip
        return record

    def _is_own(self, name: str) -> bool:
        return name in self.names or name in self.namespace.digests

    def _value(self, name: str) -> dict[str, Any]:
        told = self.events.value(self.names[name])
        told["digest"] = self.namespace.digests.get(name, "")
        return told

    def _node(self, statement: dict[str, Any]) -> ast.stmt:
        cell = statement["cell"]
        tree = ast.parse(self.job["cells"][str(cell)], f"<cell {cell}>")
        found: list[ast.stmt] = [node for node in tree.body if [node.lineno, node.col_offset] == statement["at"]]
        return found[0]

    def _rewritten(self, statement: dict[str, Any]) -> tuple[ast.stmt, Rewriter]:
        rewriter = Rewriter(statement["cell"], self.job["cells"][str(statement["cell"])], self.sites)
        rewritten: ast.stmt = rewriter.visit(self._node(statement))
        return ast.fix_missing_locations(rewritten), rewriter

    def _execute(self, node: ast.stmt, statement: dict[str, Any], last: bool) -> None:
        name = f"<cell {statement['cell']}>"
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            for alias in node.names:
                self.flags |= getattr(futures, alias.name).compiler_flag
        shown = isinstance(node, ast.Expr) and last and not self._is_quiet(statement)
        if isinstance(node, ast.Expr):
            tree: Any = ast.Expression(node.value)
        else:
            tree = ast.Module([node], type_ignores=[])
        mode = "eval" if isinstance(node, ast.Expr) else "exec"
        code = compile(tree, name, mode, self.flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        value = eval(code, self.names)  # noqa: S307  it is the notebook's own code
        if code.co_flags & inspect.CO_COROUTINE:
            value = self.loop.run_until_complete(value)
        if shown:
            self.shell.show(value)

    def _is_refused(self, error: BaseException, statement: dict[str, Any]) -> bool:
        """Say whether a statement did nothing but write, and that was not allowed."""
        blocked = any(_is_blocked(each) for each in _chain(error))
        if blocked and not any(
            save["statement"] == statement["id"] and not save["allowed"] for save in self.writes.saves
        ):
            self.writes.refused(*_attempt(error, self._node(statement)))
        return blocked and self._only_acts(statement)

    def _only_acts(self, statement: dict[str, Any]) -> bool:
        node = ast.parse(statement["source"].strip()).body[-1]
        if isinstance(node, ast.With):
            return not bound_names(node.body)
        return isinstance(node, ast.Expr) or (isinstance(node, ast.If) and not bound_names([node]))

    def _is_quiet(self, statement: dict[str, Any]) -> bool:
        """Say whether a cell ends with a semicolon, which keeps its value from being shown."""
        code = "\n".join(line.split("#")[0] for line in self.job["cells"][str(statement["cell"])].splitlines()[-3:])
        return code.rstrip().endswith(";")

    def _failure(self, error: BaseException) -> dict[str, Any]:
        line = 0
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename == f"<cell {self.current['cell']}>":
                line = frame.lineno or 0
        if isinstance(error, SyntaxError) and not line:
            line = error.lineno or 0
        told = traceback.TracebackException(type(error), error, error.__traceback__)
        told.stack[:] = [frame for frame in told.stack if not frame.filename.startswith(KERNEL)]
        self.shell.write("".join(told.format()).rstrip())
        return {"error": f"{type(error).__name__}: {error}", "error_line": line}

    def _where(self, site: Any) -> tuple[int, Any]:
        found = place(site, self.sites) if site is not None else current_place(self.sites)
        line = self.current["line"]
        return found if found is not None and found[0] >= 0 else (self.current["cell"], (line, 0, line, 0))

    def _write(self, seconds: float) -> None:
        libraries, modules = distributions()
        trace = {
            "schema": SCHEMA, "notebook": self.job["notebook"], "python": sys.executable,
            "version": ".".join(map(str, sys.version_info[:3])), "libraries": libraries, "modules": modules,
            "enforcement": self.enforcement, "seconds": seconds, "statements": self.statements,
            "calls": self.events.calls, "reads": self.reads.events, "fits": self.events.fits,
            "predicts": self.events.predicts, "metrics": self.events.metrics, "splits": self.events.splits,
            "saves": self.writes.saves, "connections": self.guard.connections,
            "golden": golden(self.events, self.scratch),
            "objects": describe_objects(self.events, self._globals(), self.scratch),
            "problems": self.events.problems[:100],
            "functions": {name: list(names) for name, names in self.recorder.functions.items()},
        }  # fmt: skip
        path = os.path.join(self.scratch, "trace.json")
        with self.redirects.real_open(path + ".part", "w", encoding="utf-8") as handle:
            json.dump(trace, handle, default=str)
        os.replace(path + ".part", path)

    def _globals(self) -> dict[str, Any]:
        return {name: self.names[name] for name in self.namespace.own()}


def _chain(error: BaseException | None) -> list[BaseException]:
    """Give an error, and those that it came from."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        reason = getattr(error, "reason", None)
        error = reason if isinstance(reason, BaseException) else error.__cause__ or error.__context__
    return found


def _is_blocked(error: BaseException) -> bool:
    if isinstance(error, PermissionError) or type(error).__name__ == "CalledProcessError":
        return True
    if isinstance(error, AttributeError) and "'to_gbq'" in str(error):  # pandas 3 has none; it would be refused anyway
        return True
    return any(said in str(error) for said in ("ermission denied", "readonly database", "read-only file system"))


def _attempt(error: BaseException, node: ast.stmt) -> tuple[str, str]:
    """Give where a refused statement would have written, and by what."""
    for call in (part for part in ast.walk(node) if isinstance(part, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "to_gbq":
            given = [*call.args, *(one.value for one in call.keywords if one.arg == "destination_table")]
            return next((ast.unparse(part).strip("'\"") for part in given), ""), "to_gbq"
    return str(getattr(error, "filename", "") or ""), type(error).__name__


def _is_defined(name: str, value: Any) -> bool:
    """Say whether a global is what a `def` or `class` of the notebook made, which is done again."""
    return (
        isinstance(value, (types.FunctionType, type)) and value.__module__ == "__main__" and value.__qualname__ == name
    )
