"""Which way of rebalancing a long-tailed set gives the best classifier, and by how much, over many seeds?

The paper's grid: imbalance ratio C x rebalancing method x generator architecture x seeds.

  quick   all 15 rows of Table 1 on a small sample of Fashion-MNIST that comes with the package, with budgets
          cut to minutes; shows that everything works, says nothing about the paper
  paper   the 15 rows of Table 1 on Fashion-MNIST, as the paper's code ran them
  full    protocols paper and sound, all methods and all generators

Every option below overrides the preset. Finished runs are kept in --storage: the same command goes on where
it was stopped, and more seeds or cells run only what is missing.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lt_rebalance.command import main, make_parser
from lt_rebalance.configs import Budget
from lt_rebalance.generators import GENERATORS
from lt_rebalance.methods import METHODS, get_method
from lt_rebalance.paper import PAPER_CS, PAPER_GENERATORS, PAPER_METHODS
from lt_rebalance.protocols import PROTOCOLS, get_protocol, grid, step_budget
from lt_rebalance.study import Study

ORIGINAL = "original"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Defaults of a study."""

    dataset: str
    protocols: tuple[str, ...]
    methods: tuple[str, ...] = PAPER_METHODS
    generators: tuple[str, ...] = PAPER_GENERATORS
    cs: tuple[str, ...] = (ORIGINAL, *PAPER_CS)
    num_seeds: int = 10
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """fields of every protocol that the preset sets otherwise"""


QUICK_OVERRIDES = {
    "classifier_budget": Budget(steps=100, rounds=2),
    "classifier_batch_size": 32,
    "generator_budget": Budget(steps=200, rounds=2),
    "generator_batch_size": 32,
}

PRESETS = {
    "quick": Preset(
        dataset="fashion_mnist_mini", protocols=("sound",), num_seeds=3, overrides=QUICK_OVERRIDES
    ),
    "paper": Preset(dataset="fashion_mnist", protocols=("paper",)),
    "full": Preset(
        dataset="fashion_mnist",
        protocols=tuple(PROTOCOLS),
        methods=tuple(METHODS),
        generators=tuple(GENERATORS),
    ),
}


def make_grid_parser() -> argparse.ArgumentParser:
    """Return the parser: the axes of the grid, and the options of every sweep."""
    parser = make_parser(__doc__ or "")
    axes = parser.add_argument_group("what to run")
    axes.add_argument("--preset", default="quick", help=f"{', '.join(PRESETS)} (default: quick)")
    axes.add_argument("--dataset", metavar="NAME", help="a data set by name")
    axes.add_argument("--c", nargs="+", metavar="C", help=f"7/9, 1/2, any 0 < C < 1, or {ORIGINAL}")
    axes.add_argument("--methods", nargs="+", metavar="NAME", help=f"of {', '.join(METHODS)}")
    axes.add_argument("--generators", nargs="+", metavar="NAME", help=f"of {', '.join(GENERATORS)}")
    axes.add_argument("--protocol", nargs="+", metavar="NAME", help=f"of {', '.join(PROTOCOLS)}")
    axes.add_argument("--name", help="name of the study in the store (default: full_grid-PRESET)")
    axes.add_argument("--seeds", type=int, metavar="N", help="run seeds 0 to N - 1 of every cell")
    budgets = parser.add_argument_group("budgets, over those of the protocol")
    classifier = budgets.add_mutually_exclusive_group()
    classifier.add_argument("--steps", type=int, metavar="N", help="optimizer steps of every classifier")
    classifier.add_argument("--epochs", type=int, metavar="N", help="epochs of every classifier")
    generator = budgets.add_mutually_exclusive_group()
    generator.add_argument("--generator-steps", type=int, metavar="N", help="steps of every CGAN")
    generator.add_argument("--generator-epochs", type=int, metavar="N", help="epochs of every CGAN")
    return parser


def build_study(options: argparse.Namespace) -> Study:
    """Return the study that the options describe.

    Raises:
        ValueError: unknown names, values out of range, or axes that cannot be combined.
    """
    if options.preset not in PRESETS:
        raise ValueError(f"unknown preset {options.preset!r}; known: {', '.join(PRESETS)}")
    preset = PRESETS[options.preset]
    num_seeds = preset.num_seeds if options.seeds is None else options.seeds
    if num_seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {num_seeds}")
    methods = options.methods or preset.methods
    if options.methods and options.c == [ORIGINAL] and set(methods) & set(METHODS) - {"none"}:
        raise ValueError(f"--c {ORIGINAL} goes with --methods none alone, got --methods {' '.join(methods)}")
    if not any(get_method(method).needs_generator for method in methods):
        for option in ("generators", "generator_steps", "generator_epochs"):
            if getattr(options, option) is not None:
                flag = f"--{option.replace('_', '-')}"
                raise ValueError(f"{flag} needs a method with a generator, got --methods {' '.join(methods)}")
    changes = dict(preset.overrides) | _budgets(options)
    protocols = [
        dataclasses.replace(get_protocol(name), **changes) for name in options.protocol or preset.protocols
    ]
    return Study(
        name=options.name or f"full_grid-{options.preset}",
        cells=grid(
            protocols,
            dataset=options.dataset or preset.dataset,
            cs=_parse_cs(options.c, preset.cs, methods),
            methods=methods,
            generators=options.generators or preset.generators,
        ),
        seeds=tuple(range(num_seeds)),
    )


def _parse_cs(
    asked: Sequence[str] | None, default: Sequence[str], methods: Sequence[str]
) -> list[str | None]:
    if asked is None:
        # The original set stands beside the method "none" only.
        asked = [c for c in default if c != ORIGINAL or "none" in methods]
    elif ORIGINAL in asked and "none" not in methods:
        raise ValueError(
            f"--c {ORIGINAL} is run with the method none alone; add none to --methods or leave it out"
        )
    return [None if c == ORIGINAL else c for c in asked]


def _budgets(options: argparse.Namespace) -> dict[str, Budget]:
    changes = {}
    if options.epochs is not None:
        changes["classifier_budget"] = Budget(epochs=options.epochs)
    if options.steps is not None:
        changes["classifier_budget"] = step_budget(options.steps)
    if options.generator_epochs is not None:
        changes["generator_budget"] = Budget(epochs=options.generator_epochs)
    if options.generator_steps is not None:
        changes["generator_budget"] = step_budget(options.generator_steps)
    return changes


if __name__ == "__main__":
    sys.exit(main(make_grid_parser(), build_study))
