"""Whatever a manifest says, it is read or refused by name; two digests that differ can be told apart."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from trilho_runtime.model.manifest import MANIFEST, apart, check_names
from trilho_runtime.package import PackageError, check_digest, folder_digest, open_package

FILES = {"estimator.pkl": b"not opened", "sample.json": b'{"rows": [{"x": 1.0}], "predictions": [2.0]}', "a.npz": b"-"}
FIELD = {"name": "x", "type": "number", "nullable": False, "minimum": -1.0, "maximum": 2.5}
TEXT = {"name": "c", "type": "string", "nullable": True, "categories": ["a", "b"]}
BASE: dict[str, Any] = {
    "schema": 2,
    "name": "tiny",
    "task": "regression",
    "target": "y",
    "time": None,
    "key": "x",
    "features": "",
    "estimator": {"file": "estimator.pkl", "format": "pickle", "class": "a.B", "why": "made up"},
    "outputs": {"kind": "value", "classes": []},
    "compiled": {"path": "original", "files": ["a.npz"], "stages": [{"name": "s"}], "needs": ["numpy"], "why": "no"},
    "signature": [FIELD, TEXT, {"name": "n", "type": "integer", "nullable": False, "dtype": "int8"}],
    "libraries": {"python": "3.11.7"},
    "metrics": {"rmse": 1.5},
    "lineage": {"run": None},
    "form": {"kind": "table"},
    "files": {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that is only files and a manifest."""
    folder = tmp_path_factory.mktemp("package")
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder


def opened(folder: Path, manifest: Any) -> Any:
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return open_package(folder, ())


def changed(*path: Any, to: Any) -> dict[str, Any]:
    manifest = copy.deepcopy(BASE)
    holder: Any = manifest
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = to
    return manifest


def test_the_manifest_that_is_changed_below_is_a_good_one(folder: Path) -> None:
    assert opened(folder, BASE).sample() == ([{"x": 1.0}], [2.0])


DIGEST = "0" * 64


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (["signature"], [], "signature is []; allowed: a list of fields"),
        (["signature"], [FIELD, FIELD], "signature has the field 'x' twice"),
        (["signature", 0], 7, "signature[0] is 7; allowed: an object with name, type and nullable"),
        (["signature", 0, "nullable"], 1, "signature[0].nullable is 1; allowed: true or false"),
        (["signature", 0, "type"], ["number"], "signature[0].type is ['number']; allowed: one of number, integer"),
        (["signature", 0, "dtype"], "object", "signature[0].dtype is 'object'; allowed: a type of a number"),
        (["signature", 0, "dtype"], "category", "signature[0].dtype is 'category'"),
        (["signature", 0, "maximum"], "9", "signature[0].maximum is '9'"),
        (["signature", 1, "categories"], ["a", 2], "signature[1].categories is ['a', 2]; allowed: a list of texts"),
        (["signature", 2, "dtype"], "int9", "signature[2].dtype is 'int9'"),
        (["signature", 2, "minimum"], 10**30, "signature[2].minimum is 1000000"),
        (["schema"], 2.0, "schema 2.0"),
        (["schema"], 10**300, "schema 1000"),
        (["name"], "../../etc", "name is '../../etc'; allowed: a text without / and \\"),
        (["name"], "..", "name is '..'"),
        (["name"], "a\nb", "name is 'a\\nb'"),
        (["time"], ["x"], "time is ['x']; allowed: a field's name, or null"),
        (["libraries", "numpy"], 2, "libraries is {"),
        (["metrics", "rmse"], "low", "metrics is {"),
        (["lineage", "run"], 10**40, "a text or a number that no answer can carry"),
        (["lineage", "run"], "\ud800", "a text or a number that no answer can carry"),
        (["estimator", "file"], "other.pkl", "'other.pkl' is not among its files"),
        (["estimator", "file"], "/etc/passwd", "'/etc/passwd' is not among its files"),
        (["estimator", "file"], ["estimator.pkl"], "estimator.file is ['estimator.pkl']; allowed: the name of a file"),
        (["estimator", "trusted"], "all", "estimator.trusted is 'all'; allowed: a list"),
        (["compiled", "files"], "a.npz", "compiled.files is 'a.npz'; allowed: a list of files"),
        (["compiled", "stages"], 3, "compiled.stages is 3; allowed: a list of objects"),
        (["compiled", "path"], {}, "compiled.path is {}; allowed: one of compiled, partly, original"),
        (["compiled", "features"], [], "compiled.features is []"),
        (["form", "dtype"], "x" * 500, "form.dtype is 'xxx"),
        (["batch_only"], "yes", "batch_only is 'yes'; allowed: true or false"),
        (["files", "/etc/passwd"], DIGEST, "/etc/passwd lies outside the package"),
        (["files", "a/../../b"], DIGEST, "a/../../b lies outside the package"),
        (["files", "./a"], DIGEST, "'./a' is no plain name of a file"),
        (["files", "C:\\x"], DIGEST, "is no plain name of a file"),
        (["files", ""], DIGEST, "'' is no plain name of a file"),
        (["files", "\ud800"], DIGEST, "'\\ud800' is no plain name of a file"),
        (["files", "A.NPZ"], DIGEST, "a.npz and A.NPZ are one file where case does not count"),
        (["files", "n" * 5000], DIGEST, "but the manifest lists it"),
        (["files", "estimator.pkl"], "F" * 64, "the digest of estimator.pkl is no SHA-256"),
        (["files", "estimator.pkl"], 7, "the digest of estimator.pkl is no SHA-256"),
        (["files"], {}, "is not among its files"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, path: list[Any], value: Any, says: str) -> None:
    with pytest.raises(PackageError) as raised:
        opened(folder, changed(*path, to=value))
    assert says in str(raised.value)
    assert MANIFEST in str(raised.value) or "manifest" in str(raised.value)
    str(raised.value).encode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"schema": ' + "9" * 5000 + "}", "not JSON"),
        ('{"schema": NaN}', "NaN is no JSON"),
        ('{"schema": 2, "schema": 2}', "the key 'schema' stands in it twice"),
        ("null", "schema 'NoneType'"),
    ],
)
def test_what_is_no_manifest_is_refused(folder: Path, text: str, says: str) -> None:
    with pytest.raises(PackageError, match=says):
        opened(folder, text)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of every part of a JSON value."""
    keys: Any = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*path, key)
        yield from places(value[key], (*path, key))


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 10**30, 1e308, "", "../x", "/x", "\x00", "\ud800", [], [[]], {}, {"": 1}]
)
VALUES = ODD | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@seed(55)
@settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(list(places(BASE))), value=VALUES)
def test_any_value_in_any_place_is_read_or_refused(folder: Path, path: tuple[Any, ...], value: Any) -> None:
    try:
        found = opened(folder, changed(*path, to=value))
    except PackageError:
        return
    assert len(found.signature.fields) > 0
    assert found.sample()[1] == [2.0]


@seed(56)
@settings(max_examples=200, deadline=None, database=None)
@given(names=st.dictionaries(st.text(max_size=12), st.just(DIGEST) | st.text(max_size=5), max_size=3))
def test_any_names_of_files_are_plain_or_refused(tmp_path_factory: pytest.TempPathFactory, names: Any) -> None:
    root = Path("/package")
    try:
        check_names(root, names)
    except PackageError:
        return
    for name in names:
        assert (root / name).resolve().is_relative_to(root)
        assert (root / name) != root


def test_two_digests_are_shown_where_they_differ(folder: Path) -> None:
    good = BASE["files"]["estimator.pkl"]
    last = good[:-1] + ("0" if good[-1] != "0" else "1")
    with pytest.raises(PackageError) as raised:
        opened(folder, changed("files", "estimator.pkl", to=last))
    assert f"its digest is {good[48:]}, the manifest says {last[48:]} (characters 49 to 64 of 64)" in str(raised.value)
    for place in range(64):
        other = good[:place] + ("0" if good[place] != "0" else "1") + good[place + 1 :]
        here, there, _ = apart(good, other)
        assert (len(here), len(there)) == (16, 16)
        assert here != there


def test_a_package_of_another_digest_shows_both(folder: Path) -> None:
    opened(folder, BASE)
    found = folder_digest(folder)
    other = found[:40] + ("0" if found[40] != "0" else "1") + found[41:]
    with pytest.raises(PackageError) as raised:
        check_digest(folder, other)
    assert f"its digest is {found[32:48]}, {other[32:48]} is wanted (characters 33 to 48 of 64)" in str(raised.value)


@pytest.mark.parametrize("text", ["[]", '{"rows": 1, "predictions": []}', '{"rows": [], "predictions": [1]}', "{", "1"])
def test_a_sample_that_is_none_is_refused(folder: Path, tmp_path: Path, text: str) -> None:
    for name, data in {**FILES, "sample.json": text.encode()}.items():
        (tmp_path / name).write_bytes(data)
    package = opened(tmp_path, changed("files", "sample.json", to=hashlib.sha256(text.encode()).hexdigest()))
    with pytest.raises(PackageError, match="holds no sample"):
        package.sample()
