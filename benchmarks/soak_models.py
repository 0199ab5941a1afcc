"""Make the versions that are released in the soak: two that are well, one whose process dies, one that fails.

    PYTHONPATH=runtime/src tests/notebooks/.venv/bin/python benchmarks/soak_models.py FOLDER

It leaves a package for each, 5,000 distinct rows as JSON, and what each version says of each row.
"""

import json
import sys
from pathlib import Path

import numpy as np
from flaky import LAST, Dying, Failing, Plain  # type: ignore[import-not-found]
from thirty import fitted, table  # type: ignore[import-not-found]

ROWS, TRAIN_ROWS = 5000, 3000


def make(folder: Path) -> None:
    """Write the packages, the rows and the predictions of each version."""
    from trilho_runtime.model.packing import package

    rng = np.random.default_rng(11)
    train = table(rng, TRAIN_ROWS)
    harmless = train[~(train["n23"] > LAST / 2)]
    models = [fitted(train, rng), fitted(table(rng, TRAIN_ROWS), rng), Dying(), Failing()]
    for number, model in enumerate(models, 1):
        sample = harmless if isinstance(model, Plain) else train
        package(model, sample, name="soak", target="bought", out=folder / "packages" / str(number))
    rows = table(rng, ROWS)
    rows["n00"] = np.arange(ROWS) / ROWS  # every row is another one
    records = [
        {name: None if value is None or value != value else value for name, value in record.items()}
        for record in rows.to_dict("records")
    ]
    calm = [Plain() if isinstance(model, Plain) else model for model in models]
    told = [model.predict_proba(rows)[:, 1].tolist() for model in calm]
    (folder / "rows.json").write_text(json.dumps(records))
    (folder / "expected.json").write_text(json.dumps(told))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
