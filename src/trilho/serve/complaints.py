"""Failures that are said once: what fails in a pass fails in the next one too, a moment later."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from trilho.errors import TrilhoError

log = logging.getLogger("trilho")


class Complaints:
    """What was said of one model."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._said: set[str] = set()

    @contextlib.contextmanager
    def about(self, what: str) -> Iterator[None]:
        """Log a failure once, and go on: the others need looking after all the same."""
        try:
            yield
        except TrilhoError as error:
            if what not in self._said:
                log.error("%s: %s: %s", self._model, what, error)
                self._said.add(what)
