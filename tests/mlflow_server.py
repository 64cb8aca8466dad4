"""A real MLflow server for tests, asked over HTTP."""

import contextlib
import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.s3_server import LOOPBACK, is_up, start_on_free_port

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


@contextlib.contextmanager
def serve(directory: Path) -> Iterator[MlflowServer]:
    """Start a server on a free port that keeps everything in a directory, and stop it in the end."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{directory}/mlflow.db"]
    command += ["--artifacts-destination", str(directory / "artifacts")]
    variables = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}

    def start(port: int) -> "subprocess.Popen[bytes]":
        with open(directory / "server.log", "ab") as log:
            return subprocess.Popen(
                [*command, "--port", str(port)],
                stdout=log,
                stderr=log,
                env=os.environ | variables,
                start_new_session=True,
            )

    with start_on_free_port(start, lambda port: is_up(f"http://{LOOPBACK}:{port}/health")) as (port, _):
        yield MlflowServer(f"http://{LOOPBACK}:{port}")
