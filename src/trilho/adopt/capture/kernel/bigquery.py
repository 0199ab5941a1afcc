"""BigQuery: only questions are asked, what they cost is said first, and each answer is frozen and replayed."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from typing import Any, Callable, Iterator

from .guard import Guard
from .reads import Reads
from .rewrite import Site
from .values import full_name
from .writes import Writes

COMMENTS = re.compile(r"--[^\n]*|#[^\n]*|/\*.*?\*/", re.S)
STRINGS = re.compile(r"'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`[^`]*`", re.S)
TEMPORARY = re.compile(r"\(*\s*(select|with|from|declare|set)\b", re.I)
CHANGES = re.compile(
    r";\s*(insert|update|delete|merge|create|drop|alter|truncate|export|load|call|grant|revoke|begin|execute)\b", re.I
)
TABLE = "google.cloud.bigquery.table"


class BigQuery:
    """The queries of one run."""

    def __init__(self, reads: Reads, writes: Writes, guard: Guard, tell: Callable[..., None]) -> None:
        self.reads, self.writes, self.guard, self.tell = reads, writes, guard, tell
        self.questions: dict[int, tuple[Any, dict[str, Any]]] = {}  # id of a job or of rows -> what was asked
        self.jobs: dict[str, dict[str, Any]] = {}  # id of a job in BigQuery -> what was asked
        self.answers: dict[str, Any] = {}  # question -> the frame, as it was, its read, and the rows if these were read

    def ask(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        """Ask a query that changes nothing; one that was answered before is not asked again."""
        name = function.__name__
        text = str(args[0] if args else kwargs.get("query", kwargs.get("table", "")))
        if name != "list_rows":
            self._require_question(site, function, text)
        settings = kwargs.get("job_config") or (args[1] if len(args) > 1 else None)
        asked: dict[str, Any] = {"text": text, "key": _key(text, settings), "bytes": None, "job": "",
                                 "parameters": _parameters(settings)}  # fmt: skip
        if asked["key"] in self.answers:
            return Replayed(self, asked)
        self._watch_rows()
        with self.guard.asking():
            if name != "list_rows":
                asked["bytes"] = self._dry_run(function.__self__, text, settings)
            result = function(*args, **kwargs)
        asked.update(job=str(getattr(result, "job_id", "") or ""), at=(site, self.reads.statement))
        self.questions[id(result)] = (result, asked)
        if asked["job"]:
            self.jobs[asked["job"]] = asked
        return result

    def gbq(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        """Ask by `read_gbq`, which takes a query or the name of a table."""
        text = str(args[0] if args else kwargs.get("query_or_table", kwargs.get("query", "")))
        if len(text.split()) > 1:
            self._require_question(site, function, text)
        key = _key(text, None)
        if key in self.answers:
            return self.answer({"key": key})
        with self.guard.asking(), self.reads.within():
            result = function(*args, **kwargs)
        self.reads.safely(self._freeze, site, full_name(function), {"text": text, "key": key}, result)
        return result

    def table(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        """Give an answer as a table, and freeze it."""
        owner = function.__self__
        if isinstance(owner, Replayed):
            return function(*args, **kwargs)
        with self.guard.asking(), self.reads.within():
            result = function(*args, **kwargs)
        asked = self._asked(owner) or {"text": "", "key": ""}
        self.reads.safely(self._freeze, site, full_name(function), asked, result)
        return result

    def rows(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        """Wait for a job; its rows answer the same question."""
        with self.guard.asking():
            result = function(*args, **kwargs)
        asked = self._asked(function.__self__)
        if asked is not None:
            asked["at"] = (site, self.reads.statement)
            self.questions[id(result)] = (result, asked)
        return result

    def answer(self, asked: dict[str, Any]) -> Any:
        """Give the frozen answer again."""
        frame, event, _ = self.answers[asked["key"]]
        copy = frame.copy()
        self.reads.book.inherit(copy, self.reads.book.of(frame))
        self.reads.again(event)
        return copy

    def _require_question(self, site: Site, function: Any, text: str) -> None:
        if not is_question(text):
            self.writes.refused(" ".join(text.split())[:200], full_name(function), site.span[0])
            raise PermissionError("BigQuery statements that change something are not allowed by adopt")

    def _asked(self, owner: Any) -> dict[str, Any] | None:
        """Give what a job, or its rows, answer."""
        held = self.questions.get(id(owner))
        if held is not None and held[0] is owner:
            return held[1]
        return self.jobs.get(str(getattr(owner, "job_id", None) or ""))

    def _freeze(self, site: Any, name: str, asked: dict[str, Any], result: Any, rows: Any = None) -> dict[str, Any]:
        text, job, size = asked["text"], asked.get("job", ""), asked.get("bytes")
        event = self.reads.note(site, name, "bigquery", text, result, (), text, job, size)
        if asked.get("parameters"):
            event["arguments"]["parameters"] = repr(asked["parameters"])
        if asked["key"] and hasattr(result, "copy"):
            self.answers[asked["key"]] = (result.copy(), event, rows)
        return event

    def _freeze_rows(self, asked: dict[str, Any], table: Any, rows: list[Any]) -> None:
        """Freeze rows that were read one by one: the read stands where they were asked for."""
        site, statement = asked["at"]
        event = self._freeze(site, f"{TABLE}.RowIterator", asked, table, rows)
        event["statement"] = statement

    def _watch_rows(self) -> None:
        """Freeze rows that are read one by one: `for row in client.query(sql).result()`."""
        kind = getattr(sys.modules.get(TABLE), "RowIterator", None)
        if kind is None or hasattr(kind, "_trilho_plain_"):
            return
        plain, asks = kind.__iter__, self

        def read(rows: Any) -> Any:
            return asks.iterated(rows, plain)

        kind._trilho_plain_, kind.__iter__ = plain, read

    def iterated(self, rows: Any, plain: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
        """Read all the rows of an answer at once, freeze them as a table, and give them one by one."""
        asked = None if self.reads.depth else self._asked(rows)
        if asked is None:
            return plain(rows)
        with self.guard.asking(), self.reads.within():
            found = list(plain(rows))
        columns = [field.name for field in getattr(rows, "schema", [])]
        self.reads.safely(self._freeze_rows, asked, _as_frame(found, columns), found)
        return iter(found)

    def _dry_run(self, client: Any, text: str, settings: Any) -> int | None:
        """Ask what a query would read, and say so."""
        try:
            config = sys.modules["google.cloud.bigquery"].QueryJobConfig(dry_run=True, use_query_cache=False)
            if settings is not None:
                config.query_parameters = getattr(settings, "query_parameters", [])
                config.default_dataset = getattr(settings, "default_dataset", None)
            size = int(client.query(text, job_config=config).total_bytes_processed)
        except Exception:  # noqa: BLE001  an emulator may have no dry run; the query itself will tell what is wrong
            return None
        self.tell("note", text=f"BigQuery will read {_size(size)}")
        return size


class Replayed:
    """Stands for a job whose answer is frozen."""

    def __init__(self, bigquery: BigQuery, asked: dict[str, Any]) -> None:
        self.bigquery, self.asked = bigquery, asked
        self.job_id = asked["job"]
        self.total_bytes_processed = 0

    def result(self, *_: Any, **__: Any) -> Replayed:
        """Give itself."""
        return self

    def to_dataframe(self, *_: Any, **__: Any) -> Any:
        """Give the frozen frame."""
        return self.bigquery.answer(self.asked)

    def to_arrow(self, *_: Any, **__: Any) -> Any:
        """Give it as an arrow table."""
        return sys.modules["pyarrow"].Table.from_pandas(self.to_dataframe())

    def __iter__(self) -> Any:
        rows = self.bigquery.answers[self.asked["key"]][2]
        frame = self.to_dataframe()
        if rows is not None:
            return iter(rows)
        places = {name: place for place, name in enumerate(frame.columns)}
        make = sys.modules[TABLE].Row
        return (make(values, places) for values in frame.itertuples(index=False, name=None))


def is_question(text: str) -> bool:
    """Say whether a query only reads.

    >>> is_question("-- rides\\nWITH a AS (SELECT 1) SELECT * FROM a")
    True
    >>> is_question("SELECT 1; DROP TABLE t")
    False
    """
    plain = STRINGS.sub("''", COMMENTS.sub(" ", text)).strip()
    return bool(TEMPORARY.match(plain)) and not CHANGES.search(plain)


def _parameters(settings: Any) -> list[tuple[str, str, Any]]:
    """Give the name, type and value of a query's plain parameters."""
    told: list[tuple[Any, Any, Any]] = [
        (getattr(one, "name", None), getattr(one, "type_", None), getattr(one, "value", None))
        for one in getattr(settings, "query_parameters", None) or []
    ]
    return [one for one in told if isinstance(one[0], str) and isinstance(one[2], (str, int, float, bool, type(None)))]


def _as_frame(rows: list[Any], columns: list[str]) -> Any:
    """Give rows as a table, or without pandas as what they hold."""
    values = [tuple(row.values()) for row in rows]
    pd = sys.modules.get("pandas")
    return pd.DataFrame(values, columns=columns) if pd is not None else [dict(zip(columns, one)) for one in values]


def _size(count: int) -> str:
    """Say how many bytes.

    >>> _size(83), _size(209_522), _size(3_200_000_000)
    ('83 bytes', '209.5 kB', '3.2 GB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"


def _key(text: str, settings: Any) -> str:
    told = ""
    if settings is not None:
        represent = getattr(settings, "to_api_repr", None)
        told = repr(represent() if callable(represent) else settings)
    return hashlib.sha256(f"{os.linesep.join(text.split())}\n{told}".encode()).hexdigest()
