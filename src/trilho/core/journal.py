"""The journal's envelope and its chain: what is hashed, and how a break is found.

A record is one CloudEvents 1.0 event in JSON. The text that was hashed is what is stored, byte for byte, so that
no later version of a JSON library can break the chain. A chain shows a changed, missing or reordered record; that
its tail was cut shows only against a head that was kept elsewhere.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from trilho.core.records import PAYLOADS, Payload, decode, encode

GENESIS = "0" * 64
SOURCE = "trilho"


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the journal. `payload` is None when a newer trilho wrote a kind this one does not know."""

    seq: int
    id: str
    time: str
    actor: str
    type: str
    subject: str
    data: dict[str, Any]
    payload: Payload | None
    previous: str
    hash: str
    text: str


@dataclass(frozen=True, slots=True)
class Head:
    """The newest record's position and hash; `seq` 0 with the genesis hash when there is none."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


@dataclass(frozen=True, slots=True)
class Proof:
    """What a verification found: `problem` is None when the chain holds."""

    records: int
    head: Head
    problem: str | None
    proven: int | None = None
    """Up to here no record was cut off or rewritten, as a head kept elsewhere shows; None without one."""

    @property
    def tail_proven(self) -> bool:
        """Whether the anchor is the newest record: what came after an older one may have been cut off."""
        return self.proven == self.head.seq


def now() -> str:
    """Give the present moment in UTC, ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def whoami() -> str:
    """Name the person or service that acts: TRILHO_ACTOR, else the login name."""
    named = os.environ.get("TRILHO_ACTOR")
    if named:
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        return f"uid {os.getuid()}"


def seal(payload: Payload, *, previous: str, actor: str, time: str) -> tuple[str, str]:
    """Give the text of a new record and its hash, chained to the hash before it."""
    event = {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "source": SOURCE,
        "type": f"dev.trilho.{payload.type}.v{payload.version_of_schema}",
        "subject": payload.model,
        "time": time,
        "actor": actor,
        "previous": previous,
        "data": encode(payload),
    }
    text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text, digest_of(text)


def digest_of(text: str) -> str:
    """Hash a record's text (SHA-256, which covers the hash before it since the text names it)."""
    return hashlib.sha256(text.encode()).hexdigest()


def unseal(seq: int, text: str, hash_: str) -> Record:
    """Read a stored text back into a record."""
    event = json.loads(text)
    name, _, version = event["type"].removeprefix("dev.trilho.").rpartition(".v")
    known = name in PAYLOADS and int(version) <= PAYLOADS[name].version_of_schema
    return Record(
        seq=seq,
        id=event["id"],
        time=event["time"],
        actor=event["actor"],
        type=name,
        subject=event["subject"],
        data=event["data"],
        payload=decode(name, int(version), event["data"]) if known else None,
        previous=event["previous"],
        hash=hash_,
        text=text,
    )


def verify(rows: Iterable[tuple[int, str, str]], anchor: Head | None = None) -> Proof:
    """Walk stored (seq, text, hash) rows in order and say what, if anything, is broken.

    `anchor` is a head kept outside the journal: with it a cut tail is found; without it the tail is unproven.
    """
    head, problem, met = Head(0, GENESIS), None, anchor is None or anchor.seq == 0
    for seq, text, hash_ in rows:
        problem = _broken_link(head, seq, text, hash_)
        if problem:
            break
        head = Head(seq, hash_)
        if anchor is not None and seq == anchor.seq:
            if hash_ != anchor.hash:
                problem = f"record {seq} is not the one that was anchored: {hash_[:12]}, anchored {anchor.hash[:12]}"
                break
            met = True
    if problem is None and not met and anchor is not None:
        problem = f"the tail was cut: {head.seq} records, anchored at {anchor.seq}"
    proven = anchor.seq if anchor is not None and problem is None else None
    return Proof(head.seq, head, problem, proven)


def _broken_link(head: Head, seq: int, text: str, hash_: str) -> str | None:
    if seq != head.seq + 1:
        return f"record {head.seq + 1} is missing: {seq} follows {head.seq}"
    if digest_of(text) != hash_:
        return f"record {seq} was changed: its text does not match its hash"
    if json.loads(text)["previous"] != head.hash:
        return f"record {seq} does not follow record {head.seq}: the link is broken"
    return None


def payloads(records: Iterable[Record]) -> Iterator[tuple[Record, Payload]]:
    """Pair each record this trilho understands with its payload."""
    for record in records:
        if record.payload is not None:
            yield record, record.payload
