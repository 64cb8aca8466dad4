"""Kill the command at random moments and run it again, until done: nothing is lost, nothing done twice."""

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from lt_rebalance.ledger import Ledger
from lt_rebalance.machine import resolve_execution
from lt_rebalance.plan import compile_study
from lt_rebalance.stages import run_stage
from lt_rebalance.store import Store, open_store
from lt_rebalance.study import RESULTS_VERSION
from lt_rebalance.tables import cells_frame, runs_frame
from sweeps import full_grid

ROOT = Path(__file__).parent.parent
NUM_KILLS = 4
AXES = ["--c", "1/2", "--methods", "none", "cgan", "--generators", "small_mlp_cgan_leaky", "--seeds", "2"]
BUDGETS = ["--steps", "300", "--generator-steps", "300"]
EXECUTION = ["--device", "cpu", "--precision", "float32"]
NUM_STAGES = 6


def start_command(storage: Path) -> subprocess.Popen[str]:
    script = str(ROOT / "sweeps" / "full_grid.py")
    command = [sys.executable, script, *AXES, *BUDGETS, *EXECUTION, "--storage", str(storage)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def find_results(storage: Path) -> dict[Path, tuple[int, int]]:
    """Return what identifies each committed result as the file it was."""
    stats = {path: path.stat() for path in storage.glob("stages/*/result.json")}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


def open_at(directory: Path) -> Store:
    store = open_store(str(directory), RESULTS_VERSION, create=True)
    assert store is not None
    return store


@pytest.mark.slow
def test_command_killed_at_random_ends_with_the_bits_of_an_undisturbed_run(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed of the kills: {seed}")
    rng = random.Random(seed)
    storage = tmp_path / "killed"
    results: dict[Path, tuple[int, int]] = {}
    for kill in range(NUM_KILLS + 1):
        process = start_command(storage)
        finished_before = find_results(storage)
        try:
            # From before the start of Ray to well into training; the last one is left alone.
            output, _ = process.communicate(timeout=None if kill == NUM_KILLS else rng.uniform(2, 40))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
        for path, identity in finished_before.items():
            results.setdefault(path, identity)
        if (stated := re.search(r"(\d+) stages to run", output)) is not None:
            assert int(stated.group(1)) <= NUM_STAGES - len(finished_before)
        finished = find_results(storage)
        assert {path: finished.get(path) for path in results} == results, "a finished result was made again"
        if process.returncode == 0:
            break
    assert process.returncode == 0, output
    assert "planned=4 complete=4 failed=0 diverged=0 missing=0" in output

    options = full_grid.make_grid_parser().parse_args([*AXES, *BUDGETS])
    execution = resolve_execution("cpu", "float32", 1, has_cuda=False)
    plan = compile_study(full_grid.build_study(options), execution)
    undisturbed = open_at(tmp_path / "undisturbed")
    for stage in plan.stages.values():
        run_stage(stage, undisturbed)
    ledger, expected = Ledger(plan, open_at(storage)), Ledger(plan, undisturbed)
    for key in plan.stages:
        assert ledger.records[key].deterministic() == expected.records[key].deterministic()
    pd.testing.assert_frame_equal(cells_frame(runs_frame(ledger)), cells_frame(runs_frame(expected)))


@pytest.mark.slow
def test_command_run_again_trains_nothing_and_starts_no_ray(tmp_path: Path) -> None:
    first = start_command(tmp_path / "store")
    output, _ = first.communicate()
    assert first.returncode == 0, output
    results = find_results(tmp_path / "store")
    assert len(results) == NUM_STAGES
    second = start_command(tmp_path / "store")
    again, _ = second.communicate()
    assert second.returncode == 0, again
    assert "stages to run" not in again
    assert find_results(tmp_path / "store") == results
    assert again.splitlines()[-1] == output.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_command_that_is_asked_to_stop_says_how_to_go_on(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    process = start_command(tmp_path / "store")
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "1/6 generator" in line:
            process.send_signal(number)
            break
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code
    assert f"stopped by {number.name}; nothing finished is lost. To go on: python " in output
    assert "complete=0" in output
