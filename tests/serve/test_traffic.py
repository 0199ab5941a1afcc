"""Counts of answers, added up over restarts of the router and since a share began."""

from __future__ import annotations

from typing import Any

import pytest

from trilho.serve.traffic import Traffic, quantile


def stats(started: str, **requests: int) -> dict[str, Any]:
    return {
        "started": started,
        "versions": {
            name.removeprefix("v"): {
                "requests": n,
                "rows": 2 * n,
                "errors": n // 10,
                "refused": n // 5,
                "latency": {"edges_ms": [1.0, 2.0], "counts": [n, 0, 0]},
            }
            for name, n in requests.items()
        },
    }


def test_differences_add_up_over_router_restarts() -> None:
    traffic = Traffic()
    traffic.update(stats("a", v1=5))
    traffic.update(stats("a", v1=7))
    traffic.update(stats("b", v1=2, v2=1))
    assert {n: count.requests for n, count in traffic.total.items()} == {1: 9, 2: 1}
    shown = traffic.stats(traffic.total)[1]
    assert (shown.requests, shown.errors, shown.rows) == (9, 0, 18)
    assert shown.p95_ms == pytest.approx(0.95)


def test_counts_since_a_share_begin_anew_with_it_only() -> None:
    traffic = Traffic()
    traffic.restart("o1 10")
    traffic.update(stats("a", v1=5))
    traffic.restart("o1 10")
    traffic.update(stats("a", v1=8))
    assert traffic.since[1].requests == 8
    traffic.restart("o1 50")
    assert traffic.since == {}
    traffic.update(stats("a", v1=9))
    assert (traffic.since[1].requests, traffic.total[1].requests) == (1, 9)


def test_a_restarted_supervisor_goes_on_from_its_memory() -> None:
    traffic = Traffic()
    traffic.restart("o1 10")
    traffic.update(stats("a", v1=5))
    again = Traffic.from_memory(traffic.memory())
    again.restart("o1 10")
    again.update(stats("b", v1=2))
    assert again.since[1].requests == 7
    assert again.stats(again.since)[1].p95_ms == pytest.approx(0.95)


def test_quantiles_of_buckets() -> None:
    assert quantile([1.0, 2.0], [], 0.95) is None
    assert quantile([1.0, 2.0], [0, 0, 0], 0.95) is None
    assert quantile([1.0, 2.0], [50, 50, 0], 0.5) == 1.0
    assert quantile([1.0, 2.0], [0, 0, 10], 0.95) == 2.0  # at least


def unseen(requests: int, **more: Any) -> dict[str, Any]:
    hist = {"edges_ms": [1.0, 2.0], "counts": [requests, 0, 0]}
    counts = {"requests": requests, "rows": requests, "sum": 0.5 * requests, "moved": requests, "slow": [requests]}
    slices = {"a=1": {"rows": requests, "disagreements": 1, "sum": 1.0}}
    return {**counts, "slices": slices, "latency": hist, "champion_latency": hist, "worst": [], "edges_ms": [], **more}


def test_what_was_asked_unseen_adds_up_over_restarts_and_begins_anew_with_each_part() -> None:
    traffic = Traffic()
    traffic.restart("o1 0")
    worst = [{"id": "a", "difference": -3.0}, {"id": "b", "difference": 1.0}]
    traffic.update({**stats("a", v1=5), "shadow": {"2": unseen(3, worst=worst)}})
    traffic.update({**stats("a", v1=7), "shadow": {"2": unseen(4, worst=worst)}})
    again = Traffic.from_memory(traffic.memory())
    again.restart("o1 0")
    again.update({**stats("b"), "shadow": {"2": unseen(2, worst=[{"id": "c", "difference": 9.0}])}})
    found = again.shadow(2)
    assert (found.requests, found.rows, found.sum, found.moved, found.slow) == (6, 6, 3.0, 6, [6])
    assert found.slices == {"a=1": {"rows": 6, "disagreements": 2, "sum": 2.0}}
    assert [row["id"] for row in found.worst] == ["c", "a", "b"]
    assert found.p95_ms == pytest.approx(0.95)
    again.restart("o1 10")
    assert again.shadow(2).requests == 0


def test_scores_add_up_as_other_counts_do() -> None:
    traffic = Traffic()
    told = stats("a", v1=2)
    told["versions"]["1"]["scores"] = {"3": 2}
    traffic.update(told)
    told["versions"]["1"]["scores"] = {"3": 3, "=x": 1}
    traffic.update(told)
    assert traffic.stats(traffic.since)[1].scores == {"3": 3, "=x": 1}
