"""Which settings of its optimizers make a conditional GAN most useful, and is it better than untuned?

A search as in tune_classifier.py, over CGANs. It maximizes one of two objectives, or both:

  macro_f1    mean macro F1, on validation, of a classifier briefly trained on the set that the CGAN fills up
  diversity   how close the diversity of its images of each class is to that of real ones

At every rung the current CGAN is measured in full: with macro_f1, a classifier is trained on its images, so
trials are stopped by the criterion that chooses among them. With both objectives no trial is stopped early,
since one that is worse in the first may be better in the second; the Pareto front is kept, and the best macro
F1 is chosen.

  quick   on the sample of Fashion-MNIST that comes with the package: shows that everything works
  full    on Fashion-MNIST
"""

import argparse
import sys

from analysis.answers import answer_search
from lt_rebalance.commands.options import say_defaults
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
from lt_rebalance.ground.option_types import whole
from lt_rebalance.ground.own_file import resolve
from lt_rebalance.ground.plain import require_known
from lt_rebalance.networks.generators.registry import GENERATORS
from lt_rebalance.search.search import OBJECTIVES, SCHEDULERS, Search
from lt_rebalance.studies.protocols import make_cell
from lt_rebalance.training.configs import Budget, Execution

BOTH = "both"
PRESETS = {
    "quick": SearchPreset(
        dataset="fashion_mnist_mini", steps=90, seeds=2, trials=6, confirm_seeds=3, classifier_steps=30
    ),
    "full": SearchPreset(
        dataset="fashion_mnist", steps=9000, seeds=3, trials=40, confirm_seeds=10, classifier_steps=900
    ),
}


def make_cgan_parser() -> argparse.ArgumentParser:
    """Return the parser: the tuned parts and objectives, and the options of every search."""
    parser = make_search_parser(__doc__ or "", PRESETS, schedulers=SCHEDULERS)
    parser.add_argument(
        "--generator",
        help=f"of {', '.join(GENERATORS)}, or PATH.py:NAME (default: mlp_cgan_leaky)",
    )
    parser.add_argument(
        "--objective",
        default="macro_f1",
        help=f"of {', '.join(OBJECTIVES)}, {BOTH} (default: macro_f1); with {BOTH} no trial is stopped early",
    )
    steps = say_defaults({name: f"{preset.classifier_steps:,}" for name, preset in PRESETS.items()})
    parser.add_argument(
        "--classifier-steps",
        type=whole,
        metavar="N",
        help=f"steps of the classifier that measures a CGAN {steps}",
    )
    return parser


def build_search(options: argparse.Namespace, execution: Execution) -> Search:
    """Return the search that the options describe.

    Raises:
        ValueError: unknown names, or values out of range.
    """
    fill_in(options, PRESETS)
    require_known("objective", options.objective, (*OBJECTIVES, BOTH))
    objectives = tuple(OBJECTIVES) if options.objective == BOTH else (options.objective,)
    protocol = search_protocol(
        options,
        generator_budget=trial_budget(options),
        classifier_budget=Budget(steps=options.classifier_steps, rounds=1),
    )
    return Search(
        name=f"tune_cgan-{options.preset}" if options.name is None else options.name,
        component="generator",
        base=make_cell(
            protocol,
            dataset=options.dataset,
            c=search_level(options),
            method="cgan",
            generator=resolve(options.generator or "mlp_cgan_leaky"),
        ),
        objectives=objectives,
        seeds=search_seeds(options),
        scheduler=options.scheduler or ("asha" if len(objectives) == 1 else "none"),
        reduction=search_reduction(options),
        sampler_seed=options.search_seed,
        execution=execution,
    )


if __name__ == "__main__":
    sys.exit(main(make_cgan_parser(), build_search, answer_search))
