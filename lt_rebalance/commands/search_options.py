"""The options that every search shares, and their parsing."""

import argparse
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lt_rebalance.commands.flips import add_flip
from lt_rebalance.commands.options import add_profile, read_levels, say_defaults
from lt_rebalance.commands.own_images import add_own_images, add_upload
from lt_rebalance.commands.sweep import make_parser
from lt_rebalance.data.long_tail import choose_validation
from lt_rebalance.ground.option_types import finite, repeats, whole
from lt_rebalance.ground.plain import require_known, require_positive
from lt_rebalance.search.search import FIRST_SEARCH_SEED
from lt_rebalance.studies.protocols import ADAM_PROTOCOLS, Protocol
from lt_rebalance.training.configs import Budget

DEFAULT_C = "1/2"
NUM_RUNGS = 3
DEFAULT_REDUCTION = 3
NUM_INTERVALS = 6
"""rungs of a population, evenly spaced"""


@dataclass(frozen=True, kw_only=True)
class SearchPreset:
    """Defaults of the options of the same names."""

    dataset: str
    steps: int
    seeds: int
    trials: int
    confirm_seeds: int
    classifier_steps: int | None = None


def make_search_parser(
    question: str,
    presets: Mapping[str, SearchPreset],
    *,
    schedulers: Sequence[str] = ("asha", "none"),
    refused: Collection[str] = (),
) -> argparse.ArgumentParser:
    """Return the parser of a search with the options that all searches share.

    Args:
        question: the docstring of the search; shown by --help.
        presets: by name; the first one is the default.
        schedulers: those that the search takes.
        refused: options that the search always refuses, with its reason; --help leaves them out.
    """

    def say(name: str) -> str:
        values = {preset: getattr(each, name) for preset, each in presets.items()}
        return say_defaults({preset: f"{value:,}" for preset, value in values.items()})

    parser = make_parser(question)
    what = parser.add_argument_group("what to tune")
    default = next(iter(presets))
    what.add_argument("--preset", default=default, help=f"{', '.join(presets)} (default: {default})")
    what.add_argument("--dataset", metavar="NAME", help="a data set by name, or the path of your own images")
    what.add_argument("--c", metavar="C", help=f"7/9, 1/2 or any 0 < C < 1 (default: {DEFAULT_C})")
    add_profile(what)
    what.add_argument("--protocol", default="sound", help=f"of {', '.join(ADAM_PROTOCOLS)} (default: sound)")
    steps = f"optimizer steps of a trial that runs to its end {say('steps')}"
    if "reduction" not in refused:
        steps += f", a multiple of {DEFAULT_REDUCTION ** (NUM_RUNGS - 1)}, with --reduction N of N x N"
    if "pbt" in schedulers:
        steps += f", with pbt of {NUM_INTERVALS}"
    what.add_argument("--steps", type=whole, metavar="N", help=steps)
    seeds = f"seeds that every trial is averaged over {say('seeds')}"
    what.add_argument("--seeds", type=repeats, metavar="N", help=seeds)
    what.add_argument("--name", help="name of the search in the store (default: SEARCH-PRESET)")
    how = parser.add_argument_group("how to search")
    how.add_argument("--scheduler", help=f"of {', '.join(schedulers)} (default: asha)")
    how.add_argument(
        "--reduction", type=whole, metavar="N", help=f"asha keeps one in N (default: {DEFAULT_REDUCTION})"
    )
    how.add_argument(
        "--search-seed", type=whole, default=0, metavar="N", help="seed of the suggestions (default: 0)"
    )
    budget = parser.add_argument_group("when to stop; earlier calls count as well")
    trials = f"trials of each search {say('trials')}"
    if "max_steps" not in refused:
        trials += ", any number with --max-steps or --max-minutes"
    budget.add_argument("--trials", type=whole, metavar="N", help=trials)
    budget.add_argument("--max-steps", type=whole, metavar="N", help="optimizer steps of all trials together")
    budget.add_argument("--max-minutes", type=finite, metavar="X", help="minutes of training of all trials")
    confirm = f"fresh seeds of the confirmation {say('confirm_seeds')}"
    budget.add_argument("--confirm-seeds", type=repeats, metavar="N", help=confirm)
    own = parser.add_argument_group("images of your own, with --dataset PATH")
    add_own_images(own)
    add_flip(own)
    add_upload(own)
    for action in parser._actions:
        if action.dest in refused:
            action.help = argparse.SUPPRESS
    return parser


def fill_in(options: argparse.Namespace, presets: Mapping[str, SearchPreset]) -> None:
    """Fill in unset options from the preset; ValueError for an unknown preset."""
    require_known("preset", options.preset, tuple(presets))
    values = dataclasses.asdict(presets[options.preset])
    if options.max_steps is not None or options.max_minutes is not None:
        del values["trials"]
    for name, value in values.items():
        if getattr(options, name, None) is None:
            setattr(options, name, value)


def search_protocol(options: argparse.Namespace, **changes: Any) -> Protocol:  # Any: fields of a protocol
    """Return the protocol of the options, with a validation set."""
    validation = choose_validation(options.dataset)
    require_known("protocol of a search", options.protocol, tuple(ADAM_PROTOCOLS))
    return dataclasses.replace(ADAM_PROTOCOLS[options.protocol], validation_per_class=validation, **changes)


def search_level(options: argparse.Namespace) -> str:
    """Return the training data of a search, in the form of `protocols.read_level`.

    Raises:
        ValueError: incompatible options, or more than one set.
    """
    levels = read_levels(options) or [options.c or DEFAULT_C]
    if len(levels) > 1:
        raise ValueError(f"a search has one training set, got {' and '.join(levels)}")
    return levels[0]


def search_reduction(options: argparse.Namespace) -> int:
    """Return asha's reduction: it keeps one in this many trials."""
    reduction: int = DEFAULT_REDUCTION if options.reduction is None else options.reduction
    if reduction < 2:
        raise ValueError(f"the reduction must be at least 2, got {reduction}")
    return reduction


def trial_budget(options: argparse.Namespace) -> Budget:
    """Return the budget of a full trial."""
    rounds = NUM_INTERVALS if options.scheduler == "pbt" else search_reduction(options) ** (NUM_RUNGS - 1)
    if options.steps % rounds:
        nearest = rounds * max(1, round(options.steps / rounds))
        raise ValueError(
            f"--steps must divide into {rounds} rounds, got {options.steps}; the nearest is {nearest}"
        )
    return Budget(steps=options.steps, rounds=rounds)


def search_seeds(options: argparse.Namespace) -> tuple[int, ...]:
    """Return the seeds of all trials."""
    require_positive(seeds=options.seeds)
    return tuple(range(FIRST_SEARCH_SEED, FIRST_SEARCH_SEED + options.seeds))
