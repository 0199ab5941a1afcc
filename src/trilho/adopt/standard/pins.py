"""What the standard names by its content: base images, actions, and the packages that trilho itself runs with.

A digest of a base image is that of the index over all platforms, as docker-library/repo-info lists it; an action is
named by the commit that its tag is.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from typing import Any, NamedTuple

OLDEST_PLATFORM = "3.11"
BASES = {
    "3.10": "63669fd2563fa90b0442fa7b568e66e3667755636cda086d7bcaaa895f66fe39",
    "3.11": "90744cff8f32887f075c47d747a173ff333e9e98801667af93c357fa9f5e28ff",
    "3.12": "229a2c5bfa27522db7815ea81f9bed70af17ccb9de9fc7ad142b1877b5830d36",
    "3.13": "9662417aace5ae7b8e2609cce472b72a8958e134ba372808abe9cc1a0c0125e6",
    "3.14": "e11c17f46f87983eb946b121694dedba6290ee2b0dd5294d137d82943502d179",
}


class Action(NamedTuple):
    """An action of GitHub's, by its commit."""

    commit: str
    tag: str


ACTIONS = {
    "checkout": Action("3d3c42e5aac5ba805825da76410c181273ba90b1", "v7.0.1"),
    "setup_python": Action("5fda3b95a4ea91299a34e894583c3862153e4b97", "v7.0.0"),
}
RUFF = "0.17.6"  # where none is installed to ask


def version_of(name: str, otherwise: str = "") -> str:
    """Give the version of a distribution that is installed here."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return otherwise


def requirement(name: str) -> str:
    """Give what pip is asked for to get a package of ours: its version, or the folder that it was installed from."""
    try:
        found = importlib.metadata.distribution(name)
        told: Any = json.loads(found.read_text("direct_url.json") or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return name
    return f"{name} @ {told['url']}" if "url" in told else f"{name}=={found.version}"


def renewed(kept: str) -> str:
    """Give a requirement in the version that is installed here; an address stays the address it is.

    >>> renewed("trilho @ file:///srv/trilho")
    'trilho @ file:///srv/trilho'
    """
    name = kept.partition("==")[0]
    version = version_of(name)
    return kept if " @ " in kept or not version else f"{name}=={version}"


def platform_lock() -> list[str]:
    """Pin what trilho runs with here, and the linter: every distribution that it needs, and those that these need."""
    found: dict[str, str] = {}
    waiting = ["trilho"]
    while waiting:
        for line in _required(waiting.pop()):
            name = re.sub(r"[-_.]+", "-", line).lower()
            version = version_of(name)
            if version and name not in found and name != "trilho-runtime":
                found[name] = version
            elif name != "trilho-runtime" or name in found:
                continue
            waiting.append(name)
    found["ruff"] = version_of("ruff", RUFF)
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _required(name: str) -> list[str]:
    """Name what a distribution requires without its extras; which of it counts here is told by what is installed."""
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names = (re.match(r"[\w.-]+", line) for line in lines if "extra ==" not in line.replace("extra==", "extra =="))
    return [match[0] for match in names if match]
