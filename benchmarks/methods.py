"""How much slower does a method train than none?

Trains the paper's CNN on long-tailed images in batches of 100, a round of each method and of none in turn,
and prints the median time of a step as a ratio to none's. A separate process for each method measures the
memory of a round in addition to that of the prepared training. Work on images before training is left out,
and so is the first training of a method that has two.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING

from benchmarks.measure import alternate, describe, make_parser, median, peak_bytes, report

if TYPE_CHECKING:
    from lt_rebalance.training.classifier import ClassifierTraining
    from lt_rebalance.training.configs import Execution

COUNTS = (600, 359, 215, 129, 77, 46, 27, 16, 10, 6)
"""of the embedded sample, cut exponentially to a ratio of 100"""


def build(name: str, execution: "Execution", num_rounds: int, steps: int) -> "ClassifierTraining":
    """Return a classifier in training by a method, on the embedded sample."""
    import numpy as np
    import torch

    from lt_rebalance.data.catalog import DATASETS
    from lt_rebalance.data.files import load_dataset
    from lt_rebalance.methods.registry import METHODS, MethodConfig
    from lt_rebalance.studies.protocols import get_protocol, make_cell
    from lt_rebalance.training.classifier import ClassifierTraining
    from lt_rebalance.training.configs import Budget
    from lt_rebalance.training.lane import TrainingSet
    from lt_rebalance.training.stacks import ALONE

    spec, dataset = DATASETS["fashion_mnist_mini"], load_dataset("fashion_mnist_mini")
    items = [np.flatnonzero(dataset.train_labels_N == label)[:n] for label, n in enumerate(COUNTS)]
    cell = make_cell(get_protocol("sound"), dataset=spec.name, c="1/2", method="none", generator=None)
    config = cell.classifier.__class__(
        **{**vars(cell.classifier), "budget": Budget(steps=steps * num_rounds, rounds=num_rounds)}
    )
    training_set = TrainingSet(
        images_PCHW=torch.from_numpy(dataset.train_images_NCHW),
        labels_P=torch.from_numpy(dataset.train_labels_N),
        items_N=torch.from_numpy(np.concatenate(items)),
    )
    draw = next(iter(METHODS[name].draws), None)
    return ClassifierTraining(
        config,
        spec,
        torch.device("cpu"),
        execution.precision,
        [0],
        [training_set],
        [None],
        None,
        ALONE,
        MethodConfig(name=name, draw=draw),
    )


def measure_memory(name: str, execution: "Execution", steps: int) -> float:
    """Return the MB by which a round raises the peak of this process, which has trained nothing before."""
    training = build(name, execution, 1, steps)
    before = peak_bytes()
    training.run_round()
    return (peak_bytes() - before) / 1e6


def make_own_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="default: all that act during training")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="of a round (default: 20)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Train in turn, print and write."""
    options = make_own_parser().parse_args(arguments)

    from lt_rebalance.methods.registry import METHODS
    from lt_rebalance.training.device import resolve_execution

    execution = resolve_execution("cpu", "float32", 1, has_cuda=False)
    names = options.methods or [name for name, each in METHODS.items() if not each.only_plans]
    # A forked or reused process would begin with the peak of earlier work.
    with get_context("spawn").Pool(1, maxtasksperchild=1) as processes:
        memory_mb = {
            name: processes.apply(measure_memory, (name, execution, options.steps))
            for name in dict.fromkeys(["none", *names])
        }
    rows = []
    for name in names:
        both = {
            each: build(each, execution, options.repetitions + 1, options.steps) for each in ("none", name)
        }
        for training in both.values():
            training.run_round()
        work = {each: partial(training.run_round) for each, training in both.items()}
        seconds = alternate(work, options.repetitions)
        step_ms = {each: 1000 * median(of_one) / options.steps for each, of_one in seconds.items()}
        ratio = median([its / none for its, none in zip(seconds[name], seconds["none"], strict=True)])
        of_steps = {"ms per step": step_ms[name], "ms of none": step_ms["none"]}
        of_memory = {"MB": memory_mb[name], "MB of none": memory_mb["none"]}
        rows.append({"method": name, **of_steps, "ratio": ratio, **of_memory})
    report("time of a step and memory of a round in training", rows, describe(execution), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
