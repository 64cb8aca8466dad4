"""Which methods for long tails help as the field measures it, on which data and from which imbalance on?

The field's table: data set x ratio of largest to smallest class x method x seeds, under protocol cifar_lt:
ResNet-32 trained by SGD for 200 epochs in batches of 128. Reference: none on the same data.

  quick   the sample of Fashion-MNIST that comes with the package, ratio 10; shows that it works
  full    CIFAR-10 and CIFAR-100, cut exponentially to ratios 10, 50 and 100, by all methods that need no
          generator, 3 seeds; what --dataset begins with

--ratio alone cuts exponentially. Images of your own are used without a cut by default.
"""

import argparse
import dataclasses
import sys

from analysis.answers import answer_differences
from lt_rebalance.commands.options import read_axes
from lt_rebalance.commands.sweep import main, make_axes_parser
from lt_rebalance.data.at_hand import is_own_name
from lt_rebalance.methods.registry import METHODS
from lt_rebalance.studies.ablation import Ablation, beside, combine
from lt_rebalance.studies.axes import FULL, QUICK, Axes
from lt_rebalance.studies.protocols import NATURAL, step_budget
from lt_rebalance.studies.study import Study

PRESETS = {
    "quick": dataclasses.replace(
        QUICK,
        cs=(),
        protocols=("cifar_lt",),
        methods=("oversample", "balanced_softmax"),
        overrides={"classifier_budget": step_budget(60), "classifier_batch_size": 32},
    ),
    "full": dataclasses.replace(
        FULL,
        cs=(),
        dataset="cifar10",
        protocols=("cifar_lt",),
        methods=tuple(name for name, each in METHODS.items() if not each.needs_generator),
        num_seeds=3,
    ),
}
DATASETS = {"quick": (QUICK.dataset,), "full": ("cifar10", "cifar100")}
RATIOS = {"quick": (10,), "full": (10, 50, 100)}


def make_field_parser() -> argparse.ArgumentParser:
    """Return the parser: the axes."""
    return make_axes_parser(__doc__, PRESETS, with_dataset="full")


def build_study(options: argparse.Namespace) -> Study:
    """Return none and the requested methods, on each data set at each ratio."""
    if options.preset is None:
        options.preset = "quick" if options.dataset is None else "full"
    if options.ratio is not None and options.c is None and options.profile is None:
        options.profile = ["exp"]
    axes = read_axes("cifar_lt", options, PRESETS)
    datasets = DATASETS[options.preset] if options.dataset is None else (options.dataset,)
    if options.c is None and options.profile is None:
        cuts = tuple(f"exp {ratio}" for ratio in RATIOS[options.preset])
        axes = dataclasses.replace(axes, cs=(NATURAL,) if is_own_name(axes.dataset) else cuts)
    levels = (
        _level(point, f", {dataset}" if len(datasets) > 1 else "")
        for dataset in datasets
        for point in dataclasses.replace(axes, dataset=dataset).points()
    )
    return combine(levels).study(axes.name, axes.seeds)


def _level(point: Axes, where: str) -> Ablation:
    (none,) = point.cells(methods=["none"])
    return beside(none, {f"{cell.method_label}{where}": cell for cell in point.cells()})


if __name__ == "__main__":
    sys.exit(main(make_field_parser(), build_study, answer=answer_differences))
