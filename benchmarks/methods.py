"""What does a method cost in training, beside none?

Trains the paper's CNN on long-tailed images in batches of 100, a round of each method and of none in turn,
and prints the median time of a step as a ratio to none's. What a method makes of images before training is
left out, and so is the first training of a method that has two.
"""

import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.measure import alternate, describe, make_parser, median, report

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Train in turn, print and write."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="default: all that act in training")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="of a round (default: 20)")
    options = parser.parse_args(arguments)

    from lt_rebalance.methods.registry import METHODS
    from lt_rebalance.training.device import resolve_execution

    execution = resolve_execution("cpu", "float32", 1, has_cuda=False)
    names = options.methods or [name for name, each in METHODS.items() if not each.only_plans]
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
        of_steps = {"ms a step": step_ms[name], "ms of none": step_ms["none"]}
        rows.append({"method": name, **of_steps, "ratio": ratio})
    report("time of a step in training", rows, describe(execution), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
