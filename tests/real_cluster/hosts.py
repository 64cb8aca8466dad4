"""Hosts on one machine: namespaces with an address and an sshd each, joined by a bridge in a sandbox."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from patient_network import HOLD
from sandbox import ENTER, HOME, LAB, PATH, ROOT, list_exposed

HERE = Path(__file__).parent
BRIDGE = "br0"
DESK_ADDRESS = "10.213.7.1"
"""of whoever starts the cluster, and of the S3 server; in the network of the sandbox itself"""
NAMES = ("h0", "h1", "h2")
SSH_KEY = HOME / ".ssh/lt_rebalance"
START_S = 60.0
_RAY = re.compile(rb"site-packages/ray/|^ray(::|-)|bin/ray\0start")
"""in the command line of every process of Ray; ray_shield.sh has the same"""
PROFILE = """\
# Faults are found within seconds, not minutes; three hosts share one machine.
export RAY_health_check_initial_delay_ms=2000 RAY_health_check_period_ms=1000
export RAY_health_check_timeout_ms=2000 RAY_health_check_failure_threshold=5
# Trials share the machine with other tests, not with what their users do.
export RAY_worker_niceness=0
export AUTOSCALER_HEARTBEAT_TIMEOUT_S=15 RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES=200000000
"""


@dataclass(frozen=True, kw_only=True)
class Host:
    """One of them."""

    name: str
    address: str
    process: "subprocess.Popen[bytes]"
    """the parent of its sshd, which is the first process of its own process namespace"""

    @property
    def directory(self) -> Path:
        """The directory of its root/ and tmp/."""
        return LAB / self.name

    def run(self, command: str, *, timeout_s: float = 60.0) -> "subprocess.CompletedProcess[str]":
        """Run a shell command there over ssh."""
        return subprocess.run(
            self.ssh(command), capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL
        )

    def ssh(self, command: str) -> list[str]:
        """Return the command that runs a shell command there."""
        options = (
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        )
        return ["ssh", "-i", str(SSH_KEY), *options, f"root@{self.address}", command]

    def list_ray(self) -> list[int]:
        """Return the ids of its Ray processes, as seen from here."""
        return [pid for pid in self._list_pids() if _RAY.search(_read_command(pid))]

    def kill_ray(self) -> None:
        """Kill all that runs there but sshd."""
        kept = {self.process.pid} | {pid for pid in self._list_pids() if b"sshd" in _read_command(pid)}
        for pid in set(self._list_pids()) - kept:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def cut(self) -> None:
        """Take its network link down."""
        _ip("link", "set", f"v-{self.name}", "down")

    def mend(self) -> None:
        """Bring its network link up again."""
        _ip("link", "set", f"v-{self.name}", "up")

    def hold(self) -> None:
        """Let no stage of the patient network with more than 150 steps to go end there, until `release`."""
        self._hold.touch()

    def release(self) -> None:
        """Let its stages go on."""
        self._hold.unlink()

    @property
    def _hold(self) -> Path:
        return self.directory / HOLD.relative_to("/")

    def _list_pids(self) -> Iterator[int]:
        for line in _ip("netns", "pids", self.name).splitlines():
            if _read_command(int(line)):  # neither gone nor a zombie
                yield int(line)


def make_hosts() -> dict[str, Host]:
    """Make the bridge and the hosts, and return them by name when all answer over ssh."""
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("addr", "add", f"{DESK_ADDRESS}/24", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    SSH_KEY.parent.mkdir(mode=0o700)
    for path in (SSH_KEY, LAB / "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    hosts = {name: _start(name, f"10.213.7.{10 + index}") for index, name in enumerate(NAMES)}
    for host in hosts.values():
        deadline = time.monotonic() + START_S
        while (answer := host.run("hostname")).stdout.strip() != host.name:
            assert time.monotonic() < deadline, f"{host.name} does not answer: {answer.stderr}"
            time.sleep(0.1)
    return hosts


def _start(name: str, address: str) -> Host:
    _ip("netns", "add", name)
    _ip("link", "add", f"v-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
    _ip("link", "set", f"v-{name}", "master", BRIDGE, "up")
    _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
    _ip("-n", name, "link", "set", "eth0", "up")
    _ip("-n", name, "link", "set", "lo", "up")
    # Ray looks which address of its own leads outside. There is no way on from the sandbox.
    _ip("-n", name, "route", "add", "default", "via", DESK_ADDRESS)
    directory = LAB / name
    _write(directory / "root/.ssh/authorized_keys", SSH_KEY.with_suffix(".pub").read_text(), 0o600)
    _write(directory / "root/.bashrc", PROFILE, 0o644)
    process = _run_in_background(
        [
            *("ip", "netns", "exec", name, "unshare", "--mount", "--pid", "--ipc", "--uts"),
            *("--fork", "--kill-child", "--mount-proc"),
            *("bash", str(ENTER), str(directory), *list_exposed(), "--"),
            *("bash", str(HERE / "host.sh"), name, address, str(LAB / "host_key"), str(ROOT), sys.prefix),
        ],
        LAB / f"{name}.log",
    )
    return Host(name=name, address=address, process=process)


def _run_in_background(command: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        environment = {"PATH": PATH, "HOME": str(HOME)}
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(text)
    path.chmod(mode)


def _read_command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout
