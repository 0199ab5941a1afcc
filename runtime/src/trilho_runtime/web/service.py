"""One HTTP server in one process: binding, draining, and an end when the parent ends.

Granian serves on the asyncio loop of this process. By itself it binds with SO_REUSEPORT, with which a second server on
the same port would take half of the requests in silence, so the socket is made here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any, NoReturn

import orjson
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from trilho_runtime.web.body import HURRY
from trilho_runtime.web.doorman import refuse_beyond
from trilho_runtime.web.http import App, note

BACKLOG = 1024
LARGEST_HEAD = 65536
DRAIN_SECONDS = 10.0
BODIES_SECONDS = 6.0  # so long after a stop, bodies that are on their way are awaited
LAST_SECONDS = 0.25  # so long after a stop, requests are taken, and each connection is closed with its answer
ORPHAN_SECONDS = 1.5
SO_ATTACH_FILTER, RETURN = 26, 0x06  # of Linux; the socket module names neither


class CannotStart(Exception):
    """A server cannot run here as it was asked to: a fact, then a hint, and the code to exit with."""

    def __init__(self, fact: str, hint: str, exit_code: int) -> None:
        super().__init__(f"{fact}\nHint: {hint}")
        self.exit_code = exit_code


def bind(host: str, port: int) -> socket.socket:
    """Take a port for this process alone. Raises CannotStart when that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or error
        raise CannotStart(f"port {port} of {host}: {why}", "--port with another one, or 0 for a free one", 2) from None
    return listener


def inherited(descriptor: int) -> socket.socket:
    """Give a listening socket that a parent has bound. Raises CannotStart when it is none."""
    try:
        listener = socket.socket(fileno=descriptor)
        listener.set_inheritable(False)
    except OSError as error:
        raise CannotStart(f"file {descriptor} is no socket: {error.strerror}", "pass a bound socket's", 2) from None
    return listener


def close_door(listener: socket.socket) -> None:
    """Let nobody new in, in any process that accepts here, while those who are in are served on.

    A socket that is shut down would fail every accept. So the kernel is told to drop what comes to this one: a caller
    goes on knocking, having sent nothing, and is refused once it is closed. Elsewhere than on Linux the door stays open
    until then.
    """
    if sys.platform == "linux":
        import ctypes

        drop = ctypes.create_string_buffer(struct.pack("HBBI", RETURN, 0, 0, 0))  # a filter that keeps 0 bytes
        with contextlib.suppress(OSError):
            program = struct.pack("HL", 1, ctypes.addressof(drop))
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def check_folder(folder: Path, passing: Collection[int] = ()) -> None:
    """Make a folder for log lines. Raises CannotStart when none can be kept there, but for errors that may pass."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        if error.errno in passing:
            return
        raise CannotStart(f"{folder}: {error.strerror or error}", "give a folder that can be written", 1) from None
    if not writable:
        raise CannotStart(f"{folder} is not writable", "give a folder that can be written", 1)


def address_of(listener: socket.socket) -> str:
    """Give a listener's address as a caller on this machine writes it."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def write_whole(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_bytes(orjson.dumps(data))
    temporary.replace(path)


class Service:
    """A server on the running loop: it starts at once, and stops when asked, signalled or orphaned."""

    def __init__(
        self, app: App, listener: socket.socket, connections: int, closing: Callable[[], None] = lambda: None
    ) -> None:
        self._app = app
        self._closing = closing  # what is to be done before the process ends, however it does
        self._listener = listener
        self._running = 0
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._server = HttpServer(self._answer, listener, connections)
        self._refusing = threading.Event()
        self.shared = False  # with other processes, which go on accepting
        self.exit_code = 0

    async def run(self, ready_file: Path | None, parent_pipe: int | None) -> int:
        """Serve until stopped, let the requests that are under way finish, and give the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop)
        if parent_pipe is not None:
            os.set_inheritable(parent_pipe, False)
            threading.Thread(target=self._end_with_parent, args=(parent_pipe,), daemon=True).start()
        self._refusing = refuse_beyond(self._listener)
        serving = asyncio.ensure_future(self._server.serve())
        if ready_file is not None:
            port = self._listener.getsockname()[1]
            write_whole(ready_file, {"pid": os.getpid(), "port": port, "address": address_of(self._listener)})
        await serving
        self._closing()
        return self.exit_code if self._stopping else 1

    def stop(self, exit_code: int = 0) -> None:
        """Take leave of those who are connected, answer what is under way, then end; after 10 s end anyway.

        A kept connection that is closed between two requests may meet the second on its way. So the last answer on
        each says that it is the last, and the caller connects anew, or is refused without having sent anything.
        """
        if not self._stopping:
            self._stopping = True
            self.exit_code = exit_code
            self._refusing.set()
            self._loop.call_later(DRAIN_SECONDS, self._give_up)
            self._loop.call_later(BODIES_SECONDS, HURRY.up)
            if not self.shared:
                close_door(self._listener)
            self._loop.call_later(0.0 if exit_code else LAST_SECONDS, self._server.stop)

    def stop_soon(self, exit_code: int) -> None:
        """Stop, when asked by another thread."""
        self._loop.call_soon_threadsafe(self.stop, exit_code)

    async def _answer(self, scope: Any, proto: Any) -> None:
        self._running += 1
        try:
            await self._app(scope, Last(proto) if self._stopping else proto)
        finally:
            self._running -= 1

    def _give_up(self) -> None:
        if self._running:
            note(f"{self._running} requests were still under way {DRAIN_SECONDS:g} s after the stop; ending anyway")
        self._closing()
        os._exit(1 if self._running else self.exit_code)  # what is left then are callers that send or read nothing

    def _end_with_parent(self, pipe: int) -> None:
        while True:
            try:
                if not os.read(pipe, 64):
                    break
            except OSError:
                break
        self._loop.call_soon_threadsafe(self.stop)
        time.sleep(ORPHAN_SECONDS)
        self._closing()
        os._exit(0)


class Last:
    """What a request is read and answered by, when no other is to come on its connection."""

    def __init__(self, proto: Any) -> None:
        self._proto = proto

    def __call__(self) -> Any:
        """Read the body."""
        return self._proto()

    def __aiter__(self) -> Any:
        """Read the body piece by piece."""
        return self._proto.__aiter__()

    def __getattr__(self, name: str) -> Any:
        """Give whatever else there is."""
        return getattr(self._proto, name)

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer, and have the connection closed."""
        self._proto.response_bytes(status, [*headers, ("connection", "close")], body)


class HttpServer(Server):  # type: ignore[misc, type-arg, unused-ignore]
    """Granian on this loop, over a socket that was bound before."""

    def __init__(
        self,
        target: Callable[..., Awaitable[None]],
        listener: socket.socket,
        connections: int,
        interface: Interfaces = Interfaces.RSGI,
    ) -> None:
        super().__init__(
            target,
            interface=interface,
            http=HTTPModes.http1,
            websockets=False,
            log_enabled=False,
            backlog=BACKLOG,
            http1_settings=HTTP1Settings(max_buffer_size=LARGEST_HEAD),
            backpressure=connections,
        )
        self._listener = listener

    def _init_shared_socket(self) -> None:
        holder: Any = SocketHolder
        descriptor = self._listener.fileno()
        try:
            self._shd = holder(descriptor, False, self.backlog)
        except TypeError:  # other systems' holders take no backlog
            self._shd = holder(descriptor, False)


def allow_connections(wanted: int) -> int:
    """Raise this process's limit of open files as far as it may, and give how many connections then fit."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted + 256 if hard == resource.RLIM_INFINITY else min(wanted + 256, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            soft = target
    room = wanted if soft == resource.RLIM_INFINITY else soft - 256
    return max(64, min(wanted, room))


def serve(start: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a service's coroutine to its end and leave at once, whatever thread still computes."""
    code = asyncio.run(start)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
