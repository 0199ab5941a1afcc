"""What every living model, as it is at the end, predicts for the rows that it was fitted to or asked about."""

from __future__ import annotations

import os
import sys
from typing import Any

from .digests import Digester
from .events import Events
from .objects import unwrapped
from .values import full_name, kind_of

METHODS = ("predict_proba", "predict")
MANY = 20
ROUNDS = ("iteration_range", "ntree_limit", "num_iteration", "start_iteration", "validate_features")


def golden(events: Events, scratch: str) -> list[dict[str, Any]]:
    """Ask each object again, and keep its answers."""
    found: list[dict[str, Any]] = []
    os.makedirs(os.path.join(scratch, "values"), exist_ok=True)
    last = {fit["object"]: fit["id"] for fit in events.fits}
    wanted = [("fit", number, fit) for fit, number in ((events.fits[i], i) for i in sorted(last.values()))]
    wanted += [("predict", ask["id"], ask) for ask in events.predicts]
    for event, number, record in wanted:
        thing = events.objects.alive[record["object"]]()
        X, keywords, rows = events.asked.get((event, number), (None, {}, None))
        if thing is None or X is None or _is_changed(X, record["X"]):
            continue
        keywords = keywords or (_rounds(events, record["object"]) if event == "fit" else {})
        for method in METHODS:
            told = keywords if method == record.get("method", "predict") else {}
            values = _ask(thing, method, X, told, events)
            if values is not None:
                found.append(_kept(event, number, record["object"], method, values, rows, events, scratch))
    return found


def _rounds(events: Events, thing: int) -> dict[str, Any]:
    """Give which of a booster's rounds the notebook asked it with at last: a fit's rows are asked with the same."""
    asked = [ask["id"] for ask in events.predicts if ask["object"] == thing and ask["method"] == "predict"]
    keywords = events.asked.get(("predict", asked[-1]), (None, {}, None))[1] if asked else {}
    return {key: value for key, value in keywords.items() if key in ROUNDS}


def _is_changed(X: Any, argument: Any) -> bool:
    return bool(argument and argument["value"].get("digest") not in ("", None, Digester().of(X)[0]))


def _ask(thing: Any, method: str, X: Any, keywords: dict[str, Any], events: Events) -> Any:
    np = sys.modules.get("numpy")
    if np is None or not callable(getattr(thing, method, None)):
        return None
    try:
        values = np.asarray(getattr(thing, method)(_dataset(thing, X, events), **keywords))
    except Exception:  # noqa: BLE001  a model that was refitted to other columns can't be asked
        return None
    return values if values.ndim and values.dtype.kind in "biufUOSM" else None


def _dataset(thing: Any, X: Any, events: Events) -> Any:
    if kind_of(thing) != "booster" or not type(thing).__module__.startswith("xgboost"):
        return X
    if kind_of(X) == "dataset":
        return X
    made = next((made for dataset, made in events.made.values() if made.X is X), None)
    keywords = (
        {key: value for key, value in made.others.items() if key not in ("weight", "base_margin", "ref")}
        if made
        else {}
    )
    make = made.make if made else sys.modules["xgboost"].DMatrix
    return make(X, **keywords)


def _kept(event: str, number: int, thing: int, method: str, values: Any, rows: Any, events: Events,
          scratch: str) -> dict[str, Any]:  # fmt: skip
    np = sys.modules["numpy"]
    name = os.path.join("values", f"golden-{event}-{number}-{method}")
    if values.dtype.hasobject:
        values = values.astype(str)
    np.save(os.path.join(scratch, name + ".npy"), values)
    told = {"object": thing, "event": event, "id": number, "method": method, "rows": len(values),
            "file": name + ".npy", "positions": "", "read": None}  # fmt: skip
    positions = events.book.positions(rows, len(values)) if rows is not None else None
    if positions is not None:
        np.save(os.path.join(scratch, name + "-positions.npy"), positions)
        told.update(positions=name + "-positions.npy", read=rows.read)
    return told


def describe_objects(events: Events, names: dict[str, Any], scratch: str) -> list[dict[str, Any]]:
    """Describe each estimator and booster that is alive."""
    found = []
    os.makedirs(os.path.join(scratch, "objects"), exist_ok=True)
    for number in sorted(events.objects.alive):
        thing = events.objects.alive[number]()
        if thing is None:
            continue
        found.append({
            "id": number, "type": full_name(type(thing)),
            "names": [name for name in names if unwrapped(names[name]) is thing],
            "parameters": _parameters(thing), "classes": _listed(getattr(thing, "classes_", None), repr),
            "features": _features(thing), "parts": _parts(thing, events),
            "file": events.store.write_pickle(thing, os.path.join("objects", f"{number}.pkl")),
        })  # fmt: skip
    return found


def _parameters(thing: Any) -> dict[str, str]:
    try:
        return {str(key): repr(value)[:500] for key, value in thing.get_params(deep=False).items()}
    except Exception:  # noqa: BLE001  boosters and others have no parameters to give
        return {}


def _listed(values: Any, shown: Any) -> list[str] | None:
    try:
        return [shown(value.item() if hasattr(value, "item") else value) for value in values]
    except TypeError:
        return None


def _features(thing: Any) -> list[str] | None:
    for name in ("feature_names_in_", "feature_names", "feature_name"):
        try:
            value = getattr(thing, name, None)
            value = value() if callable(value) else value
        except Exception:  # noqa: BLE001, S112  some raise before they are fitted
            continue
        if value is not None:
            return _listed(value, str)
    return None


def _parts(thing: Any, events: Events) -> list[int]:
    """Number the estimators inside: a pipeline's steps, a search's best."""
    found: list[Any] = []
    waiting = list(getattr(thing, "__dict__", {}).values())
    for value in waiting:
        if isinstance(value, (list, tuple)) and len(value) <= MANY:
            waiting.extend(value)
        elif isinstance(value, dict) and len(value) <= MANY:
            waiting.extend(value.values())
        elif kind_of(value) in ("estimator", "booster") and not any(value is other for other in found):
            found.append(value)
    return [events.objects.number(value) for value in found]
