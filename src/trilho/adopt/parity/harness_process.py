"""The harness: run by path with the project's interpreter, under a name of its own, so that it shadows no module."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trilho.pipeline.workers.environment import clean

HERE = Path(__file__).parent
BOOT = """
import sys, types
sys.path[:] = [folder for folder in sys.path if folder]
package = types.ModuleType("trilho_parity")
package.__path__ = [sys.argv[1]]
sys.modules["trilho_parity"] = package
main = __import__(f"trilho_parity.harness.{sys.argv[2]}", fromlist=["main"]).main
sys.exit(main(sys.argv[3]))
"""


class HarnessFailed(Exception):
    """The project's interpreter ended before it had said what it found."""


def run_harness(
    part: str, request: Mapping[str, Any], *, python: Path, project: Path, seconds: float
) -> dict[str, Any]:
    """Run one part of the harness in the project's folder, and give what it leaves. Raises HarnessFailed."""
    folder = Path(request["folder"])
    told, result = folder / f"{part}.request.json", folder / f"{part}.json"
    told.write_text(json.dumps(request), encoding="utf-8")
    result.unlink(missing_ok=True)
    words = [str(python), "-c", BOOT, str(HERE), part, str(told)]
    try:
        with (folder / f"{part}.log").open("wb") as log:
            done = subprocess.run(
                words, cwd=project, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=seconds,
                env=clean(os.environ) | {"MPLBACKEND": "Agg"},
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise HarnessFailed(f"it took more than {seconds:g} seconds") from None
    except OSError as error:
        raise HarnessFailed(f"{python} cannot be started: {error.strerror}") from None
    try:
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise HarnessFailed(f"its process ended with exit code {done.returncode}: {_last(folder, part)}") from None
    return found


def _last(folder: Path, part: str) -> str:
    lines = (folder / f"{part}.log").read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
