"""A table of scores: what each version said of each date, and which of it is served.

    TABLE/version=3/date=2026-01-05/part-00000.parquet   what version 3 said: all rows of the date
    TABLE/current/date=2026-01-05/...                     what is served: the same files, or each cohort's
    TABLE/table.json                                      which is which, and what it was made from

`current` is a link that is put in place at once, so that whoever reads it sees one state or the other. A rollback
changes what it links to, and computes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trilho.core.files import write_whole
from trilho.core.lease import Lease
from trilho.data.tables import database, text
from trilho.errors import ConfigError, DataError
from trilho.serve.batch.cohort import bounds
from trilho.serve.exchange import exchange

SCHEMA = 1
FILE = "table.json"
CURRENT = "current"
TREES = ".tables"
DRAFTS = ".drafts"
LINK_SECONDS = 5.0
TREES_KEPT = 2  # whoever reads the one before may finish


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What one version said of one date."""

    rows: int
    fingerprint: str  # of the rows, the package and the decision
    identity: str  # what names the rows' predictions
    decision: int | None
    undecided: int
    at: str  # when it was scored
    seconds: float
    files: list[str]


@dataclass
class Date:
    """A date's scores by version, and the share of its rows that each version's are served for."""

    versions: dict[int, Scored] = field(default_factory=dict)
    served: dict[int, int] = field(default_factory=dict)
    linked: dict[int, str] = field(default_factory=dict)  # fingerprints of what readers find

    def fingerprints(self, served: Iterable[int]) -> dict[int, str]:
        """Give what is known of versions' rows now."""
        return {version: self.versions[version].fingerprint for version in served if version in self.versions}


class ScoreTable:
    """A table of scores in a folder. One process at a time writes it; any number read it."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder = folder
        self.model = model
        self._lease = Lease(folder / ".lease", f"{folder} is being written")
        self.dates: dict[str, Date] = {}
        self._due: dict[str, Mapping[int, int]] = {}
        self._linked = 0.0

    def open(self) -> ScoreTable:
        """Take the table for writing and read what it has. Raises Unreachable while another process writes it."""
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"--to {self.folder} is a file; a table of scores is a folder", hint="name another place")
        there = self.folder.exists() and any(x for x in self.folder.iterdir() if not x.name.startswith("."))
        if there and not (self.folder / FILE).exists():
            raise ConfigError(
                f"--to {self.folder} is a folder that holds other things; allowed: a new folder or a table of scores",
                hint="name another place",
            )
        self._lease.take()
        self.read()
        return self

    def close(self) -> None:
        """Put in place what is to be served, and let others write."""
        try:
            self.flush()
        finally:
            self._lease.release()

    def read(self) -> None:
        """Read what the table has."""
        try:
            data = json.loads((self.folder / FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder / FILE}: {error}", hint="restore it, or score into another table") from None
        if data["schema"] != SCHEMA:
            raise DataError(
                f"{self.folder / FILE}: schema {data['schema']}; this trilho reads {SCHEMA}", hint="upgrade"
            )
        if data["model"] != self.model:
            raise ConfigError(
                f"--to {self.folder} holds scores of {data['model']}, not of {self.model}", hint="name another table"
            )
        for name, told in data["dates"].items():
            versions = {int(number): Scored(**scored) for number, scored in told["versions"].items()}
            linked = {int(number): fingerprint for number, fingerprint in told.get("linked", {}).items()}
            self.dates[name] = Date(versions, {int(n): share for n, share in told["served"].items()}, linked)

    def draft(self, version: int, date: str, fingerprint: str) -> Path:
        """Give the folder in which a date's parts are gathered; those of another fingerprint are removed."""
        place = self.folder / DRAFTS / f"version={version}" / date
        for other in place.glob("*") if place.exists() else ():
            if other.name != fingerprint:
                shutil.rmtree(other, ignore_errors=True)
        (place / fingerprint).mkdir(parents=True, exist_ok=True)
        return place / fingerprint

    def keep(self, version: int, date: str, draft: Path, scored: Scored) -> None:
        """Put a whole date of a version in its place; what is served does not change yet."""
        for told in draft.glob("*.told"):
            told.unlink()
        place = self.folder / f"version={version}" / f"date={date}"
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            exchange(place, draft)  # at no moment is there none: another date's run links all dates anew
        else:
            draft.rename(place)
        self.dates.setdefault(date, Date()).versions[version] = scored
        self._write()
        shutil.rmtree(draft, ignore_errors=True)

    def serve(self, shares: Mapping[str, Mapping[int, int]], *, soon: bool = False) -> None:
        """Say for dates which versions' rows are served, and put that in place at once.

        With `soon` it may take a few seconds more, until a date after it or `close`: in a backfill of a year each date
        would link all those before it anew.
        """
        self._due.update(shares)
        if not soon or time.monotonic() - self._linked > LINK_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Put in place what is to be served."""
        if not self._due:
            return
        for date, served in self._due.items():
            self.dates[date].served = dict(served)
        self._link()
        for one in self.dates.values():
            one.linked = one.fingerprints(one.served)
        self._write()
        self._due, self._linked = {}, time.monotonic()

    def files(self, version: int, date: str) -> list[Path]:
        """Give the files that hold what a version said of a date."""
        return sorted((self.folder / f"version={version}" / f"date={date}").glob("*.parquet"))

    def served(self, date: str) -> Mapping[int, int]:
        """Give the share of a date's rows that each version's are served for, now or in a moment."""
        return self._due.get(date, self.dates[date].served)

    def in_place(self, date: str, served: Mapping[int, int]) -> bool:
        """Say whether readers find just that, or will in a moment: a run that was killed may have kept it only."""
        one = self.dates[date]
        return self.served(date) == served and (date in self._due or one.linked == one.fingerprints(served))

    def served_files(self, date: str) -> list[tuple[Path, float, float]]:
        """Give the files whose rows are served on a date, and which places of the cohort each serves: from, up to."""
        shares = bounds(self.served(date))
        return [(file, low, high) for version, (low, high) in shares.items() for file in self.files(version, date)]

    def sweep(self) -> None:
        """Remove what killed runs left."""
        shutil.rmtree(self.folder / DRAFTS, ignore_errors=True)

    def _write(self) -> None:
        dates = {
            name: {"versions": {str(n): asdict(s) for n, s in date.versions.items()}, "served": date.served,
                   "linked": date.linked}
            for name, date in sorted(self.dates.items())
        }  # fmt: skip
        data = {"schema": SCHEMA, "model": self.model, "dates": dates}
        write_whole(self.folder / FILE, json.dumps(data, indent=1))

    def _link(self) -> None:
        """Build the tree of what is served beside the one that is read, then put it in its place."""
        tree = self.folder / TREES / uuid.uuid4().hex[:12]
        for name, date in self.dates.items():
            place = tree / f"date={name}"
            place.mkdir(parents=True)
            if len(date.served) == 1:
                (version,) = date.served
                self._link_files(version, name, place)
            elif date.served:
                self._mix(date.served, name, place)
        tree.mkdir(parents=True, exist_ok=True)
        link = self.folder / f".{CURRENT}.{uuid.uuid4().hex[:8]}"
        link.symlink_to(tree.relative_to(self.folder), target_is_directory=True)
        link.replace(self.folder / CURRENT)
        trees = sorted((self.folder / TREES).iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for old in [path for path in trees if path != tree][: -(TREES_KEPT - 1) or None]:
            shutil.rmtree(old, ignore_errors=True)

    def _link_files(self, version: int, date: str, place: Path) -> None:
        for file in self.files(version, date):
            target = place / f"version-{version}-{file.name}"
            try:
                os.link(file, target)
            except OSError:  # a file system without links
                shutil.copyfile(file, target)

    def _mix(self, served: Mapping[int, int], date: str, place: Path) -> None:
        """Write each cohort's rows, from the version that answers it."""
        with database() as connection:
            for version, (low, high) in bounds(served).items():
                files = text(str(self.folder / f"version={version}" / f"date={date}" / "*.parquet"))
                chosen = f"SELECT * FROM read_parquet({files}, hive_partitioning = false)"  # noqa: S608
                query = f"{chosen} WHERE _cohort >= {low!r} AND _cohort < {high!r}"
                target = text(place / f"version-{version}-cohort.parquet")
                connection.execute(f"COPY ({query}) TO {target} (FORMAT parquet)")


def shares_after_rollback(
    dates: Mapping[str, Date], bad: int, good: int
) -> tuple[dict[str, dict[int, int]], list[str]]:
    """Say what dates serve once a version is rolled back, and which have no scores of the good one.

    >>> one = Scored(rows=1, fingerprint="", identity="", decision=None, undecided=0, at="", seconds=0, files=[])
    >>> days = {"d1": Date({1: one, 2: one}, {2: 100}), "d2": Date({2: one}, {2: 100}), "d3": Date({}, {1: 100})}
    >>> shares_after_rollback(days, bad=2, good=1)
    ({'d1': {1: 100}}, ['d2'])
    """
    affected = {name: date for name, date in dates.items() if bad in date.served}
    back: dict[str, dict[int, int]] = {name: {good: 100} for name, date in affected.items() if good in date.versions}
    return back, sorted(affected.keys() - back.keys())


def describe(table: ScoreTable) -> list[dict[str, Any]]:
    """Give the table's dates, newest first, as `trilho score --json` shows them."""
    return [
        {"date": name, "served": date.served, "rows": {n: s.rows for n, s in date.versions.items()}}
        for name, date in sorted(table.dates.items(), reverse=True)
    ]
