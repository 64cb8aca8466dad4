"""From which imbalance on does rebalancing pay, and which way of it?

Levels are imbalance ratios rho, largest over smallest class (--rho). Each is run at the simplest C within 5 %
of it, so that rho 10 and 500 are the paper's 7/9 and 1/2 and share their runs; tables name a level by its C,
and the answer also by the ratio of the class sizes. Reference: none at each level.

  quick   the sample of Fashion-MNIST that comes with the package, at rho 2 and 10; shows that it works
  full    Fashion-MNIST, at rho 2, 5, 10, 20, 50, 100, 200 and 500
"""

import argparse
import dataclasses
import sys

from analysis.answers import answer_differences
from lt_rebalance.commands.options import read_axes
from lt_rebalance.commands.sweep import main, make_axes_parser
from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.long_tail import c_of_ratio, kept_counts
from lt_rebalance.ground.option_types import finite
from lt_rebalance.studies.ablation import Ablation, beside, combine
from lt_rebalance.studies.axes import Axes, make_presets
from lt_rebalance.studies.study import Study

PRESETS = make_presets(cs=(), methods=("oversample", "cgan"), generators=("mlp_cgan_relu",))
RATIOS = {"quick": (2, 10), "full": (2, 5, 10, 20, 50, 100, 200, 500)}


def make_levels_parser() -> argparse.ArgumentParser:
    """Return the parser: the axes, and the levels."""
    parser = make_axes_parser(__doc__, PRESETS)
    parser.add_argument(
        "--rho", type=finite, nargs="+", metavar="RHO", help="imbalance ratios, instead of --c"
    )
    return parser


def build_study(options: argparse.Namespace) -> Study:
    """Return none and the requested methods, at each level."""
    axes = read_axes("imbalance_levels", options, PRESETS)
    if options.c is None and options.profile is None:
        num_classes = get_dataset_spec(axes.dataset).num_classes
        ratios = options.rho or RATIOS[options.preset]
        axes = dataclasses.replace(axes, cs=tuple(str(c_of_ratio(ratio, num_classes)) for ratio in ratios))
    elif options.rho:
        other = "--c" if options.profile is None else "--profile"
        raise ValueError(f"--rho and {other} both name levels; give one of them")
    return combine(map(_level, axes.points())).study(axes.name, axes.seeds)


def _level(point: Axes) -> Ablation:
    (none,) = point.cells(methods=["none"])
    spec = get_dataset_spec(point.dataset)
    counts_K = kept_counts(spec.train_counts_K, none.data.cut, "label", seed=0)
    ratio = f"rho {max(counts_K) / min(counts_K):.3g}"
    return beside(none, {f"{cell.method_label}, {ratio}": cell for cell in point.cells()})


if __name__ == "__main__":
    sys.exit(main(make_levels_parser(), build_study, answer=answer_differences))
