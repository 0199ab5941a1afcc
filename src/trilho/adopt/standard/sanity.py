"""Whether a merged file is still one of its kind: a merge by lines knows nothing of what it merges."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections import Counter
from pathlib import PurePosixPath
from typing import Any

INSTRUCTION = re.compile(
    "ADD|ARG|CMD|COPY|ENTRYPOINT|ENV|EXPOSE|FROM|HEALTHCHECK|LABEL|MAINTAINER|ONBUILD|RUN|SHELL|STOPSIGNAL|USER|VOLUME"
    "|WORKDIR"
)
DIRECTIVE = re.compile(r"(-?include|sinclude|ifn?eq|ifn?def|else|endif|export|unexport|override|vpath|undefine)\b")
ASSIGNMENT = re.compile(r"[^\s:#=]+\s*(?:::?:?|[?+!])?=")
RULE = re.compile(r"(?P<targets>[^\s:#=][^:#=]*?)\s*&?::?(?!=)")
MARKERS = re.compile(r"^(?:<{7}|>{7}|\|{7})(?: |$)", re.MULTILINE)


def problem_of(name: str, text: str) -> str:
    """Say what is wrong with a file by its name, "" where nothing is.

    >>> problem_of("a.toml", "x = 1\\nx = 2\\n")
    'it is not TOML: Cannot overwrite a value (at line 2, column 6)'
    >>> problem_of("notes.md", "anything\\n")
    ''
    """
    path = PurePosixPath(name)
    if MARKERS.search(text):
        return "it has the markers of a conflict"
    try:
        if path.suffix in (".yaml", ".yml"):
            _check_yaml(text)
        elif path.suffix == ".toml":
            tomllib.loads(text)
        elif path.suffix == ".json":
            json.loads(text)
        elif path.suffix == ".py":
            ast.parse(text)
        elif path.name == "Makefile":
            _check_makefile(text)
        elif path.name == "Dockerfile":
            _check_dockerfile(text)
    except (ValueError, SyntaxError, RecursionError) as error:
        kind = {".yml": "YAML", ".yaml": "YAML", ".toml": "TOML", ".json": "JSON", ".py": "Python"}
        said = " ".join(str(error).split())
        return f"it is not {kind[path.suffix]}: {said}" if path.suffix in kind else said
    return ""


def _check_yaml(text: str) -> None:
    """Read YAML, where a key that is there twice is an error: the last one would silently win."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that is there twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = Counter(str(key.value) for key, _ in node.value)
            twice = [name for name, count in names.items() if count > 1 and name != "<<"]
            if twice:
                raise ValueError(f"{twice[0]} is there twice{node.start_mark}")
            return super().construct_mapping(node, deep)

    try:
        for _ in yaml.load_all(text, Loader):
            pass
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _check_makefile(text: str) -> None:
    """Hold each line against what make's lines can be, count what opens and closes, and look for rules given twice."""
    depth, defining, in_rule, recipes = 0, False, False, Counter[str]()
    targets: list[str] = []
    for number, line in _logical_lines(text):
        word = line.split(maxsplit=1)[0] if line.split() else ""
        if defining:
            defining = word != "endef"
        elif line.startswith("\t"):
            if not in_rule:
                raise ValueError(f"line {number}: a recipe without a rule")
            recipes.update(targets)
            targets = []
        elif not word or word.startswith("#"):
            continue
        elif word == "define":
            defining = True
        elif DIRECTIVE.match(line.strip()):
            depth += word.startswith(("ifeq", "ifneq", "ifdef", "ifndef")) - (word == "endif")
            if depth < 0:
                raise ValueError(f"line {number}: endif without an if")
        elif ASSIGNMENT.match(line):
            in_rule, targets = False, []
        elif match := RULE.match(line):
            in_rule, targets = True, [] if ".PHONY" in match["targets"] else match["targets"].split()
        elif not line.startswith("$("):
            raise ValueError(f"line {number}: no rule, variable or recipe of make: {line.strip()[:60]!r}")
    twice = [target for target, count in recipes.items() if count > 1 and "%" not in target]
    if depth or defining or twice:
        raise ValueError(f"{twice[0]} has two recipes" if twice else "an if or a define that does not end")


def _check_dockerfile(text: str) -> None:
    lines = [(n, line) for n, line in _logical_lines(text, comments=True) if line.strip()]
    words = [(number, line.split()[0].upper()) for number, line in lines]
    wrong = next(((number, word) for number, word in words if not INSTRUCTION.fullmatch(word)), None)
    if wrong:
        raise ValueError(f"line {wrong[0]}: {wrong[1]} is no instruction of a Dockerfile")
    first = next((word for _, word in words if word != "ARG"), "")
    if first != "FROM":
        raise ValueError("it does not begin FROM an image")


def _logical_lines(text: str, *, comments: bool = False) -> list[tuple[int, str]]:
    """Join lines that end in a backslash; a Dockerfile's comments may stand in between them."""
    found: list[tuple[int, str]] = []
    open_ = False
    for number, line in enumerate(text.splitlines(), 1):
        if comments and line.lstrip().startswith("#"):
            continue
        if open_:
            found[-1] = (found[-1][0], found[-1][1] + line)
        else:
            found.append((number, line))
        open_ = line.endswith("\\")
        found[-1] = (found[-1][0], found[-1][1].removesuffix("\\"))
    return found
