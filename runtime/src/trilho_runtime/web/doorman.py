"""Callers beyond the connections that a server holds are told so, and do not wait for one that may never end.

Granian stops accepting at its limit. Whoever comes then waits in the kernel's queue, and once that is full, for a
connection. When nobody is let in for a second while somebody waits, all who wait are taken here and answered with 503.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading

LOOK_SECONDS = 0.1
PATIENCE = 10  # looks in a row that find somebody waiting, and nobody let in since the one before
QUEUE, ROOM = 24, 28  # where Linux says, for a listening socket, how many wait and how many may
BODY = b'{"error":"this server holds as many connections as it can; ask again a little later"}'
HEAD = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
ANSWER = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY


def refuse_beyond(listener: socket.socket) -> threading.Event:
    """Refuse callers that wait for too long in a listener's queue, until the event is set. Only Linux tells of them."""
    stop = threading.Event()
    if sys.platform == "linux":
        threading.Thread(target=_watch, args=(listener, stop), name="doorman", daemon=True).start()
    return stop


def _watch(listener: socket.socket, stop: threading.Event) -> None:
    before, still = 0, 0
    while not stop.wait(LOOK_SECONDS):
        try:
            waiting = queue_of(listener)[0]
            still = still + 1 if waiting and waiting >= before else 0
            before = waiting
            if still >= PATIENCE:
                refuse(listener, waiting)
                before = 1
        except OSError:  # the listener was closed
            return


def queue_of(listener: socket.socket) -> tuple[int, int]:
    """Give how many callers wait to be accepted, and how many may.

    >>> with socket.create_server(("127.0.0.1", 0), backlog=7) as listener:
    ...     queue_of(listener)
    (0, 7)
    """
    told = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    waiting, room = (struct.unpack_from("I", told, at)[0] for at in (QUEUE, ROOM))
    return waiting, room


def refuse(listener: socket.socket, count: int) -> None:
    """Answer so many of those who wait, the oldest first, and close their connections."""
    with listener.dup() as taker:
        taker.settimeout(0.0)
        for _ in range(count):
            try:
                caller, _ = taker.accept()
            except OSError:  # nobody waits any more
                return
            _send_away(caller)


def _send_away(caller: socket.socket) -> None:
    with caller, contextlib.suppress(OSError):
        caller.settimeout(0.0)
        caller.sendall(ANSWER)
        caller.shutdown(socket.SHUT_WR)
        caller.recv(65536)  # what is left unread would reset the connection, and the answer be lost
