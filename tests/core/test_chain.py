"""The chain: what is hashed, and every way of breaking it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from trilho.core.journal import GENESIS, Head, digest_of, seal, unseal, verify
from trilho.core.records import VersionApproved

Row = tuple[int, str, str]


def chain(length: int) -> list[Row]:
    rows: list[Row] = []
    for seq in range(1, length + 1):
        previous = rows[-1][2] if rows else GENESIS
        text, hash_ = seal(
            VersionApproved(model="m", version=seq, why="é \u2028 ok"),
            previous=previous,
            actor="ana",
            time=f"2024-01-01T00:00:{seq:02d}.000000+00:00",
        )
        rows.append((seq, text, hash_))
    return rows


def test_the_envelope_is_a_cloud_event_in_canonical_json() -> None:
    (_, text, hash_), *_ = chain(1)
    event = json.loads(text)
    assert text == json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert len(event.pop("id")) == 32
    assert event == {
        "specversion": "1.0",
        "source": "trilho",
        "type": "dev.trilho.version.approved.v1",
        "subject": "m",
        "time": "2024-01-01T00:00:01.000000+00:00",
        "actor": "ana",
        "previous": GENESIS,
        "data": {"model": "m", "version": 1, "why": "é \u2028 ok"},
    }
    assert hash_ == digest_of(text)


def test_unsealing_gives_back_what_was_sealed() -> None:
    seq, text, hash_ = chain(3)[2]
    record = unseal(seq, text, hash_)
    assert record.payload == VersionApproved(model="m", version=3, why="é \u2028 ok")
    assert (record.seq, record.actor, record.type, record.subject) == (3, "ana", "version.approved", "m")


def test_a_kind_of_a_newer_trilho_is_kept_without_payload() -> None:
    text, hash_ = seal(VersionApproved(model="m", version=1, why=""), previous=GENESIS, actor="a", time="t")
    newer = text.replace("version.approved.v1", "version.approved.v2")
    assert unseal(1, newer, hash_).payload is None
    assert unseal(1, text.replace("version.approved", "version.sung"), hash_).payload is None


def _change(rows: list[Row]) -> None:
    seq, text, hash_ = rows[2]
    rows[2] = (seq, text.replace('"version":3', '"version":9'), hash_)


def _change_and_rehash(rows: list[Row]) -> None:
    seq, text, _ = rows[2]
    text = text.replace('"version":3', '"version":9')
    rows[2] = (seq, text, digest_of(text))


def _drop(rows: list[Row]) -> None:
    del rows[2]


def _drop_and_renumber(rows: list[Row]) -> None:
    rows[:] = [(at + 1, text, hash_) for at, (_, text, hash_) in enumerate(rows[:2] + rows[3:])]


def _swap(rows: list[Row]) -> None:
    rows[2], rows[3] = (3, *rows[3][1:]), (4, *rows[2][1:])


def _drop_first(rows: list[Row]) -> None:
    del rows[0]


@pytest.mark.parametrize(
    ("tamper", "problem"),
    [
        (_change, "record 3 was changed"),
        (_change_and_rehash, "record 4 does not follow record 3"),
        (_drop, "record 3 is missing"),
        (_drop_and_renumber, "record 3 does not follow record 2"),
        (_swap, "record 3 does not follow record 2"),
        (_drop_first, "record 1 is missing"),
    ],
)
def test_tampering_is_found(tamper: Callable[[list[Row]], None], problem: str) -> None:
    rows = chain(5)
    tamper(rows)
    proof = verify(rows)
    assert proof.problem is not None
    assert proof.problem.startswith(problem)
    assert not proof.tail_proven


def test_a_cut_tail_is_found_by_an_anchor_only() -> None:
    rows = chain(5)
    anchor = Head(5, rows[4][2])
    assert verify(rows, anchor).tail_proven
    assert verify(rows[:3]).problem is None
    assert not verify(rows[:3]).tail_proven
    assert verify(rows[:3]).proven is None
    assert verify(rows[:3], anchor).problem == "the tail was cut: 3 records, anchored at 5"


def test_an_older_anchor_proves_no_more_than_what_it_saw() -> None:
    rows = chain(5)
    proof = verify(rows[:4], Head(3, rows[2][2]))
    assert (proof.problem, proof.proven, proof.tail_proven) == (None, 3, False)


def test_a_rewritten_history_does_not_meet_its_anchor() -> None:
    anchor = Head(3, chain(5)[2][2])
    problem = verify(chain(5), anchor).problem  # other ids, so another history
    assert problem is not None
    assert problem.startswith("record 3 is not the one that was anchored")


def test_an_empty_journal_verifies() -> None:
    assert verify([]).head == Head(0, GENESIS)
    assert verify([]).problem is None
    assert verify([], Head(2, "x")).problem == "the tail was cut: 0 records, anchored at 2"
