"""What a process leaves behind ends with it; what belongs to others stays."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
OWNER = f"""
import os, subprocess, sys
from lt_rebalance.files.left_processes import ended_with_this_process
with ended_with_this_process("LEFT_BY", sys.argv[1]):
    for value in (sys.argv[1], sys.argv[1] + "0"):
        child = subprocess.Popen({SLEEP!r}, env=os.environ | {{"LEFT_BY": value}}, start_new_session=True)
        print(child.pid, flush=True)
    sys.stdin.readline()
"""


def is_running(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def wait_for_end(process: int) -> bool:
    deadline = time.monotonic() + 60
    while is_running(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(process)


def kill(owner: subprocess.Popen[str]) -> None:
    owner.kill()


def interrupt_group(owner: subprocess.Popen[str]) -> None:
    os.killpg(owner.pid, signal.SIGKILL)


def let_end(owner: subprocess.Popen[str]) -> None:
    assert owner.stdin is not None
    owner.stdin.write("\n")
    owner.stdin.flush()


@pytest.mark.parametrize("end", [kill, interrupt_group, let_end])
def test_marked_processes_end_with_their_owner_and_no_others(
    end: Callable[[subprocess.Popen[str]], None],
) -> None:
    mark = f"test-{os.getpid()}-{time.monotonic_ns()}"
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert owner.stdout is not None
    marked, other = (int(owner.stdout.readline()) for _ in range(2))
    try:
        assert is_running(marked) and is_running(other)
        end(owner)
        assert wait_for_end(marked), "a process was left behind"
        assert is_running(other), "the process of another was ended"
    finally:
        for process in (marked, other):
            if is_running(process):
                os.kill(process, signal.SIGKILL)
        owner.kill()
        owner.communicate()


def test_block_that_ends_waits_until_nothing_is_left() -> None:
    source = f"""
import os, subprocess, sys
from lt_rebalance.files.left_processes import ended_with_this_process
with ended_with_this_process("LEFT_BY", sys.argv[1]):
    child = subprocess.Popen({SLEEP!r}, env=os.environ | {{"LEFT_BY": sys.argv[1]}})
print(child.wait(timeout=60))
"""
    mark = f"test-{os.getpid()}-{time.monotonic_ns()}"
    done = subprocess.run([sys.executable, "-c", source, mark], capture_output=True, text=True, check=True)
    assert int(done.stdout) == -signal.SIGKILL
