"""Which beta1 should Adam have: 0.9 of the paper's code or 0.99 of its text; and 0.5 for a CGAN?

A full factorial of the classifier's beta1 (0.9, 0.99) and the CGAN's (0.9, 0.5, which the DCGAN paper
recommends: Radford et al. 2015, arXiv 1511.06434). Reference: 0.9 in both. Hypothesis H18 of the report.

  quick   the sample of Fashion-MNIST that comes with the package, in minutes; shows that it works
  full    Fashion-MNIST
"""

import argparse
import dataclasses
import sys

from analysis.answers import answer_differences
from lt_rebalance.commands.options import read_axes
from lt_rebalance.commands.sweep import main, make_axes_parser
from lt_rebalance.studies.ablation import ablate, full_factorial
from lt_rebalance.studies.axes import make_presets
from lt_rebalance.studies.study import Study

PRESETS = {
    name: dataclasses.replace(preset, overrides={**preset.overrides, "generator_beta1": 0.9})
    for name, preset in make_presets(
        methods=("none", "oversample", "cgan"), generators=("mlp_cgan_relu",)
    ).items()
}
CHANGES = full_factorial([{"classifier.beta1": 0.99}], [{"generator.beta1": 0.5}])


def build_study(options: argparse.Namespace) -> Study:
    """Return each cell with every combination that concerns it."""
    axes = read_axes("ablate_beta1", options, PRESETS)
    return ablate(axes.cells(), CHANGES).study(axes.name, axes.seeds)


if __name__ == "__main__":
    sys.exit(main(make_axes_parser(__doc__, PRESETS), build_study, answer=answer_differences))
