"""The kinds of values that trilho.toml holds: durations, rates, functions, zones, and the table itself."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict

UNITS = {"minute": 60, "hour": 3600, "day": 86400, "week": 604800, "month": 2629746, "year": 31556952}
DURATION = re.compile(r"(?:(?:last|latest)\s+)?(\d+)\s*(minute|hour|day|week)s?")
PEAK = re.compile(r"(\d+(?:\.\d+)?)\s*rows?\s*/\s*(s|minute|hour)")
WAIT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s)")
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(kB|MB|GB)")
RATE = re.compile(r"(\d+(?:\.\d+)?)\s+per\s+(day|week|month|year)")


def parse_duration(value: object) -> timedelta:
    """Read "60 days", "last 2 weeks" or "1 hour".

    >>> parse_duration("last 60 days")
    datetime.timedelta(days=60)
    """
    if isinstance(value, timedelta):
        return value
    match = DURATION.fullmatch(str(value).strip())
    if match is None or int(match[1]) == 0:
        raise ValueError('a duration such as "60 days", "2 weeks" or "12 hours"')
    return timedelta(seconds=int(match[1]) * UNITS[match[2]])


def parse_rate(value: object) -> float:
    """Read "1 per year" as a number a second.

    >>> round(parse_rate("1 per week") * 7 * 86400, 6)
    1.0
    """
    if isinstance(value, float):
        return value
    match = RATE.fullmatch(str(value).strip())
    if match is None or float(match[1]) == 0:
        raise ValueError('a rate such as "1 per year" or "2 per month"')
    return float(match[1]) / UNITS[match[2]]


def parse_function(value: object) -> str:
    """Read a function's reference."""
    text = str(value)
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text):
        raise ValueError('a function as "package.module:name"')
    return text


def parse_history(value: object) -> str:
    """Read how far back a training looks."""
    text = str(value)
    if text not in ("auto", "all"):
        try:
            parse_duration(text)
        except ValueError:
            raise ValueError('"auto", "all" or a duration such as "latest 365 days"') from None
    return text


def parse_zone(value: object) -> str:
    """Read a time zone."""
    text = str(value)
    try:
        ZoneInfo(text)
    except (OSError, ValueError):
        raise ValueError('a time zone such as "America/Sao_Paulo"') from None
    return text


def parse_bucket(value: object) -> str:
    """Give a bucket or folder as a URI without an end slash.

    >>> parse_bucket("shop-models"), parse_bucket("gs://shop-models/")
    ('gs://shop-models', 'gs://shop-models')
    """
    text = str(value).rstrip("/")
    text = text if "://" in text else f"gs://{text}"
    if not re.fullmatch(r"gs://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/.+)?|file:///.+", text):
        raise ValueError('a bucket as "gs://NAME", or a folder as "file:///FOLDER"')
    return text


def parse_peak(value: object) -> float:
    """Read "200 rows/s" as a number a second.

    >>> parse_peak("200 rows/s"), parse_peak("6000 rows/minute")
    (200.0, 100.0)
    """
    if isinstance(value, float):
        return value
    match = PEAK.fullmatch(str(value).strip())
    if match is None or float(match[1]) == 0:
        raise ValueError('a load such as "200 rows/s" or "6000 rows/minute"')
    return float(match[1]) / (1 if match[2] == "s" else UNITS[match[2]])


def parse_wait(value: object) -> float:
    """Read "50 ms" or "0.5 s" as milliseconds.

    >>> parse_wait("50 ms"), parse_wait("0.5 s")
    (50.0, 500.0)
    """
    if isinstance(value, float):
        return value
    match = WAIT.fullmatch(str(value).strip())
    if match is None or float(match[1]) == 0:
        raise ValueError('a time such as "50 ms" or "0.5 s"')
    return float(match[1]) * (1 if match[2] == "ms" else 1000)


def parse_size(value: object) -> int:
    """Read "200 MB" as bytes, in powers of ten.

    >>> parse_size("1.5 MB")
    1500000
    """
    if isinstance(value, int):
        return value
    match = SIZE.fullmatch(str(value).strip())
    if match is None or float(match[1]) == 0:
        raise ValueError('a size such as "200 MB" or "1.5 GB"')
    return round(float(match[1]) * {"kB": 1e3, "MB": 1e6, "GB": 1e9}[match[2]])


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Rate = Annotated[float, BeforeValidator(parse_rate)]
Function = Annotated[str, BeforeValidator(parse_function)]
Peak = Annotated[float, BeforeValidator(parse_peak)]
Wait = Annotated[float, BeforeValidator(parse_wait)]
Size = Annotated[int, BeforeValidator(parse_size)]


class Table(BaseModel):
    """A table of trilho.toml: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, strict=True)
