"""How many synthetic images are good: a quarter, a half or all of what the classes lack, or none?

At C = 1/2, filling every class to the largest makes 80 % of the set synthetic. Reference: method none, which
is a CGAN with fill_fraction 0, bit for bit, and needs no CGAN. Changes: the shares of each class's gap that a
CGAN fills; the rest stays empty. Hypothesis H16 of the report.

  quick   the sample of Fashion-MNIST that comes with the package, in minutes; shows that it works
  full    Fashion-MNIST
"""

import argparse
import sys

from analysis.answers import answer_differences
from lt_rebalance.commands.options import read_axes
from lt_rebalance.commands.sweep import main, make_axes_parser
from lt_rebalance.methods.registry import list_options, name_holders, split_options
from lt_rebalance.studies.ablation import Ablation, beside, combine
from lt_rebalance.studies.axes import Axes, make_presets
from lt_rebalance.studies.overrides import change_cell, make_overrides
from lt_rebalance.studies.study import Cell, Study

PRESETS = make_presets(methods=("cgan",), generators=("mlp_cgan_relu",))
SHARES = (0.25, 0.5)


def build_study(options: argparse.Namespace) -> Study:
    """Return none and every share, at each C."""
    axes = read_axes("ablate_fill", options, PRESETS)
    for method in axes.methods:
        name, given = split_options(method)
        if "fill_fraction" not in list_options(name):
            raise ValueError(f"method {method!r} makes no images to fill with{name_holders('fill_fraction')}")
        if "fill_fraction" in given:
            raise ValueError(f"this sweep sets fill_fraction, got --methods {method}; name it without")
    return combine(map(_fill, axes.points())).study(axes.name, axes.seeds)


def _fill(point: Axes) -> Ablation:
    shares = [make_overrides({"method.fill_fraction": share}) for share in SHARES]
    others: dict[str, Cell] = {}
    for cell in point.cells():
        others |= {f"{cell.method_label}, {each.label}": change_cell(cell, each) for each in shares}
        others[f"{cell.method_label}, all"] = cell
    (none,) = point.cells(methods=["none"])
    return beside(none, others)


if __name__ == "__main__":
    sys.exit(main(make_axes_parser(__doc__, PRESETS), build_study, answer=answer_differences))
