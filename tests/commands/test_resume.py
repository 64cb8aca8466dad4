"""The command that is run again when all is done, and the one that is asked to stop."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AXES = ["--c", "1/2", "--methods", "none", "cgan", "--generators", "small_mlp_cgan_leaky", "--seeds", "2"]
BUDGETS = ["--steps", "200", "--generator-steps", "200"]
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
