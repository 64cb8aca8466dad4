"""How long does a command take that only reads, checks or plans? Whole processes, from start to end.

It shows wall-clock seconds and CPU seconds, which other work on the machine affects less. The plan is that of
a study with one finished run, so that its speed is known; that run is done first.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import describe, make_parser, report
from lt_rebalance.training.device import resolve_execution

ROOT = Path(__file__).parent.parent
GRID = "sweeps/full_grid.py"
LOOK = ("-m", "lt_rebalance")
CPU = ("--device", "cpu", "--precision", "float32")
AXES = ("--methods", "none", "--c", "1/2", "--steps", "20")


def list_commands(store: str) -> Mapping[str, tuple[Sequence[str], int]]:
    """Return command lines by purpose, with the expected exit code."""
    return {
        "python and numpy alone": (("-c", "import numpy"), 0),
        "help of a sweep": ((GRID, "--help"), 0),
        "help of a search": (("sweeps/tune_cgan.py", "--help"), 0),
        "help of lt-rebalance": ((*LOOK, "--help"), 0),
        "help of the analysis": (("-m", "analysis", "--help"), 0),
        "wrong option": ((GRID, "--no-such-option"), 2),
        "unknown method": ((GRID, "--methods", "no_such_method"), 2),
        "no store": ((*LOOK, "status", f"{store}-missing"), 2),
        "status": ((*LOOK, "status", store), 0),
        "plan of known speed": ((GRID, "--plan", "--storage", store, *AXES, *CPU), 0),
    }


def time_command(arguments: Sequence[str], exit_code: int) -> tuple[float, float]:
    """Return the wall-clock and CPU seconds of a command."""
    start, before = time.perf_counter(), os.times()
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    wall_s, after = time.perf_counter() - start, os.times()
    if done.returncode != exit_code:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
    user_s, system_s = (after[index] - before[index] for index in (2, 3))
    return wall_s, user_s + system_s


def measure(repetitions: int) -> list[dict[str, Any]]:
    """Return the median of each command, all of them in turn."""
    with tempfile.TemporaryDirectory() as folder:
        time_command([GRID, "--seeds", "1", "--storage", folder, *AXES, *CPU], exit_code=0)
        commands = list_commands(folder)
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(repetitions):
            for name, (arguments, exit_code) in commands.items():
                seconds[name].append(time_command(arguments, exit_code))
    medians = {
        name: [statistics.median(each) for each in zip(*times, strict=True)]
        for name, times in seconds.items()
    }
    return [{"what": name, "s": wall_s, "cpu_s": cpu_s} for name, (wall_s, cpu_s) in medians.items()]


def make_own_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    return make_parser(__doc__ or "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    options = make_own_parser().parse_args(arguments)
    execution = resolve_execution("cpu", "float32", 1, has_cuda=False)
    report("startup", measure(options.repetitions), describe(execution), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
