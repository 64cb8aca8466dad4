"""Namespaces in which a test may play with hosts and networks, and which end with whoever made them.

Whatever is started, mounted or configured inside lives in process, mount and network namespaces of its own.
The kernel removes them with their first process, and ends that one with the test, however the test ends. So
nothing can be left behind, no run meets what an earlier one left, and several may run at the same time.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENTER = Path(__file__).with_name("enter.sh")
HOME = Path("/root")
"""of root, which has another one inside"""
LAB = Path("/run/lab")
"""where the work directory is seen inside"""
TOOLS = {
    "ip": "iproute2",
    "mount": "mount",
    "rsync": "rsync",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "unshare": "util-linux",
}
"""what is needed, and Debian's package that brings it"""
NAMESPACES = ("--mount", "--net", "--pid", "--ipc", "--uts")
PRIORITY = -5
"""niceness of all that runs in a sandbox"""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def explain_absence() -> str | None:
    """Return in words why this machine cannot have a sandbox, or None if it can."""
    if sys.platform != "linux":
        return "needs Linux, for its namespaces"
    if os.geteuid() != 0:
        return "needs root, to make namespaces and network links"
    if missing := sorted({package for tool, package in TOOLS.items() if not shutil.which(tool, path=PATH)}):
        return f"needs programs that are not installed: apt-get install {' '.join(missing)}"
    with tempfile.TemporaryDirectory() as directory:
        links = (
            "ip link add br0 type bridge && ip netns add probe && "
            "ip link add v-probe type veth peer name eth0 netns probe"
        )
        tried = run_inside(Path(directory), ["bash", "-c", links], timeout_s=30)
    if tried.returncode != 0:
        return f"needs namespaces, mounts and network links, which are refused here ({tried.stdout.strip()})"
    return None


def run_inside(
    work_dir: Path, command: Sequence[str], *, timeout_s: float
) -> "subprocess.CompletedProcess[str]":
    """Run a command in a sandbox, and return its exit status and what it printed.

    Inside, /root, /tmp, /run and /dev/shm are its own, the network has a loopback and no way out, and all
    else can be read only. The checkout, the Python environment and, as `LAB`, the work directory are seen.

    Raises:
        subprocess.TimeoutExpired: it took longer; it is ended, with all that it started.
    """
    prepare = (
        'work=$1; shift; mkdir -p "$work/desk"; exec 3<"$work"; mount -t tmpfs -o size=16m tmpfs /run; '
        f'mkdir {LAB}; mount --bind /proc/self/fd/3 {LAB}; exec 3<&-; ip link set lo up; exec "$@"'
    )
    process = subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "KILL"),
            *("unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc"),
            *("bash", "-ec", prepare, "bash", str(work_dir)),
            # Its nodes must answer within seconds, however busy other tests keep the machine.
            *("nice", "-n", str(PRIORITY)),
            *("bash", str(ENTER), str(LAB / "desk"), *list_exposed(), "--", *command),
        ],
        env={"PATH": PATH, "HOME": str(HOME), "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
        finally:
            process.kill()  # harmless when it has ended; otherwise the namespaces go with it
    return subprocess.CompletedProcess(command, process.returncode, output)


def list_exposed() -> list[str]:
    """Return the directories that hold this code and this Python, by every name that leads there."""
    python = Path(sys.executable)
    found = [ROOT, Path(sys.prefix), Path(sys.base_prefix)]
    while python.is_symlink():  # from the environment to where Python was installed
        python = python.parent / python.readlink()
        found.append(python.parent.parent)
    names = dict.fromkeys(os.path.normpath(path) for path in found)
    return [name for name in names if name not in ("/", "/usr", "/usr/local")]
