"""Processes and nodes killed, disks filled while a sweep runs on a real Ray: nothing lost, nothing twice."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from benchmarks import chaos
from lt_rebalance.cluster.session import ray_cluster
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import compile_study
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.study import Cell, Study
from lt_rebalance.training.configs import Budget, Execution
from tests import linear_network
from tests.cluster.test_runner import run_on_ray
from tests.commands.test_resume import AXES, BUDGETS, EXECUTION, NUM_STAGES, ROOT, find_results, start_command
from tests.ray_nodes import started_head
from tests.store.test_full_disk import mounted, open_at
from tests.tiny import TINY

RAYS_PATIENCE_S = 120.0
"""how long Ray waits by default for a process that does not answer"""


@pytest.fixture
def long_cell(small_protocol: Protocol) -> Cell:
    """Return a cell of twelve rounds, each long enough to be killed in."""
    longer = dataclasses.replace(small_protocol, classifier_budget=Budget(steps=60, rounds=12))
    return make_cell(longer, dataset=TINY, c="1/2", method="oversample", generator=None)


class KillNode:
    """Kills all processes of a node once the first checkpoint is there."""

    def __init__(self, cluster: Cluster, store_dir: Path) -> None:
        self._cluster = cluster
        self._store_dir = store_dir
        self.node = cluster.add_node(num_cpus=1)
        self.is_done = False

    def __call__(self) -> None:
        if not self.is_done and len(list(self._store_dir.glob("stages/*/checkpoints/0*"))) > 1:
            self.is_done = True
            self._cluster.remove_node(self.node, allow_graceful=False)


@pytest.mark.chaos
def test_node_that_dies_gives_its_work_to_the_other(
    long_cell: Cell, cpu_execution: Execution, tmp_path: Path
) -> None:
    store, plain = open_at(tmp_path / "store"), open_at(tmp_path / "plain")
    ledger = Ledger(
        compile_study(Study(name="study", cells=(long_cell,), seeds=(0, 1)), cpu_execution), store
    )
    with started_head() as cluster:
        kill_node = KillNode(cluster, tmp_path / "store")
        with ray_cluster(cluster.address):
            run_on_ray(ledger, store, check=kill_node)
        assert kill_node.is_done
        assert ledger.summary() == "planned=2 complete=2 failed=0 diverged=0 missing=0"
    for run in ledger.plan.runs:
        assert ledger.records[run.key].deterministic() == run_stage(run.stage, plain).deterministic()
        assert ledger.records[run.key].timing.num_errors == 0


def find_marked(mark: str) -> set[int]:
    """Return the processes that have inherited a mark in their environment."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if f"LT_REBALANCE_TEST_MARK={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
    return found


def wait_until_gone(mark: str) -> None:
    """Wait for the last of a killed command's processes, a minute at most."""
    deadline = time.monotonic() + 60
    while find_marked(mark) and time.monotonic() < deadline:
        time.sleep(0.1)


def stop_workers_at_work(storage: Path, command: subprocess.Popen[str]) -> list[int]:
    """Stop a command's training workers once a checkpoint is there. Between two stages there is no worker."""
    stopped: list[int] = []
    while not stopped and command.poll() is None:
        time.sleep(0.05)
        for pid in chaos.list_workers() if list(storage.glob("stages/*/checkpoints/0*")) else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
    return stopped


@pytest.mark.chaos
def test_second_command_is_refused_until_the_first_is_killed_which_leaves_no_process(tmp_path: Path) -> None:
    mark = f"first in {tmp_path}"
    first = start_command(tmp_path / "store", LT_REBALANCE_TEST_MARK=mark)
    # At rest it still renews its lease, every ten seconds, which is what the second one waits for.
    assert stop_workers_at_work(tmp_path / "store", first), "it ended before it was at work"
    second = start_command(tmp_path / "store")
    refusal, _ = second.communicate(timeout=300)
    assert second.returncode == 2, refusal
    assert f"is in use: full_grid-quick, process {first.pid} on " in refusal
    assert len(find_marked(mark)) > 1, "no process of Ray was seen"
    # A killed command frees the store immediately, although the second one was refused a moment ago.
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    found = find_results(tmp_path / "store")
    third = start_command(tmp_path / "store")
    output, _ = third.communicate(timeout=600)
    assert third.returncode == 0, output
    wait_until_gone(mark)
    assert find_marked(mark) == set(), "the first left processes behind"
    results = find_results(tmp_path / "store")
    assert len(results) == NUM_STAGES and found.items() <= results.items()


@pytest.mark.chaos
def test_worker_that_gets_no_processor_for_two_minutes_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray asks whether a worker is there every second here, not every five minutes."""
    monkeypatch.setenv("RAY_grpc_client_keepalive_time_ms", "1000")
    process = start_command(tmp_path / "store")
    workers = stop_workers_at_work(tmp_path / "store", process)
    time.sleep(RAYS_PATIENCE_S + 10)
    for pid in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    output, _ = process.communicate(timeout=600)
    assert workers and process.returncode == 0, output
    assert "was lost" not in output


@pytest.mark.chaos
def test_command_on_a_disk_that_fills_up_says_so_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    script = str(ROOT / "sweeps" / "full_grid.py")
    storage = tmp_path / "small" / "store"
    command = [sys.executable, script, *AXES, *BUDGETS, *EXECUTION, "--storage", str(storage)]
    with mounted(tmp_path / "small", "400m"):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        deadline = time.monotonic() + 300
        while not list(storage.glob("stages/*/checkpoints/0*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        filler = tmp_path / "small" / "filler"
        with filler.open("wb", buffering=0) as file:  # nothing is left to write when it is closed
            while process.poll() is None:  # also what the sweep itself frees
                with contextlib.suppress(OSError):
                    file.write(bytes(200_000))
                    continue
                time.sleep(0.05)
        output, _ = process.communicate()
        assert process.returncode == 1, output
        assert "No space left on device" in output and "finished results are kept" in output
        assert "To resume once that is fixed: python " in output
        assert not list(storage.glob("stages/*/failed.json"))
        found = find_results(storage)
        filler.unlink()
        again = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert again.returncode == 0, again.stdout
        assert "planned=4 complete=4 failed=0 diverged=0 missing=0" in again.stdout
        assert found.items() <= find_results(storage).items()


@pytest.mark.chaos
def test_chaos_of_5_kills_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    answer = tmp_path / "chaos.json"
    small = ["--steps", "200", "--architecture", linear_network.NAME, "--within", "10"]
    assert chaos.main(["--kills", "5", *small, "--json", str(answer)]) == 0
    (row,) = json.loads(answer.read_text())["rows"]
    assert (row["kills"], row["re-executed"], row["lost"], row["tables equal"]) == (5, 0, 0, "yes")
    assert row["repeated at most"] <= 1


def test_log_of_attempts_tells_rounds_that_were_repeated_and_results_that_were_made_again() -> None:
    begins, goes_on = "x: begins", "x: goes on after round {}/3"
    rounds = [f"x: round {number}/3, 1.0 s: loss 1" for number in (1, 2, 3)]
    assert chaos.read_log([begins, *rounds]) == ([], 0)
    # Killed in round 3: that round is repeated. Its last checkpoint lost: one more is.
    assert chaos.read_log([begins, *rounds[:2], goes_on.format(2), rounds[2]]) == ([1], 0)
    assert chaos.read_log([begins, *rounds[:2], goes_on.format(1), *rounds[1:]]) == ([2], 0)
    # Killed after a checkpoint and before its line: nothing is.
    assert chaos.read_log([begins, rounds[0], goes_on.format(2), rounds[2]]) == ([0], 0)
    assert chaos.read_log([begins, *rounds, begins, *rounds]) == ([4], 1)
