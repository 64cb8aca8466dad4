"""How much of the spread between runs is the subset, how much the CGAN, how much the classifier?

In other sweeps one seed changes all three together. Here, within each subset, every CGAN is used by every
classifier: --subsets x --cgans x --classifiers runs of each cell. The answer is the standard deviation that
each source causes alone, and the residual, which depends on the pair of CGAN and classifier.

  quick   the sample of Fashion-MNIST that comes with the package, 2 x 2 x 2; shows that it works
  full    Fashion-MNIST, C = 1/2, 10 x 3 x 2; fewer subsets are too few to rank the sources
"""

import argparse
import sys

from analysis.answers import answer_sources
from lt_rebalance.commands.options import read_axes, say_defaults
from lt_rebalance.commands.sweep import main, make_axes_parser
from lt_rebalance.ground.option_types import repeats
from lt_rebalance.studies.ablation import nested_seeds
from lt_rebalance.studies.axes import make_presets
from lt_rebalance.studies.study import Study

PRESETS = make_presets(cs=("1/2",), methods=("cgan",), generators=("mlp_cgan_relu",))
SHAPES = {"quick": (2, 2, 2), "full": (10, 3, 2)}
SOURCES = ("subsets", "cgans", "classifiers")


def make_nested_parser() -> argparse.ArgumentParser:
    """Return the parser: the axes, and the seeds of each source."""
    parser = make_axes_parser(__doc__, PRESETS, takes_seeds=False)
    for index, source in enumerate(SOURCES):
        defaults = say_defaults({preset: str(shape[index]) for preset, shape in SHAPES.items()})
        parser.add_argument(f"--{source}", type=repeats, metavar="N", help=f"how many {source} {defaults}")
    return parser


def build_study(options: argparse.Namespace) -> Study:
    """Return each cell with the seeds of all sources crossed within subsets."""
    if options.seeds is not None:
        raise ValueError("--seeds changes all sources together; give --subsets, --cgans and --classifiers")
    axes = read_axes("nested_seeds", options, PRESETS)
    asked = [getattr(options, source) for source in SOURCES]
    pairs = zip(asked, SHAPES[options.preset], strict=True)
    shape = [default if given is None else given for given, default in pairs]
    return Study(name=axes.name, cells=axes.cells(), seeds=nested_seeds(*shape))


def require_drawn(study: Study, options: argparse.Namespace) -> Study:
    """Return the study; raise a ValueError if all its subsets would be the same images."""
    for cell in study.cells:
        is_drawn = cell.data.subset_draw == "per_seed" or cell.data.class_order == "permuted"
        if not is_drawn and not cell.data.validation_per_class:
            raise ValueError(
                f"every subset needs images of its own, got cell {cell}, which has the same at every seed; "
                "take --protocol sound with a C or a profile that cuts"
            )
    return study


if __name__ == "__main__":
    sys.exit(main(make_nested_parser(), build_study, change=require_drawn, answer=answer_sources))
