"""A headless Chromium, driven over a pair of pipes by the standard library: enough to look and to press keys."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
STARTER = """
import os, sys
for end, place in zip(sys.argv[1:3], (3, 4)):  # where Chromium looks for its pipes
    os.dup2(int(end), place)
os.execv(sys.argv[3], sys.argv[3:])
"""
MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"


class BrowserError(Exception):
    """The browser refused a command, or a script in the page failed."""


def find_browser() -> str | None:
    """Give the path of a Chromium on this machine, None where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    return found or (MACOS if Path(MACOS).exists() else None)


class Browser:
    """One page of a headless Chromium."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._buffer, self._number = b"", 0
        self.errors: list[str] = []
        target = self._send("Target.createTarget", {"url": "about:blank"}, session=None)["targetId"]
        attached = self._send("Target.attachToTarget", {"targetId": target, "flatten": True}, session=None)
        self._session: str | None = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **values: Any) -> Any:
        """Send one command to the page and give its result."""
        return self._send(method, values, session=self._session)

    def screen(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Set the size of the window and the colour scheme that the user prefers."""
        phone = width < 600
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Go to a page and wait until it has loaded."""
        self.run("window.left = true")  # the answer to navigate may come while the old page still is the one that runs
        self.send("Page.navigate", url=url)
        self.wait("!window.left && document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """Give the value of a script in the page, promises awaited. Raises BrowserError when it throws."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise BrowserError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 10.0) -> None:
        """Wait until a script is true, in whatever page is there by then. Raises BrowserError if it never is."""
        deadline = time.monotonic() + seconds
        while not self._holds(condition):
            if time.monotonic() > deadline:
                raise BrowserError(f"not within {seconds:g} s: {condition}")
            time.sleep(0.02)

    def _holds(self, condition: str) -> bool:
        try:
            return bool(self.run(condition))
        except BrowserError:  # between two pages, or not there yet
            return False

    def key(self, name: str, code: int) -> None:
        """Press and release a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def picture(self, to: Path) -> None:
        """Save the whole page as PNG."""
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        to.write_bytes(base64.b64decode(found["data"]))

    def _send(self, method: str, values: dict[str, Any], session: str | None) -> Any:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": values}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(values["exceptionDetails"]))
        if event.get("method") == "Log.entryAdded" and values["entry"]["level"] == "error":
            self.errors.append(f"{values['entry']['text']} {values['entry'].get('url', '')}")

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            more = os.read(self._read, 1 << 20)
            if not more:
                raise BrowserError("the browser has gone")
            self._buffer += more
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


@contextmanager
def browser(path: str) -> Iterator[Browser]:
    """Start a headless Chromium and end it in the end."""
    to_it, from_us = os.pipe()
    from_it, to_us = os.pipe()
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_it, to_us)]  # out of the way of 3 and 4
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        command = [path, *flags, "--hide-scrollbars", f"--user-data-dir={profile}", "--remote-debugging-pipe"]
        starter = [sys.executable, "-c", STARTER, *map(str, ends)]
        process = subprocess.Popen([*starter, *command], pass_fds=ends, stderr=subprocess.DEVNULL)
        for end in (*ends, to_it, to_us):
            os.close(end)
        try:
            yield Browser(from_it, from_us)
        finally:
            os.close(from_us)
            os.close(from_it)
            process.terminate()
            process.wait(timeout=10)
