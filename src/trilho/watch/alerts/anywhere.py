"""E-mail and whatever else Apprise reaches, by one of its addresses."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from trilho.watch.alerts.letter import Letter, Undelivered
from trilho.watch.alerts.message import Message
from trilho.watch.wording import say

KINDS = {"high": "failure", "medium": "warning", "low": "info", "closed": "success"}


class Anywhere:
    """One of Apprise's addresses; what it raises stays here."""

    def __init__(self, name: str, address: Callable[[], str]) -> None:
        self.name, self._address = name, address
        self._lacks: list[str] = []

    def send(self, letter: Letter) -> None:
        """Notify with a letter, its chart attached. Raises Undelivered."""
        apprise = self._library()
        address, message = self._address(), letter.message
        reached = apprise.Apprise()
        if not reached.add(address):
            raise Undelivered(f"{self.name}: its address is none that Apprise knows, such as mailtos://...")
        picture = letter.picture() if message.stage in ("opened", "worse") else None
        with _file(message, picture) as attached, apprise.LogCapture(level=30) as captured:
            try:
                taken = reached.notify(
                    title=message.headline,
                    body=_body(message, again=letter.again),
                    body_format=apprise.NotifyFormat.TEXT,
                    notify_type=KINDS.get(message.grade, "info"),
                    **({"attach": str(attached)} if attached else {}),
                )
            except Exception as error:  # noqa: BLE001  # its plugins are many and each has its own
                raise Undelivered(f"{self.name}: {_redacted(str(error), address)}", unsure=True) from None
            said = captured.getvalue().strip().splitlines()
        if not taken:
            why = _redacted(said[-1], address) if said else "not taken"
            raise Undelivered(f"{self.name}: {why}", unsure=True)

    def lacks(self) -> list[str]:
        """Say nothing: each service shows what it can."""
        return []

    def _library(self) -> Any:
        try:
            import apprise
        except ImportError:
            raise Undelivered(f'{self.name} needs a library: pip install "trilho[alerts]"') from None
        return apprise


def _body(message: Message, *, again: bool) -> str:
    note = f"\n{say(message.language, 'repeat')}" if again else ""
    return message.text.partition("\n\n")[2] + f"\n{message.incident}{note}"


def _file(message: Message, picture: bytes | None) -> Any:
    """Give a block in which a picture is a file."""
    return nullcontext(None) if picture is None else _Attached(message, picture)


class _Attached:
    def __init__(self, message: Message, picture: bytes) -> None:
        self._name, self._picture = re.sub(r"[^\w-]", "-", message.incident), picture
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Path:
        self._folder = tempfile.TemporaryDirectory(prefix="trilho-alert-")
        path = Path(self._folder.name) / f"{self._name}.png"
        path.write_bytes(self._picture)
        return path

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def _redacted(text: str, address: str) -> str:
    """Take out of a text whatever of an address could be a key or a password."""
    for part in sorted(set(re.split(r"[^\w.-]+", address)), key=len, reverse=True):
        if len(part) >= 4:
            text = text.replace(part, "***")
    return " ".join(text.split())[:200]
