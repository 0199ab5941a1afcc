"""Several processes that answer at one address: as many as there are cores to use.

    python -m trilho_runtime.workers PACKAGE --version N --workers 2 [what trilho_runtime.server takes]

This process binds the port and answers nobody. Its children accept at the same socket, so that a connection waits for
whoever is free, also while one is started again. SIGTERM lets all of them finish; SIGHUP replaces them one by one,
each by a new one that has loaded the package anew and is warm.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trilho_runtime.processes.channel import Channel
from trilho_runtime.processes.hub import Hub, Worker
from trilho_runtime.spawn import start
from trilho_runtime.web.service import CannotStart, address_of, bind, check_folder, close_door, write_whole

LEAVE_SECONDS = 12.0  # a worker ends itself after 10
SETTLED_SECONDS = 10.0
SLOWEST_RESTART = 10.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Crew:
    """Keeps the workers of one server. `run` takes the thread, and the process's signals."""

    def __init__(self, number: int, listener: socket.socket, arguments: Sequence[str]) -> None:
        self._listener, self._arguments = listener, list(arguments)
        self._workers: list[Worker] = []
        self._due: dict[int, float] = dict.fromkeys(range(number), 0.0)  # places to be filled, and when
        self._failures = [0] * number
        self._renewing: deque[Worker] = deque()
        self._hub = Hub()
        self._selector = selectors.PollSelector()
        self._wake, self._woken = socket.socketpair()
        self._parent_pipe: int | None = None
        self._was_ready = self._stopping = False
        self._exit_code = 0

    def run(self, parent_pipe: int | None = None) -> int:
        """Keep the workers until told to stop, or until the parent ends; give the exit code."""
        for end in (self._wake, self._woken):
            end.setblocking(False)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        self._selector.register(self._wake, selectors.EVENT_READ, self._signalled)
        if parent_pipe is not None:
            self._parent_pipe = parent_pipe
            os.set_inheritable(parent_pipe, False)
            self._selector.register(parent_pipe, selectors.EVENT_READ, self._orphaned)
        while not (self._stopping and not self._workers):
            self._step()
        return self._exit_code

    def stop(self, exit_code: int = 0) -> None:
        """Let every worker finish what it has under way, and end."""
        if not self._stopping:
            self._stopping, self._exit_code = True, exit_code
            close_door(self._listener)
            self._listener.close()
            for worker in self._workers:
                self._dismiss(worker)

    def renew(self) -> None:
        """Replace all workers, one after the other."""
        queued = {*self._renewing, *(worker.replaces for worker in self._workers)}
        self._renewing.extend(worker for worker in self._workers if worker.state != "leaving" and worker not in queued)
        self._renew_next()

    def _step(self) -> None:
        now = time.monotonic()
        if not self._stopping:
            for place in [place for place, due in self._due.items() if due <= now]:
                del self._due[place]
                self._hire(place)
        self._hub.answer(self._workers, now=now)
        for worker in self._workers:
            if worker.left and now - worker.left > LEAVE_SECONDS:
                _send(worker, signal.SIGKILL)
        moments = [*([] if self._stopping else self._due.values()), *self._hub.due]
        moments += [worker.left + LEAVE_SECONDS for worker in self._workers if worker.left]
        for key, _ in self._selector.select(max(0.01, min(moments) - now) if moments else None):
            key.data()
        self._hub.answer(self._workers, now=time.monotonic())

    def _signalled(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in self._wake.recv(4096):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self.stop()
                elif number == signal.SIGHUP and not self._stopping:
                    self.renew()
        self._reap()

    def _orphaned(self) -> None:
        if self._parent_pipe is not None and not os.read(self._parent_pipe, 64):
            self._selector.unregister(self._parent_pipe)
            self._parent_pipe = None
            self.stop()

    def _hire(self, place: int, replaces: Worker | None = None) -> None:
        """Start a worker. The first one answers at once, that it is loading; the others wait until they are warm."""
        early = not self._was_ready and not any(worker.early for worker in self._workers)
        ours, theirs = socket.socketpair()
        arguments = [*self._arguments, "--fd", str(self._listener.fileno()), "--channel", str(theirs.fileno())]
        apart = [worker.channel.fileno() for worker in self._workers if worker.channel.open]
        apart += [ours.fileno(), self._wake.fileno(), self._woken.fileno()]
        apart += [] if self._parent_pipe is None else [self._parent_pipe]
        pid = start(arguments, [self._listener.fileno(), theirs.fileno()], apart)
        theirs.close()
        channel = Channel(self._selector, ours, lambda told: self._hear(worker, told))
        worker = Worker(place, pid, channel, early, time.monotonic(), replaces=replaces)
        self._workers.append(worker)
        if early:
            channel.say({"go": True})

    def _dismiss(self, worker: Worker) -> None:
        worker.state, worker.left = "leaving", time.monotonic()
        _send(worker, signal.SIGTERM)

    def _renew_next(self) -> None:
        if self._stopping or any(worker.replaces is not None for worker in self._workers):
            return
        while self._renewing:
            old = self._renewing.popleft()
            if old in self._workers:
                self._hire(old.place, replaces=old)
                return

    def _hear(self, worker: Worker, told: Mapping[str, Any]) -> None:
        if "ready" in told:
            self._welcome(worker)
        elif "ask" in told:
            self._hub.ask(worker, told["ask"], told["what"], self._workers)
        else:
            self._hub.hear(worker, told)

    def _welcome(self, worker: Worker) -> None:
        """Let a worker that has loaded accept, but not before the one that already does has loaded too."""
        if worker.state == "loading":
            worker.state = "ready"
        self._was_ready = self._was_ready or worker.early
        for other in self._workers if self._was_ready else []:
            if other.state == "ready":
                other.state = "accepting"
                other.channel.say({"go": True})
                old, other.replaces = other.replaces, None
                if old in self._workers and old is not None:
                    self._dismiss(old)
        self._renew_next()

    def _reap(self) -> None:
        """Collect every child that has ended, ours or left to us, as the first process of a container has to."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                for worker in [worker for worker in self._workers if worker.pid == pid]:
                    worker.channel.drain()
                    self._workers.remove(worker)
                    self._hub.bury(worker)
                    if worker.state != "leaving" and not self._stopping:
                        self._replace(worker, os.waitstatus_to_exitcode(status))

    def _replace(self, worker: Worker, code: int) -> None:
        """Start another in the place of one that ended by itself: at once, if it had been well."""
        _note(f"worker {worker.pid} ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}")
        if worker.replaces in self._workers:  # the old one goes on: what it has loaded works
            _note("the workers stay as they are: a new one did not get ready")
            self._renewing.clear()
            return
        if not self._was_ready and code >= 0:
            self.stop(exit_code=code or 1)  # what cannot be loaded now cannot be a moment later
            return
        now = time.monotonic()
        well = worker.state == "accepting"
        self._failures[worker.place] += 1
        if well and now - worker.started > SETTLED_SECONDS:
            self._failures[worker.place] = 0
        failures = self._failures[worker.place]
        wait = 0.0 if well and failures <= 1 else min(0.25 * 2**failures, SLOWEST_RESTART)
        self._due[worker.place] = now + wait


def _send(worker: Worker, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker.pid, number)


def _note(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one model version with several processes."""
    given, rest = _parser().parse_known_args(arguments)
    from trilho_runtime import server

    for name in server.THREADS:
        os.environ.setdefault(name, "1")
    own = server.read_arguments(rest)
    try:
        if own.log is not None:
            check_folder(own.log)
        listener = bind(own.host, own.port)
    except CannotStart as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if given.ready_file is not None:
        port = listener.getsockname()[1]
        write_whole(given.ready_file, {"pid": os.getpid(), "port": port, "address": address_of(listener)})
    return Crew(given.workers, listener, rest).run(given.parent_pipe)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trilho_runtime.workers", description=main.__doc__, allow_abbrev=False,
        epilog="All other arguments are those of python -m trilho_runtime.server.",
    )  # fmt: skip
    parser.add_argument("--workers", type=_count, required=True, metavar="N", help="how many processes answer")
    parser.add_argument("--ready-file", type=Path, help="written once the port is bound: pid, port, address")
    parser.add_argument("--parent-pipe", type=int, metavar="FD", help="end when this pipe does")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of workers; allowed: 1 to 256")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
