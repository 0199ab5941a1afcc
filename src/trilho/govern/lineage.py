"""Where a version comes from and where it went: data, run, code, gate, approval, rollouts; read from the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from trilho.core.projection import ModelState
from trilho.govern.wording import count, duration, metric_name, moment, number


def lineage(state: ModelState, version: int) -> dict[str, Any]:
    """Give everything the journal knows about a version, as JSON values."""
    of = state.versions[version]
    data, run = state.datasets.get(of.dataset), state.runs.get(of.run)
    return {
        "version": version,
        "package": of.package,
        "created": of.created,
        "metric": of.metric,
        "metrics": of.metrics,
        "commit": of.commit,
        "data": {
            "dataset": of.dataset,
            "rows": data.rows if data else None,
            "served_rows": data.served_rows if data else None,
            "source": data.source if data else None,
            "first": data.first if data else None,
            "last": data.last if data else None,
            "until": of.data_until,
        },
        "run": {
            "id": of.run,
            "trigger": run.trigger if run else None,
            "actor": run.actor if run else None,
            "seconds": run.seconds if run else None,
        },
        "gate": _gate(state, version),
        "certificate": asdict(of.certified) if of.certified is not None else None,
        "approved_by": of.approved_by,
        "pinned": of.pinned,
        "rollouts": [
            {"started": x.started, "actor": x.actor, "why": x.why, "outcome": x.outcome or "under way", "note": x.note}
            for x in state.rollouts.values()
            if x.version == version
        ],
        "first_served": of.first_served,
        "incidents": [x.id for x in state.incidents.values() if x.version == version],
    }


def _gate(state: ModelState, version: int) -> dict[str, Any] | None:
    gate = state.versions[version].gate
    if gate is None:
        return None
    return {"verdict": gate.verdict, "champion": gate.champion, "evidence": gate.evidence}


def facts(found: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Give a lineage as names and values to read; None for what is not known."""
    data, run, gate = found["data"], found["run"], found["gate"]
    metrics = dict(found["metrics"])
    rows, main = metrics.pop("rows", None), metrics.pop(found["metric"], None)
    held_out = f"{metric_name(found['metric'])} {number(main)}" + (f" on {count(int(rows), 'row')}" if rows else "")
    return [
        ("held out", held_out),
        ("also", ", ".join(f"{metric_name(name)} {number(value)}" for name, value in metrics.items())),
        ("data", _data(data)),
        ("dataset", data["dataset"][:12]),
        ("run", _run(run)),
        ("commit", (found["commit"] or "not in a repository")[:12 if found["commit"] else None]),
        ("package", found["package"][:12]),
        ("gate", f"{gate['verdict']}: {gate['evidence'].get('reason', '')}" if gate else "not judged"),
        *(("", f"{mark(x)} {x['name']}: {x['note']}") for x in (gate["evidence"].get("checks", []) if gate else [])),
        *_certificate(found["certificate"]),
        ("approved by", found["approved_by"]),
        ("pinned", found["pinned"]),
        *(("rollout", f"{moment(x['started'])} by {x['actor']}: {x['outcome']}. {x['note'] or x['why']}".strip())
          for x in found["rollouts"]),
        ("first served", moment(found["first_served"]) if found["first_served"] else None),
        ("incidents", ", ".join(found["incidents"])),
    ]  # fmt: skip


def mark(check: Mapping[str, Any]) -> str:
    """Give the word that a check begins with; one that was judged before checks had a verdict has its `ok`.

    >>> mark({"ok": True, "verdict": "not enough data"}), mark({"ok": False})
    ('not enough data', 'fail')
    """
    return str(check.get("verdict") or ("pass" if check.get("ok") else "fail"))


def _certificate(found: Mapping[str, Any] | None) -> list[tuple[str, str | None]]:
    if found is None:
        return [("server", "not tried yet: trilho release starts and asks it before any traffic")]
    figures, machine = found["figures"], found["machine"]
    load = ", ".join(f"{x:g}" for x in machine.get("load", [])[:1])
    on = f"on {count(int(machine.get('cores') or 1), 'core')}" + (f" at a load of {load}" if load else "")
    return [
        ("server", f"{found['verdict']}: {found['reason']}; {moment(found['made'])} {on}"),
        *(("", f"{mark(x)} {x['name']}: {x['note']}") for x in found["checks"]),
        *(("", said) for said in (_server_figures(figures),) if said),
    ]


def _server_figures(figures: Mapping[str, Any]) -> str:
    alone, most = figures.get("alone") or {}, figures.get("most") or {}
    parts = [
        f"ready after {figures['start_seconds']:.1f} s" if figures.get("start_seconds") else "",
        f"{alone['p50_ms']:.3g} ms a row, 99 in 100 within {alone['p99_ms']:.3g} ms" if alone.get("p99_ms") else "",
        f"at most {most['rows_per_second']:.4g} rows/s by {most['callers']} callers" if most else "",
        f"{figures['memory_bytes'] / 1e6:.0f} MB" if figures.get("memory_bytes") else "",
    ]
    return "; ".join(part for part in parts if part)


def _data(data: Mapping[str, Any]) -> str:
    if data["rows"] is None:
        return "not known here"
    served = f", {count(data['served_rows'], 'of them served', 'of them served')}" if data["served_rows"] else ""
    span = f", {data['first'][:10]} to {data['last'][:10]}" if data["first"] and data["last"] else ""
    return f"{count(data['rows'], 'row')}{served}{span}, from {data['source']}"


def _run(run: Mapping[str, Any]) -> str:
    if run["trigger"] is None:
        return str(run["id"])
    return f"{run['id']}, for {run['trigger']}, by {run['actor']}, in {duration(run['seconds'])}"
