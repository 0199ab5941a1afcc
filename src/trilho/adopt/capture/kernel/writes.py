"""What the notebook keeps: models, tables, figures. Their paths are sent into the scratch folder."""

from __future__ import annotations

import ast
import os
import sys
from typing import Any

from .events import Events
from .files import Redirects
from .rewrite import Site
from .values import full_name, kind_of

PATHS = ("path", "path_or_buf", "fname", "filename", "file", "filepath", "fp", "excel_writer", "where", "root_path",
         "file_path", "filepath_or_buffer", "model_file", "out", "target", "database", "file_name", "fout",
         "path_or_stream", "save_path", "export_dir")  # fmt: skip
SENDS = ("to_gbq", "to_sql", "load_table_from_dataframe", "load_table_from_file", "load_table_from_json",
         "load_table_from_uri", "insert_rows", "insert_rows_json", "insert_rows_from_dataframe", "upload_file",
         "upload_fileobj", "upload_from_filename", "upload_from_string", "upload_from_file", "put_object")  # fmt: skip
SECOND = ("joblib.", "torch.", "onnx.", "skops.", "pyarrow.", "_pyarrow")  # modules whose writers take the path second
ONLY_FILES = ("pickle.", "_pickle.", "json.", "yaml.", "cloudpickle.", "dill.")  # those that take an open file
CONTAINERS = 50


class Writes:
    """The saves of one run."""

    def __init__(self, redirects: Redirects, events: Events) -> None:
        self.redirects, self.events = redirects, events
        self.saves: list[dict[str, Any]] = []
        self.cell = self.line = 0
        self.quiet = 0

    def start(self, cell: int, line: int) -> None:
        """Go on to another statement."""
        self.cell, self.line = cell, line

    def noticed(self, path: str, file: str) -> None:
        """Note that a file was opened for writing, unless a known writer did that."""
        if not self.quiet and not any(save["file"] == file and self._is_now(save) for save in self.saves):
            self._save(self.line, path, "open", [], file, [])

    def refused(self, path: str, function: str, line: int = 0) -> None:
        """Note that something was not allowed."""
        known = [save for save in self.saves if self._is_now(save) and save["path"] == path and not save["allowed"]]
        if not known:
            self._save(line or self.line, path, function, [], "", [], allowed=False)

    def write(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        """Do a write with its path changed, and note what was written."""
        name = full_name(function)
        last = name.rsplit(".", 1)[-1]
        if last in SENDS and not (last == "to_sql" and _is_sqlite(args, kwargs)):
            self.refused(_destination(args, kwargs), name, site.span[0])
            raise PermissionError(f"{last} would send data out of the notebook; adopt does not allow it")
        args, kwargs, path = self._redirected(function, args, kwargs)
        self.quiet += 1
        try:
            result = function(*args, **kwargs)
        finally:
            self.quiet -= 1
        if path:
            file = os.path.relpath(self.redirects.for_reading(path), self.redirects.scratch)
            owner = getattr(function, "__self__", None)
            given = [owner, *args, *kwargs.values()]
            self.saves[:] = [save for save in self.saves if not (self._is_now(save) and save["function"] == "open"
                                                                 and save["path"] == path)]  # fmt: skip
            self._save(site.span[0], path, name, self._objects(given), file, _names(site))
        return result

    def connect(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        """Connect to a database file, or to a copy of it where it may be changed."""
        args = list(args)
        places: list[tuple[Any, Any]] = [(args, 0)] if args else [(kwargs, "database")] if "database" in kwargs else []
        for holder, key in places:
            value = holder[key]
            if (
                isinstance(value, (str, os.PathLike))
                and not str(value).startswith((":", "file:", "md:"))
                and str(value)
            ):
                holder[key] = self.redirects.for_writing(value, keep=True, tell=False)
        return function(*args, **kwargs)

    def _redirected(self, function: Any, args: Any, kwargs: Any) -> tuple[Any, Any, str]:
        """Change the argument that is a path; a file that is open already says its own."""
        args, kwargs = list(args), dict(kwargs)
        name = full_name(function)
        number = 1 if name.startswith(SECOND) else 0
        places: list[tuple[Any, Any]] = [(kwargs, key) for key in kwargs if key in PATHS]
        places += [(args, number)] if number < len(args) and not name.endswith("to_sql") else []
        for holder, key in places if not name.startswith(ONLY_FILES) else []:
            value = holder[key]
            if isinstance(value, (str, os.PathLike)) and "://" not in os.fspath(value):
                full = os.path.abspath(os.path.expanduser(os.fspath(value)))
                holder[key] = self.redirects.for_writing(full, keep=False, tell=False)
                return args, kwargs, full
        for value in [*args, *kwargs.values()]:
            named = getattr(value, "name", None)
            if isinstance(named, str) and hasattr(value, "write"):
                return args, kwargs, self.redirects.original(named)
        return args, kwargs, ""

    def _objects(self, given: list[Any]) -> list[int]:
        """Number the estimators in what was written."""
        found: dict[int, None] = {}
        waiting = list(given)
        for value in waiting:
            if kind_of(value) in ("estimator", "booster"):
                found[self.events.objects.number(value)] = None
            elif isinstance(value, (list, tuple)) and len(value) <= CONTAINERS:
                waiting.extend(value)
            elif isinstance(value, dict) and len(value) <= CONTAINERS:
                waiting.extend(value.values())
            elif type(value).__module__ == "__main__" and hasattr(value, "__dict__"):
                waiting.extend(vars(value).values())
        return list(found)

    def _is_now(self, save: dict[str, Any]) -> bool:
        return bool(save["statement"] == self.events.statement)

    def _save(self, line: int, path: str, function: str, objects: list[int], file: str, names: list[str],
              allowed: bool = True) -> None:  # fmt: skip
        self.saves.append({"statement": self.events.statement, "cell": self.cell, "line": line, "path": path,
                           "allowed": allowed, "function": function, "objects": objects, "file": file,
                           "names": names})  # fmt: skip


def _is_sqlite(args: Any, kwargs: Any) -> bool:
    return any(type(value).__module__ == "sqlite3" for value in [*args, *kwargs.values()])


def _destination(args: Any, kwargs: Any) -> str:
    return next((str(value) for value in [*kwargs.values(), *args] if isinstance(value, str)), "")


def _names(site: Site) -> list[str]:
    """Give the variables in a writer's arguments, and the one that it is a method of."""
    found: dict[str, None] = {}
    main = vars(sys.modules["__main__"])
    for text in [site.callee, *(source for _, source in site.arguments)]:
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and kind_of(main.get(node.id, 0)) not in (
                "module",
                "function",
                "class",
                "text",
            ):
                found[node.id] = None
    return [name for name in found if name in main]
