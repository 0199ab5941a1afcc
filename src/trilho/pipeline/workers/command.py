"""What a container's command is: a step of trilho's, a component of the KFP SDK, or anything else.

A KFP component that installs packages starts with a shell script that does so and then runs `"$0" "$@"`, the words
after it. The script is read, never run: what it would install is known by name, and what comes after it runs where
that is installed. A script with anything in it that is not known is no such preamble.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

PYTHON = re.compile(r"python(3(\.\d+)?)?")
SHELLS = ("sh", "bash", "dash")
STEP_MODULE = "trilho_runtime.step"
KFP_EXECUTOR = re.compile(r"-m\s+(kfp(?:\.\w+)*\.executor_main)\b")
EPHEMERAL = re.compile(
    r'program_path=\$\(mktemp -d\) printf "%s" "\$0" > "\$program_path/ephemeral_component\.py" '
    r"(?:_KFP_RUNTIME=true )?python3 -m (kfp(?:\.\w+)*\.executor_main) "
    r'--component_module_path "\$program_path/ephemeral_component\.py" "\$@"'
)
PIP = re.compile(r"(?:^|[\s;&|(/'\"])(?:pip3?|pip3?\.\d+|uv\s+pip)['\"]?\s+install\b|-m\s+pip\s+install\b")
KEYWORDS = frozenset({"if", "then", "else", "elif", "fi", "!", "do", "done", "{", "}"})
HARMLESS = frozenset({"[", "test", "true", ":", "command", "mktemp", "set"})
SETTLED = ("PIP_DISABLE_PIP_VERSION_CHECK=", "PIP_ROOT_USER_ACTION=")
REST = (["$0", "$@"], ["exec", "$0", "$@"])
QUIET = frozenset({"-q", "--quiet", "--no-warn-script-location", "--user", "--disable-pip-version-check"})
ELSEWHERE = ("-t", "--target", "--prefix", "--root")
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True)
class StepCommand:
    """`python -m trilho_runtime.step MODULE:NAME ...`."""

    python: str
    reference: str
    path: tuple[str, ...] = ()
    timeout: float | None = None
    known: bool = True
    """Whether every option was understood, so that the step may be run in another way."""


@dataclass(frozen=True)
class Component:
    """A component of the KFP SDK: what pip is asked to install, in order, then the words to run."""

    words: tuple[str, ...]
    module: str
    """The SDK's module that runs the function."""
    installs: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Plain:
    """Any other command."""

    words: tuple[str, ...]
    installs: bool = False
    """Whether it calls pip itself, in a way that cannot be told from the rest."""


Command = StepCommand | Component | Plain


def read_command(words: Sequence[str]) -> Command:
    """Say what a container's command and arguments are, with or without their placeholders filled in.

    >>> script = "python3 -m pip install --quiet 'kfp==2.17.0' '--no-deps' && \\"$0\\" \\"$@\\""
    >>> read_command(["sh", "-c", script, "sh", "-ec", "python3 -m kfp.dsl.executor_main"]).installs
    (('kfp==2.17.0', '--no-deps'),)
    """
    words = tuple(words)
    installs: tuple[tuple[str, ...], ...] = ()
    rest = words
    if _is_script(words):
        found = _installs(words[2])
        if found is not None and len(words) > 3:
            installs, rest = found, words[3:]
    step = _step(rest)
    if step is not None and not installs:
        return step
    executor = KFP_EXECUTOR.search(" ".join(rest[:3]))
    if installs or executor is not None:
        return Component(rest, executor[1] if executor is not None else "", installs)
    return Plain(words, _calls_pip(words))


def ephemeral(words: Sequence[str]) -> tuple[str, str, tuple[str, ...]] | None:
    """Give the module, the source and the arguments of a component's function, where its words are the SDK's own."""
    if len(words) < 4 or not _is_script(words):
        return None
    found = EPHEMERAL.fullmatch(" ".join(words[2].split()))
    return (found[1], words[3], tuple(words[4:])) if found is not None else None


def is_python(word: str) -> bool:
    """Say whether a word names a Python, by whatever path.

    >>> [is_python(word) for word in ("python", "/usr/bin/python3.11", "pythonw2", "sh")]
    [True, True, False, False]
    """
    return PYTHON.fullmatch(PurePosixPath(word).name) is not None


def _is_script(words: Sequence[str]) -> bool:
    shell = len(words) > 2 and PurePosixPath(words[0]).name in SHELLS
    return shell and re.fullmatch(r"-[a-z]*c", words[1]) is not None


def _calls_pip(words: Sequence[str]) -> bool:
    return PIP.search(words[2] if _is_script(words) else " ".join(words[:4])) is not None


def _step(words: Sequence[str]) -> StepCommand | None:
    if len(words) < 4 or not is_python(words[0]) or tuple(words[1:3]) != ("-m", STEP_MODULE) or words[3][:1] == "-":
        return None
    values = {"--path": list[str](), "--timeout": list[str]()}
    known, at = True, 4
    while at < len(words):
        if words[at] in ("--executor-input", "--root", "--run", "--task", *values) and at + 1 < len(words):
            values.get(words[at], []).append(words[at + 1])
            at += 2
        else:
            known &= words[at] == "--no-cache"
            at += 1
    try:
        seconds = min(map(float, values["--timeout"]), default=None)
    except ValueError:  # a placeholder, or what the step itself will complain of
        seconds, known = None, False
    return StepCommand(words[0], words[3], tuple(values["--path"]), seconds, known)


def _installs(script: str) -> tuple[tuple[str, ...], ...] | None:
    """Give what a preamble installs; None where the script is no preamble or does anything else."""
    try:
        commands = list(_simple_commands(script))
    except ValueError:
        return None
    if not commands or commands[-1] not in REST:
        return None
    found: list[tuple[str, ...]] = []
    for words in commands[:-1]:
        arguments = _pip_arguments(words)
        if arguments is None and not _is_harmless(words):
            return None
        if arguments and tuple(arguments) not in found and not any(word.startswith(ELSEWHERE) for word in arguments):
            found.append(tuple(arguments))
    return tuple(found) if found else None


def _simple_commands(script: str) -> Iterator[list[str]]:
    """Split a script at everything that ends a command, without keywords and assignments that change nothing."""
    parts = shlex.shlex(script, posix=True, punctuation_chars=";&|()\n<>")
    parts.whitespace = " \t\r"
    parts.whitespace_split = True
    parts.commenters = ""
    words: list[str] = []
    for part in parts:
        if set(part) <= set(";&|()\n"):
            yield from _bare(words)
            words = []
        elif set(part) <= set("<>") or "`" in part:
            raise ValueError("a redirection or a substitution")
        else:
            words.append(part)
    yield from _bare(words)


def _bare(words: Sequence[str]) -> Iterator[list[str]]:
    at = 0
    while at < len(words) and (words[at] in KEYWORDS or words[at].startswith(SETTLED)):
        at += 1
    if at < len(words) and not (at == len(words) - 1 and ASSIGNMENT.match(words[at])):
        yield list(words[at:])


def _pip_arguments(words: Sequence[str]) -> list[str] | None:
    if PYTHON.fullmatch(words[0]) and list(words[1:4]) == ["-m", "pip", "install"]:
        given = words[4:]
    elif re.fullmatch(r"pip3?(\.\d+)?", words[0]) and list(words[1:2]) == ["install"]:
        given = words[2:]
    else:
        return None
    if any("$" in word or word.startswith(ELSEWHERE) for word in given):
        return None
    return [word for word in given if word not in QUIET]


def _is_harmless(words: Sequence[str]) -> bool:
    """Say whether a command only makes pip or an environment ready, which is done here in another way."""
    if words[0] in HARMLESS or (words[0] == "export" and all(word.startswith(SETTLED) for word in words[1:])):
        return True
    if words[0] in (".", "source"):
        return words[-1].endswith("/bin/activate")
    if PYTHON.fullmatch(words[0]):
        return list(words[1:3]) in (["-m", "ensurepip"], ["-m", "venv"])
    return words[0] == "apt-get" and "python3-pip" in words
