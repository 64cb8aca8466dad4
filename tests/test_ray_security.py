"""Nobody but its owner reaches a Ray that is started our way: tokens, addresses, jobs."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from lt_rebalance.cluster import keep_token_private

LOOPBACKS = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
LOCAL_RAY = """
import json, psutil, ray
from lt_rebalance.cluster import ray_cluster
with ray_cluster(None):
    ray.get(ray.remote(lambda: 0).remote())
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = [
        (process.name(), connection.laddr.ip)
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    print(json.dumps(listening))
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory, without Ray's variables."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


# The token file


def test_new_token_is_readable_by_its_owner_only(home: Path) -> None:
    keep_token_private()
    token = home / ".ray" / "auth_token"
    assert mode_of(token) == 0o600 and mode_of(token.parent) == 0o700
    assert len(token.read_text()) == 64 and os.listdir(token.parent) == ["auth_token"]


def test_tokens_of_two_homes_differ(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = set()
    for name in ("one", "two"):
        monkeypatch.setenv("HOME", str(home / name))
        keep_token_private()
        tokens.add((home / name / ".ray" / "auth_token").read_text())
    assert len(tokens) == 2


def test_token_that_everyone_could_read_stays_and_becomes_private(home: Path) -> None:
    token = home / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("0" * 64)
    token.chmod(0o644)
    keep_token_private()
    assert mode_of(token) == 0o600 and token.read_text() == "0" * 64


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_token_that_is_named_elsewhere_needs_no_file(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "/elsewhere")
    keep_token_private()
    assert not (home / ".ray").exists()


# A Ray of this machine alone


@pytest.mark.slow
def test_local_ray_listens_on_loopback_only_and_keeps_its_token_private(home: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", LOCAL_RAY], capture_output=True, text=True, timeout=120, check=True
    )
    listening = json.loads(result.stdout.splitlines()[-1])
    assert {"gcs_server", "raylet"} <= {name for name, _ in listening}
    assert [entry for entry in listening if entry[1] not in LOOPBACKS] == []
    assert mode_of(home / ".ray" / "auth_token") == 0o600


# A head that is started as the cluster files start it


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def dashboard(home: Path) -> Iterator[int]:
    """Start a head with token authentication, in a session of its own; the port of its dashboard."""
    keep_token_private()
    port = free_port()
    temporary = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a path of sockets must be short
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=0"]
    command += [f"--port={free_port()}", f"--dashboard-port={port}", "--dashboard-host=127.0.0.1"]
    command += ["--node-ip-address=127.0.0.1", f"--temp-dir={temporary}", "--object-store-memory=80000000"]
    command += [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    log = home / "ray.log"
    with log.open("w") as output:
        head = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    start = psutil.Process(head.pid)
    try:
        deadline = time.monotonic() + 90
        while request_status(port, "/api/version", None) is None:
            assert head.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield port
    finally:
        family = [start, *start.children(recursive=True)] if head.poll() is None else []
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        head.wait(timeout=30)
        shutil.rmtree(temporary, ignore_errors=True)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def request_status(port: int, path: str, token: str | None, body: bytes | None = None) -> int | None:
    """Return the status that the dashboard answers with; None where nothing answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body)
    request.add_header("Content-Type", "application/json")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


@pytest.mark.slow
def test_job_is_taken_with_the_token_only(dashboard: int, home: Path) -> None:
    token = (home / ".ray" / "auth_token").read_text()
    witness = home / "ran"
    job = json.dumps({"entrypoint": f"touch {witness}"}).encode()
    assert request_status(dashboard, "/api/jobs/", None) == 401
    assert request_status(dashboard, "/api/jobs/", None, job) == 401
    assert request_status(dashboard, "/api/jobs/", "0" * 64, job) == 403
    assert not witness.exists()
    assert request_status(dashboard, "/api/jobs/", token) == 200
    wait_until(lambda: request_status(dashboard, "/api/jobs/", token, job) == 200)  # its agent starts late
    wait_until(witness.exists)
