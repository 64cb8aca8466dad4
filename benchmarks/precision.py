"""Do trainings in bfloat16 reach the accuracy of float32?

Trains the classifier at the same seeds in both precisions on the embedded sample, with --generator filled up
by a CGAN of the same precision, and compares accuracies seed by seed: mean difference with its 95 % Student t
interval, exact sign-flip test, and the test of equivalence within a margin.
"""

import argparse

from benchmarks.measure import make_parser


def make_own_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="default: 10")
    parser.add_argument(
        "--steps", type=int, default=200, metavar="N", help="of every training (default: 200)"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--generator", metavar="NAME", help="CGAN architecture (default: oversample)")
    return parser


if __name__ == "__main__":
    make_own_parser().parse_args()  # import below keeps --help and wrong options fast

import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pandas as pd
import torch

from analysis.compare import describe_difference
from benchmarks.measure import describe, report
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import open_store
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, ClassifierStage
from lt_rebalance.training.configs import Budget, Execution
from lt_rebalance.training.device import resolve_execution

MARGIN = 0.01


def train(stage: ClassifierStage, location: str) -> float:
    """Return the accuracy of a stage."""
    store = open_store(location, RESULTS_VERSION, create=True)
    assert store is not None
    if stage.generator_stage is not None:
        run_stage(stage.generator_stage, store)
    return run_stage(stage, store).metrics["accuracy"]


def make_stages(
    precision: str, num_seeds: int, steps: int, device: str, generator: str | None
) -> list[ClassifierStage]:
    """Return the same trainings in one precision, one per seed."""
    budget = Budget(steps=steps, rounds=2)
    protocol = replace(get_protocol("sound"), classifier_budget=budget, generator_budget=budget)
    method = "oversample" if generator is None else "cgan"
    cell = make_cell(protocol, dataset="fashion_mnist_mini", c="7/9", method=method, generator=generator)
    execution: Execution = resolve_execution(device, precision, 1, has_cuda=torch.cuda.is_available())
    return [cell.stage(seed, execution) for seed in range(num_seeds)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, compare, print and write."""
    options = make_own_parser().parse_args(arguments)
    sizes = options.seeds, options.steps, options.device, options.generator
    stages = {name: make_stages(name, *sizes) for name in ("bfloat16", "float32")}
    num_processes = len(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(num_processes, mp_context=get_context("spawn")) as pool,
    ):
        everything = [stage for of_precision in stages.values() for stage in of_precision]
        accuracies = list(pool.map(train, everything, [folder] * len(everything)))
    frame = pd.DataFrame({"first": accuracies[: options.seeds], "second": accuracies[options.seeds :]})
    frame["difference"] = frame["first"] - frame["second"]
    found = describe_difference(frame, margin=MARGIN)
    row = {
        "seeds": options.seeds,
        "steps": options.steps,
        "bfloat16": float(frame["first"].mean()),
        "sd": float(frame["first"].std(ddof=1)),
        "float32": float(frame["second"].mean()),
        "sd of it": float(frame["second"].std(ddof=1)),
        "difference, points": 100 * found["mean_difference"],
        "95 % t interval": f"{100 * found['difference_low']:+.2f} to {100 * found['difference_high']:+.2f}",
        "sign-flip p": found["sign_flip_p"],
        f"TOST p, {100 * MARGIN:g} point": found["tost_p"],
    }
    report("accuracy by precision", [row], describe(stages["bfloat16"][0].execution), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
