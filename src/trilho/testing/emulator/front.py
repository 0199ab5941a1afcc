"""One port for gRPC and for REST, as Google's hosts have it: a connection goes to the server that it can talk to.

The SDK takes one address and speaks either to it: `aiplatform.init(experiment=...)` without a project switches it to
REST. Both are TLS; gRPC names HTTP/2 in its first message (ALPN), which is looked at and passed on unread.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time

from trilho.testing.emulator.proxy import Tunnel, TunnelServer

HTTP2 = re.compile(rb"\x00\x10.{4}.{0,64}?\x02h2", re.DOTALL)  # the ALPN extension of a ClientHello
RECORD = 5  # bytes before what a TLS record holds; the last two say how long that is
HELLO_SECONDS = 10.0
LOOK_SECONDS = 0.005


class Front:
    """Takes connections on the loopback interface, and joins each to the port of gRPC or to that of REST."""

    def __init__(self, port: int, *, grpc: int, rest: int) -> None:
        self._server = _Server(("127.0.0.1", port), _Fork)
        self._server.grpc, self._server.rest = grpc, rest
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True, name="front")
        self.port: int = self._server.server_address[1]

    def start(self) -> None:
        """Take connections from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Take none any longer, and cut what is open."""
        self._server.shutdown()
        self._server.server_close()
        self._server.cut()
        self._thread.join()


class _Server(TunnelServer):
    grpc = rest = 0


class _Fork(Tunnel):
    def handle(self) -> None:
        """Join a client to the server that speaks its protocol."""
        assert isinstance(self.server, _Server)
        port = self.server.grpc if HTTP2.search(_hello(self.connection)) else self.server.rest
        with contextlib.suppress(OSError):
            other = socket.create_connection(("127.0.0.1", port))
            for one in (self.connection, other):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.join(other)


def _hello(connection: socket.socket) -> bytes:
    """Look at the first TLS record; what there is of it when a client takes too long."""
    end, seen = time.monotonic() + HELLO_SECONDS, b""
    connection.settimeout(HELLO_SECONDS)
    with contextlib.suppress(OSError):
        while time.monotonic() < end:
            last, seen = len(seen), connection.recv(1 << 15, socket.MSG_PEEK)
            if not seen or len(seen) >= RECORD + int.from_bytes(seen[RECORD - 2 : RECORD]):
                break
            if len(seen) == last:  # a look does not wait for more
                time.sleep(LOOK_SECONDS)
    connection.settimeout(None)
    return seen
