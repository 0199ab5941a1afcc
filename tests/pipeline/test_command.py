"""Telling commands apart: what the SDK compiles today, what older ones did, and what only looks like it."""

import warnings
from typing import Any

import pytest

from trilho.pipeline.workers.command import Component, Plain, StepCommand, read_command

warnings.simplefilter("ignore", FutureWarning)
dsl = pytest.importorskip("kfp.dsl")

KFP = ("kfp==2.17.0", "--no-deps", 'typing-extensions>=3.7.4,<5; python_version<"3.9"')
INDEX = ("--index-url", "https://a/simple", "--extra-index-url", "https://b/simple")
ENSURE = '\nif ! [ -x "$(command -v pip)" ]; then\n    python3 -m ensurepip || python3 -m ensurepip --user || '
ENSURE += "apt-get install python3-pip\nfi\n\n"
QUIET = "python3 -m pip install --quiet     --no-warn-script-location"
OLD = "program_path=$(mktemp -d)\nprintf '%s' \"$0\" > x.py\npython3 -m kfp.v2.components.executor_main --x x.py"


def work(n: int) -> int:
    return n


def words_of(**options: Any) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        component = dsl.component(work, base_image="python:3.11", **options)
    container = component.component_spec.implementation.container
    return [*container.command, *map(str, container.args)]


@pytest.mark.parametrize(
    ("options", "installs"),
    [
        ({}, (KFP,)),
        ({"install_kfp_package": False}, ()),
        ({"packages_to_install": ["tiny==1.0", "other[x]>=2,<3"]}, (("tiny==1.0", "other[x]>=2,<3"), KFP)),
        ({"packages_to_install": ["a; python_version > '3'", "it's"], "install_kfp_package": False},
         (("a; python_version > '3'", "it's"),)),
        ({"packages_to_install": ["kfp==2.1"]}, (("kfp==2.1",),)),
        ({"pip_index_urls": ["https://a/simple", "https://b/simple"], "pip_trusted_hosts": []}, ((*INDEX, *KFP),)),
        ({"pip_index_urls": ["https://a/simple"], "pip_trusted_hosts": ["h"], "packages_to_install": ["tiny"]},
         (("--index-url", "https://a/simple", "--trusted-host", "h", "tiny"),
          ("--index-url", "https://a/simple", "--trusted-host", "h", *KFP))),
        ({"kfp_package_path": "git+https://x/y@refs/pull/1/head#egg=kfp"},
         (("git+https://x/y@refs/pull/1/head#egg=kfp", "--no-deps"),)),
        ({"use_venv": True, "packages_to_install": ["tiny"]}, (("tiny",), KFP)),
        ({"use_venv": True}, (KFP,)),
    ],
)  # fmt: skip
def test_what_the_sdk_compiles(options: dict[str, Any], installs: tuple[tuple[str, ...], ...]) -> None:
    words = words_of(**options)
    found = read_command(words)
    assert isinstance(found, Component)
    assert found.installs == installs
    assert found.module == "kfp.dsl.executor_main"
    assert found.words == tuple(words[3:] if installs else words)
    assert found.words[:2] == ("sh", "-ec")


@pytest.mark.parametrize(
    "script",
    [
        f"{ENSURE}PIP_DISABLE_PIP_VERSION_CHECK=1 {QUIET} 'kfp==2.0.1' 'tiny' && \"$0\" \"$@\"\n",
        f"{ENSURE}PIP_DISABLE_PIP_VERSION_CHECK=1 {QUIET} 'kfp==2.0.1' 'tiny' && exec \"$0\" \"$@\"\n",
        f"({QUIET} 'kfp==2.0.1' 'tiny' || {QUIET} 'kfp==2.0.1' 'tiny' --user) && \"$0\" \"$@\"",
        'set -e\nexport PIP_DISABLE_PIP_VERSION_CHECK=1\npip3 install -q kfp==2.0.1 tiny; "$0" "$@"',
    ],
)
def test_what_older_ones_compiled(script: str) -> None:
    found = read_command(["sh", "-c", script, "sh", "-ec", OLD, "def f(): ...", "--executor_input", "{{$}}"])
    assert isinstance(found, Component)
    assert found.installs == (("kfp==2.0.1", "tiny"),)
    assert found.module == "kfp.v2.components.executor_main"
    assert found.words[2] == OLD


@pytest.mark.parametrize(
    "script",
    [
        'apt-get install -y gcc && pip install tiny && "$0" "$@"',
        'pip install -r requirements.txt > /dev/null && "$0" "$@"',
        'pip install "$PACKAGE" && "$0" "$@"',
        'PIP_INDEX_URL=https://x pip install tiny && "$0" "$@"',
        'pip install --target /opt/x tiny && "$0" "$@"',
        'export MODE=fast; pip install tiny && "$0" "$@"',
        '. ./settings.sh; pip install tiny && "$0" "$@"',
        'pip install tiny && "$0" "$@" && echo done',
        "pip install tiny && python train.py",
        "pip install 'tiny",
        "python -m pip install tiny",
        "uv pip install --system tiny",
    ],
)
def test_a_script_that_does_anything_else_is_no_preamble(script: str) -> None:
    words = ("sh", "-c", script, "echo", "x")
    assert read_command(words) == Plain(words, installs=True)


def test_a_command_that_installs_nothing_is_plain() -> None:
    for words in (("sh", "-c", "echo pip is not installed", "x"), ("echo", "{{$}}"), ("sh", "-c"), ("true",)):
        assert read_command(words) == Plain(words)
    assert read_command(["pip", "install", "tiny"]) == Plain(("pip", "install", "tiny"), installs=True)


def test_a_component_of_an_image_is_told_by_its_module() -> None:
    words = ("python3", "-m", "kfp.dsl.executor_main", "--executor_input", "{{$}}", "--function_to_execute", "work")
    assert read_command(words) == Component(words, "kfp.dsl.executor_main")


def test_steps_of_ours_and_their_options() -> None:
    start = ["/opt/bin/python3.12", "-m", "trilho_runtime.step", "shop.steps:fit", "--executor-input", "{{$}}"]
    rest = ["--root", "gs://b", "--run", "r", "--task", "t", "--path", "/src", "--timeout", "60", "--no-cache"]
    assert read_command([*start, *rest]) == StepCommand(start[0], "shop.steps:fit", ("/src",), 60.0)
    odd = read_command([*start, "--verbose"])
    assert isinstance(odd, StepCommand)
    assert not odd.known
    unresolved = read_command([*start, "--timeout", "{{$.inputs.parameters['t']}}"])
    assert isinstance(unresolved, StepCommand)
    assert (unresolved.timeout, unresolved.known) == (None, False)
    assert isinstance(read_command([*start[:3], "--serve"]), Plain)
