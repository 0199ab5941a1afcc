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
