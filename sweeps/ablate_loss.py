"""Does the double softmax of the paper's code, rather than imbalance, kill classes?

Reference: cross-entropy on logits. Change: a softmax before it, as the published code has. Everything else is
protocol sound, at each C and for each method; the answer is the paired difference of accuracy and the runs
with dead classes on either side.

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
CHANGES = [{"classifier.loss": "double_softmax"}]


def build_study(options: argparse.Namespace) -> Study:
    """Return each cell under both losses."""
    axes = read_axes("ablate_loss", options, PRESETS)
    return ablate(axes.cells(), CHANGES).study(axes.name, axes.seeds)


if __name__ == "__main__":
    sys.exit(main(make_axes_parser(__doc__, PRESETS), build_study, answer=answer_differences))
