"""Watches what the audit events of Python tell: writes that are refused, and hosts that are spoken to."""

from __future__ import annotations

import http.client
import os
import sys
from contextlib import contextmanager
from typing import Any, Callable, Iterator

from .files import WRITE_FLAGS, Redirects

ASKING = ("GET", "HEAD", "OPTIONS", "CONNECT")
LOGINS = ("oauth2.googleapis.com", "accounts.google.com", "sts.googleapis.com", "metadata.google.internal",
          "login.microsoftonline.com", "169.254.169.254", "iamcredentials.googleapis.com")  # fmt: skip
CHANGING = {"os.remove": 0, "os.rmdir": 0, "os.mkdir": 0, "os.rename": 0, "os.truncate": 0, "os.chmod": 0,
            "os.chown": 0, "os.link": 1, "os.symlink": 1, "shutil.rmtree": 0}  # fmt: skip


class Guard:
    """What the notebook tried outside the scratch folder."""

    def __init__(self, redirects: Redirects, enforced: bool, refused: Callable[[str, str], None]) -> None:
        self.redirects, self.enforced, self.refused = redirects, enforced, refused
        self.connections: list[dict[str, Any]] = []
        self.statement = self.cell = -1
        self.hosts: dict[str, str] = {}
        self.allowed_posts = 0
        self.pid = os.getpid()

    def install(self) -> None:
        """Listen, and refuse what would send data."""
        self._wrap_http()
        sys.addaudithook(self._hear)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Let what is known to be a question be posted."""
        self.allowed_posts += 1
        try:
            yield
        finally:
            self.allowed_posts -= 1

    def start(self, statement: int, cell: int) -> None:
        """Go on to another statement."""
        self.statement, self.cell = statement, cell

    def _hear(self, event: str, args: Any) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & WRITE_FLAGS and not isinstance(path, int):
                self._check(path, "open")
        elif event in CHANGING:
            path = args[CHANGING[event]]
            if not isinstance(path, int):
                self._check(path, event)
        elif event == "socket.connect" and os.getpid() == self.pid:
            self._connect(args[1])
        elif event == "socket.getaddrinfo":
            self._resolve(args[0])

    def _check(self, path: Any, function: str) -> None:
        if self.redirects.is_allowed(path):
            return
        text = os.fsdecode(os.fspath(path))
        if "__pycache__" not in text and os.getpid() == self.pid:
            self.refused(text, function)
        if not self.enforced:
            raise PermissionError(13, "adopt does not allow this write", text)

    def _resolve(self, host: Any) -> None:
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if isinstance(name, str):
            self.hosts["last"] = name

    def _connect(self, address: Any) -> None:
        if not isinstance(address, tuple) or len(address) < 2:
            return
        ip, port = str(address[0]), int(address[1])
        name = self.hosts.get(ip) or self.hosts.pop("last", ip)
        self.hosts[ip] = name
        self._note(name, port, True)

    def _note(self, host: str, port: int, allowed: bool) -> None:
        told = {"statement": self.statement, "cell": self.cell, "host": host, "port": port, "allowed": allowed}
        if told not in self.connections:
            self.connections.append(told)

    def _wrap_http(self) -> None:
        """Refuse requests that change something, but logins and what is allowed for the moment."""
        real = http.client.HTTPConnection.putrequest
        guard = self

        def putrequest(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            if method.upper() not in ASKING and not guard.allowed_posts and self.host not in LOGINS:
                guard._note(self.host, int(self.port or 443), False)
                guard.refused(f"{self.host}{url}".split("?")[0], f"HTTP {method}")
                raise PermissionError(f"{method} {self.host} would send data; adopt does not allow it")
            return real(self, method, url, *args, **kwargs)

        http.client.HTTPConnection.putrequest = putrequest  # type: ignore[method-assign]
