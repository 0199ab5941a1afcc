"""Wheels that tests build themselves, so that pip needs no index: a tiny one, and the installed SDK packed again."""

from __future__ import annotations

import importlib.metadata
import zipfile
from pathlib import Path

METADATA = "Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def tiny_wheel(folder: Path, version: str = "1.0") -> Path:
    """Build a package of one function: tiny.version()."""
    place = folder / f"tiny-{version}-py3-none-any.whl"
    info = f"tiny-{version}.dist-info"
    with zipfile.ZipFile(place, "w") as wheel:
        wheel.writestr("tiny.py", f"def version():\n    return {version!r}\n")
        wheel.writestr(f"{info}/METADATA", METADATA.format(version=version))
        wheel.writestr(f"{info}/WHEEL", WHEEL)
        wheel.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return place


def installed_wheel(folder: Path, name: str) -> Path:
    """Pack an installed pure Python package as the wheel that it was."""
    found = importlib.metadata.distribution(name)
    place = folder / f"{name}-{found.version}-py3-none-any.whl"
    with zipfile.ZipFile(place, "w") as wheel:
        for file in found.files or ():
            source = Path(str(found.locate_file(file)))
            if ".." not in file.parts and "__pycache__" not in file.parts and source.is_file():
                wheel.write(source, str(file))
    return place
