"""Cloud Logging: what the tasks of jobs printed, read with `entries:list` and its filter language."""

from __future__ import annotations

import re
import threading
import uuid
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from trilho.testing.emulator.http import ApiError, Json, Request, Route

MOST_ENTRIES = 200_000
LARGEST_PAGE = 1000
TOKENS = re.compile(r'\s*(?:(\(|\)|!=|>=|<=|=~|!~|=|>|<|:)|"((?:[^"\\]|\\.)*)"|(-(?=[\w"(]))|([^\s()=<>:!"]+))')
Test = Callable[[Json], bool]


class Logs:
    """The entries, in memory: the oldest go when there are too many."""

    def __init__(self, project: str) -> None:
        self._project = project
        self._entries: deque[Json] = deque(maxlen=MOST_ENTRIES)
        self._lock = threading.Lock()

    def routes(self) -> list[Route]:
        """Give the routes."""
        return [Route("POST", "/v2/entries:list", "logging.logEntries.list", self._list)]

    def append(self, job_id: str, task: str, line: str) -> None:
        """Keep a line that a task printed, as the container of a custom job logs it."""
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        entry = {
            "insertId": uuid.uuid4().hex[:16], "logName": f"projects/{self._project}/logs/workerpool0-0",
            "resource": {"type": "ml_job", "labels": {"project_id": self._project, "job_id": job_id,
                                                      "task_name": "workerpool0-0"}},
            "timestamp": at, "receiveTimestamp": at, "severity": "INFO",
            "labels": {"ml.googleapis.com/task_name": task, "task_name": task},
            "jsonPayload": {"message": line, "levelname": "INFO"},
        }  # fmt: skip
        with self._lock:
            self._entries.append(entry)

    def _list(self, request: Request) -> Json:
        given = request.json()
        projects = {str(name).removeprefix("projects/").partition("/")[0] for name in given.get("resourceNames") or []}
        if not projects:
            raise ApiError(400, "resource_names must not be empty", reason="badRequest")
        wanted = read_filter(str(given.get("filter") or ""))
        with self._lock:
            entries = list(self._entries) if self._project in projects else []
        found = [entry for entry in entries if wanted(entry)]
        if str(given.get("orderBy") or "timestamp asc") == "timestamp desc":
            found.reverse()
        start = int(token) if (token := str(given.get("pageToken") or "")).isdecimal() else 0
        end = start + min(int(given.get("pageSize") or 50), LARGEST_PAGE)
        return {"entries": found[start:end]} | ({"nextPageToken": str(end)} if end < len(found) else {})


def read_filter(text: str) -> Test:
    """Make a test of a filter: comparisons, AND, OR, NOT, parentheses, words to find anywhere. Raises ApiError.

    >>> test = read_filter('severity>=INFO AND (labels.a="1" OR NOT textPayload:"x")')
    >>> test({"severity": "ERROR", "labels": {"a": 1}})
    True
    """
    return _Filter(text).read() if text.strip() else lambda entry: True


class _Filter:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            found = TOKENS.match(text, at)
            if found is None:
                raise self._broken(text[at:].strip()[:20])
            kind = ("sign", "text", "not", "word")[found.lastindex - 1 if found.lastindex else 3]
            value = found[found.lastindex or 0]
            self._tokens.append((kind, re.sub(r"\\(.)", r"\1", value) if kind == "text" else value))
            at = found.end()
        self._at = 0

    def read(self) -> Test:
        test = self._either()
        if self._at < len(self._tokens):
            raise self._broken(self._tokens[self._at][1])
        return test

    def _either(self) -> Test:
        tests = [self._all()]
        while self._takes("OR"):
            tests.append(self._all())
        return lambda entry: any(test(entry) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._at < len(self._tokens) and self._tokens[self._at] not in (("word", "OR"), ("sign", ")")):
            self._takes("AND")
            tests.append(self._one())
        return lambda entry: all(test(entry) for test in tests)

    def _one(self) -> Test:
        kind, value = self._next()
        if kind == "not" or (kind, value) == ("word", "NOT"):
            test = self._one()
            return lambda entry: not test(entry)
        if (kind, value) == ("sign", "("):
            inner = self._either()
            if self._next() != ("sign", ")"):
                raise self._broken("(")
            return inner
        if kind == "sign":
            raise self._broken(value)
        if (
            self._at < len(self._tokens)
            and self._tokens[self._at][0] == "sign"
            and self._tokens[self._at][1] not in "()"
        ):
            sign = self._next()[1]
            return _comparison(value, sign, self._next()[1])
        return lambda entry: value.lower() in str(entry).lower()

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise self._broken("its end")
        self._at += 1
        return self._tokens[self._at - 1]

    def _takes(self, word: str) -> bool:
        taken = self._at < len(self._tokens) and self._tokens[self._at] == ("word", word)
        self._at += taken
        return taken

    def _broken(self, where: str) -> ApiError:
        return ApiError(400, f"Unparseable filter: syntax error at {where!r} of {self._text!r}", reason="badRequest")


SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")
SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b, "!=": lambda a, b: a != b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ":": lambda a, b: b.lower() in a.lower(),
    "=~": lambda a, b: re.search(b, a) is not None, "!~": lambda a, b: re.search(b, a) is None,
}  # fmt: skip


def _comparison(path: str, sign: str, wanted: str) -> Test:
    def test(entry: Json) -> bool:
        value = _value(entry, path)
        if value is None:
            return sign in ("!=", "!~")
        if path == "severity" and sign not in (":", "=~", "!~") and wanted.upper() in SEVERITIES:
            return SIGNS[sign](SEVERITIES.index(str(value)), SEVERITIES.index(wanted.upper()))
        return SIGNS[sign](str(value), wanted)

    return test


def _value(entry: Json, path: str) -> Any:
    """Give the value at a path; a key may hold dots itself."""
    value: Any = entry
    rest = path
    while rest:
        if not isinstance(value, dict):
            return None
        key = next((key for key in sorted(value, key=len, reverse=True) if f"{rest}.".startswith(f"{key}.")), None)
        if key is None:
            return None
        value, rest = value[key], rest[len(key) + 1 :]
    return value
