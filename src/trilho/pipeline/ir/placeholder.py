"""Puts values in the place of {{$...}} in a container's texts, and reads its {"Concat"} and {"IfPresent"}."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trilho.pipeline.ir.expression import text_of
from trilho.pipeline.ir.spec import Component, Container

PLACEHOLDER = re.compile(r"\{\{\$((?:(?!\}\}).)*)\}\}", re.DOTALL)
PARAMETER = re.compile(r"""\.inputs\.parameters\[(['"])(?P<name>.+?)\1\]""")
OUTPUT_FILE = re.compile(r"""\.outputs\.parameters\[(['"])(?P<name>.+?)\1\]\.output_file""")
ARTIFACT = re.compile(
    r"""\.(?P<side>inputs|outputs)\.artifacts\[(['"])(?P<name>.+?)\2\](?:\[(?P<index>\d+)\])?"""
    r"""\.(?P<field>uri|path|name|metadata)(?:\[(['"])(?P<key>.+?)\6\])?"""
)
ESCAPED = re.compile(r"\.json_escape\[(\d+)\]$")
MANY = 1000  # artifacts that one input may be
STRUCTS = re.compile(r'\s*\{\s*"(Concat|IfPresent)"\s*:')


class PlaceholderError(ValueError):
    """A placeholder stands for something that is not there."""


@dataclass(frozen=True)
class Filling:
    """What placeholders stand for: an executor input, and facts about the run such as "pipeline_job_name"."""

    request: Mapping[str, Any]
    facts: Mapping[str, str]

    def words(self, texts: Sequence[str]) -> list[str]:
        """Fill in a command's words; one that is a list becomes several, one that is absent none.

        >>> filling = Filling({"inputs": {"parameterValues": {"n": 3}}}, {})
        >>> present = '{"IfPresent": {"InputName": "n", "Then": ["--n", "{{$.inputs.parameters[\\'n\\']}}"]}}'
        >>> filling.words(["run", present, '{"IfPresent": {"InputName": "m", "Then": ["--m"]}}'])
        ['run', '--n', '3']
        """
        found: list[str] = []
        for text in texts:
            found += self._struct(_read(text)) if STRUCTS.match(text) else [self.text(text)]
        return found

    def text(self, text: str) -> str:
        """Fill in a text. What is filled in is not read again.

        >>> Filling({}, {"pipeline_job_name": "r1"}).text("run {{$.pipeline_job_name}}")
        'run r1'
        """
        return PLACEHOLDER.sub(lambda found: text_of(self._stands_for(found[1])), text)

    def value(self, given: Any) -> Any:
        """Fill in the texts of a constant; one that is a parameter's placeholder and nothing else keeps its type."""
        if isinstance(given, Mapping):
            return {self.text(str(key)): self.value(one) for key, one in given.items()}
        if isinstance(given, (list, tuple)):
            return [self.value(one) for one in given]
        if not isinstance(given, str):
            return given
        whole = PLACEHOLDER.fullmatch(given)
        return self._stands_for(whole[1]) if whole and PARAMETER.fullmatch(whole[1]) else self.text(given)

    def _stands_for(self, inside: str) -> Any:
        escaped = ESCAPED.search(inside)
        if escaped is not None:
            text = text_of(self._stands_for(inside[: escaped.start()]))
            for _ in range(int(escaped[1])):
                text = json.dumps(text, ensure_ascii=False)[1:-1]
            return text
        if inside == "":
            return dict(self.request)
        if inside.removeprefix(".") in self.facts:
            return self.facts[inside.removeprefix(".")]
        if (found := PARAMETER.fullmatch(inside)) is not None:
            return _part(self.request, inside, "inputs", "parameterValues", found["name"])
        if (found := OUTPUT_FILE.fullmatch(inside)) is not None:
            return _part(self.request, inside, "outputs", "parameters", found["name"], "outputFile")
        if inside in (".outputs.output_file", ".outputs.output_metadata_uri", ".outputMetadataUri"):
            return _part(self.request, inside, "outputs", "outputFile")
        if (found := ARTIFACT.fullmatch(inside)) is not None:
            return self._artifact(inside, found)
        raise PlaceholderError(f"{{{{${inside}}}}} stands for nothing here")

    def _artifact(self, inside: str, found: re.Match[str]) -> Any:
        field = "uri" if found["field"] == "path" else found["field"]
        listed = _part(self.request, inside, found["side"], "artifacts", found["name"], "artifacts")
        index = int(found["index"] or 0)
        if index >= len(listed):
            raise PlaceholderError(f"{{{{${inside}}}}}: there are {len(listed)} artifacts")
        value = listed[index].get(field, "")
        return value if found["key"] is None else _part(value, inside, found["key"])

    def _struct(self, item: Any) -> list[str]:
        if isinstance(item, str):
            return [self.text(item)]
        if isinstance(item, list):
            return [word for one in item for word in self._struct(one)]
        if isinstance(item, Mapping) and len(item) == 1:
            if "Concat" in item:
                return ["".join(self._struct(item["Concat"]))]
            if "IfPresent" in item:
                choice = item["IfPresent"]
                if not isinstance(choice, Mapping):
                    raise PlaceholderError(f"IfPresent holds {json.dumps(choice)[:80]}, which is no map")
                branch = choice.get("Then") if self._is_present(choice.get("InputName")) else choice.get("Else")
                return [] if branch is None else self._struct(branch)
        raise PlaceholderError(f"{json.dumps(item)[:80]} is neither text nor Concat nor IfPresent")

    def _is_present(self, name: Any) -> bool:
        inputs = self.request.get("inputs", {})
        value = inputs.get("parameterValues", {}).get(name)
        return value is not None or bool(inputs.get("artifacts", {}).get(name, {}).get("artifacts"))


def check_container(component: Component, container: Container, facts: Mapping[str, str]) -> None:
    """Raise PlaceholderError for what stands for nothing, whatever a container of this component will be given."""
    entry = {"uri": "", "name": "", "metadata": _Anything()}
    sides = ((component.artifact_inputs, "inputs"), (component.artifact_outputs, "outputs"))
    artifacts = {side: {name: {"artifacts": [entry] * MANY} for name in held} for held, side in sides}
    files = {name: {"outputFile": ""} for name in component.outputs}
    filling = Filling(
        {
            "inputs": {"parameterValues": dict.fromkeys(component.inputs, ""), "artifacts": artifacts["inputs"]},
            "outputs": {"outputFile": "", "parameters": files, "artifacts": artifacts["outputs"]},
        },
        facts,
    )
    filling.words([*container.command, *container.args])
    for text in container.env.values():
        filling.text(text)


class _Anything(dict[str, str]):
    """Metadata of which nothing is known yet."""

    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, _: str) -> str:
        return ""


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _part(of: Any, inside: str, *keys: str) -> Any:
    for key in keys:
        if not isinstance(of, Mapping) or key not in of:
            raise PlaceholderError(f"{{{{${inside}}}}}: there is no {key}")
        of = of[key]
    return of
