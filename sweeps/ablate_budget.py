"""Do methods differ, or the steps they are given: 30 epochs, as the paper counts, or equal steps?

An epoch of a large set is more steps than one of a small set. At C = 1/2, 30 epochs are 18,000 steps after
oversampling, 3,600 without rebalancing and 60 after undersampling. Reference: equal steps (--steps). Change:
epochs (--epochs, 30).

  quick   the sample of Fashion-MNIST that comes with the package, 200 steps against 2 epochs; shows that it
          works
  full    Fashion-MNIST, 18,000 steps against 30 epochs
"""

import argparse
import sys

from analysis.answers import answer_differences
from lt_rebalance.commands.options import read_axes
from lt_rebalance.commands.sweep import main, make_axes_parser
from lt_rebalance.studies.ablation import ablate
from lt_rebalance.studies.axes import make_presets
from lt_rebalance.studies.study import Study

PRESETS = make_presets(methods=("none", "undersample", "oversample"))
EPOCHS = {"quick": 2, "full": 30}


def build_study(options: argparse.Namespace) -> Study:
    """Return each cell with both budgets."""
    in_steps = argparse.Namespace(**vars(options) | {"epochs": None})
    axes = read_axes("ablate_budget", in_steps, PRESETS)
    epochs = EPOCHS[options.preset] if options.epochs is None else options.epochs
    return ablate(axes.cells(), [{"classifier.budget.epochs": epochs}]).study(axes.name, axes.seeds)


if __name__ == "__main__":
    sys.exit(main(make_axes_parser(__doc__, PRESETS), build_study, answer=answer_differences))
