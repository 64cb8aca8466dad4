"""Which methods for long tails help as the field measures it, on which data and from which imbalance on?

The field's table: data set x ratio of largest to smallest class x method x seeds, under protocol cifar_lt:
ResNet-32 trained by SGD for 200 epochs in batches of 128. Reference: none on the same data.

  full    CIFAR-10 and CIFAR-100, cut exponentially to ratios 10, 50 and 100, 3 seeds
  quick   the sample of Fashion-MNIST that comes with the package, ratio 10; shows that it works

Methods are all that need no generator. --dataset takes one set instead of both; --ratio alone cuts it
exponentially, and images of your own are taken as they come where no cut is asked for.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterator

from analysis.answers import answer_differences
from lt_rebalance.commands.options import read_axes
from lt_rebalance.commands.sweep import main, make_axes_parser
from lt_rebalance.data.at_hand import is_own_name
from lt_rebalance.methods.registry import METHODS
from lt_rebalance.studies.ablation import Ablation, beside, combine
from lt_rebalance.studies.axes import QUICK, Axes, Preset
from lt_rebalance.studies.protocols import NATURAL
from lt_rebalance.studies.study import Study

FIELD = Preset(
    dataset="cifar10",
    protocols=("cifar_lt",),
    methods=tuple(name for name, method in METHODS.items() if not method.needs_generator),
    num_seeds=3,
)
PRESETS = {
    "full": FIELD,
    "quick": dataclasses.replace(
        QUICK, protocols=FIELD.protocols, methods=("none", "oversample", "balanced_softmax")
    ),
}
DATASETS = {"full": ("cifar10", "cifar100"), "quick": (QUICK.dataset,)}
RATIOS = {"full": (10, 50, 100), "quick": (10,)}


def build_study(options: argparse.Namespace) -> Study:
    """Return none and the methods asked for, on each data set at each ratio."""
    if options.ratio is not None and options.c is None and options.profile is None:
        options.profile = ["exp"]
    axes = read_axes("cifar_lt", options, PRESETS)
    datasets = DATASETS[options.preset] if options.dataset is None else (options.dataset,)
    if options.c is None and options.profile is None:
        levels = [f"exp {ratio}" for ratio in RATIOS[options.preset]]
        axes = dataclasses.replace(axes, cs=(NATURAL,) if is_own_name(axes.dataset) else tuple(levels))
    all_axes = [dataclasses.replace(axes, dataset=dataset) for dataset in datasets]
    return combine(level for each in all_axes for level in _levels(each)).study(axes.name, axes.seeds)


def _levels(axes: Axes) -> Iterator[Ablation]:
    for point in axes.points():
        (none,) = point.cells(methods=["none"])
        yield beside(none, {f"{cell.method_label}, {point.dataset}": cell for cell in point.cells()})


if __name__ == "__main__":
    sys.exit(main(make_axes_parser(__doc__, PRESETS), build_study, answer=answer_differences))
