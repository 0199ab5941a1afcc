"""A proxy that leads Google's hosts here, for clients whose address nobody can set.

The Vertex AI SDK asks the Resource Manager at its real host, each time that it submits a pipeline job, and takes no
other address for it. gRPC goes through the proxy that `grpc_proxy` names: with this one `*.googleapis.com` is the
emulator, so that clients need no endpoint at all. What goes to other hosts passes through to them; clients that speak
HTTP do not heed `grpc_proxy`.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from socketserver import StreamRequestHandler, ThreadingTCPServer

HOSTS = ".googleapis.com"
CONNECT = re.compile(rb"CONNECT ([^\s:]+):(\d+) HTTP/1\.[01]\r?\n")
LONGEST_HEAD = 100  # lines
CONNECT_SECONDS = 30.0


class Proxy:
    """An HTTP proxy on the loopback interface that only knows CONNECT; `port` is where the emulator's gRPC listens."""

    def __init__(self, port: int) -> None:
        self._server = TunnelServer(("127.0.0.1", 0), Tunnel)
        self._server.target = port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True, name="proxy")
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """Give what makes gRPC clients use it."""
        return {"grpc_proxy": self.address, "no_grpc_proxy": "localhost,127.0.0.1"}

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no longer, and cut what is open."""
        self._server.shutdown()
        self._server.server_close()
        self._server.cut()
        self._thread.join()


class TunnelServer(ThreadingTCPServer):
    """Knows the connections that it carries, so that it can end them."""

    request_queue_size = 128
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    target = 0

    def __init__(self, address: tuple[str, int], handler: type[StreamRequestHandler]) -> None:
        self.open: set[socket.socket] = set()
        super().__init__(address, handler)

    def cut(self) -> None:
        """End every connection."""
        for one in list(self.open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep the terminal quiet: a client that goes away is no event."""


class Tunnel(StreamRequestHandler):
    """Joins a client to the host that it names in CONNECT."""

    server: TunnelServer
    rbufsize = 0  # what comes after the head is not the head's to read

    def handle(self) -> None:
        """Join a client to the host that it names."""
        found = CONNECT.fullmatch(self.rfile.readline(4096))
        for _ in range(LONGEST_HEAD):
            if not self.rfile.readline(4096).strip():
                break
        if found is None:
            self.wfile.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            return
        host, port = found[1].decode(), int(found[2])
        ours = host.endswith(HOSTS)
        try:
            to = ("127.0.0.1", self.server.target) if ours else (host, port)
            other = socket.create_connection(to, timeout=CONNECT_SECONDS)
        except OSError:
            self.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        other.settimeout(None)
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.join(other)

    def join(self, other: socket.socket) -> None:
        """Carry what either side says to the other, until one has ended."""
        ends = {self.connection, other}
        self.server.open |= ends
        back = threading.Thread(target=_carry, args=(other, self.connection), daemon=True)
        back.start()
        _carry(self.connection, other)
        back.join()
        other.close()
        self.server.open -= ends


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            target.sendall(piece)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
