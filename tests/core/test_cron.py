"""The cron parser: fields, both days, time zones, changes of the clocks, what is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from trilho.core.cron import Cron

START = datetime(2026, 11, 24, 9, 5, tzinfo=UTC)  # a Tuesday


def after(text: str, start: datetime = START, count: int = 1) -> list[str]:
    cron, moments, moment = Cron.read(text), [], start
    for _ in range(count):
        moment = cron.after(moment)
        moments.append(f"{moment:%Y-%m-%d %H:%M}")
    return moments


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("* * * * *", "2026-11-24 09:06"),
        ("5 9 * * *", "2026-11-25 09:05"),
        ("*/20 * * * *", "2026-11-24 09:20"),
        ("10-50/20 9 * * *", "2026-11-24 09:10"),
        ("7/30 * * * *", "2026-11-24 09:07"),
        ("0 0 1 * *", "2026-12-01 00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00"),
        ("0 12 * JAN sun", "2027-01-03 12:00"),
        ("0 0 * * 7", "2026-11-29 00:00"),
        ("0 0 * * 5-7", "2026-11-27 00:00"),
        ("0,30 8-10 * * 1-5", "2026-11-24 09:30"),
        ("TZ=America/Sao_Paulo 0 3 * * *", "2026-11-25 06:00"),
        ("CRON_TZ=Asia/Tokyo 0 3 * * *", "2026-11-24 18:00"),
    ],
)
def test_next(text: str, due: str) -> None:
    assert after(text) == [due]


def test_either_day_is_enough_when_both_are_restricted() -> None:
    assert after("0 0 13 * 5", count=3) == ["2026-11-27 00:00", "2026-12-04 00:00", "2026-12-11 00:00"]
    assert after("0 0 1 * 5", count=2) == ["2026-11-27 00:00", "2026-12-01 00:00"]
    assert after("0 0 */9 * 5", count=1) == ["2027-01-01 00:00"]  # a step over all counts as unrestricted


def test_a_time_that_the_clocks_leave_out_is_not_run() -> None:
    start = datetime(2026, 3, 8, 0, 0, tzinfo=UTC)  # in New York 02:00 is followed by 03:00 that day
    assert after("TZ=America/New_York 30 2 * * *", start) == ["2026-03-09 06:30"]


def test_a_time_that_comes_twice_is_run_once() -> None:
    start = datetime(2026, 11, 1, 4, 0, tzinfo=UTC)  # in New York 01:30 comes at 05:30 and at 06:30 UTC
    assert after("TZ=America/New_York 30 1 * * *", start, 2) == ["2026-11-01 05:30", "2026-11-02 06:30"]
    assert after("TZ=America/New_York 30 * * * *", start, 3) == [
        "2026-11-01 04:30",
        "2026-11-01 05:30",
        "2026-11-01 06:30",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "received 0"),
        ("0 3 * *", "received 4"),
        ("0 0 3 * * *", "received 6"),
        ("60 * * * *", "the minute is '60'; allowed are 0-59"),
        ("* 24 * * *", "hour"),
        ("* * 0 * *", "day of the month"),
        ("* * * 13 *", "JAN-DEC"),
        ("* * * * 8", "day of the week"),
        ("*/0 * * * *", "no moment"),
        ("9-5 * * * *", "no moment"),
        ("*-5 * * * *", "a range begins with a number"),
        ("a b c d e", "'a'"),
        ("1,,2 * * * *", "the minute is ''"),
        ("0 0 30 2 *", "never due"),
        ("TZ=Mars/Base 0 0 * * *", "unknown time zone 'Mars/Base'"),
        ("TZ=../etc/passwd 0 0 * * *", "unknown time zone"),
        ("@daily", "received 1"),
    ],
)
def test_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("*", r"\*")):
        Cron.read(text)
