"""Models that were trained elsewhere: what is found of their files, what is refused, and the projects they become."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from trilho.adopt.emit.polish import polish
from trilho.adopt.trained import Handed, adopt_model, inspect_model, sources
from trilho.adopt.trained.adopt import findings
from trilho.adopt.trained.sources import settings_text
from trilho.errors import Refused, TrilhoError, UsageError

PYTHON = Path(__file__).parents[1] / "notebooks" / ".venv" / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="make notebooks")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "models"
    script = Path(__file__).with_name("trained_models.txt").read_text(encoding="utf-8")
    subprocess.run([str(PYTHON), "-W", "ignore", "-c", script, str(folder)], check=True, timeout=120)
    return folder


def inspected(models: Path, folder: Path, name: str, sample: str, target: str = "", time: str = "") -> Handed:
    return inspect_model(models / name, models / sample, folder, python=PYTHON, target=target, time=time)


def test_pipeline_with_text_classes(models: Path, tmp_path: Path) -> None:
    handed = inspected(models, tmp_path, "pipeline.joblib", "rows.csv", "left", "day")
    assert (handed.task, handed.class_name, handed.features) == ("classification", "Pipeline", ["plan", "age", "usage"])
    assert (handed.classes, handed.positive, handed.target) == (["'no'", "'yes'"], "'yes'", "left")
    assert 0.7 < handed.metrics["roc_auc"] < 1
    assert len(handed.predictions) == handed.rows == 600
    assert handed.can_refit
    assert [c["kind"] for c in handed.columns] == ["string", "integer", "number", "integer", "timestamp"]
    assert len(handed.digest) == 64
    rules = [finding.rule for finding in findings(handed)]
    assert rules[:2] == ["training-unknown", "sample-metric"]
    assert "no-retraining" not in rules


def test_model_beside_its_columns(models: Path, tmp_path: Path) -> None:
    handed = inspected(models, tmp_path, "beside.joblib", "unlabelled.csv")
    assert (handed.accessor, handed.target, handed.metrics) == ("['model']", "", {})
    rules = [finding.rule for finding in findings(handed)]
    assert {"training-unknown", "no-truth", "no-retraining"} <= set(rules)
    code = sources(handed, "shop")["src/shop/model.py"]
    assert "joblib.load(io.BytesIO(content))['model']" in code


def test_mlflow_folder(models: Path, tmp_path: Path) -> None:
    handed = inspected(models, tmp_path, "mlflow", "unlabelled.csv")
    assert handed.file == str(models / "mlflow" / "model.pkl")


def test_booster_knows_its_columns_and_its_target_is_what_is_left(models: Path, tmp_path: Path) -> None:
    handed = inspected(models, tmp_path, "xgb.ubj", "numbers.csv")
    assert (handed.task, handed.features, handed.target) == ("classification", ["age", "usage"], "left")
    assert handed.is_booster
    assert not handed.can_refit


def test_booster_of_an_estimator_comes_back_as_one(models: Path, tmp_path: Path) -> None:
    handed = inspected(models, tmp_path, "estimator.json", "numbers.csv", "usage")
    assert (handed.class_name, handed.task, handed.target) == ("XGBRegressor", "regression", "usage")


def test_lightgbm_takes_its_categories(models: Path, tmp_path: Path) -> None:
    handed = inspected(models, tmp_path, "lgb.txt", "unlabelled.csv")
    assert handed.categories == ["plan"]
    assert handed.alone
    assert 'astype(dict.fromkeys(CATEGORIES, "category"))' in sources(handed, "shop")["src/shop/features.py"]


def test_columns_without_names_are_assumed(models: Path, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("age,usage\n20,50.5\n30,40.5\n", encoding="utf-8")
    handed = inspect_model(models / "unnamed.pkl", tmp_path / "s.csv", tmp_path, python=PYTHON, target="usage")
    assert (handed.assumed, handed.features) == (True, ["age"])
    assert "columns-assumed" in [finding.rule for finding in findings(handed)]


@pytest.mark.parametrize(
    ("name", "sample", "said"),
    [
        ("mine.pkl", "numbers.csv", "needs the class Mine, which was defined in a notebook or script"),
        ("scaled.pkl", "numbers.csv", "holds a tuple with 0 beside the model"),
        ("svc.pkl", "numbers.csv", "LinearSVC gives classes and no probabilities"),
        ("clusters.pkl", "numbers.csv", "KMeans predicts no target"),
        ("classes.pkl", "numbers.csv", "has 3 classes (A, B, C); two are served"),
        ("pipeline.joblib", "numbers.csv", "the sample lacks 1 of the 3 columns that the model takes: plan"),
        ("other.json", "numbers.csv", "other.json is no model of xgboost"),
    ],
)
def test_what_no_project_can_hold(models: Path, tmp_path: Path, name: str, sample: str, said: str) -> None:
    with pytest.raises(Refused) as caught:
        inspected(models, tmp_path, name, sample)
    assert said in caught.value.fact
    assert caught.value.hint
    assert "\n" not in caught.value.fact


def test_calibrated_model_is_taken(models: Path, tmp_path: Path) -> None:
    handed = inspected(models, tmp_path, "calibrated.pkl", "numbers.csv")
    assert (handed.classes, handed.target) == (["False", "True"], "left")


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("net.h5", Refused, "net.h5 is a model of Keras"),
        ("rows.xlsx", UsageError, "ends in .xlsx; allowed: .joblib"),
        ("gone.pkl", UsageError, "there is no file"),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, name: str, error: type[TrilhoError], said: str) -> None:
    with pytest.raises(error, match=said):
        inspect_model(tmp_path / name, tmp_path / "rows.csv", tmp_path, python=PYTHON)


def test_writes_of_a_pickle_stay_in_the_scratch_folder(models: Path, tmp_path: Path) -> None:
    if not inspected(models, tmp_path, "xgb.ubj", "numbers.csv").enforced:
        pytest.skip("this system has no Landlock")
    outside = tmp_path / "outside.txt"
    text = f"import os, pickle\nclass Bad:\n def __reduce__(self):\n  return (os.system, ('echo x > {outside}',))\n"
    text += f"pickle.dump(Bad(), open({str(tmp_path / 'bad.pkl')!r}, 'wb'))\n"
    subprocess.run([str(PYTHON), "-c", text], check=True, timeout=60)
    (tmp_path / "rows.csv").write_text("a\n1\n", encoding="utf-8")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(Refused, match="holds a int with nothing that predicts"):
        inspect_model(tmp_path / "bad.pkl", tmp_path / "rows.csv", scratch, python=PYTHON)
    assert not outside.exists()


def test_generated_code_is_clean(models: Path, tmp_path: Path) -> None:
    handed = inspected(models, tmp_path, "pipeline.joblib", "rows.csv", "left", "day")
    code = polish(sources(handed, "shop"))
    assert not [name for name, text in code.items() if "noqa" in text]
    assert "return clone(adopted().model).fit(X, y)" in code["src/shop/fit.py"]
    settings = settings_text(handed, "shop", "shop", target="left", time="day")
    assert 'holdout = "last 120 days"  # a fifth of the sample' in settings


def test_project_is_certified_and_passes_its_own_tests(models: Path, tmp_path: Path) -> None:
    into = tmp_path / "shop"
    made = adopt_model(models / "pipeline.joblib", models / "rows.csv", into, python=str(PYTHON), target="left",
                       key="id", time="day")  # fmt: skip
    certificate = made.certificate
    assert certificate.certified, certificate.reasons()
    assert certificate.rows == 600
    states = {stage.name: stage.state for stage in certificate.stages}
    assert states == {"load": "not compared", "features": "not compared", "fit": "equal", "evaluate": "not compared",
                      "pipeline": "equal", "package": "equal", "http": "equal"}  # fmt: skip
    assert json.loads((into / "parity.json").read_text(encoding="utf-8"))["certified"] is True
    told = (into / "trilho.toml").read_text(encoding="utf-8")
    assert 'key = "id"' in told
    assert 'time = "day"' in told
    python = into / ".venv" / "bin" / "python"
    done = subprocess.run([str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=into, capture_output=True,
                          text=True, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_another_model_in_the_file_refuses_the_certificate(models: Path, tmp_path: Path) -> None:
    from trilho.adopt.trained.certify import certify_handed

    into = tmp_path / "leavers"
    made = adopt_model(models / "xgb.ubj", models / "numbers.csv", into, python=str(PYTHON))
    assert made.certificate.certified, made.certificate.reasons()
    handed = made.handed
    handed.predictions[7] += 1e-6
    certificate = certify_handed(into, handed, python=into / ".venv" / "bin" / "python")
    assert not certificate.certified
    assert certificate.reasons()[0].startswith("fit:")
    (into / "src" / "leavers" / "model" / "model.ubj").write_bytes(b"other")
    swapped = certify_handed(into, handed, python=into / ".venv" / "bin" / "python")
    assert "is not the model that was adopted" in swapped.reasons()[0]


def test_nothing_is_left_of_what_was_refused(models: Path, tmp_path: Path) -> None:
    into = tmp_path / "made"
    with pytest.raises(Refused):
        adopt_model(models / "svc.pkl", models / "numbers.csv", into, python=str(PYTHON))
    assert not into.exists()
    with pytest.raises(UsageError, match="the interpreter that made the model is not known"):
        adopt_model(models / "svc.pkl", models / "numbers.csv", into, python="")
