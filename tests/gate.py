"""A gate before a server, for tests: forwards TCP, can be shut, cut requests, lose or change answers."""

import contextlib
import socket
import threading
from collections.abc import Iterator

from tests.s3_server import LOOPBACK

PIECE_BYTES = 65536
_GO_AHEAD = b"HTTP/1.1 100 "
"""what a server says before it has been sent the content; not yet an answer"""


class Gate:
    """Forwards connections from a port of its own to a server's. Open at first."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = _bind(0)
        self._connections: set[socket.socket] = set()
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.answers_to_lose = 0
        """how many of the next answers are dropped, with their connections, once the server has begun them"""
        self.cut_after: int | None = None
        """bytes of each connection's requests after which it is dropped; None for never"""
        self.answers: list[bytes] = []
        """what is answered instead of the next answers, one each; the connection is dropped after it"""
        self.endless_answer: bytes | None = None
        """what is answered instead of every answer"""
        self.num_replaced = 0
        """answers that gave way to one of these"""
        self.rewrite = (b"", b"")
        """what in requests becomes what, of the same length"""
        self.open()

    def open(self) -> None:
        """Take connections."""
        self._listener.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        """Refuse connections, drop those that are open, and keep the port from others."""
        self.close()
        self._listener = _bind(self.port)

    def close(self) -> None:
        """Drop all connections and leave the port."""
        # Closing alone would leave the thread in accept, and with it the port.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._connections):
            _drop(connection)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection((LOOPBACK, self._server_port))
            self._connections |= {client, server}
            for forward in (self._forward_requests, self._forward_answers):
                threading.Thread(target=forward, args=(client, server), daemon=True).start()

    def _forward_requests(self, client: socket.socket, server: socket.socket) -> None:
        num_bytes = 0
        with contextlib.suppress(OSError):
            while piece := client.recv(PIECE_BYTES):
                num_bytes += len(piece)
                if self.cut_after is not None and num_bytes > self.cut_after:
                    server.sendall(piece[: self.cut_after - num_bytes])
                    break
                server.sendall(piece.replace(*self.rewrite) if self.rewrite[0] else piece)
        self._close(client, server)

    def _forward_answers(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := server.recv(PIECE_BYTES):
                if piece.startswith(_GO_AHEAD):  # the answer may come in the same piece
                    head, end, piece = piece.partition(b"\r\n\r\n")
                    client.sendall(head + end)
                if not piece:
                    continue
                if self.answers_to_lose:
                    self.answers_to_lose -= 1
                    break
                if self.answers or self.endless_answer is not None:
                    self.num_replaced += 1
                    client.sendall(self.answers.pop(0) if self.answers else self.endless_answer or b"")
                    break
                client.sendall(piece)
        self._close(client, server)

    def _close(self, *connections: socket.socket) -> None:
        for connection in connections:
            _drop(connection)
            self._connections.discard(connection)


def _bind(port: int) -> socket.socket:
    """Return a socket that has a port, and takes no connections yet."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((LOOPBACK, port))
    return listener


def _drop(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextlib.contextmanager
def open_gate(server_port: int) -> Iterator[Gate]:
    """Open a gate before a server, and close it in the end."""
    with contextlib.closing(Gate(server_port)) as gate:
        yield gate
