"""Run a notebook's cells plainly in its interpreter, and keep what a capture would: rows, X, golden predictions."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def main(notebook: str, scratch: str, frame: str, made: str, ask: str) -> None:
    os.environ["MPLBACKEND"] = "Agg"
    cells = json.loads(Path(notebook).read_bytes())["cells"]
    os.chdir(Path(notebook).parent)
    space: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(sys.stderr):
        for cell in cells:
            if cell["cell_type"] == "code":
                lines = "".join(cell["source"]).splitlines()
                exec("\n".join(line for line in lines if not line.startswith("%")), space)
    import numpy as np

    values = Path(scratch) / "values"
    values.mkdir(parents=True, exist_ok=True)
    X = eval(made, space)
    whole = X.copy(deep=False)
    whole.insert(0, "__index__", X.index)
    whole.reset_index(drop=True).to_parquet(values / "X.parquet", index=False)
    np.save(values / "golden.npy", np.asarray(eval(ask, space)))
    np.save(values / "positions.npy", X.index.to_numpy(dtype=np.int64))
    table = space[frame]
    json.dump({"columns": list(X.columns), "raw": list(table.columns), "dtypes": [str(t) for t in table.dtypes],
               "rows": len(table), "medians": repr({k: float(v) for k, v in space.get("MEDIANS", {}).items()})},
              sys.stdout)  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
