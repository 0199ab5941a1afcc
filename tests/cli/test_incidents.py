"""`trilho incidents`: what a person reads of an incident, and does about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trilho.core import records as r
from trilho.watch.incidents import respond

if TYPE_CHECKING:
    from tests.cli.conftest import Made, Verb


@pytest.fixture
def flooded(made: Made) -> Made:
    """Forty alarms of one cause."""
    from trilho.core.projection import fold

    for k in range(40):
        month, day = 6 + k // 28, k % 28 + 1
        cause = r.Cause(feature="temp", share=0.9, distance=0.3, tolerance=0.1, low=0.2, high=0.4)
        alarm = r.AlarmRaised(
            model="bikes", alarm=f"a{k}", kind="drift", version=1, window_start=f"2012-{month:02d}-{day:02d}T00:00:00",
            window_end=f"2012-{month:02d}-{day:02d}T12:00:00", evidence=351_804_534_498.0, threshold=730.0,
            causes=[cause], summary="drift of temp",
        )  # fmt: skip
        state = fold(made.journal.read_from(1)).model("bikes")
        made.journal.append(alarm, *respond(state, [alarm]))
    return made


def test_forty_alarms_are_a_few_lines(trilho: Verb, flooded: Made) -> None:
    shown = trilho("incidents", "show", "drift-a0")
    assert "38 more alarms, last 12 Jul 2012" in shown.out
    assert ">1 million, alarms at 730" in shown.out
    assert "351" not in shown.out
    assert len(shown.out.splitlines()) < 20
    assert "lead      not crossed yet" in shown.out
    assert "1. Ask who feeds the column that leads" in shown.out
    assert shown.out.splitlines()[-1] == "Next: trilho incidents acknowledge drift-a0"


def test_it_is_muted_for_a_while_with_a_reason(trilho: Verb, flooded: Made) -> None:
    refused = trilho("incidents", "mute", "drift", "--for", "3 days")
    assert (refused.code, refused.err.splitlines()[0]) == (2, "muting needs a reason; none was given")
    assert trilho("incidents", "mute", "drift", "--for", "soon", "--why", "x").code == 2
    muted = trilho("incidents", "mute", "drift", "--for", "3 days", "--why", "the fair", "--json").json
    assert muted["muted_by"] == "rui"
    assert "muted until" in trilho("incidents").out
    assert trilho("incidents", "--json").json["next"] == "trilho"
    assert trilho("incidents", "unmute", "drift").code == 0
    assert "muted until" not in trilho("incidents").out
    assert trilho("incidents", "unmute", "drift").code != 0


def test_it_is_assigned_acknowledged_and_closed_by_hand(trilho: Verb, flooded: Made) -> None:
    assert trilho("incidents", "assign", "drift", "ana", "--json").json["assigned_to"] == "ana"
    assert trilho("incidents", "ack", "drift", "--json").json["acknowledged_by"] == "rui"
    assert "acknowledged by rui" in trilho("incidents").out
    assert "in hand   ana" in trilho("incidents", "show", "drift").out
    assert trilho("incidents", "close", "drift").code == 2
    closed = trilho("incidents", "close", "drift", "--why", "the price list was changed", "--json").json
    assert closed["reason"] == "the price list was changed"
    assert trilho("incidents", "acknowledge", "drift").code != 0
    assert trilho("incidents", "show", "drift", "--json").json["standing"] == "closed"
