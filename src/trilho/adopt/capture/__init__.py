"""Runs a notebook in its own interpreter, sandboxed, and gives what was seen."""

from trilho.adopt.capture.interpreter import Interpreter, find_interpreter
from trilho.adopt.capture.run import Progress, capture

__all__ = ["Interpreter", "Progress", "capture", "find_interpreter"]
