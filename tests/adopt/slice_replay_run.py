"""Runs a crude package in the notebook's interpreter: `python slice_replay_run.py FOLDER`."""

import contextlib
import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

warnings.filterwarnings("ignore")
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
facts = json.loads((folder / "facts.json").read_text())
scratch = Path(facts["scratch"])
package = facts["package"]
modules = {
    name: importlib.import_module(f"{package}.{name}")
    for name in ("load", "fit", "predict")
    if (folder / package / f"{name}.py").exists()
}
with contextlib.redirect_stdout(sys.stderr):
    table = modules["load"].load(Path(facts["read"]))
    target = table[facts["target"]]
    rows = table.drop(columns=facts["target"])
    labels = table.index  # load may drop rows without a target; a row keeps the label that says its place in the read
    golden = facts["golden"]
    fitted = next((g for g in golden if g["event"] == "fit" and g["id"] == facts["fit"] and g["positions"]), None)
    places = np.load(scratch / fitted["positions"]) if fitted else np.arange(len(rows))
    places = labels.get_indexer(places) if fitted and labels.is_unique else places
    places = places if not facts["split_in_fit"] and facts["form"] != "whole" else np.arange(len(rows))
    fit, predict = modules["fit"].fit, modules["predict"].predict
    if facts["form"] == "features":
        build = importlib.import_module(f"{package}.features").build
        model = fit(build(rows).iloc[places], target.iloc[places])
    else:
        model = fit(rows.iloc[places], target.iloc[places])
    found: dict[str, Any] = {"compared": [], "metrics": {}}
    everything = np.full(len(rows), np.nan) if facts["form"] != "whole" else None
    asked = sorted(
        {int(i) for g in golden if g["positions"] for i in labels.get_indexer(np.load(scratch / g["positions"]))}
    )
    if everything is not None and asked:
        everything[asked] = np.asarray(predict(model, rows.iloc[asked]), dtype=float)
    if everything is None and fitted is not None:
        wanted = np.load(scratch / fitted["file"], allow_pickle=True)
        wanted = wanted[:, 1] if wanted.ndim == 2 and wanted.shape[1] == 2 else wanted.reshape(-1)
        mine = np.asarray(predict(model, rows), dtype=float)
        same = len(mine) == len(wanted)
        found["whole"] = float(np.abs(mine - wanted).max()) if same else f"{len(mine)} rows, not {len(wanted)}"
    for one in golden:
        wanted = np.load(scratch / one["file"], allow_pickle=True)
        if wanted.dtype.kind not in "fiub":
            continue
        kind = "predict_proba" if facts["task"] == "classification" and wanted.ndim == 2 else one["method"]
        wanted = wanted[:, 1] if wanted.ndim == 2 and wanted.shape[1] == 2 else wanted.reshape(-1)
        if not one["positions"] or everything is None:
            continue
        at = labels.get_indexer(np.load(scratch / one["positions"]))
        mine = everything[at]
        with np.errstate(all="ignore"):
            difference = float(np.nanmax(np.abs(mine - wanted)))
            logged = float(np.nanmax(np.abs(mine - np.expm1(wanted))))
        found["compared"].append([one["event"], one["id"], kind, len(at), difference, logged])
    if everything is not None and asked and not facts["lags"]:
        sample = asked[:: max(1, len(asked) // 15)]
        alone = np.array([float(np.asarray(predict(model, rows.iloc[[i]]))[0]) for i in sample])
        found["alone"] = float(np.nanmax(np.abs(alone - everything[sample])))
    if (folder / package / "evaluate.py").exists():
        evaluate = importlib.import_module(f"{package}.evaluate").evaluate
        got = evaluate(rows, target)
        found["metrics"] = {name: [float(got[name]), value] for name, value in facts["metrics"].items() if name in got}
sys.stdout.write(json.dumps(found) + "\n")
