"""The command that is run again when all is done, and the one that is asked to stop."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from lt_rebalance.commands.sweep import main
from sweeps import full_grid
from tests import linear_network

ROOT = Path(__file__).parents[2]
AXES = ["--c", "1/2", "--methods", "none", "cgan", "--generators", "small_mlp_cgan_leaky", "--seeds", "2"]
BUDGETS = ["--steps", "200", "--generator-steps", "200", *linear_network.OPTIONS]
EXECUTION = ["--device", "cpu", "--precision", "float32"]
NUM_STAGES = 6


def start_command(storage: Path, **variables: str) -> subprocess.Popen[str]:
    script = str(ROOT / "sweeps" / "full_grid.py")
    command = [sys.executable, script, *AXES, *BUDGETS, *EXECUTION, "--storage", str(storage)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | variables,
    )


def find_results(storage: Path) -> dict[Path, tuple[int, int]]:
    """Return what identifies each committed result as the file it was."""
    stats = {path: path.stat() for path in storage.glob("stages/*/result.json")}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


def stop_at_first_result(storage: Path, number: signal.Signals) -> tuple[int, str]:
    """Ask a command to stop when it has finished a stage; return its exit code and what it printed then."""
    process = start_command(storage)
    assert process.stdout is not None
    for line in process.stdout:
        if re.match(r"1/\d ", line):
            process.send_signal(number)
            break
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


@pytest.mark.slow
def test_command_that_is_asked_to_stop_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = tmp_path / "store"
    finished: dict[Path, tuple[int, int]] = {}
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        returncode, output = stop_at_first_result(storage, number)
        assert returncode == code, output
        assert f"stopped by {number.name}; finished results are kept. To resume: python " in output
        assert re.search(r"planned=4 .* missing=[1-4]\b", output)
        assert (
            len(find_results(storage)) > len(finished) and finished.items() <= find_results(storage).items()
        )
        finished = find_results(storage)
    last = start_command(storage)
    output, _ = last.communicate()
    assert last.returncode == 0, output
    lines = output.splitlines()
    assert "starting Ray" in lines and any(re.match(r"\d/\d classifier ", line) for line in lines)
    assert not any(re.search(": (begins|goes on|round )", line) for line in lines)  # of --verbosity 2
    results = find_results(storage)
    assert len(results) == NUM_STAGES and finished.items() <= results.items()

    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))
    command = [*AXES, *BUDGETS, *EXECUTION, "--storage", str(storage)]
    assert main(full_grid.make_grid_parser(), full_grid.build_study, command) == 0
    again = capsys.readouterr().out
    assert "stages to run" not in again
    assert find_results(storage) == results
    assert again.splitlines()[-1] == output.splitlines()[-1]
