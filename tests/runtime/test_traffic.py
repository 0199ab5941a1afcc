from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest

from trilho_runtime.routing.traffic import Counts, Route, Routes, RoutesError, Split, read_routes


def split(*shares: float) -> Split:
    return Split(tuple(Route(n, f"http://127.0.0.1:{n}", share) for n, share in enumerate(shares, 1)))


def chosen(of: Split, number: int, **how: object) -> list[int]:
    routes = [of.choose(**how) for _ in range(number)]  # type: ignore[arg-type]
    return [route.version for route in routes if route is not None]


def test_shares_are_exact_and_spread_evenly() -> None:
    versions = chosen(split(90, 10), 100)
    assert versions.count(2) == 10
    gaps = [index for index, version in enumerate(versions) if version == 2]
    assert {b - a for a, b in pairwise(gaps)} == {10}


def test_a_version_without_share_gets_nothing_and_no_version_is_none() -> None:
    assert set(chosen(split(100, 0), 50)) == {1}
    assert split().choose() is None
    assert split(100).choose(avoid={1}) is None


def test_what_is_avoided_leaves_its_share_to_the_others() -> None:
    assert chosen(split(50, 30, 20), 10, avoid={1}).count(2) == 6


def test_new_addresses_do_not_start_the_count_again() -> None:
    first = split(90, 10)
    versions = []
    for port in range(100):
        first = Split((Route(1, f"http://a:{port}", 90), Route(2, f"http://b:{port}", 10)), first)
        versions += chosen(first, 1)
    assert versions.count(2) == 10


def test_a_key_keeps_its_version_while_the_newest_one_grows() -> None:
    keys = [f"customer-{n}" for n in range(2000)]

    def on_two(share: float) -> set[str]:
        of = split(100 - share, share)
        return {key for key in keys for route in [of.choose(key)] if route and route.version == 2}

    ten, fifty, all_of_them = on_two(10), on_two(50), on_two(100)
    assert ten < fifty < all_of_them == set(keys)
    assert 0.07 < len(ten) / len(keys) < 0.13
    assert on_two(10) == ten


def test_shares_are_kept_whatever_the_shares_are() -> None:
    rng = random.Random(3)
    for _ in range(30):
        shares = [rng.randint(1, 100) for _ in range(rng.randint(1, 5))]
        versions = chosen(split(*shares), sum(shares))
        assert [versions.count(n) for n in range(1, len(shares) + 1)] == shares


GOOD = {
    "schema": 1,
    "model": "m",
    "generation": 4,
    "versions": [{"version": 2, "address": "http://127.0.0.1:80", "share": 100}],
}


def test_routes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    path.write_text(json.dumps(GOOD))
    assert read_routes(path) == Routes("m", 4, (Route(2, "http://127.0.0.1:80", 100.0),))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"versions": None},
        {"versions": [{"version": 1}]},
        {"versions": [{"version": 1, "address": "https://x:1", "share": 1}]},
        {"versions": [{"version": 1, "address": "http://x", "share": 1}]},
        {"versions": [{"version": 1, "address": "http://x:1", "share": -1}]},
        {"versions": [{"version": 1, "address": "http://x:1", "share": 101}]},
        {"generation": "x"},
        {"shadow": {"version": 1}},
        {"edges": ["x"]},
    ],
)
def test_malformed_routes_are_refused_with_the_file_named(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "routes.json"
    path.write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(RoutesError, match=r"routes\.json: "):
        read_routes(path)


def test_what_a_routes_file_need_not_say_is_read_where_it_does(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    shadow = {"version": 3, "address": "http://127.0.0.1:81", "share": 20}
    more = {"shadow": shadow, "sticky": "shop", "fields": ["x"], "slices": ["origin"], "edges": [1, 2.5], "new": [1]}
    path.write_text(json.dumps({**GOOD, **more}))
    routes = read_routes(path)
    assert routes.shadow == Route(3, "http://127.0.0.1:81", 20.0)
    assert (routes.sticky, routes.fields, routes.slices, routes.edges) == ("shop", ("x",), ("origin",), (1.0, 2.5))
    path.write_text(json.dumps({**GOOD, "shadow": None, "sticky": None}))
    assert (read_routes(path).shadow, read_routes(path).sticky) == (None, None)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_file_that_holds_no_routes_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "routes.json"
    path.write_text(text)
    with pytest.raises(RoutesError):
        read_routes(path)
    with pytest.raises(RoutesError, match="No such file"):
        read_routes(tmp_path / "absent.json")


def test_counts_say_what_came_of_each_version() -> None:
    counts = Counts()
    counts.of(1).requests += 2
    counts.of(1).latency.add(0.0012)
    data = counts.to_json(Routes("m", 7))
    assert (data["model"], data["generation"], data["labels"], data["failed"]) == ("m", 7, 0, 0)
    assert data["versions"]["1"]["requests"] == 2
    latency = data["versions"]["1"]["latency"]
    assert latency["counts"][latency["edges_ms"].index(1.5)] == 1
    assert len(latency["counts"]) == len(latency["edges_ms"]) + 1
