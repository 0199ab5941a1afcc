"""BigQuery: only questions are asked, what they cost is said first, and each answer is frozen and replayed."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from typing import Any, Callable

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


class BigQuery:
    """The queries of one run."""

    def __init__(self, reads: Reads, writes: Writes, guard: Guard, tell: Callable[..., None]) -> None:
        self.reads, self.writes, self.guard, self.tell = reads, writes, guard, tell
        self.questions: dict[int, tuple[Any, dict[str, Any]]] = {}  # id of a job or of rows -> what was asked
        self.answers: dict[str, Any] = {}  # question -> the frame, as it was

    def ask(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        """Ask a query that changes nothing; one that was answered before is not asked again."""
        name = function.__name__
        text = str(args[0] if args else kwargs.get("query", kwargs.get("table", "")))
        if name != "list_rows" and not is_question(text):
            self.writes.refused(text.strip()[:200], full_name(function), site.span[0])
            raise PermissionError("BigQuery statements that change something are not allowed by adopt")
        settings = kwargs.get("job_config") or (args[1] if len(args) > 1 else None)
        asked: dict[str, Any] = {"text": text, "key": _key(text, settings), "bytes": None, "job": ""}
        if asked["key"] in self.answers:
            return Replayed(self, asked)
        self.guard.allowed_posts += 1
        try:
            if name != "list_rows":
                asked["bytes"] = self._dry_run(function.__self__, text, settings)
            result = function(*args, **kwargs)
        finally:
            self.guard.allowed_posts -= 1
        asked["job"] = str(getattr(result, "job_id", "") or "")
        self.questions[id(result)] = (result, asked)
        return result

    def table(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        """Give an answer as a table, and freeze it."""
        owner = function.__self__
        if isinstance(owner, Replayed):
            return function(*args, **kwargs)
        self.guard.allowed_posts += 1
        self.reads.depth += 1
        try:
            result = function(*args, **kwargs)
        finally:
            self.guard.allowed_posts -= 1
            self.reads.depth -= 1
        self.reads.safely(self._frozen, site, function, owner, result)
        return result

    def rows(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        """Wait for a job; its rows answer the same question."""
        self.guard.allowed_posts += 1
        try:
            result = function(*args, **kwargs)
        finally:
            self.guard.allowed_posts -= 1
        held = self.questions.get(id(function.__self__))
        if held is not None and held[0] is function.__self__:
            self.questions[id(result)] = (result, held[1])
        return result

    def _frozen(self, site: Site, function: Any, owner: Any, result: Any) -> None:
        held = self.questions.get(id(owner))
        unknown: dict[str, Any] = {"text": "", "key": "", "bytes": None, "job": ""}
        asked = held[1] if held is not None and held[0] is owner else unknown
        size = asked["bytes"]
        name = full_name(function)
        event = self.reads.note(site, name, "bigquery", asked["text"], result, (), asked["text"], asked["job"], size)
        if asked["key"] and hasattr(result, "copy"):
            self.answers[asked["key"]] = (result.copy(), event)

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
        self.tell("note", text=f"BigQuery will read {size / 1e6:,.1f} MB")
        return size

    def answer(self, asked: dict[str, Any]) -> Any:
        """Give the frozen answer again."""
        frame, event = self.answers[asked["key"]]
        copy = frame.copy()
        self.reads.book.inherit(copy, self.reads.book.of(frame))
        self.reads.again(event)
        return copy


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
        return self.to_dataframe().itertuples(index=False)


def is_question(text: str) -> bool:
    """Say whether a query only reads.

    >>> is_question("-- rides\\nWITH a AS (SELECT 1) SELECT * FROM a")
    True
    >>> is_question("SELECT 1; DROP TABLE t")
    False
    """
    plain = STRINGS.sub("''", COMMENTS.sub(" ", text)).strip()
    return bool(TEMPORARY.match(plain)) and not CHANGES.search(plain)


def _key(text: str, settings: Any) -> str:
    told = ""
    if settings is not None:
        represent = getattr(settings, "to_api_repr", None)
        told = repr(represent() if callable(represent) else settings)
    return hashlib.sha256(f"{os.linesep.join(text.split())}\n{told}".encode()).hexdigest()
