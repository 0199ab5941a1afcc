"""The command line: one module for each verb or small group of them; the only place that prints or exits."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `trilho` with the given arguments, or those of this process, and exit."""
    from trilho.cli.app import run

    raise SystemExit(run(arguments))
