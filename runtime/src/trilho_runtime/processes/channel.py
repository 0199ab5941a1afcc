"""A parent's end of the stream to one of its workers: a line of JSON at a time, never waiting for the other side."""

from __future__ import annotations

import json
import selectors
import socket
from collections.abc import Callable, Mapping
from typing import Any

PIECE = 1 << 16
LARGEST_UNSENT = 1 << 26  # a worker that reads nothing is told nothing more

Hear = Callable[[Mapping[str, Any]], None]


class Channel:
    """One stream, watched by the parent's selector."""

    def __init__(self, selector: selectors.BaseSelector, end: socket.socket, hear: Hear) -> None:
        self._selector, self._socket, self._hear = selector, end, hear
        self._heard, self._unsent = bytearray(), bytearray()
        self.open = True
        end.setblocking(False)
        selector.register(end, selectors.EVENT_READ, self._attend)

    def fileno(self) -> int:
        """Give the number of the open file."""
        return self._socket.fileno()

    def say(self, data: Mapping[str, Any]) -> None:
        """Send a line; what does not fit now goes out as soon as the worker reads on."""
        if self.open and len(self._unsent) < LARGEST_UNSENT:
            self._unsent += json.dumps(data).encode() + b"\n"
            self._send()

    def read(self) -> bool:
        """Hear what has come; say whether more may be there."""
        try:
            data = self._socket.recv(PIECE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        *lines, rest = (bytes(self._heard) + data).split(b"\n")
        self._heard = bytearray(rest)
        for line in lines:
            self._hear(json.loads(line))
        return self.open

    def drain(self) -> None:
        """Hear all that was said before the worker ended, and close."""
        while self.open and self.read():
            pass
        self.close()

    def close(self) -> None:
        """Watch it no more."""
        if self.open:
            self.open = False
            self._selector.unregister(self._socket)
            self._socket.close()

    def _attend(self) -> None:
        if self._unsent:
            self._send()
        if self.open:
            self.read()

    def _send(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:  # it has ended; its parent will see
            self._unsent.clear()
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        self._selector.modify(self._socket, events, self._attend)
