"""Which way of rebalancing a long-tailed set gives the best classifier, and by how much, over many seeds?

The paper's grid: imbalance ratio C x rebalancing method x generator architecture x seeds.

  quick   the 8 rows of Table 1 at C = 1/2 and of the original set, on a small sample of Fashion-MNIST that
          comes with the package, with budgets of minutes; its 3 seeds show differences and cannot decide
          any, and it says nothing about the paper
  paper   the 15 rows of Table 1 on Fashion-MNIST, as the paper's code ran them
  full    protocols paper and sound, the paper's methods and all its generators; --methods takes any
          others, and so does --generators

Every option below overrides the preset. Finished runs are kept in --storage: the same command resumes where
it was stopped, and more seeds or cells run only what is missing.
"""

import argparse
import dataclasses
import sys

from lt_rebalance.commands.options import read_axes
from lt_rebalance.commands.sweep import main, make_axes_parser
from lt_rebalance.ground.imbalance import ORIGINAL
from lt_rebalance.ground.paper import PAPER_CS
from lt_rebalance.networks.generators.registry import GENERATORS, TRAINED
from lt_rebalance.studies.axes import FULL, QUICK
from lt_rebalance.studies.study import Study

OF_THE_PAPER = tuple(name for name in GENERATORS if name not in TRAINED)
CS = (ORIGINAL, *PAPER_CS)
PRESETS = {
    "quick": dataclasses.replace(QUICK, cs=(ORIGINAL, "1/2")),
    "paper": dataclasses.replace(FULL, cs=CS, protocols=("paper",)),
    "full": dataclasses.replace(FULL, cs=CS, protocols=("paper", "sound"), generators=OF_THE_PAPER),
}


def make_grid_parser() -> argparse.ArgumentParser:
    """Return the parser: the axes of the grid, and the options of every sweep."""
    return make_axes_parser(__doc__, PRESETS)


def build_study(options: argparse.Namespace) -> Study:
    """Return the study that the options describe; errors as `read_axes` and `Axes.cells`."""
    axes = read_axes("full_grid", options, PRESETS)
    return Study(name=axes.name, cells=axes.cells(), seeds=axes.seeds)


if __name__ == "__main__":
    sys.exit(main(make_grid_parser(), build_study))
