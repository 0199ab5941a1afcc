"""What a notebook expects of its surroundings: display, get_ipython, In and Out, and its output kept."""

from __future__ import annotations

import io
import sys
from typing import Any

KEPT = 4000


class Output(io.TextIOBase):
    """Standard output or error: passed on, and its end kept."""

    def __init__(self, stream: Any, kept: list[str]) -> None:
        self.stream = stream
        self.kept = kept

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Give the encoding, as some libraries ask for it."""
        return "utf-8"

    def writable(self) -> bool:
        """Say yes."""
        return True

    def isatty(self) -> bool:
        """Say that nobody watches."""
        return False

    def fileno(self) -> int:
        """Give the stream's own number, for child processes."""
        return int(self.stream.fileno())

    def write(self, text: str) -> int:
        """Pass text on."""
        self.kept.append(text)
        if len(self.kept) > 2000:
            self.kept[:] = ["".join(self.kept)[-KEPT:]]
        self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Pass it on."""
        self.stream.flush()


class Shell:
    """The little of IPython that notebooks use."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        self.kept: list[str] = []
        self.user_ns = names
        self.execution_count = 1

    def install(self) -> None:
        """Put names into the namespace, and take over the output."""
        sys.stdout = Output(sys.__stdout__, self.kept)
        sys.stderr = Output(sys.__stderr__, self.kept)
        self.names.update(display=self.display, get_ipython=lambda: self, In=[""], Out={}, _="", __="", ___="")

    def display(self, *values: Any, **_: Any) -> None:
        """Show values as text."""
        for value in values:
            if value is not None:
                self.write(self.text(value))

    def show(self, value: Any) -> None:
        """Show the last value of a cell, and remember it as `_`."""
        if value is None:
            return
        self.names.update(___=self.names.get("__"), __=self.names.get("_"), _=value)
        self.names["Out"][self.execution_count] = value
        self.display(value)

    def text(self, value: Any) -> str:
        """Give a value's text; a value that can't be shown gives its class."""
        try:
            return repr(value)
        except Exception as error:  # noqa: BLE001  what fails in showing does not fail a cell
            return f"<{type(value).__name__}: {error!r}>"

    def write(self, text: str) -> None:
        """Print a line."""
        sys.stdout.write(text + "\n")

    def taken(self) -> str:
        """Give the end of what was printed since the last time."""
        text = "".join(self.kept)[-KEPT:]
        self.kept.clear()
        return text

    def run_line_magic(self, *_: Any, **__: Any) -> None:
        """Do nothing: magics have no effect here."""

    run_cell_magic = magic = system = run_line_magic

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None
