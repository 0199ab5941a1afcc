"""What TFX compiles, and its schema, at the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.pipeline.test_outline import TFX

from trilho.data.contract import ColumnRule, load_contract

if TYPE_CHECKING:
    from tests.cli.conftest import Made, Verb

SCHEMA = """
feature {
  name: "temp_c" type: FLOAT
  presence { min_fraction: 1.0 min_count: 1 } float_domain { min: -40 max: 50 } shape { dim { size: 1 } }
}
feature { name: "old" type: INT lifecycle_stage: DEPRECATED }
"""


@pytest.fixture
def tfx(tmp_path: Path) -> Path:
    path = tmp_path / "penguin.json"
    path.write_text(json.dumps(TFX))
    return path


def test_a_pipeline_of_tfx_is_shown(tfx: Path, trilho: Verb) -> None:
    said = trilho("pipeline", "show", str(tfx))
    assert (said.code, said.out.splitlines()[0]) == (0, "penguin (KFP 2.0.0, by tfx-1.15.1)")


def test_what_only_a_cloud_has_is_refused_here_by_name(tfx: Path, trilho: Verb, made: Made) -> None:
    said = trilho("pipeline", "run", str(tfx))
    assert said.code == 3
    assert "task latest_resolver: " in said.err
    assert trilho("runs", "--json").json["runs"] == []


def test_a_contract_is_taken_from_tfx_and_given_back(made: Made, trilho: Verb) -> None:
    (made.folder / "schema.pbtxt").write_text(SCHEMA)
    said = trilho("data", "contract", "--from-tfx", "schema.pbtxt", "--json")
    assert said.code == 0
    assert said.json["left_out"] == ["old is left out: its stage is DEPRECATED"]
    contract = load_contract(made.folder / "contract.toml")
    assert contract.columns == {"temp_c": ColumnRule(type="number", nullable=False, min=-40, max=50)}
    back = trilho("data", "contract", "--to-tfx", "back.pbtxt")
    assert (back.code, 'name: "temp_c"' in (made.folder / "back.pbtxt").read_text()) == (0, True)


def test_a_contract_is_written_over_only_when_asked_to(made: Made, trilho: Verb) -> None:
    (made.folder / "schema.pbtxt").write_text(SCHEMA)
    (made.folder / "contract.toml").write_text("mine")
    said = trilho("data", "contract", "--from-tfx", "schema.pbtxt")
    assert (said.code, said.err.splitlines()[1]) == (2, "Hint: trilho data contract --from-tfx schema.pbtxt --force")
    assert (made.folder / "contract.toml").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from-tfx", "gone.pbtxt"], "gone.pbtxt cannot be read"),
        (["--from-tfx", "trilho.toml"], "this is no schema.pbtxt"),
        (["--to-tfx", "out.pbtxt"], "contract.toml is not there"),
        (["--to-tfx", "a", "--from-tfx", "b"], "--from-tfx and --to-tfx were both given"),
    ],
)
def test_what_cannot_be_taken_or_given_is_said(made: Made, trilho: Verb, words: list[str], said: str) -> None:
    result = trilho("data", "contract", *words)
    assert result.code in (1, 2)
    assert said in result.err
    assert not (made.folder / "contract.toml").exists()


def test_a_training_is_not_scheduled_there(made: Made, trilho: Verb) -> None:
    with (made.folder / "trilho.toml").open("a") as file:
        file.write('\n[environments.prod]\nbackend = "gcp"\nproject = "shop"\nbucket = "gs://shop-models"\n')
    said = trilho("pipeline", "schedule", "--on", "vertex", "--cron", "0 3 * * 1", "--json")
    assert (said.code, said.json["error"]) == (
        2,
        "the project's pipeline is its training, which versions its data here before it starts",
    )
