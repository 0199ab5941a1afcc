"""Tests of compiled models run where a data scientist's libraries are: tests/runtime/test_compiled.py starts them."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("sklearn") and find_spec("pandas") else ["*.py"]
