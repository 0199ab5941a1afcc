"""What the comparison with other products' servers is put together from: nothing is installed or started here."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from benchmarks.servers import asking, comparing, environments, products, running
from benchmarks.servers.comparing import ASKED, Entry, Seen
from benchmarks.servers.products import PRODUCTS, Place
from benchmarks.servers.running import Running

TYPES = {"a": "float64", "c": "str"}
ROWS: list[Mapping[str, object]] = [{"a": 1.5, "c": None}, {"a": None, "c": "x"}]


def _run(body: str, expected: float) -> AbstractContextManager[Running]:
    raise AssertionError("nothing is started here")


def _seen(rate: float) -> Seen:
    return Seen(
        dict.fromkeys(ASKED, rate), dict.fromkeys(ASKED, 1000 / rate), dict.fromkeys(ASKED, 1e6 / rate), 0.5, 70.0, 500
    )


@pytest.mark.parametrize("module", [asking, environments, products, running])
def test_the_examples_hold(module: object) -> None:
    failed, tried = doctest.testmod(module)  # type: ignore[arg-type]
    assert (failed, tried > 0) == (0, True)


def test_a_tensor_request_has_a_column_each_and_keeps_its_nulls() -> None:
    body = products.tensors(ROWS, TYPES)
    assert [(each["name"], each["datatype"], each["shape"], each["data"]) for each in body["inputs"]] == [
        ("a", "FP64", [2, 1], [1.5, None]),
        ("c", "BYTES", [2, 1], [None, "x"]),
    ]
    assert body["outputs"] == [{"name": "predict_proba"}]


@pytest.mark.parametrize("cut", [10, 40, 75, 80])
def test_an_answer_is_whole_only_at_its_end(cut: int) -> None:
    data = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n5\r\n": 1}\r\n0\r\n\r\n'
    assert asking.whole(data) == (200, b'{"a": 1}')
    assert asking.whole(data[: min(cut, len(data) - 1)]) is None


def test_every_product_has_a_name_of_its_own_and_is_told_its_port(tmp_path: Path) -> None:
    place = Place(tmp_path / "bin", tmp_path, tmp_path, (4001, 4002, 4003))
    assert len({each.name for each in PRODUCTS}) == len(PRODUCTS)
    for product in PRODUCTS:
        product.prepare(place)
        told = " ".join(product.start(place)) + "".join(p.read_text() for p in tmp_path.glob("*.json"))
        assert "4001" in told, product.name


def test_ratios_are_ours_to_theirs_of_the_same_round() -> None:
    entries = [Entry("trilho", "here", _run), Entry("other", "1.2", _run)]
    seen = {"trilho": [_seen(1000), _seen(4000), _seen(2000)], "other": [_seen(100), _seen(100), _seen(200)]}
    first = comparing.figures(entries, seen)[0]
    assert (first.baseline, first.unit) == ("other 1.2", "1/s")
    assert (first.ratio.low, first.ratio.median, first.ratio.high) == (10, 10, 40)
    table = comparing.markdown(entries, seen, {"third": "not installed: no such version"})
    assert table[2].startswith("| trilho here | 2,000 | 2,000 | 0.5 ms | 500 us | 2,000 | 0.5 s | 70 MB | 500 of 500 |")
    assert table[3].startswith("| other 1.2 | 100 (10 x) |")
    assert table[-1] == "\nthird was left out: not installed: no such version"


def test_a_server_that_fails_is_left_out_with_its_reason() -> None:
    def failing(body: str, expected: float) -> AbstractContextManager[Running]:
        raise running.NotServing("it ended with 1: no module")

    model = comparing.Model(Path(), [{"a": 1.0}], [0.5], {"a": "float64"})
    seen, left = comparing.rounds([Entry("other", "1.2", failing)], model, 3)
    assert seen == {}
    assert left == {"other": "failed in round 1: it ended with 1: no module"}


def test_ending_a_server_ends_its_children_too() -> None:
    waiting = "import sys; print(1, flush=True); input()"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {waiting!r}])"
    process = subprocess.Popen([sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"1\n"
    (child,) = running.tree(process.pid, running.processes())[1:]
    assert running.memory_mb(os.getpid()) > 1
    running.end(process)
    assert (process.poll() is not None, running.born(child)) == (True, "")


def test_a_failed_install_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse = "import sys; sys.exit('no version of it is for this machine')"
    monkeypatch.setattr(environments, "versions", lambda python, names: {"numpy": "1"})
    monkeypatch.setattr(environments, "_commands", lambda place, wanted: [[sys.executable, "-c", refuse]])
    with pytest.raises(environments.NotInstalled, match="no version of it is for this machine"):
        environments.programs(PRODUCTS[0], tmp_path / "cache")
