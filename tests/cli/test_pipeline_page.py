"""The examples of docs/pipelines.md work as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from tests.cli.conftest import Made, Verb

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pipelines.md"
BLOCK = re.compile(r"^```python\n# (src/\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
AUDIT = "\n\n@step\ndef audit(rows: int) -> bool:\n    return rows > 0\n"


@pytest.fixture
def shop(made: Made) -> Made:
    for name, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        path = made.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + (AUDIT if path.name == "steps.py" else ""))
    package = made.folder / "src" / "bikes"
    package.mkdir()
    for module, function in (("features", "build(rows)"), ("train", "fit(features, target)")):
        (package / f"{module}.py").write_text(f"def {function}: ...\n")
    return made


def test_the_pages_pipeline_compiles_without_a_warning_and_runs(shop: Made, trilho: Verb) -> None:
    said = trilho("pipeline", "compile", "shop.pipelines:nightly", "-o", "nightly.yaml")
    assert (said.code, said.err) == (0, "")
    result = trilho("pipeline", "run", "nightly.yaml", "--param", "rows=200", "--param", "least=0.1", "--json").json
    assert result["state"] == "succeeded"
    assert result["outputs"] == {"score": 200 / 105, "rows": 200}
    states = {task["name"]: task["state"] for task in result["tasks"]}
    assert states["exit-handler-1/condition-3/deploy"] == "ran"
    log = shop.home / "runs" / result["run"] / "tell.log"
    assert log.read_text() == "log SUCCEEDED\n"
    few = trilho("pipeline", "run", "nightly.yaml", "--param", "rows=1", "--json").json
    assert {task["state"] for task in few["tasks"] if "deploy" in task["name"]} == {"skipped"}


def test_a_finding_reads_as_the_page_says(shop: Made, trilho: Verb) -> None:
    pipelines = shop.folder / "src" / "shop" / "pipelines.py"
    pipelines.write_text(pipelines.read_text().replace('region=Item("region")', 'region=Value("load.rows")'))
    said = trilho("pipeline", "compile", "shop.pipelines:nightly")
    shown = re.findall(r"^src/shop/pipelines.py:\d+: (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert said.code == 2
    assert f"src/shop/pipelines.py:10: {shown[0]}" in said.err


def test_the_pages_training_is_the_standard_one_changed(shop: Made, trilho: Verb) -> None:
    with (shop.folder / "trilho.toml").open("a") as file:
        file.write('\n[pipeline]\ndefine = "shop.training:define"\n')
    said = trilho("pipeline", "compile")
    assert said.code == 0, said.err
    ir = yaml.safe_load(said.out)
    assert ir["root"]["dag"]["tasks"]["audit"]["dependentTasks"] == ["split"]
    container = ir["deploymentSpec"]["executors"]["exec-fit-all"]["container"]
    assert container["resources"]["memoryLimit"] == 16.0
    assert container["args"][-2:] == ["--timeout", "7200"]
