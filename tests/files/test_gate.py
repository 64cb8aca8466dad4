"""The gate of tests replaces an answer also where the word to go ahead comes in the same piece."""

import socket
import threading

from tests.gate import open_gate
from tests.s3_server import LOOPBACK

GO_AHEAD = b"HTTP/1.1 100 Continue\r\n\r\n"


def test_answer_that_follows_the_word_to_go_ahead_in_one_piece_is_replaced() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(100)
            connection.sendall(GO_AHEAD + b"the server's own")
            connection.recv(100)  # until the gate has dropped it

        threading.Thread(target=answer, daemon=True).start()
        with open_gate(server.getsockname()[1]) as gate:
            gate.answers = [b"another"]
            with socket.create_connection((LOOPBACK, gate.port), timeout=60) as client:
                client.sendall(b"a request")
                received = b""
                while piece := client.recv(100):
                    received += piece
    assert received == GO_AHEAD + b"another" and gate.answers == []
