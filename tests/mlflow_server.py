"""A real MLflow server for tests, asked over HTTP."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.s3_server import LOOPBACK, find_free_port

START_S = 180
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class MlflowServer:
    """A server that answers at an address of this machine."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post(self, path: str, **body: Any) -> Any:
        """Return the JSON that the interface answers to a request with a body."""
        request = urllib.request.Request(
            f"{self.url}/api/2.0/mlflow/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        return json.loads(_OPENER.open(request, timeout=60).read())

    def get(self, path: str, **query: str) -> Any:
        """Return the JSON that the interface answers."""
        asked = urllib.parse.urlencode(query)
        return json.loads(_OPENER.open(f"{self.url}/api/2.0/mlflow/{path}?{asked}", timeout=60).read())

    def is_up(self) -> bool:
        """Whether it answers now."""
        try:
            _OPENER.open(f"{self.url}/health", timeout=5).close()
        except OSError:
            return False
        return True


@contextlib.contextmanager
def serve(directory: Path) -> Iterator[MlflowServer]:
    """Start a server on a free port that keeps everything in a directory, and stop it in the end."""
    port = find_free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{directory}/mlflow.db"]
    command += ["--artifacts-destination", str(directory / "artifacts")]
    variables = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(directory / "server.log", "wb") as log:
        # A session of its own, so that the processes that it starts end with it.
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | variables, start_new_session=True
        )
    server = MlflowServer(f"http://{LOOPBACK}:{port}")
    try:
        deadline = time.monotonic() + START_S
        while not server.is_up():
            said = (directory / "server.log").read_text(errors="replace")[-2000:]
            assert process.poll() is None and time.monotonic() < deadline, f"it did not start: {said}"
            time.sleep(0.2)
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
