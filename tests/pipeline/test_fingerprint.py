"""What changes a fingerprint, and what does not."""

from __future__ import annotations

import ast
import json
import random
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from trilho.core.files import write_whole
from trilho.errors import ConfigError
from trilho.pipeline import libraries as module
from trilho.pipeline.execution.fingerprint import leaf_fingerprint, step_of
from trilho.pipeline.ir.spec import ArtifactOutput, Component, Container
from trilho.pipeline.libraries import libraries_of
from trilho.pipeline.places import Places
from trilho_runtime.steps.fingerprint import closure, code_digest, step_fingerprint

FILES = {
    "shop/__init__.py": "from .rules import times as published\n",
    "shop/steps.py": '''
        """Steps of a shop."""
        import json
        from trilho_runtime.step import In, Out, step
        from shop import rules, shapes
        from shop.rules import half as halve
        LIMIT = 3
        UNUSED = 4

        @step
        def double(numbers: In, doubled: Out, times: int = 1) -> None:
            """Double what is there."""
            doubled.path.write_text(json.dumps([rules.times(n) for n in range(LIMIT)]))

        @step
        def total(numbers: In, total: Out, double: bool = False) -> None:
            def add(numbers):
                return sum(numbers)
            total.path.write_text(str(add([halve(1)]) if double else helper()))

        def helper():
            from shop.later import late
            return late

        def rename_me():
            return 1

        @step
        def shaped(one: Out) -> "shapes.Shape":
            return shapes.Shape(1)

        if __name__ == "__main__":
            print(double)
    ''',
    "shop/rules.py": "FACTOR = 2\n\ndef times(n):\n    return FACTOR * n\n\ndef half(n):\n    return n / 2\n",
    "shop/later.py": "late = 1\nother = 2\n",
    "shop/shapes.py": "from typing import NamedTuple\n\nclass Shape(NamedTuple):\n    side: int\n\nclass Other: ...\n",
    "shop/unrelated.py": "X = 1\n",
}
STEPS = ("double", "total", "shaped")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / "src" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    return tmp_path / "src"


def marks(source: Path) -> dict[str, str]:
    return {step: code_digest(source, [f"shop.steps:{step}"]) for step in STEPS}


def changed(source: Path, file: str, change: Callable[[str], str] | tuple[str, str]) -> set[str]:
    """Give the steps whose code counts as another after an edit."""
    before, path = marks(source), source / "shop" / file
    text = path.read_text()
    new = change(text) if callable(change) else text.replace(*change)
    assert new != text
    path.write_text(new)
    after = marks(source)
    return {step for step in STEPS if before[step] != after[step]}


def test_the_closure_follows_imports_within_the_project(shop: Path) -> None:
    names = {file.relative_to(shop).as_posix() for file in closure(shop, ["shop.steps"])}
    assert names == {f"shop/{name}.py" for name in ("__init__", "steps", "rules", "later", "shapes")}


@pytest.mark.parametrize(
    ("file", "edit", "steps"),
    [
        ("steps.py", ("* doubled", "*  doubled  # why"), None),
        ("steps.py", ("rules.times(n)", "rules.half(n)"), {"double"}),
        ("steps.py", ("return sum(numbers)", "return max(numbers)"), {"total"}),
        ("steps.py", ("LIMIT = 3", "LIMIT = 4"), {"double"}),
        ("steps.py", ("UNUSED = 4", "UNUSED = 5"), set()),
        ("steps.py", ("rename_me", "renamed"), set()),
        ("steps.py", ("helper()", "helpful()"), {"total"}),
        ("steps.py", ("return 1", "return 2"), set()),
        ("steps.py", ("print(double)", "print(total)"), set()),
        ("steps.py", ("Steps of a shop", "The steps of a shop"), set()),
        ("steps.py", ("half as halve", "times as halve"), {"total"}),
        ("rules.py", ("FACTOR = 2", "FACTOR = 3"), {"double"}),
        ("rules.py", ("n / 2", "n / 3"), {"total"}),
        ("rules.py", ("times(n)", "thrice(n)"), {"double"}),
        ("later.py", ("late = 1", "late = 2"), {"total"}),
        ("later.py", ("other = 2", "other = 3"), set()),
        ("shapes.py", ("side: int", "side: float"), {"shaped"}),
        ("shapes.py", ("class Other: ...", "class Other:\n    x = 1"), set()),
        ("unrelated.py", ("X = 1", "X = 2"), set()),
    ],
)
def test_after_an_edit_exactly_the_steps_that_it_reaches_count_as_others(
    shop: Path, file: str, edit: tuple[str, str], steps: set[str] | None
) -> None:
    if steps is not None:
        assert changed(shop, file, edit) == steps


def test_what_acts_at_import_counts_for_all_that_import_it(shop: Path) -> None:
    assert changed(shop, "rules.py", lambda text: text + "\nimport random\nrandom.seed(1)\n") == set(STEPS)
    assert changed(shop, "rules.py", ("seed(1)", "seed(2)")) == set(STEPS)
    assert changed(shop, "unrelated.py", lambda text: text + "print(X)\n") == set()
    assert changed(shop, "__init__.py", lambda text: text + "KNOWN = {}\nKNOWN['a'] = 1\n") == set(STEPS)


def test_a_function_that_something_else_may_have_registered_counts(shop: Path) -> None:
    plugin = "\nfrom shop.registry import add\n\n@add('a')\ndef plugin():\n    return 1\n"
    (shop / "shop" / "registry.py").write_text(
        "ALL = {}\ndef add(name):\n    return lambda f: ALL.setdefault(name, f)\n"
    )
    assert changed(shop, "rules.py", lambda text: text + plugin) == set(STEPS)
    assert changed(shop, "rules.py", lambda text: text.replace("    return 1\n", "    return 2\n")) == set(STEPS)
    assert changed(shop, "registry.py", ("setdefault", "pop")) == set(STEPS)


@pytest.mark.parametrize(
    ("use", "whole"),
    [
        ("getattr(rules, 'times')(1)", {"total"}),
        ("globals()['UNUSED']", set()),
        ("__import__('shop.unrelated')", {"total"}),
        ("eval('1')", {"total"}),
        ("importlib.import_module('shop.unrelated')", {"total"}),
    ],
)
def test_where_the_text_cannot_tell_all_of_it_counts(shop: Path, use: str, whole: set[str]) -> None:
    assert changed(shop, "steps.py", ("halve(1)", use)) == {"total"}
    assert changed(shop, "rules.py", lambda text: text + "\ndef more():\n    return 7\n") == whole
    if "rules" not in use:
        found = changed(shop, "steps.py", ("UNUSED = 4", "UNUSED = 6"))
        assert found == {"total"}


@pytest.mark.parametrize(
    ("code", "reached"),
    [
        ("def f(x, other): return other", False),
        ("def f(x):\n    other = 1\n    return other", False),
        ("def f(x):\n    return [other for other in x]", False),
        ("def f(x):\n    return [y for other in x for y in other]", False),
        ("def f(other):\n    return [other for other in other]", False),
        ("def f(x):\n    return [y for y in other]", True),
        ("def f(x):\n    return [other for other in other()]", True),
        ("def f(x):\n    global other\n    other = other\n    return other", True),
        ("def f(x=other): return x", True),
        ("def f(x: 'other'): return x", True),
        ("def f(x) -> 'list[other]': return x", True),
        ("@other\ndef f(x): return x", True),
        ("def f(x):\n    def g():\n        return other\n    return g", True),
        ("def f(x):\n    def other(): ...\n    return other", False),
        ("def f(x):\n    try: ...\n    except ValueError as other: print(other)", False),
        ("class f:\n    def g(self): return other", True),
        ("class f(other): ...", True),
        ("f = lambda x: other", True),
        ("f = lambda other: other", False),
        ("f = g = other", True),
        ("def g(): return other\nf = g", True),
        ("def f(x): return x.other", False),
        ("def f(x): return f'{other}'", True),
        ("async def f(x): return await other()", True),
        ("def f(x):\n    with x as other: return other", False),
        ("def f(x):\n    for other in x: print(other)", False),
        ("def f(x):\n    x += other", True),
    ],
)
def test_names_are_followed_as_python_binds_them(tmp_path: Path, code: str, reached: bool) -> None:
    file = tmp_path / "m.py"
    file.write_text(f"def other(): return 1\n\n{code}\n")
    before = code_digest(tmp_path, ["m:f"])
    file.write_text(f"def other(): return 22\n\n{code}\n")
    assert (code_digest(tmp_path, ["m:f"]) != before) is reached


@pytest.mark.parametrize("seed", range(8))
def test_how_a_file_is_laid_out_changes_nothing(shop: Path, seed: int) -> None:
    rng, before = random.Random(seed), marks(shop)
    for file in shop.rglob("*.py"):
        lines = []
        for line in ast.unparse(ast.parse(file.read_text())).splitlines():
            indent = line[: len(line) - len(line.lstrip())]
            lines += rng.choice([[], [""], [f"{indent}# {rng.random()}"], ["", f"{indent}# why", ""]])
            lines.append(line + rng.choice(["", "   ", "  # so"]))
        file.write_text("\n".join(lines) + "\n")
    assert marks(shop) == before


@pytest.mark.parametrize("seed", range(8))
def test_one_edited_function_of_many_reaches_exactly_its_callers(tmp_path: Path, seed: int) -> None:
    rng, count = random.Random(seed), 24
    calls = {n: sorted(rng.sample(range(n), min(n, rng.randrange(3)))) for n in range(count)}
    home = {n: rng.randrange(4) for n in range(count)}

    def write(edited: int | None) -> dict[int, str]:
        for place in range(4):
            imports = "".join(f"import m{other}\n" for other in range(4) if other != place)
            body = "".join(
                f"def f{n}():\n    return {n}{'0' if n == edited else ''}"
                + "".join(f" + {f'm{home[c]}.' if home[c] != place else ''}f{c}()" for c in calls[n])
                + "\n\n"
                for n in range(count)
                if home[n] == place
            )
            (tmp_path / f"m{place}.py").write_text(imports + "\n" + body)
        return {n: code_digest(tmp_path, [f"m{home[n]}:f{n}"]) for n in range(count)}

    def reaches(n: int, edited: int) -> bool:
        return n == edited or any(reaches(c, edited) for c in calls[n])

    before = write(None)
    for edited in rng.sample(range(1, count), 4):
        after = write(edited)
        assert {n for n in before if before[n] != after[n]} == {n for n in before if reaches(n, edited)}


def test_a_file_that_cannot_be_parsed_counts_as_its_bytes(shop: Path) -> None:
    assert changed(shop, "rules.py", lambda text: text + "def (:\n") == set(STEPS)
    assert changed(shop, "rules.py", lambda text: text + "# so\n") == set(STEPS)


def test_a_data_file_of_a_package_counts_and_one_outside_does_not(shop: Path) -> None:
    before = marks(shop)
    (shop / "data").mkdir()
    (shop / "data" / "rows.csv").write_text("1\n")
    assert marks(shop) == before
    (shop / "shop" / "holidays.csv").write_text("2011-01-01\n")
    one = marks(shop)
    (shop / "shop" / "holidays.csv").write_text("2011-01-02\n")
    assert len({before["total"], one["total"], marks(shop)["total"]}) == 3


def test_the_whole_tree_counts_where_it_is_asked_for(shop: Path) -> None:
    before = code_digest(shop, ("*",))
    (shop / "shop" / "unrelated.py").write_text("# why\nX = 1\n")
    assert code_digest(shop, ("*",)) == before
    (shop / "shop" / "unrelated.py").write_text("X = 2\n")
    assert code_digest(shop, ("*",)) != before


def test_parameters_inputs_outputs_libraries_and_step_count_and_uncounted_ones_do_not(shop: Path) -> None:
    def mark(
        step: str = "shop.steps:double",
        x: object = 1,
        run: str = "r1",
        inputs: Mapping[str, str | Sequence[str]] | None = None,
        outputs: Sequence[str] = ("a", "b"),
        libraries: str = "l1",
    ) -> str:
        given = inputs if inputs is not None else {"table": "d1"}
        parameters = {"x": x, "run": run}
        return step_fingerprint(step, parameters, given, outputs, (), ("run",), shop, libraries, "")

    assert mark(run="r2") == mark() == mark(outputs=("b", "a")) == mark(inputs={"table": ["d1"]})
    marks = [mark(), mark(x=2), mark(x="1"), mark(inputs={"table": "d2"}), mark(inputs={"table": ["d1", "d1"]})]
    marks += [mark(outputs=("a",)), mark(libraries="l2"), mark(step="shop.steps:total"), mark(inputs={})]
    assert len(set(marks)) == len(marks)


def test_a_platform_step_counts_by_its_version_only(shop: Path) -> None:
    def mark(version: str, source: Path, libraries: str) -> str:
        return step_fingerprint("trilho.train.steps:pair", {}, {}, (), (), (), source, libraries, version)

    assert mark("1", shop, "l1") == mark("1", shop / "elsewhere", "l2")
    assert mark("2", shop, "l1") != mark("1", shop, "l1")


def test_the_code_that_a_standard_step_is_given_counts(shop: Path) -> None:
    def mark() -> str:
        code = ("shop.steps:double",)
        return step_fingerprint("trilho_runtime.fit:fit", {}, {}, ("model",), code, (), shop, "l1", "")

    before = mark()
    (shop / "shop" / "unrelated.py").write_text("X = 2\n")
    assert mark() == before
    (shop / "shop" / "rules.py").write_text(FILES["shop/rules.py"].replace("FACTOR = 2", "FACTOR = 3"))
    assert mark() != before


# ---- containers ------------------------------------------------------------------------------------------------


@pytest.fixture
def places(shop: Path) -> Places:
    return Places(python=Path(sys.executable), source=shop, folder=shop.parent, platform=Path(sys.executable))


COMPONENT = Component("comp-x", artifact_outputs={"out": ArtifactOutput({})}, executor="exec-x")


def test_a_container_of_ours_counts_as_its_step_and_not_by_its_image(places: Places) -> None:
    def mark(image: str = "img@sha256:1", code: str = "shop.steps:double", step: str = "shop.steps:double") -> str:
        env = {"TRILHO_CODE": code, "TRILHO_UNCOUNTED": "run,where"}
        box = Container(image, ("python", "-m", "trilho_runtime.step", step), ("--executor-input", "{{$}}"), env)
        return leaf_fingerprint(COMPONENT, box, {"x": 1, "run": "r1"}, {"in": "d"}, places, "l1")

    assert places.source is not None
    direct = step_fingerprint(
        "shop.steps:double", {"x": 1}, {"in": "d"}, ["out"], ["shop.steps:double"], (), places.source, "l1", ""
    )
    assert mark() == mark(image="img@sha256:2") == direct
    assert len({mark(), mark(code="*"), mark(step="shop.steps:total")}) == 3


def test_anybody_elses_container_counts_by_its_command_and_the_files_that_this_names(places: Places) -> None:
    script = places.folder / "train.py"
    script.write_text("print(1)\n")

    def mark(image: str = "python:3.11", arg: str = "--fast", env: str = "1", x: int = 1, table: str = "d") -> str:
        box = Container(image, ("python", "train.py"), (arg, "x" * 5000), {"A": env})
        return leaf_fingerprint(COMPONENT, box, {"x": x}, {"table": table}, places, "l1")

    marks = {mark(), mark(image="python:3.12"), mark(arg="--slow"), mark(env="2"), mark(x=2), mark(table="e")}
    assert len(marks) == 6
    before = mark()
    script.write_text("print(2)\n")
    assert mark() != before


@pytest.mark.parametrize(
    ("command", "args", "step"),
    [
        (("python", "-m", "trilho_runtime.step", "a.b:c"), ("--executor-input", "{{$}}"), "a.b:c"),
        (("python3", "-m", "trilho_runtime.step"), ("a:b", "--executor-input", "{{$}}"), "a:b"),
        (("python", "-m", "trilho_runtime.step"), ("--serve",), None),
        (("python", "-m", "trilho_runtime.server", "x"), (), None),
        (("sh", "-c", "true"), (), None),
    ],
)
def test_a_container_of_ours_is_known_by_its_command(
    command: tuple[str, ...], args: tuple[str, ...], step: str | None
) -> None:
    assert step_of(Container("img", command, args)) == step


# ---- libraries -------------------------------------------------------------------------------------------------


def test_an_interpreter_is_asked_once_until_its_folders_change(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = libraries_of(Path(sys.executable), home)
    asked: list[Path] = []

    def ask(python: Path) -> tuple[dict[str, str], list[str]]:
        asked.append(python)
        return {"pandas": "9"}, []

    monkeypatch.setattr(module, "_ask", ask)
    assert libraries_of(Path(sys.executable), home) == first
    assert asked == []
    (kept,) = (home / "cache").glob("python-*.json")
    known = json.loads(kept.read_text())
    known["folders"] = {folder: modified - 1 for folder, modified in known["folders"].items()}
    write_whole(kept, json.dumps(known))
    assert libraries_of(Path(sys.executable), home) != first
    assert asked == [Path(sys.executable)]


def test_what_the_platform_and_the_step_itself_know_of_libraries_is_the_same(home: Path, project_python: Path) -> None:
    import subprocess

    ask = "import trilho_runtime.steps.fingerprint as f; print(f.libraries_digest())"
    done = subprocess.run([project_python, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == libraries_of(project_python, home)


def test_an_interpreter_that_cannot_run_is_a_configuration_error(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot run trilho-runtime.*\nHint: .*-m pip install trilho-runtime"):
        libraries_of(tmp_path / "nopython", home)
