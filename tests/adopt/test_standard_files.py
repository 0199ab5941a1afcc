"""The standard's files as they are rendered: they parse, they pass their own linters, and they pin what they name."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from trilho.adopt.scaffold import standard_files, write_project
from trilho.adopt.standard import pins
from trilho.adopt.standard.base import BASE, read_base
from trilho.adopt.standard.render import Values, render
from trilho.adopt.standard.sanity import problem_of
from trilho.secrets import check

EXPECTED = {
    ".dockerignore", ".env.example", ".gitattributes", ".github/CODEOWNERS", ".github/dependabot.yml",
    ".github/workflows/ci.yaml", ".gitignore", ".pre-commit-config.yaml", "CHANGELOG.md", "Dockerfile", "Makefile",
    "README.md", "cloudbuild.yaml", "pyproject.toml", "requirements-platform.lock", "requirements.txt",
    "tools/check_secrets.py", "tools/hooks/pre-commit", "wheels/README.md",
}  # fmt: skip


def values(**changed: object) -> Values:
    given: dict[str, object] = {"name": "late-trains", "package": "late_trains", "task": "classification"}
    return Values(**{**given, **changed})  # type: ignore[arg-type]


def tool(name: str) -> str:
    """Find a linter that is a development dependency."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: make .venv/.dev")
    return found


def run(*words: str | Path, **more: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module", params=["3.10", "3.12"])
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The standard for a project of an old and of a newer Python, one with a library that needs one of Debian's."""
    folder = tmp_path_factory.mktemp("standard")
    libraries = ("pandas", "lightgbm") if request.param == "3.10" else ("pandas",)
    for name, text in render(values(python=request.param, libraries=libraries)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_the_standard_is_these_files() -> None:
    assert set(render(values())) == EXPECTED


def test_the_same_values_give_the_same_texts() -> None:
    assert render(values()) == render(Values.from_json(json.loads(json.dumps(values().as_json()))))


@pytest.mark.parametrize("python", [*pins.BASES, "3.99"])
def test_every_file_parses_and_holds_no_secret(python: str) -> None:
    files = render(values(python=python, owner="@shop/forecasting", secrets=("WAREHOUSE_PASSWORD",)))
    assert {name: problem_of(name, text) for name, text in files.items() if problem_of(name, text)} == {}
    assert check(files.items()) == []
    assert {name for name, text in files.items() if not text.endswith("\n")} == set()
    assert {name for name, text in files.items() if "<<" in text or "<%" in text} <= {"tools/check_secrets.py"}


@pytest.mark.parametrize(("python", "base"), [("3.10", "3.10"), ("3.13", "3.13"), ("3.99", "3.14")])
def test_the_image_is_of_the_projects_python_by_its_digest(python: str, base: str) -> None:
    docker = render(values(python=python))["Dockerfile"]
    froms = re.findall(r"^FROM (\S+)", docker, re.MULTILINE)
    assert froms[0] == f"docker.io/library/python:{base}-slim-trixie@sha256:{pins.BASES[base]}"
    assert set(froms[1:]) == {"base", "build"}
    assert docker.count("USER 10001:10001") == 2
    assert "TRILHO_PLATFORM_PYTHON=/opt/platform/bin/python" in docker


def test_digests_and_commits_are_whole_and_each_another() -> None:
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in pins.BASES.values())
    assert len(set(pins.BASES.values())) == len(pins.BASES)
    used = set(re.findall(r"uses: (\S+)", render(values())[".github/workflows/ci.yaml"]))
    assert {re.sub(r"[0-9a-f]{40}$", "SHA", one) for one in used} == {
        "actions/checkout@SHA",
        "actions/setup-python@SHA",
    }


def test_ci_does_what_the_standard_promises() -> None:
    files = render(values())
    jobs = yaml.safe_load(files[".github/workflows/ci.yaml"])["jobs"]
    steps = [step.get("run") for step in jobs["check"]["steps"] if "run" in step]
    assert steps == ["make setup", "make lint", "make test", "make contract", "make compile", "make sample"]
    assert [step.get("run") for step in jobs["image"]["steps"] if "run" in step] == ["make image serving"]
    script = yaml.safe_load(files["cloudbuild.yaml"])["steps"][0]["args"][-1]
    assert re.findall(r"^make (\w+)", script, re.MULTILINE) == [
        "setup", "lint", "test", "contract", "compile", "sample", "wheels",
    ]  # fmt: skip
    targets = set(re.findall(r"^([a-z]+):", files["Makefile"], re.MULTILINE))
    assert {line.split()[1] for line in steps if line} <= targets


def test_a_library_that_needs_one_of_debians_gets_it() -> None:
    assert "libgomp1" in render(values(libraries=("lightgbm==4.6.0",)))["Dockerfile"]
    assert "apt-get" not in render(values(libraries=("pandas",)))["Dockerfile"]


def test_names_of_secrets_become_references() -> None:
    assert "DB_PASSWORD=secret://db-password\n" in render(values(secrets=("DB_PASSWORD",)))[".env.example"]


def test_a_sentence_with_quotes_and_braces_stays_what_it_is() -> None:
    files = render(values(summary='Says "yes"\nto {{ x }} and <% y %> \\ of $z', story=(("A {% b", "<< c >>"),)))
    assert tomllib.loads(files["pyproject.toml"])["project"]["description"].startswith("Says 'yes' to {{ x }}")
    assert "## A {% b\n\n<< c >>\n" in files["README.md"]


def test_the_platforms_packages_are_pinned() -> None:
    lines = pins.platform_lock()
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.+!]+", line) for line in lines)
    names = {line.partition("==")[0] for line in lines}
    assert {"duckdb", "pydantic", "pydantic-core", "jinja2", "markupsafe", "typer", "granian", "ruff"} <= names
    assert names.isdisjoint({"trilho", "trilho-runtime", "google-cloud-storage", "pytest"})


def test_the_base_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    files = standard_files(values(story=(("Data", "Two\nlines"),)))
    (tmp_path / BASE).write_text(files[BASE])
    base = read_base(tmp_path)
    assert base is not None
    assert base.values == values(story=(("Data", "Two\nlines"),))
    assert base.files == {name: text for name, text in files.items() if name != BASE}


def test_python_files_are_clean_by_the_projects_own_rules(tmp_path: Path) -> None:
    folder = tmp_path / "a-model-with-quite-a-long-name-for-its-package"
    write_project(folder, folder.name, "regression")
    ruff = tool("ruff")
    run(ruff, "check", "--no-cache", ".", cwd=folder)
    run(ruff, "format", "--check", "--no-cache", ".", cwd=folder)
    for path in folder.rglob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 10))


def test_hadolint_finds_nothing(tree: Path) -> None:
    assert run(tool("hadolint"), tree / "Dockerfile") == ""


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.github-workflows", ".github/workflows/ci.yaml"),
        ("vendor.dependabot", ".github/dependabot.yml"),
        ("vendor.cloudbuild", "cloudbuild.yaml"),
        ("custom.github-workflows-require-timeout", ".github/workflows/ci.yaml"),
    ],
)
def test_workflows_satisfy_their_schemas(tree: Path, schema: str, file: str) -> None:
    run(tool("check-jsonschema"), "--builtin-schema", schema, tree / file)


def test_pre_commit_runs_the_projects_own_script_and_a_pinned_ruff() -> None:
    files = render(values())
    hooks = yaml.safe_load(files[".pre-commit-config.yaml"])["repos"][0]["hooks"]
    assert [hook["id"] for hook in hooks] == ["secrets", "ruff", "ruff-format"]
    assert hooks[0]["entry"].split()[1] in files
    assert hooks[1]["additional_dependencies"] == [f"ruff=={pins.version_of('ruff', pins.RUFF)}"]


def test_make_knows_every_target_of_its_help(tree: Path) -> None:
    make = tool("make")
    listed = re.findall(r"^make (\w+)", run(make, "-s", "help", cwd=tree), re.MULTILINE)
    assert len(listed) > 10
    for target in listed:
        words = [make, "--dry-run", "TRILHO=/bin/true", "RUFF=/bin/true", "PROJECT=/bin/true", target]
        run(*words, cwd=tree)
