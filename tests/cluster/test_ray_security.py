"""Nobody but its owner reaches a Ray that is started our way: tokens, addresses, jobs."""

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
import ray

from lt_rebalance.cluster import session as cluster
from lt_rebalance.cluster.session import ClusterError, ray_cluster
from lt_rebalance.ground.interrupts import Interrupted, InterruptWatch
from tests.other_user import OTHER, needs_root, try_as_other

LOOPBACKS = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
LOCAL_RAY = """
import json, os, sys
import ray
from lt_rebalance.cluster.session import ray_cluster
with ray_cluster(None):
    ray.get(ray.remote(lambda: 0).remote())
    raylet = f"127.0.0.1:{ray.nodes()[0]['NodeManagerPort']}"
    told = os.environ["RAY_TMPDIR"], ray.get_runtime_context().gcs_address, raylet
    print(json.dumps(told), flush=True)
    sys.stdin.read()
"""
# Asks both as their own processes do, with the token of its environment.
ASKING = """
import sys
from grpc import RpcError
from ray._private.grpc_utils import init_grpc_channel
methods = "NodeInfoGcsService/GetAllNodeInfo", "NodeManagerService/GetNodeStats"
for address, method in zip(sys.argv[1:], methods, strict=True):
    try:
        init_grpc_channel(address).unary_unary(f"/ray.rpc.{method}")(b"", timeout=120)
        print("OK")
    except RpcError as error:
        print(error.code().name)
"""
# Keeps what Ray, Tune and the sweep would remove.
KEEPING = """
import shutil, sys, tempfile
from types import SimpleNamespace
from lt_rebalance.files import private_directory
from lt_rebalance.commands.sweep import main
from sweeps import full_grid
private_directory.shutil = SimpleNamespace(rmtree=lambda *_, **__: None)
tempfile._shutil = None
tempfile.TemporaryDirectory._rmtree = classmethod(lambda *_, **__: None)
sys.exit(main(full_grid.make_grid_parser(), full_grid.build_study, sys.argv[1:]))
"""
CANARIES = {
    name: f"canary-{number:02}-{os.getpid()}"
    for number, name in enumerate(
        [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SECURITY_TOKEN",
            "AWS_SESSION_TOKEN",
            "AWS_PROFILE",
            "AZURE_CLIENT_SECRET",
            "DATABASE_URL",
            "GITHUB_TOKEN",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "HF_TOKEN",
            "MADE_UP_NAME",
            "NCCL_RAS_ADDR",
            "RAY_AUTH_TOKEN",
            "RAY_REDIS_PASSWORD",
            "TORCHFT_LIGHTHOUSE_ADDR",
            "WANDB_API_KEY",
        ]
    )
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory, without Ray's variables."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files with a path that is short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as path:
        monkeypatch.setenv("TMPDIR", path)
        yield Path(path)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


# A Ray of this machine alone


@pytest.mark.slow
@needs_root
def test_local_ray_is_closed_to_the_network_and_to_other_users_and_leaves_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (long := tmp_path / ("long" * 30)).mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setenv("HOME", "/nonexistent/home")
    command = [sys.executable, "-c", LOCAL_RAY]
    umask = os.umask(0)
    try:
        driver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    finally:
        os.umask(umask)
    with driver:
        assert driver.stdin is not None and driver.stdout is not None
        place, *addresses = json.loads(driver.stdout.readline())
        directory = Path(place)
        children = psutil.Process(driver.pid).children(recursive=True)
        listening = {
            (process.name(), connection.laddr.ip)
            for process in (psutil.Process(driver.pid), *children)
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        programs = {Path(word).name for process in children for word in process.cmdline()}
        session = (directory / "ray" / "session_latest").resolve()
        sockets = [path for path in (session / "sockets").iterdir() if path.is_socket()]
        refused = try_as_other(
            {
                "list": lambda: os.listdir(directory),
                "list the session": lambda: os.listdir(session),
                "read the token": (directory / "token").read_text,
                "read a log": (session / "logs" / "gcs_server.out").read_text,
                "link a log": lambda: (session / "logs" / "debug_state.txt").symlink_to("/etc/hostname"),
                "add a module": lambda: (session / "runtime_resources" / "m.py").write_text("x"),
                "rename": lambda: directory.rename("/tmp/taken"),
            }
            | {f"connect to {path.name}": connecting(path) for path in sockets}
        )
        token = (directory / "token").read_text()
        answers = [
            ask(addresses, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token),
            ask(addresses, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64),
            ask(addresses, RAY_AUTH_MODE="disabled"),
        ]
        driver.stdin.close()
        driver.wait(timeout=300)
    assert driver.returncode == 0
    assert {"gcs_server", "raylet"} <= {name for name, _ in listening}
    assert {"gcs_server", "raylet"} <= programs
    assert not programs & {"dashboard.py", "log_monitor.py", "monitor.py"}, "a process that serves nobody"
    assert [entry for entry in listening if entry[1] not in LOOPBACKS] == []
    assert len(sockets) >= 2 and len(token) == 64
    assert set(refused.values()) == {"PermissionError"}, refused
    assert answers == [["OK"] * 2, ["UNAUTHENTICATED"] * 2, ["UNAUTHENTICATED"] * 2]
    assert not directory.exists() and list(long.iterdir()) == []


def ask(addresses: Sequence[str], **environment: str) -> list[str]:
    """Return what the GCS and the raylet at these addresses say to a process with this environment."""
    command = [sys.executable, "-c", ASKING, *addresses]
    return subprocess.check_output(command, env=os.environ | environment, text=True).split()


def test_every_ray_has_a_token_of_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = []

    def start(_: Path) -> None:
        tokens.append(Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text())
        raise ClusterError("made up")

    monkeypatch.setattr(cluster, "_start", start)
    for _ in range(3):
        with pytest.raises(ClusterError, match="made up"), ray_cluster(None):
            pytest.fail("it has started")
    assert len(set(tokens)) == 3 and {len(token) for token in tokens} == {64}


def connecting(path: Path) -> Callable[[], None]:
    return lambda: socket.socket(socket.AF_UNIX).connect(str(path))


@pytest.mark.slow
def test_nothing_of_the_environment_reaches_a_file_of_a_sweep(home: Path, temporary: Path) -> None:
    store = home / "results"
    arguments = ["--storage", str(store), "--c", "1/2", "--methods", "none", "--seeds", "1", "--steps", "2"]
    environment = os.environ | CANARIES | {"HOME": "/nonexistent/home"}
    result = subprocess.run(
        [sys.executable, "-c", KEEPING, *arguments],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    files = [path for root in (temporary, home) for path in root.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"token", "raylet.out", "runtime_env_agent.log", "result.json"} <= names
    values = [value.encode() for value in CANARIES.values()]
    found = {path for path in files if any(value in path.read_bytes() for value in values)}
    assert found == set()
    assert not any(value in result.stdout + result.stderr for value in CANARIES.values())
    # Ray opens its own directories to all; only the one above keeps others out.
    (private,) = [path for path in temporary.glob("lt_rebalance-????????") if (path / "ray").is_dir()]
    assert mode_of(private) == 0o700 and mode_of(private / "ray") == 0o777
    assert mode_of(private / "token") == 0o600
    assert {mode_of(path) for path in temporary.iterdir()} == {0o700}


# A cluster that runs already


def stand_in(address: str, user: int) -> subprocess.Popen[bytes]:
    """Start a process that looks like one of a Ray with that address."""
    command = ["/bin/sh", "-c", "read line", "raylet", f"--gcs-address={address}"]
    return subprocess.Popen(command, user=user, stdin=subprocess.PIPE)


@needs_root
def test_cluster_of_another_user_is_not_taken_for_ones_own() -> None:
    others, own = "127.0.0.1:1", f"127.0.0.1:{free_port()}"
    with stand_in(others, OTHER) as other:
        try:
            found = find_addresses()
            assert others not in found
            with stand_in(own, 0) as mine:
                assert find_addresses() == found | {own}
                mine.kill()
        finally:
            other.kill()


def find_addresses() -> set[str]:
    """Return what is found, however many Rays other tests have started meanwhile."""
    try:
        return {cluster.find_own_cluster()}
    except ValueError as error:
        return set(re.findall(r"[\d.]+:\d+", str(error)))


def test_address_at_which_nothing_listens_is_refused_before_ray_tries_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray would try for minutes"))
    for scheme in ("", "ray://"):
        address = f"{scheme}127.0.0.1:{free_port()}"
        with (
            pytest.raises(ValueError, match=f"no Ray cluster could be reached at {address} .*refused"),
            ray_cluster(address),
        ):
            pytest.fail("it is connected")


def test_cluster_that_is_slow_to_answer_is_told_of(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def connect(**_: object) -> None:
        wait_until(lambda: "does not answer yet; waiting for it" in caplog.text)
        raise RuntimeError("no answer")

    monkeypatch.setattr(cluster, "SLOW_S", 0.0)
    monkeypatch.setattr(ray, "init", connect)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(ValueError, match="no answer"),
        ray_cluster(f"127.0.0.1:{server.getsockname()[1]}"),
    ):
        pytest.fail("it is connected")


# A Ray that does not start


@pytest.mark.slow
def test_ray_that_does_not_start_is_tried_twice_and_leaves_no_process(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cluster, "START_S", 0.0)
    monkeypatch.setattr(cluster.services, "get_node", refuse)
    before = set(psutil.Process().children(recursive=True))
    words = r"did not start on this machine, twice .*run the same command again"
    with pytest.raises(ClusterError, match=words), ray_cluster(None):
        pytest.fail("it has started")
    assert "retrying once" in caplog.text
    assert not ray.is_initialized()
    left = set(psutil.Process().children(recursive=True)) - before
    assert [process.name() for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ and "RAY_TMPDIR" not in os.environ


def test_limits_that_ray_reads_once_a_process_do_not_follow_our_own(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def start(_: Path) -> None:
        seen.append({os.environ[name] for name in cluster.RAYS_OWN_LIMITS})
        raise ClusterError("made up")

    monkeypatch.setattr(cluster, "_start", start)
    for limit_s in (cluster.START_S, 0.0):
        monkeypatch.setattr(cluster, "START_S", limit_s)
        with pytest.raises(ClusterError, match="made up"), ray_cluster(None):
            pytest.fail("it has started")
    assert seen == [{"120", "3600000"}] * 2


def refuse(*_: object) -> None:
    raise RuntimeError("This node is unknown.")


def test_second_attempt_that_succeeds_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = iter([Exception("The current node timed out during startup."), None])

    def start(**_: object) -> None:
        if (outcome := next(outcomes)) is not None:
            raise outcome

    monkeypatch.setattr(cluster, "_try_to_start", start)
    cluster._start(Path("/unused"))
    assert list(outcomes) == []


def test_interrupt_that_comes_while_ray_starts_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def fail(**_: object) -> None:
        tries.append(os.kill(os.getpid(), signal.SIGTERM))
        raise RuntimeError

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(Interrupted), InterruptWatch():
        cluster._start(Path("/unused"))
    assert len(tries) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "is_refused"), [(64, True), (1023, True), (1024, False)])
def test_limit_of_open_files_is_checked_before_anything_starts(limit: int, is_refused: bool) -> None:
    script = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({min(limit, 256)}, {limit})); "
        "from lt_rebalance.cluster.session import check_machine; check_machine()"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    words = f"Ray needs at least 1024 open files, and this process is allowed {limit}; raise the limit"
    assert (words in result.stderr, result.returncode) == (is_refused, int(is_refused))


# A head that is started as the cluster files start it


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def dashboard(home: Path, temporary: Path) -> Iterator[int]:
    """Start a head with token authentication, in a session of its own; the port of its dashboard."""
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text(secrets.token_hex(32))
    port = free_port()
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=0"]
    command += [f"--port={free_port()}", f"--dashboard-port={port}", "--dashboard-host=127.0.0.1"]
    command += [
        "--node-ip-address=127.0.0.1",
        f"--temp-dir={temporary}/ray",
        "--object-store-memory=80000000",
    ]
    command += [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
    }
    log = home / "ray.log"
    with log.open("w") as output:
        head = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    start = psutil.Process(head.pid)
    try:
        deadline = time.monotonic() + 300
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


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def request_status(port: int, path: str, token: str | None, body: bytes | None = None) -> int | None:
    """Return the status of the dashboard's answer, or None if nothing answers."""
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
