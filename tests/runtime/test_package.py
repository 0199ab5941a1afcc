from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtime.serving import ANSWER, FEATURES, ROW, make_package

from trilho_runtime.model import manifest as manifest_module
from trilho_runtime.model.manifest import check_archive
from trilho_runtime.model.validation import arrays
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
    estimator = {name: manifest["estimator"][name] for name in ("file", "format", "class")}
    assert estimator == {"file": "estimator.pkl", "format": "pickle", "class": "tiny.train.Sum"}
    assert manifest["estimator"]["why"].startswith("a function or class of the project")
    assert (manifest["schema"], manifest["outputs"]) == (2, {"kind": "value", "classes": []})
    assert manifest["compiled"]["path"] == "original"
    assert "Sum" in manifest["compiled"]["why"]
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
    assert sorted(manifest["files"]) == ["MLmodel", *code, *others]


def test_a_package_carries_what_the_watcher_needs(package: Path) -> None:
    reference = Reference.from_json((package / "reference.json").read_bytes())
    assert reference.rows == 200
    assert {"id", "at", "y"}.isdisjoint(f.name for f in reference.features)
    assert {"x", "level"} <= {f.name for f in reference.features}
    with np.load(package / "validation.npz") as validation:
        assert {name: len(validation[name]) for name in ("time", "prediction", "value", "bins")} == {
            "time": 50,
            "prediction": 50,
            "value": 50,
            "bins": 50,
        }
        assert validation["features"].tolist() == [f.name for f in reference.features]
        assert validation["bins"].dtype == np.uint8
        assert (int(validation["schema"]), len(validation.files)) == (2, 6)
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
        ('{"schema": 3}', "schema 3"),
        ('{"schema": true}', "schema True"),
        ('{"schema": 2, "schema": 2}', "the key 'schema' stands in it twice"),
        ('{"schema": 2, "metrics": {"mae": NaN}}', "NaN is no JSON"),
        ("[" * 100_000, "not JSON"),
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


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/etc/hosts", "lies outside the package"),
        ("code/../../outside", "lies outside the package"),
        ("code//tiny/train.py", "is no plain name"),
        ("./lock.txt", "is no plain name"),
        ("code\\tiny.py", "is no plain name"),
        ("c:lock.txt", "is no plain name"),
        ("lock\n.txt", "is no plain name"),
        ("LOCK.txt", "are one file where case does not count"),
        ("manifest.json", "is no SHA-256"),
    ],
)
def test_a_name_that_could_be_another_file_is_refused(own_package: Path, name: str, says: str) -> None:
    data = json.loads((own_package / "manifest.json").read_text())
    data["files"][name] = hashlib.sha256(b"").hexdigest()
    (own_package / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(PackageError, match=says):
        open_package(own_package)


def test_a_digest_that_is_none_is_refused(own_package: Path) -> None:
    data = json.loads((own_package / "manifest.json").read_text())
    data["files"]["lock.txt"] = data["files"]["lock.txt"][:12]
    (own_package / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(PackageError, match=r"the digest of lock\.txt is no SHA-256"):
        open_package(own_package)


@pytest.mark.parametrize("name", ["lock.txt", "code/tiny/train.py", "code/tiny"])
def test_a_link_is_refused_even_to_the_very_same_content(own_package: Path, tmp_path: Path, name: str) -> None:
    (own_package / name).rename(tmp_path / "moved")
    (own_package / name).symlink_to(tmp_path / "moved")
    with pytest.raises(PackageError, match=f"{name}.* (is a link|is not in the manifest)"):
        open_package(own_package)


def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(own_package: Path) -> None:
    (own_package / "lock.txt").unlink()
    os.mkfifo(own_package / "lock.txt")
    with pytest.raises(PackageError, match=r"lock\.txt is not a regular file"):
        open_package(own_package)


LOAD_CHANGED = """
import sys
from pathlib import Path
from trilho_runtime.package import PackageError, open_package
package = open_package(Path(sys.argv[1]))
file = package.folder / sys.argv[2]
file.write_bytes(file.read_bytes().replace(b"import", b"IMPORT") + b"\\nraise SystemExit('it ran')\\n")
try:
    package.load()
except PackageError as error:
    print(f"refused: {error}")
"""


@pytest.mark.parametrize(
    "name", ["estimator.pkl", "code/tiny/__init__.py", "code/tiny/features.py", "code/tiny/train.py"]
)
def test_what_changes_between_the_check_and_the_use_is_not_used(
    project_python: Path, own_package: Path, name: str
) -> None:
    done = run(project_python, LOAD_CHANGED.replace("\\\\n", "\\n"), own_package, name)
    assert f"{name}: its digest is " in done.stdout, done.stderr
    assert "it ran" not in done.stdout + done.stderr


def test_bytecode_beside_the_code_is_not_run(project_python: Path, own_package: Path) -> None:
    code = """
import importlib.util, py_compile, sys
from pathlib import Path
from trilho_runtime.package import open_package
package = open_package(Path(sys.argv[1]))
source = package.folder / "code" / "tiny" / "features.py"
false = Path(sys.argv[2])
false.write_text("raise SystemExit('it ran')")
cache = Path(importlib.util.cache_from_source(str(source)))
py_compile.compile(str(false), str(cache), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
print(package.load().predict([]))
"""
    done = run(project_python, code, own_package, own_package.parent / "false.py")
    assert done.stdout == "[]\n", done.stderr


def test_a_package_of_schema_1_still_loads(project_python: Path, own_package: Path) -> None:
    path = own_package / "manifest.json"
    data = json.loads(path.read_text())
    for key in ("outputs", "compiled"):
        del data[key]
    data["schema"] = 1
    del data["estimator"]["why"]
    for field in data["signature"]:
        for key in ("minimum", "maximum", "categories"):
            field.pop(key, None)
    path.write_text(json.dumps(data))
    done = run(project_python, LOAD, own_package, json.dumps([ROW]))
    assert json.loads(done.stdout) == [ANSWER], done.stderr


ODD: list[Any] = [None, 0, "", "x", [], [[]], [{}], {}, {"file": []}, {"kind": 5}, {"files": [[1]]}, True]


@pytest.mark.parametrize(
    "key", ["files", "signature", "outputs", "form", "history", "compiled", "estimator", "metrics", "name", "decision"]
)
def test_whatever_a_manifest_says_it_is_read_or_refused(own_package: Path, key: str) -> None:
    path = own_package / "manifest.json"
    data = json.loads(path.read_text())
    said = []
    for odd in ODD:
        path.write_text(json.dumps({**data, key: odd}))
        try:
            open_package(own_package)
        except PackageError as error:
            said.append(str(error))
    assert all(str(path) in text or "is not in the manifest" in text for text in said)
    assert len(said) >= 4


def test_arrays_that_would_fill_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(manifest_module, "LARGEST_ARCHIVE", 10_000)
    check_archive(arrays({"x": np.zeros(10)}), tmp_path / "small.npz")
    with pytest.raises(PackageError, match=r"large\.npz: its 282 bytes unpack to 80128; at most 10000 are read"):
        check_archive(arrays({"x": np.zeros(10_000)}), tmp_path / "large.npz")
    with pytest.raises(PackageError, match="not a zip file"):
        check_archive(b"no", tmp_path / "none.npz")


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
    assert (good.returncode, good.stdout) == (0, "tiny: 9 files are what the manifest says\n")
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
    assert "in the whole table" in done.stderr


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
