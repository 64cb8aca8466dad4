"""A real TensorBoard server for tests, asked over HTTP."""

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
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
def serve(store: Path | str) -> Iterator[Server]:
    """Start `lt-rebalance tensorboard` on a store, on a free port, and stop it in the end."""
    command = [sys.executable, "-m", "lt_rebalance", "tensorboard", str(store), "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stderr is not None
        url = next(
            found.group() for line in process.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line))
        )
        yield Server(url)
    finally:
        process.terminate()
        process.wait()
