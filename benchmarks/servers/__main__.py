"""Measure other products' servers beside ours: `python -m benchmarks.servers FOLDER [WORD]... [--rounds 3]`.

The environments are made in FOLDER and kept; words choose the products whose name has one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.measure import table
from benchmarks.servers.comparing import compare


def main(arguments: list[str]) -> int:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    lines = compare(given.folder, given.rounds, given.words)
    print("", *table(lines), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
