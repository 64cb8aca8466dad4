"""Should a CGAN learn from the oversampled set, as in the paper, or from the long-tailed set as it is?

Oversampled, the rarest class of C = 1/2 is 12 images in 500 copies each; raw, it is 12 images in 11,990.
Reference: oversampled. Change: raw. Both with equal steps. Hypothesis H15 of the report.

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

PRESETS = make_presets(methods=("cgan",), generators=("mlp_cgan_relu",))
RAW = {"generator.training_method.name": "none", "generator.training_method.draw": None}


def build_study(options: argparse.Namespace) -> Study:
    """Return each cell with both training sets of its CGAN."""
    axes = read_axes("ablate_cgan_training_set", options, PRESETS)
    return ablate(axes.cells(), [RAW]).study(axes.name, axes.seeds)


if __name__ == "__main__":
    sys.exit(main(make_axes_parser(__doc__, PRESETS), build_study, answer=answer_differences))
