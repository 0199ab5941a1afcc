from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtime.serving import ANSWER, FEATURES, ROW, make_package

from trilho_runtime.package import PackageError, open_package
from trilho_runtime.profile import Reference


def run(python: Path, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(python), "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False)


LOAD = """
import sys, json
from pathlib import Path
from trilho_runtime.package import PackageError, open_package
try:
    package = open_package(Path(sys.argv[1]))
    predictor = package.load()
    package.prove(predictor)
    print(json.dumps(predictor.predict(json.loads(sys.argv[2]))))
except PackageError as error:
    print(f"refused: {error}")
"""


def rewrite(folder: Path, **changes: Any) -> None:
    """Change a manifest, keeping its list of digests true."""
    path = folder / "manifest.json"
    data = {**json.loads(path.read_text()), **changes}
    data["files"] = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in data["files"]}
    path.write_text(json.dumps(data))


def test_a_package_says_what_the_model_is(package: Path) -> None:
    manifest = open_package(package).manifest
    assert (manifest["name"], manifest["task"], manifest["target"]) == ("tiny", "regression", "y")
    assert (manifest["time"], manifest["key"], manifest["features"]) == ("at", "id", "tiny.features:build")
    assert manifest["estimator"] == {"file": "estimator.pkl", "format": "pickle", "class": "tiny.train.Sum"}
    assert {f["name"]: (f["type"], f["nullable"]) for f in manifest["signature"]} == {
        "id": ("string", False),
        "at": ("timestamp", False),
        "x": ("number", False),
        "count": ("integer", False),
        "wish": ("string", True),
        "flag": ("boolean", False),
        "level": ("number", True),
    }
    assert manifest["metrics"] == {"mae": 1.5}
    assert manifest["libraries"]["python"].startswith("3.")
    assert "pandas" in manifest["libraries"]
    code = ["code/tiny/__init__.py", "code/tiny/features.py", "code/tiny/train.py"]
    others = ["estimator.pkl", "lock.txt", "reference.json", "sample.json", "validation.npz"]
    assert sorted(manifest["files"]) == [*code, *others]


def test_a_package_carries_what_the_watcher_needs(package: Path) -> None:
    reference = Reference.from_json((package / "reference.json").read_bytes())
    assert reference.rows == 200
    assert {"id", "at", "y"}.isdisjoint(f.name for f in reference.features)
    assert {"x", "level"} <= {f.name for f in reference.features}
    with np.load(package / "validation.npz") as validation:
        assert {name: len(validation[name]) for name in validation.files} == {"time": 50, "prediction": 50, "value": 50}
        assert validation["time"][1] - validation["time"][0] == 3600
    assert any(line.startswith("pandas==") for line in (package / "lock.txt").read_text().splitlines())


def test_the_same_inputs_give_the_same_bytes(made: Path) -> None:
    first, second = made / "package", made / "package2"
    names = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    assert all((first / n).read_bytes() == (second / n).read_bytes() for n in names)


def test_a_loaded_package_predicts_and_leaves_the_folder_as_it_was(project_python: Path, own_package: Path) -> None:
    done = run(project_python, LOAD, own_package, json.dumps([ROW, {**ROW, "x": -1}]))
    assert json.loads(done.stdout) == [ANSWER, 5.0], done.stderr
    assert open_package(own_package)


@pytest.mark.parametrize("name", ["estimator.pkl", "code/tiny/features.py", "reference.json", "lock.txt"])
@pytest.mark.parametrize("damage", ["cut", "change", "remove"])
def test_a_damaged_file_is_named_before_anything_is_loaded(own_package: Path, name: str, damage: str) -> None:
    path = own_package / name
    content = path.read_bytes()
    damages: dict[str, Callable[[], Any]] = {
        "cut": lambda: path.write_bytes(content[:-1]),
        "change": lambda: path.write_bytes(bytes([content[0] ^ 1]) + content[1:]),
        "remove": path.unlink,
    }
    damages[damage]()
    with pytest.raises(PackageError, match=name):
        open_package(own_package)


@pytest.mark.parametrize("name", ["code/tiny/extra.py", "code/tiny/__pycache__/features.pyc", "note.txt"])
def test_a_file_that_was_added_is_named(own_package: Path, name: str) -> None:
    (own_package / name).parent.mkdir(exist_ok=True)
    (own_package / name).write_text("")
    with pytest.raises(PackageError, match=f"{name} is not in the manifest"):
        open_package(own_package)


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ("{", "not JSON"),
        ("[]", "schema 'list'"),
        ('{"schema": 2}', "schema 2"),
        ('{"schema": 1}', "name, task, target, features, estimator, libraries, metrics, lineage, files, signature"),
    ],
)
def test_a_manifest_that_is_none_is_refused(own_package: Path, manifest: str, says: str) -> None:
    (own_package / "manifest.json").write_text(manifest)
    with pytest.raises(PackageError, match=r"manifest\.json: ") as caught:
        open_package(own_package)
    assert says in str(caught.value)


def test_a_manifest_cannot_point_out_of_the_package(own_package: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("")
    data = json.loads((own_package / "manifest.json").read_text())
    data["files"]["../outside"] = hashlib.sha256(b"").hexdigest()
    (own_package / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(PackageError, match="outside lies outside the package"):
        open_package(own_package)
    with pytest.raises(PackageError, match="No such file or directory"):
        open_package(tmp_path / "nowhere")


def test_an_environment_in_which_the_model_differs_is_refused(project_python: Path, own_package: Path) -> None:
    sample = json.loads((own_package / "sample.json").read_text())
    sample["predictions"][3] += 1e-6
    (own_package / "sample.json").write_text(json.dumps(sample))
    libraries = {"pandas": "1.0", "numpy": np.__version__}
    rewrite(own_package, libraries=libraries)
    done = run(project_python, LOAD, own_package, "[]")
    assert "refused: " in done.stdout
    assert "row 3 of sample.json is predicted " in done.stdout
    assert "packed with pandas 1.0, here " in done.stdout


def test_code_that_cannot_be_imported_here_is_refused(project_python: Path, own_package: Path) -> None:
    (own_package / "code" / "tiny" / "features.py").write_text("import absent_library\n")
    rewrite(own_package)
    done = run(project_python, LOAD, own_package, "[]")
    assert "tiny.features:build cannot be imported: ModuleNotFoundError: No module" in done.stdout
    assert "absent_library" in done.stdout


def test_one_process_holds_one_package(project_python: Path, made: Path) -> None:
    code = LOAD + "\nsys.argv[1] = sys.argv[3]\n" + LOAD
    done = run(project_python, code, made / "package", "[]", made / "package2")
    assert done.stdout.splitlines()[0] == "[]", done.stderr
    assert "tiny.features was already imported from" in done.stdout
    assert "one process, one package" in done.stdout


def test_verify_is_a_command(package: Path, own_package: Path) -> None:
    command = [sys.executable, "-m", "trilho_runtime.package", "verify"]
    good = subprocess.run([*command, str(package)], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stdout) == (0, "tiny: 8 files are what the manifest says\n")
    (own_package / "lock.txt").write_text("")
    bad = subprocess.run([*command, str(own_package)], capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert "lock.txt: its digest is " in bad.stderr
    assert "Hint: " in bad.stderr


def test_features_that_look_at_other_rows_are_found_at_packing(project_python: Path, tmp_path: Path) -> None:
    code = FEATURES.replace('made = frame[["x"]] * 2', 'made = frame[["x"]] - frame["x"].mean()')
    done = make_package(project_python, tmp_path, code=code)
    assert done.returncode == 1
    assert "StepError: row 0 of the sample is predicted" in done.stderr
    assert "in the holdout table" in done.stderr


def test_features_that_depend_on_how_many_rows_there_are_are_found_at_packing(
    project_python: Path, tmp_path: Path
) -> None:
    code = FEATURES.replace('made = frame[["x"]] * 2', 'made = frame[["x"]] * min(len(frame), 7)')
    done = make_package(project_python, tmp_path, code=code)
    assert done.returncode == 1
    assert "when alone" in done.stderr
    assert "tiny.features:build looks at other rows than the one it describes" in done.stderr


def test_a_classifier_gives_the_probability_of_one(project_python: Path, tmp_path: Path) -> None:
    done = make_package(project_python, tmp_path, task="classification")
    assert done.returncode == 0, done.stderr
    one = run(project_python, LOAD, tmp_path / "package", json.dumps([{**ROW, "x": -3.5}]))
    assert json.loads(one.stdout) == [0.5], one.stderr


def test_only_code_is_packed(project_python: Path, tmp_path: Path) -> None:
    source = tmp_path / "src"
    for name in ("tests/test_a.py", ".venv/a.py", "env/pyvenv.cfg", "env/b.py", "data/big.csv", "tiny/.cache/x"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("")
    for name in ("single.py", "tiny/table.csv", "tiny/deep/more.py", "notes.txt"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("")
    assert make_package(project_python, tmp_path).returncode == 0
    code = tmp_path / "package" / "code"
    assert sorted(p.relative_to(code).as_posix() for p in code.rglob("*") if p.is_file()) == sorted(
        ["single.py", "tiny/__init__.py", "tiny/deep/more.py", "tiny/features.py", "tiny/table.csv", "tiny/train.py"]
    )
