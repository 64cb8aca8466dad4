"""Which of the field's methods helps on a long-tailed set, and does any beat repeating images?

Every method, one CGAN among them, losses and sampling also deferred, at equal steps; untuned, or by --tuned
STORE with the settings that sweeps/tune_methods.py chose there, on seeds that it did not use. References:
none, and oversample. The answer: methods ranked by macro F1, grouped by family; the paired difference of
every method from either reference; and the cost of a run of each beside its result.

  quick   the sample of Fashion-MNIST that comes with the package and a few methods; shows that it works
  full    Fashion-MNIST at C = 1/2, 1,200 steps, 12 seeds, the fewest at which a difference can be
          significant after Holm's correction over all of them

--methods takes others, with options: --methods ldam_drw:max_margin=0.3 smote path/to/mine.py:my_method
"""

import argparse
import dataclasses
import sys

from analysis.answers import answer_methods
from lt_rebalance.commands.options import read_axes
from lt_rebalance.commands.sweep import main, make_axes_parser
from lt_rebalance.ground.exits import note
from lt_rebalance.ground.option_types import place
from lt_rebalance.methods.registry import METHODS, resolve_method
from lt_rebalance.search.chosen import tune_study
from lt_rebalance.store import open_store
from lt_rebalance.studies.ablation import Ablation, ablate, beside, combine
from lt_rebalance.studies.axes import FULL, QUICK, Axes
from lt_rebalance.studies.protocols import step_budget
from lt_rebalance.studies.study import Study

REFERENCES = ("none", "oversample")
GENERATORS = ("mlp_cgan_relu",)
"""generator of the paper, the best that it found at C = 1/2"""
PERMUTED = [{"data.class_order": "permuted"}]
DEFERRED = ("weighted_cross_entropy", "class_balanced", "class_balanced_sampling")
PRESETS = {
    "quick": dataclasses.replace(
        QUICK,
        cs=("1/2",),
        methods=("undersample", "balanced_softmax", "ldam_drw", "crt", "cgan"),
        generators=GENERATORS,
    ),
    "full": dataclasses.replace(
        FULL,
        cs=("1/2",),
        methods=(
            *METHODS,
            *(f"{name}:deferred=0.8" for name in DEFERRED),
        ),
        generators=GENERATORS,
        num_seeds=12,
        overrides={"classifier_budget": step_budget(1200)},
    ),
}


def make_methods_parser() -> argparse.ArgumentParser:
    """Return the parser: the axes, tuning, and methods that also run with another class order."""
    parser = make_axes_parser(__doc__, PRESETS)
    parser.add_argument(
        "--permuted",
        nargs="+",
        metavar="METHOD",
        help="also run these with an order of the classes drawn for every seed",
    )
    tuning = parser.add_mutually_exclusive_group()
    tuning.add_argument(
        "--tuned",
        type=place,
        metavar="STORE",
        help="with the values that sweeps/tune_methods.py chose in this store (default --name: "
        "compare_methods-tuned-PRESET)",
    )
    parser.add_argument(
        "--tuned-name", metavar="NAME", help="the --name of the searches to take, if that store has several"
    )
    tuning.add_argument("--untuned", action="store_true", help="with the protocol's settings (default)")
    return parser


def build_study(options: argparse.Namespace) -> Study:
    """Return the requested methods with each reference, at each C; the original set has no comparison."""
    axes = read_axes(f"compare_methods{'' if options.tuned is None else '-tuned'}", options, PRESETS)
    points = [point for point in axes.points() if point.cs != (None,)]
    ceilings = [beside(cell, {}) for point in axes.points() if point.cs == (None,) for cell in point.cells()]
    permuted = [resolve_method(method) for method in options.permuted or ()]
    orders = [ablate(point.cells(methods=permuted), PERMUTED) for point in points if permuted]
    pairs = [_stand_beside(point, name) for name in REFERENCES for point in points]
    if options.untuned:
        note("--untuned changes nothing: methods have the settings of their protocol unless --tuned is given")
    return combine([*ceilings, *pairs, *orders]).study(axes.name, axes.seeds)


def take_tuned(study: Study, options: argparse.Namespace) -> Study:
    """Return a study with the values that were chosen in the store of --tuned, if one is given.

    Raises:
        ValueError: a method has no search with the same other settings, or an unfinished one.
    """
    if options.tuned is None and options.tuned_name is not None:
        raise ValueError("--tuned-name chooses among the searches of --tuned STORE, which is not given")
    if options.tuned is None:
        return study
    store = open_store(options.tuned, None, create=False, is_read_only=True)
    if store is None:
        raise ValueError(f"--tuned {options.tuned}: there is no store; name the --storage of tune_methods.py")
    return tune_study(study, store, options.tuned_name)


def _stand_beside(point: Axes, name: str) -> Ablation:
    (reference,) = point.cells(methods=[name])
    others = [method for method in (*REFERENCES, *point.methods) if method != name]
    # That pair once.
    cells = point.cells(methods=[each for each in others if (name, each) != ("oversample", "none")])
    return beside(reference, {f"{cell.method_label}, not {name}": cell for cell in cells})


if __name__ == "__main__":
    sys.exit(main(make_methods_parser(), build_study, change=take_tuned, answer=answer_methods))
