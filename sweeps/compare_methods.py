"""Which of the field's methods helps on a long-tailed set, and does any beat repeating images?

Every method that needs no generator, losses and sampling also deferred, at equal steps and untuned.
References: none, and oversample. The answer is the paired difference of every method from either.

  quick   the sample of Fashion-MNIST that comes with the package and a few methods; shows that it works
  full    Fashion-MNIST at C = 1/2, 1,200 steps, 10 seeds

--methods takes others, with options: --methods ldam_drw:max_margin=0.3 smote path/to/mine.py:my_method
"""

import argparse
import dataclasses
import sys

from analysis.answers import answer_differences
from lt_rebalance.commands.options import read_axes
from lt_rebalance.commands.sweep import main, make_axes_parser
from lt_rebalance.methods.registry import METHODS
from lt_rebalance.studies.ablation import Ablation, beside, combine
from lt_rebalance.studies.axes import FULL, QUICK, Axes
from lt_rebalance.studies.protocols import step_budget
from lt_rebalance.studies.study import Study

REFERENCES = ("none", "oversample")
DEFERRED = ("weighted_cross_entropy", "class_balanced", "class_balanced_sampling")
PRESETS = {
    "quick": dataclasses.replace(
        QUICK, cs=("1/2",), methods=("undersample", "balanced_softmax", "ldam_drw", "crt")
    ),
    "full": dataclasses.replace(
        FULL,
        cs=("1/2",),
        methods=(
            *(name for name, each in METHODS.items() if not each.needs_generator),
            *(f"{name}:deferred=0.8" for name in DEFERRED),
        ),
        overrides={"classifier_budget": step_budget(1200)},
    ),
}


def build_study(options: argparse.Namespace) -> Study:
    """Return the methods asked for beside each reference, at each C."""
    axes = read_axes("compare_methods", options, PRESETS)
    points = [point for point in axes.points() if point.cs != (None,)]
    return combine(_stand_beside(point, name) for name in REFERENCES for point in points).study(
        axes.name, axes.seeds
    )


def _stand_beside(point: Axes, name: str) -> Ablation:
    (reference,) = point.cells(methods=[name])
    cells = point.cells(methods=[*REFERENCES, *point.methods])
    return beside(
        reference, {f"{cell.method_label}, not {name}": cell for cell in cells if cell != reference}
    )


if __name__ == "__main__":
    sys.exit(main(make_axes_parser(__doc__, PRESETS), build_study, answer=answer_differences))
