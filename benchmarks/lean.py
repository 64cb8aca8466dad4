"""How much time do images that stay bytes on the device cost, and how much memory do they save?

Time: rounds of the same training, in turn, with a pool of bytes and with one of floats; 1.02 means that bytes
are 2 % faster. Memory: one stage of `--c original --methods none` on all of Fashion-MNIST in a separate
process, in turn with the package of another checkout if --before names one.
"""

import argparse
from pathlib import Path

from benchmarks.measure import make_parser

KINDS = ("classifier", "cgan")


def make_own_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--images", type=int, default=6_000, metavar="N", help="per round (default: 6000)")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS, help="whose speeds are compared")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="also compare memory with this one")
    parser.add_argument("--data-dir", default="", help="directory with Fashion-MNIST")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="of the stage (default: 20)")
    return parser


if __name__ == "__main__":
    make_own_parser().parse_args()  # import below keeps --help and wrong options fast

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.measure import alternate, describe, median, report
from benchmarks.training import build_training
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import resolve_execution

# In a separate process, using only names that the package of another checkout has, too.
_STAGE = """
import dataclasses, json, resource, sys
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import open_store
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.training.configs import Budget
from lt_rebalance.training.device import resolve_execution
folder, data_dir, steps = sys.argv[1], sys.argv[2] or None, int(sys.argv[3])
protocol = dataclasses.replace(get_protocol("sound"), classifier_budget=Budget(steps=steps, rounds=1))
cell = make_cell(protocol, dataset="fashion_mnist", c=None, method="none", generator=None)
execution = resolve_execution("cpu", "auto", 1, has_cuda=False)
store = open_store(folder + "/store", RESULTS_VERSION, create=True)
record = run_stage(cell.stage(0, execution), store, data_dir)
peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"peak": peak, "metrics": dict(record.metrics), "state": record.state}))
"""


def compare_speed(kind: str, num_images: int, execution: Execution, repetitions: int) -> dict[str, Any]:
    """Return one row: medians over the repetitions, and the median of the ratios within each of them."""
    trainings = {
        form: build_training(kind, num_images, execution, holds_floats=form == "floats")
        for form in ("floats", "bytes")
    }
    for training in trainings.values():
        training.run_round()  # one-time work is not timed
    seconds = alternate({form: training.run_round for form, training in trainings.items()}, repetitions)
    ratios = [floats / held for floats, held in zip(seconds["floats"], seconds["bytes"], strict=True)]
    return {
        "what": kind,
        "images": num_images,
        "n": repetitions,
        "floats, s": median(seconds["floats"]),
        "bytes, s": median(seconds["bytes"]),
        "times as fast": median(ratios),
        "least": min(ratios),
        "most": max(ratios),
    }


def measure_memory(checkout: Path, data_dir: str, num_steps: int) -> dict[str, Any]:
    """Return the peak of the resident memory of one stage with the package of a checkout, and its metrics."""
    with tempfile.TemporaryDirectory() as folder:
        answer = subprocess.run(
            [sys.executable, "-c", _STAGE, folder, data_dir, str(num_steps)],
            env=os.environ | {"PYTHONPATH": str(checkout)},
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
    result: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return result


def compare_memory(before: Path, data_dir: str, num_steps: int, repetitions: int) -> dict[str, Any]:
    """Return one row: the median peaks, and whether all metrics are equal."""
    found: dict[str, list[dict[str, Any]]] = {"before": [], "after": []}
    for _ in range(repetitions):
        for name, checkout in (("before", before), ("after", Path(__file__).parents[1])):
            found[name].append(measure_memory(checkout, data_dir, num_steps))
    peaks = {name: median([each["peak"] for each in results]) for name, results in found.items()}
    metrics = [each["metrics"] for results in found.values() for each in results]
    return {
        "what": "peak memory of a stage",
        "n": repetitions,
        "before, MB": peaks["before"] / 1e6,
        "after, MB": peaks["after"] / 1e6,
        "share": peaks["after"] / peaks["before"],
        "results are equal": all(each == metrics[0] for each in metrics),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    options = make_own_parser().parse_args(arguments)
    execution = resolve_execution("auto", "auto", 1, has_cuda=torch.cuda.is_available())
    rows = [compare_speed(kind, options.images, execution, options.repetitions) for kind in options.kinds]
    if rows:
        report("lean", rows, describe(execution), options.json)
    if options.before is not None:
        memory = compare_memory(options.before, options.data_dir, options.steps, options.repetitions)
        report("memory", [memory], describe(execution), None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
