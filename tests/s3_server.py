"""A real server of the S3 protocol for tests, with state in its memory, that can be frozen and thawed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

LOOPBACK = "127.0.0.1"
START_S = 180
PAGE_SIZE = 100
"""names that one answer lists at most; of S3 itself 1,000, which takes long to fill"""
# moto lists its package's folders with every request, which takes longer than the answer.
_START = """
import moto.backends
from moto.server import main

names = tuple(moto.backends.list_of_moto_modules())
moto.backends.list_of_moto_modules = lambda: names
main()
"""
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class S3Server:
    """A server that answers at an address of this machine."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        self.port = port
        self._process = process

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{LOOPBACK}:{self.port}"

    def freeze(self) -> None:
        """Let it take connections and answer none."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, with what it has been asked meanwhile."""
        self._process.send_signal(signal.SIGCONT)


def is_up(url: str) -> bool:
    """Whether a server answers now."""
    try:
        _OPENER.open(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@contextlib.contextmanager
def serve() -> Iterator[S3Server]:
    """Start a server on a free port, and stop it in the end."""
    command = [sys.executable, "-c", _START, "-H", LOOPBACK, "-p"]
    variables = os.environ | {"MOTO_S3_DEFAULT_MAX_KEYS": str(PAGE_SIZE)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def start(port: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([*command, str(port)], env=variables, start_new_session=True, **quiet)

    with start_on_free_port(start, lambda port: is_up(f"http://{LOOPBACK}:{port}")) as (port, process):
        server = S3Server(port, process)
        try:
            yield server
        finally:
            server.thaw()


@contextlib.contextmanager
def start_on_free_port(
    start: Callable[[int], "subprocess.Popen[bytes]"], is_up: Callable[[int], bool]
) -> "Iterator[tuple[int, subprocess.Popen[bytes]]]":
    """Start a server and wait until it answers; end it in the end, with all of the session that it leads.

    Between its choice and its use another process may take a port, and the server ends: then a second port is
    tried, and a third.
    """
    for _ in range(3):
        process = start(port := find_free_port())
        try:
            deadline = time.monotonic() + START_S
            while process.poll() is None and time.monotonic() < deadline:
                if is_up(port):
                    yield port, process
                    return
                time.sleep(0.1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()
    raise AssertionError("the server did not start")


def find_free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def environment(url: str) -> dict[str, str]:
    """Return the variables that lead boto3 to a server, and to nothing else of this machine's owner."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
