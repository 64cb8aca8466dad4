"""Which settings of its optimizer make a classifier best on a rebalanced set, and is it better than untuned?

A search: Optuna suggests, every suggestion is trained on several seeds, successive halving stops the worse
ones early. The objective is the mean macro F1 on a balanced validation set that was set aside before the
long-tailed cut. Test images are not used until the choice is made; then it and the untuned configuration are
run on fresh seeds, and the paired difference is printed with its interval.

  quick   on the sample of Fashion-MNIST that comes with the package: shows that everything works
  full    on Fashion-MNIST

Trials are kept in --storage: the same command resumes where it was stopped, and a larger budget continues.
"""

import argparse
import sys

from analysis.answers import answer_search
from lt_rebalance.commands.options import say_methods
from lt_rebalance.commands.search import main
from lt_rebalance.commands.search_options import (
    SearchPreset,
    fill_in,
    make_search_parser,
    search_level,
    search_protocol,
    search_reduction,
    search_seeds,
    trial_budget,
)
from lt_rebalance.ground.own_file import resolve
from lt_rebalance.methods.knobs import KNOBS
from lt_rebalance.methods.registry import METHODS, get_method, split_options
from lt_rebalance.search.search import Search
from lt_rebalance.studies.protocols import make_cell
from lt_rebalance.training.configs import Execution

PRESETS = {
    "quick": SearchPreset(dataset="fashion_mnist_mini", steps=90, seeds=2, trials=6, confirm_seeds=3),
    "full": SearchPreset(dataset="fashion_mnist", steps=1800, seeds=3, trials=40, confirm_seeds=10),
}


def make_classifier_parser() -> argparse.ArgumentParser:
    """Return the parser: the tuned parts, and the options of every search."""
    parser = make_search_parser(__doc__ or "", PRESETS)
    known = [name for name, each in METHODS.items() if not each.needs_generator and each.then is None]
    parser.add_argument("--method", help=f"{say_methods(known)} (default: oversample)")
    return parser


def build_search(options: argparse.Namespace, execution: Execution) -> Search:
    """Return the search that the options describe.

    Raises:
        ValueError: unknown names, or values out of range.
    """
    fill_in(options, PRESETS)
    name, given = split_options(options.method or "oversample")
    if given:
        places = {option: "method" if option in KNOBS else "method.options" for option in given}
        fields = " ".join(f"--set {places[option]}.{option}={value}" for option, value in given.items())
        raise ValueError(
            f"--method takes a name without options, got {options.method!r}; write --method {name} {fields}"
        )
    method = resolve(name)
    if get_method(method).needs_generator:
        raise ValueError(f"--method {options.method} has a generator; sweeps/tune_cgan.py tunes that")
    protocol = search_protocol(options, classifier_budget=trial_budget(options))
    return Search(
        name=f"tune_classifier-{options.preset}" if options.name is None else options.name,
        component="classifier",
        base=make_cell(
            protocol, dataset=options.dataset, c=search_level(options), method=method, generator=None
        ),
        objectives=("macro_f1",),
        seeds=search_seeds(options),
        scheduler=options.scheduler or "asha",
        reduction=search_reduction(options),
        sampler_seed=options.search_seed,
        execution=execution,
    )


if __name__ == "__main__":
    sys.exit(main(make_classifier_parser(), build_search, answer_search))
