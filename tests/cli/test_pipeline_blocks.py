"""Blocks in each other, also those that the official SDK cannot write, compiled and run to what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Verb

MODULE = """
from trilho_runtime.pipeline import Collected, FirstOf, Item, Param, Pipeline, Value
from trilho_runtime.step import In, Model, Out, step


@step
def fit(model: Out[Model], region: str = "") -> float:
    model.path.write_text(region)
    return len(region) / 10


@step
def name(model: In[Model], n: int = 1, more: dict = {}) -> str:
    return f"{model.path.read_text()} {n} {more}"


@step
def join(words: list) -> str:
    return "|".join(str(word) for word in words)


def blocks() -> Pipeline:
    p = Pipeline("blocks", parameters={"least": 5, "regions": ["north", "south"]})
    with p.each("region", over=Param("regions")):
        p.task("fit", fit, region=Item("region"))
    with p.each("fitted", over=Collected("fit.model")):
        p.task("name", name, model=Item("fitted"))
    p.task("join", join, words=Collected("name.output"))
    p.output("joined", "join.output")
    p.task("one", fit, region="one")
    with p.each("x", over=[{"n": 1, "s": "a", "d": {"k": [1, 2]}}, {"n": 2, "s": "b", "d": {"k": [3]}}]):
        with p.when((Item("x")["n"] > 1) | (Item("x")["s"] == "z"), name="big"):
            p.task("inner", name, model="one.model", n=Item("x")["n"], more=Item("x")["d"])
        with p.otherwise(name="small"), p.each("y", over=Item("x")["d"]["k"]):
            p.task("deep", name, model="one.model", n=Item("y"), more=Item("x")["d"])
    with p.when(Param("least") > 3):
        p.task("a", fit, region="aa")
    with p.otherwise():
        p.task("b", fit, region="bbb")
    p.task("picked", name, model=FirstOf("a.model", "b.model"))
    p.output("picked", "picked.output")
    p.output("scores", Collected("fit.output"))
    p.output("first", FirstOf("a.output", "b.output"))
    p.output("one", "one.output")
    return p
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shop.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_blocks_in_blocks_come_to_what_they_mean(folder: Path, trilho: Verb) -> None:
    said = trilho("pipeline", "run", "shop:blocks", "--json")
    assert said.code == 0, said.err
    assert said.json["outputs"] == {
        "joined": "north 1 {}|south 1 {}", "picked": "aa 1 {}", "scores": [0.5, 0.5], "first": 0.2, "one": 0.3,
    }  # fmt: skip
    ran = sorted(task["name"].rpartition("for-loop-4/")[2] for task in said.json["tasks"] if task["state"] == "ran")
    assert [name for name in ran if name.endswith(("inner", "deep"))] == [
        "0/condition-branches-5/condition-7/for-loop-8/0/deep",
        "0/condition-branches-5/condition-7/for-loop-8/1/deep",
        "1/condition-branches-5/condition-6/inner",
    ]
    other = trilho("pipeline", "run", "shop:blocks", "-p", "least=1", "-p", 'regions=["x"]', "--json").json["outputs"]
    assert other == {"joined": "x 1 {}", "picked": "bbb 1 {}", "scores": [0.1], "first": 0.3, "one": 0.3}


def test_a_skipped_task_says_in_words_why(folder: Path, trilho: Verb) -> None:
    lines = [" ".join(line.split()) for line in trilho("pipeline", "run", "shop:blocks").out.splitlines()]
    assert "condition-branches-9/condition-11 skipped its condition is false: !(int(least) > 3)" in lines
