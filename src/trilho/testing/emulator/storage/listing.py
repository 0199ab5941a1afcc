"""One page of a list of objects: prefixes by delimiter, offsets, globs, page tokens."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from trilho.testing.emulator.http import ApiError, Request
from trilho.testing.emulator.storage.index import Stored

LARGEST_PAGE = 1000
GLOBS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")"}


@dataclass(frozen=True)
class Page:
    """What one answer of a list holds."""

    objects: list[Stored]
    prefixes: list[str]
    token: str


def page(records: Iterable[Stored], request: Request) -> Page:
    """Choose what a request asks for of the objects, which are in order."""
    size = request.number("maxResults", LARGEST_PAGE)
    if size < 1:
        raise ApiError(400, f"Invalid maxResults: {size}; at least 1 is allowed.", reason="invalidParameter")
    after = _position(request.first("pageToken"))
    entries = [entry for entry in _entries(records, request) if entry[:2] > after]
    shown, rest = entries[: min(size, LARGEST_PAGE)], entries[min(size, LARGEST_PAGE) :]
    objects = [record for _, _, record in shown if isinstance(record, Stored)]
    prefixes = list(dict.fromkeys(prefix for _, _, prefix in shown if isinstance(prefix, str)))
    return Page(objects, prefixes, _token(shown[-1][:2]) if rest else "")


Entry = tuple[str, int, Stored | str]


def _entries(records: Iterable[Stored], request: Request) -> Iterator[Entry]:
    """Give the objects, and each prefix once, in order."""
    prefix, delimiter = request.first("prefix"), request.first("delimiter")
    glob = request.first("matchGlob")
    wanted = re.compile(glob_to_pattern(glob)) if glob else None
    seen: set[str] = set()
    for record in _within(records, request.first("startOffset"), request.first("endOffset")):
        if wanted and not wanted.fullmatch(record.name):
            continue
        head, found, tail = record.name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        if found and (tail or not request.flag("includeTrailingDelimiter")):
            folder = f"{prefix}{head}{delimiter}"
            if folder not in seen:
                seen.add(folder)
                yield folder, -1, folder
            continue
        yield record.name, record.generation, record


def _within(records: Iterable[Stored], start: str, end: str) -> Iterator[Stored]:
    for record in records:
        if record.name.encode() >= start.encode() and not (end and record.name.encode() >= end.encode()):
            yield record


def glob_to_pattern(glob: str) -> str:
    """Make a regular expression of Cloud Storage's glob: `*` within a folder, `**` across, `?`, `[ab]`, `{a,b}`.

    >>> [bool(re.fullmatch(glob_to_pattern("a/*.{csv,txt}"), name)) for name in ("a/b.csv", "a/b/c.csv", "a/b.json")]
    [True, False, False]
    """
    pattern, inside = "", 0
    for part in re.findall(r"\*\*/|\*\*|\\.|\[[^\]]*\]|.", glob):
        inside += (part == "{") - (part == "}")
        pattern += GLOBS.get(part) or ("|" if part == "," and inside else _literal(part))
    return pattern


def _literal(token: str) -> str:
    if len(token) > 1 and token.startswith("["):
        body = token[1:-1].replace("\\", r"\\")
        return f"[^{body[1:]}]" if body.startswith("!") else f"[{body}]"
    return re.escape(token.removeprefix("\\") if len(token) > 1 else token)


def _token(position: tuple[str, int]) -> str:
    return base64.urlsafe_b64encode(f"{position[1]}:{position[0]}".encode()).decode()


def _position(token: str) -> tuple[str, int]:
    if not token:
        return "", -2
    try:
        generation, _, name = base64.urlsafe_b64decode(token).decode().partition(":")
        return name, int(generation)
    except ValueError:
        raise ApiError(400, f"Invalid pageToken: {token!r}", reason="invalidParameter") from None
