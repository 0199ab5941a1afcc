"""Frames of pandas and Arrow, in an interpreter that has them: each gives the profile of the same arrays."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from trilho.watch.tables.reference import Reference

rng = np.random.default_rng(0)
ROWS = 2000
when = pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 10**7, ROWS), unit="s")
frame = pd.DataFrame(
    {
        "x": rng.normal(size=ROWS),
        "whole": pd.array(rng.integers(0, 50, ROWS), dtype="Int64"),
        "color": rng.choice(["red", "green", "blue"], ROWS),
        "shade": pd.Categorical(rng.choice(["light", "dark"], ROWS)),
        "flag": rng.random(ROWS) < 0.5,
        "maybe": pd.array(rng.random(ROWS) < 0.5, dtype="boolean"),
        "at": when,
        "zoned": when.tz_localize("America/Sao_Paulo"),
        "note": [" ".join(rng.choice(["foo", "Bar", "baz"], 4)) + f" {k}" for k in range(ROWS)],
    }
)
for step, name in ((7, "x"), (5, "whole"), (9, "color"), (4, "shade"), (6, "maybe"), (11, "at"), (13, "note")):
    frame.loc[::step, name] = None


class Stream:
    """Anything that gives itself as an Arrow stream."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)


def main() -> None:
    """Compare each, and print the name of what agreed."""
    reference = Reference.fit(frame)
    assert len(reference.features) == 12, [f.name for f in reference.features]
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "frame.parquet")
        frame.to_parquet(path)
        sources = {
            "pandas": frame.sample(frac=1, random_state=1),
            "arrow": table,
            "batch": table.to_batches()[0],
            "relation": duckdb.connect().from_arrow(table),
            "parquet": path,
            "polars-like": Stream(table),
        }
        wanted = {f.name: f.inside.tolist() for f in reference.features}
        for name, data in sources.items():
            found = {key: counts.tolist() for key, counts in reference.profile(data).items()}
            assert found == wanted, (name, {k: (found[k], wanted[k]) for k in wanted if found[k] != wanted[k]})
            print(name)  # noqa: T201
    apart = pa.table({"x": pa.array([float("nan"), None, float("inf")]), "flag": pa.array([None, True, False])})
    told = dict(zip(reference.features[0].labels, reference.profile(apart)["x"].tolist(), strict=True))
    assert (told["nan"], told["null"], told["infinite"]) == (1, 1, 1)


if __name__ == "__main__":
    main()
