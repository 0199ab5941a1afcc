"""Edits that change what a step does, by ways that its text hardly shows, and edits that change nothing."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from trilho_runtime.steps.fingerprint import code_digest

STEPS, A, B, ONE = "shop/steps.py", "shop/a.py", "shop/b.py", "def g(): return 1\n"
SECONDS = itertools.count(1000)
REGISTRY = "MADE = {}\ndef step(f):\n    MADE[f.__name__] = f\n    return f\n"


def write(source: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = source / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        second = next(SECONDS)  # no two states of a file have one time, as editors leave it
        os.utime(file, (second, second))


def changes(source: Path, files: dict[str, str], edited: str, old: str, new: str, reference: str) -> bool:
    write(source, {"shop/__init__.py": "", **files})
    before = code_digest(source, [reference])
    text = files[edited]
    assert old in text
    write(source, {edited: text.replace(old, new)})
    return code_digest(source, [reference]) != before


@pytest.mark.parametrize(
    ("files", "edited"),
    [
        ({STEPS: "from .a import *\ndef f(): return g()", A: "from .b import *", B: ONE}, B),
        ({STEPS: "from importlib import import_module as im\ndef f(): return im('shop.a').g()", A: ONE}, A),
        ({STEPS: "from runpy import run_module\ndef f(): return run_module('shop.a')", A: ONE}, A),
        ({STEPS: "import runpy as r\ndef f(): return r.run_path('a.py')", A: ONE}, A),
        ({STEPS: "import builtins\ndef f(): return builtins.__import__('shop.a').a.g()", A: ONE}, A),
        ({STEPS: "import importlib.util as u\ndef f(): return u.spec_from_file_location('x', 'a.py')", A: ONE}, A),
        ({STEPS: "import pkgutil\ndef f(): return pkgutil.resolve_name('shop.a:g')()", A: ONE}, A),
        ({STEPS: "from sys import modules\nimport shop.a\ndef f(): return modules['shop.a'].g()", A: ONE}, A),
        ({STEPS: "import shop\nimport shop.a\ndef f(): return getattr(shop, 'a').g()", A: ONE}, A),
        ({STEPS: "from . import a, b\ndef f(): return b.MADE['g']()", B: REGISTRY,
          A: "from .b import step\n@step\ndef g():\n    return 1"}, A),
        ({STEPS: "from . import a, b\ndef f(): return a.X", A: "X = []", B: "from .a import X\nX += [1]"}, B),
        ({STEPS: "import typing\nX = 0\nif not typing.TYPE_CHECKING:\n    X = 1\ndef f(): return X"}, STEPS),
        ({STEPS: "X = 0\nif __name__ != '__main__':\n    X = 1\ndef f(): return X"}, STEPS),
        ({STEPS: "class K:\n    from .a import g\ndef f(): return K.g()", A: ONE}, A),
        ({STEPS: "import pickle\ndef f(p): return pickle.load(p).do()", A: "class M:\n    def do(_): return 1"}, A),
        ({STEPS: "from joblib import load\ndef f(p): return load(p).do()", A: "class M:\n    def do(_): return 1"}, A),
        ({STEPS: "from . import a, b\ndef f(): return a.g()", A: ONE, B: "from . import a\nsetattr(a, 'g', 1)"}, B),
        ({STEPS: "try:\n    from .a import g\nexcept ImportError:\n    from .b import g\ndef f(): return g()",
          A: ONE, B: ONE}, B),
        ({STEPS: "def f(): return open(__file__ + '/../rules.json')", "shop/rules.json": "1"}, "shop/rules.json"),
    ],
)  # fmt: skip
def test_an_edit_that_changes_a_step_is_noticed(tmp_path: Path, files: dict[str, str], edited: str) -> None:
    assert changes(tmp_path / "src", files, edited, "1", "2", "shop.steps:f")


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("def f():\n    return 1", "return", "# why\n\n    return"),
        ("def a(): return 1\ndef b(): return 2\ndef f(): return a() + b()",
         "def a(): return 1\ndef b(): return 2", "def b(): return 2\ndef a(): return 1"),
        ("def other(): return 1\ndef f(): return 2", "return 1", "return 3"),
        ("def f(): return 2\nif __name__ == '__main__':\n    print(1)", "print(1)", "print(2)"),
        ("import importlib.resources\ndef f(): return importlib.resources\ndef g(): return 1", "1", "2"),
        ("import pickle\ndef f(p): return pickle.load(p)\ndef g(): return 1", "1", "2"),
    ],
)  # fmt: skip
def test_an_edit_that_changes_nothing_of_a_step_is_none(tmp_path: Path, text: str, old: str, new: str) -> None:
    assert not changes(tmp_path / "src", {STEPS: text}, STEPS, old, new, "shop.steps:f")


def test_where_a_name_is_bound_twice_the_order_counts(tmp_path: Path) -> None:
    text = "X = 1\nX = 2\ndef f(): return X"
    assert changes(tmp_path / "src", {STEPS: text}, STEPS, "X = 1\nX = 2", "X = 2\nX = 1", "shop.steps:f")


def test_data_beside_code_without_a_package_counts(tmp_path: Path) -> None:
    source = tmp_path / "src"
    write(source, {"steps.py": "def f(): return 1", "rules.json": "1", "bare/a.py": ONE, "bare/rules.json": "1"})
    before = code_digest(source, ["steps:f"]), code_digest(source, ["bare.a:g"])
    write(source, {"bare/rules.json": "2"})
    after = code_digest(source, ["steps:f"]), code_digest(source, ["bare.a:g"])
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)
    write(source, {"rules.json": "2"})
    assert code_digest(source, ["steps:f"]) != after[0]


def test_what_a_link_leads_to_counts_and_a_circle_of_links_ends(tmp_path: Path) -> None:
    source = tmp_path / "src"
    write(source, {"shop/__init__.py": "", STEPS: "from lib.a import g\ndef f(): return g()"})
    write(tmp_path / "real", {"__init__.py": "", "a.py": ONE})
    (source / "lib").symlink_to(tmp_path / "real")
    (source / "shop" / "again").symlink_to(source)
    before = code_digest(source, ["shop.steps:f"]), code_digest(source, ["*"])
    write(tmp_path / "real", {"a.py": "def g(): return 2\n"})
    after = code_digest(source, ["shop.steps:f"]), code_digest(source, ["*"])
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, True]
