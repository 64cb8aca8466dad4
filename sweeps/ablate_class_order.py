"""Does it matter which classes are rare?

Under the order of labels the shirt, the hardest class, is always in the tail. Reference: the order of labels.
Change: an order permuted for every seed. The answer is the paired difference of each method; whether the lead
of oversampling over none spreads more over permuted orders is hypothesis H12 of the report.

  quick   the sample of Fashion-MNIST that comes with the package, in minutes; shows that it works
  full    Fashion-MNIST
"""

import argparse
import sys

from analysis.answers import answer_differences
from lt_rebalance.commands.options import read_axes
from lt_rebalance.commands.sweep import main, make_axes_parser
from lt_rebalance.studies.ablation import ablate
from lt_rebalance.studies.axes import make_presets
from lt_rebalance.studies.study import Study

PRESETS = make_presets(methods=("none", "oversample"))
CHANGES = [{"data.class_order": "permuted"}]


def build_study(options: argparse.Namespace) -> Study:
    """Return each cell under both orders."""
    axes = read_axes("ablate_class_order", options, PRESETS)
    return ablate(axes.cells(), CHANGES).study(axes.name, axes.seeds)


if __name__ == "__main__":
    sys.exit(main(make_axes_parser(__doc__, PRESETS), build_study, answer=answer_differences))
