"""A real TensorBoard server for tests, asked over HTTP."""

import contextlib
import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lt_rebalance.events.server import LOOPBACK, server_command

START_S = 120
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Server:
    """A server that answers at an address of this machine."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: str) -> Any:
        """Return the JSON that a page answers."""
        return json.loads(self.read(path, **query))

    def read(self, path: str, **query: str) -> bytes:
        """Return what a page answers."""
        content: bytes = _OPENER.open(
            f"{self.url}/data/{path}?{urllib.parse.urlencode(query)}", timeout=60
        ).read()
        return content

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Return the JSON that a page answers to a request with a body."""
        request = urllib.request.Request(
            f"{self.url}/data/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return json.loads(_OPENER.open(request, timeout=60).read())

    def wait_for(self, is_there: Callable[[], bool]) -> None:
        """Wait until the server has read what a condition asks for."""
        deadline = time.monotonic() + START_S
        while not is_there():
            assert time.monotonic() < deadline, "the server did not read the events"
            time.sleep(0.2)


@contextlib.contextmanager
def serve(logdir: Path) -> Iterator[Server]:
    """Start the command that the package starts, on a free port, and stop it in the end."""
    command = server_command(str(logdir), host=LOOPBACK, port=0, reload_s=1)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        url = next(
            found.group() for line in process.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line))
        )
        yield Server(url)
    finally:
        process.terminate()
        process.wait()
