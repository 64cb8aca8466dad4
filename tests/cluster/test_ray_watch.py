"""Ray that dies, from the watch alone to a whole command, and workers that cannot start."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from lt_rebalance.cluster.faults import WorkerFaults
from lt_rebalance.cluster.ray_watch import RayWatch
from lt_rebalance.cluster.session import RaySession
from lt_rebalance.files.filesystem import LocalFilesystem
from lt_rebalance.ground.errors import ClusterError, LeaseLostError
from lt_rebalance.monitoring.waiting import Waiting
from lt_rebalance.store.lease import DIRECTORY, Lease
from tests.ray_faults import BROKEN_WORKER

ROOT = Path(__file__).parents[2]
QUICK = {"patience_s": 0.05, "look_every_s": 0.02}


def wait_for_error(watch: RayWatch) -> ClusterError:
    while True:
        try:
            watch.check()
        except ClusterError as error:
            return error
        time.sleep(0.01)


def test_watch_tells_which_place_does_not_answer_any_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as living, socket.create_server(("127.0.0.1", 0)) as dying:
        places = {"the head": living.getsockname(), "the raylet": dying.getsockname()}
        with RayWatch(places, **QUICK, is_local=False, grace_s=600) as watch:
            assert RayWatch.active is watch
            watch.check()
            dying.close()
            error = wait_for_error(watch)
    assert (str(error), error.was_lost) == ("Ray was lost: the raylet no longer answers", True)
    assert RayWatch.active is None


def test_command_whose_lease_was_taken_over_stops_at_its_next_look(tmp_path: Path) -> None:
    files = LocalFilesystem(tmp_path)
    with Lease(files, "the store", "grid", beat_s=1e9) as lease, RaySession(None, lease) as session:
        session.check()
        files.replace(f"{DIRECTORY}/000002.json", b"{}")
        lease.beat()
        with pytest.raises(LeaseLostError, match="the store was taken over by another process"):
            session.check()


def test_watch_over_places_that_answer_tells_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        watch = RayWatch({"it": server.getsockname()}, **QUICK, is_local=False)
        with watch:
            for _ in range(3):  # whoever looks is heard
                server.accept()[0].close()
            watch.check()


def test_watch_is_patient_while_ray_is_being_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ended:
        address = ended.getsockname()
    watch = RayWatch({"it": address}, **QUICK, is_local=False, grace_s=600)
    watch.note_leaving()
    with watch:
        time.sleep(10 * QUICK["patience_s"])
        watch.check()


STUCK = """
import os, signal, socket, subprocess, sys, time
from lt_rebalance.cluster.ray_watch import RayWatch
from lt_rebalance.ground.interrupts import InterruptWatch
free = socket.create_server(("127.0.0.1", 0))
address = free.getsockname()
free.close()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
watch = RayWatch({"its head": address}, 0.1, is_local=True, grace_s=5, look_every_s=0.05)
watch.guard(lambda: print("let go", flush=True))
with InterruptWatch(), watch:
    if sys.argv[1] == "signalled":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)
    while True:
        try:
            watch.check()
        except Exception:
            if sys.argv[1] == "told":
                watch.note_leaving()
            time.sleep(600)
        time.sleep(0.01)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "code", "words"),
    [
        ("told", 1, ""),
        ("untold", 1, "error: Ray was lost: its head no longer answers\nstopped; finished results are kept"),
        ("signalled", 143, "stopped by SIGTERM; finished results are kept, and the same command resumes"),
    ],
)
def test_watch_ends_a_process_that_stands_still_and_what_it_has_started(
    way: str, code: int, words: str
) -> None:
    process = subprocess.run(
        [sys.executable, "-c", STUCK, way], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    child, let_go = process.stdout.splitlines()
    assert (process.returncode, let_go) == (code, "let go")
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(child)).wait(timeout=60)
    assert process.stderr.startswith(words) and bool(process.stderr) == bool(words)


START_FAILED = """The actor died because of an error raised in its creation task, ray::X() (ip=10.0.0.9)
RuntimeError: The actor with name X failed to import on the worker.

  File "/x.py", line 6, in f
ModuleNotFoundError: No module named 'lt_rebalance'
"""


def test_worker_that_cannot_start_is_told_at_once_and_ends_the_run_at_the_third_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults = WorkerFaults()
    for number in (1, 2):
        faults.note("trial", "classifier", START_FAILED, number)
        faults.check()
    faults.note("trial", "classifier", START_FAILED, 3)
    with pytest.raises(ClusterError, match=r"a worker on 10\.0\.0\.9 cannot start: ModuleNotFoundError: No"):
        faults.check()
    assert len(caplog.messages) == 3
    assert "cannot start: ModuleNotFoundError: No module named 'lt_rebalance' (1 of 3)" in caplog.messages[0]


def test_lost_workers_and_errors_that_are_tried_again_are_told_and_end_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults = WorkerFaults()
    raised = "ray::X.train()\n  File\nlt_rebalance.attempt.AttemptError: KeyError: 'made up'\n"
    lost = "The actor died unexpectedly.\nWorker exit type: SYSTEM_ERROR Worker exit detail: End of file.\n"
    for text in (raised, lost, ""):
        faults.note("trial", "classifier", text, 2)
    faults.check()
    assert caplog.messages == [
        "classifier: KeyError: 'made up'; it is retried",
        "classifier: its worker was lost (2 of 21): End of file.",
        "classifier: its worker was lost (2 of 21): Ray does not say why",
    ]


def test_what_is_waited_for_is_said_more_and_more_rarely_and_not_while_things_happen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s = 0.0
    waiting, said_s = Waiting(say_after_s=45, clock=lambda: now_s), []
    for second in range(400):
        now_s = float(second)
        if second < 100 and second % 40 == 0:
            waiting.note_event()
        before = len(caplog.messages)
        waiting.look(lambda: "for something")
        said_s += [second] * (len(caplog.messages) - before)
    assert said_s == [80 + 45, 80 + 45 + 90, 80 + 45 + 90 + 180]
    assert caplog.messages[0] == "waiting for 45 s: for something"


# Whole commands


def start_command(storage: Path, **variables: str) -> subprocess.Popen[str]:
    options = ["--c", "1/2", "--methods", "none", "--seeds", "2", "--steps", "20000", "--max-concurrent", "1"]
    how = ["--device", "cpu", "--precision", "float32", "--storage", str(storage)]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "sweeps" / "full_grid.py"), *options, *how],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | variables,
    )


def is_running(process: psutil.Process) -> bool:
    return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("name", "words"),
    [("raylet", "its process on this machine (raylet, "), ("gcs_server", "its head (GCS, ")],
)
def test_command_whose_ray_dies_says_so_lets_go_of_the_store_and_leaves_no_process(
    name: str, words: str, tmp_path: Path
) -> None:
    command = start_command(tmp_path)
    while not list(tmp_path.glob("running/trial-*")):  # a trial has begun
        assert command.poll() is None
        time.sleep(0.2)
    processes = psutil.Process(command.pid).children(recursive=True)
    (victim,) = [process for process in processes if process.name() == name]
    victim.send_signal(signal.SIGKILL)
    output, _ = command.communicate(timeout=300)
    assert command.returncode == 1
    lines = output.splitlines()
    (told,) = [line for line in lines if line.startswith("error: ")]
    assert f"error: Ray was lost: {words}" in told
    assert any(line.startswith("stopped; finished results are kept") for line in lines)
    (lease,) = (tmp_path / "lease").iterdir()
    assert '"is_released": true' in lease.read_text()
    _, left = psutil.wait_procs(processes, timeout=300)
    assert [process for process in left if is_running(process)] == []


@pytest.mark.slow
def test_command_whose_workers_cannot_import_the_project_ends_at_once_with_the_error(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BROKEN_WORKER)
    command = start_command(tmp_path / "store", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    output, _ = command.communicate(timeout=240)
    assert command.returncode == 1
    assert len(re.findall(r"cannot start: ModuleNotFoundError: No module named 'lt_rebalance'", output)) == 4
    assert "failed" not in output.replace("failed=0", "")
    assert "--retry-failed" not in output
