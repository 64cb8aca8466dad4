"""The axes that sweeps share: their options on the command line, their presets, and the cells they span."""

import argparse
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lt_rebalance.data.long_tail import parse_c, parse_ratio
from lt_rebalance.ground.imbalance import CUT_PROFILES, ORIGINAL
from lt_rebalance.ground.option_types import repeats, whole
from lt_rebalance.ground.own_file import resolve
from lt_rebalance.ground.paper import PAPER_CS, PAPER_GENERATORS, PAPER_METHODS
from lt_rebalance.ground.plain import require_known
from lt_rebalance.methods.registry import METHODS, get_method
from lt_rebalance.networks.generators.registry import GENERATORS
from lt_rebalance.studies.protocols import NATURAL, PROTOCOLS, Protocol, get_protocol, grid, step_budget
from lt_rebalance.studies.study import Cell
from lt_rebalance.training.configs import Budget

PROFILES = (NATURAL, *CUT_PROFILES)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Defaults of a study's axes."""

    dataset: str
    protocols: tuple[str, ...] = ("sound",)
    methods: tuple[str, ...] = PAPER_METHODS
    generators: tuple[str, ...] = PAPER_GENERATORS
    cs: tuple[str, ...] = PAPER_CS
    num_seeds: int = 10
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """fields of every protocol that the preset sets otherwise"""


QUICK = Preset(
    dataset="fashion_mnist_mini",
    num_seeds=3,
    overrides={
        "classifier_budget": Budget(steps=100, rounds=2),
        "classifier_batch_size": 32,
        "generator_budget": Budget(steps=200, rounds=2),
        "generator_batch_size": 32,
    },
)
"""minutes on two CPU cores, on the sample that comes with the package"""
FULL = Preset(dataset="fashion_mnist")


def make_presets(**axes: Any) -> dict[str, Preset]:
    """Return the presets "quick" and "full" with these axes instead of their own."""
    presets = {"quick": QUICK, "full": FULL}
    return {name: dataclasses.replace(preset, **axes) for name, preset in presets.items()}


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What a sweep runs over, as asked for."""

    name: str
    """of the study"""
    dataset: str
    protocols: tuple[Protocol, ...]
    """with the budgets asked for"""
    cs: tuple[str | None, ...]
    """as `protocols.read_level` takes them; None is the original set beside others, under none alone"""
    methods: tuple[str, ...]
    generators: tuple[str, ...]
    seeds: tuple[int, ...]

    def cells(self, **axes: Any) -> tuple[Cell, ...]:
        """Return the cells of their product, some of the axes replaced; errors as `grid`."""
        asked = {"cs": self.cs, "methods": self.methods, "generators": self.generators} | axes
        return grid(self.protocols, dataset=self.dataset, **asked)

    def points(self) -> Iterator["Axes"]:
        """Yield the axes of each protocol at each C alone."""
        for protocol in self.protocols:
            for c in self.cs:
                yield dataclasses.replace(self, protocols=(protocol,), cs=(c,))


def add_axes(parser: argparse.ArgumentParser, presets: Mapping[str, Preset]) -> None:
    """Add the options of the axes and their presets, of which the first is the default, to a parser."""
    default = next(iter(presets))
    axes = parser.add_argument_group("what to run")
    axes.add_argument("--preset", default=default, help=f"{', '.join(presets)} (default: {default})")
    axes.add_argument("--dataset", metavar="NAME", help="a data set by name")
    axes.add_argument("--c", nargs="+", metavar="C", help=f"7/9, 1/2, any 0 < C < 1, or {ORIGINAL}")
    add_profile(axes)
    axes.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help=f"of {', '.join(METHODS)}, or of a file of your own, as PATH.py:NAME",
    )
    axes.add_argument("--generators", nargs="+", metavar="NAME", help=f"of {', '.join(GENERATORS)}")
    axes.add_argument("--protocol", nargs="+", metavar="NAME", help=f"of {', '.join(PROTOCOLS)}")
    axes.add_argument("--name", help="name of the study in the store (default: SWEEP-PRESET)")
    axes.add_argument("--seeds", type=repeats, metavar="N", help="run seeds 0 to N - 1 of every cell")
    budgets = parser.add_argument_group("budgets, over those of the protocol")
    budgets.add_argument("--steps", type=whole, metavar="N", help="optimizer steps of every classifier")
    budgets.add_argument("--epochs", type=repeats, metavar="N", help="epochs of every classifier")
    budgets.add_argument("--generator-steps", type=whole, metavar="N", help="steps of every CGAN")
    budgets.add_argument("--generator-epochs", type=repeats, metavar="N", help="epochs of every CGAN")


def add_profile(group: argparse._ArgumentGroup) -> None:
    """Add the options that name profiles instead of C."""
    group.add_argument(
        "--profile",
        nargs="+",
        metavar="NAME",
        help=f"of {', '.join(PROFILES)}, instead of --c: every image as it comes, or cut as for CIFAR-LT",
    )
    group.add_argument(
        "--ratio",
        nargs="+",
        metavar="X",
        help=f"largest over smallest class, of the profiles {' and '.join(CUT_PROFILES)}",
    )


def read_levels(options: argparse.Namespace) -> list[str] | None:
    """Return the training data that --profile and --ratio name, as `read_level` takes it; None without.

    Raises:
        ValueError: an unknown profile, a ratio that is none, or options that do not go together.
    """
    if options.profile is None:
        if options.ratio is not None:
            raise ValueError(
                f"--ratio goes with --profile {' or '.join(CUT_PROFILES)}; a C has its own ratio"
            )
        return None
    if options.c is not None:
        raise ValueError("--c and --profile both choose the training data; give one of them")
    for profile in options.profile:
        require_known("profile", profile, PROFILES)
    is_cut = any(profile != NATURAL for profile in options.profile)
    if is_cut != (options.ratio is not None):
        asked = f"--profile {' '.join(options.profile)}"
        raise ValueError(
            f"{asked} needs --ratio, such as --ratio 100" if is_cut else f"{asked} takes no --ratio"
        )
    ratios = [str(parse_ratio(ratio)) for ratio in options.ratio or ()]
    return [
        level
        for profile in options.profile
        for level in ([profile] if profile == NATURAL else [f"{profile} {ratio}" for ratio in ratios])
    ]


def read_axes(sweep: str, options: argparse.Namespace, presets: Mapping[str, Preset]) -> Axes:
    """Return the axes that the options describe.

    Args:
        sweep: name of the sweep; with the preset's, the name of the study unless the options give one.

    Raises:
        ValueError: unknown names, values out of range, or axes that cannot be combined.
    """
    if options.preset not in presets:
        raise ValueError(f"unknown preset {options.preset!r}; known: {', '.join(presets)}")
    preset = presets[options.preset]
    num_seeds = preset.num_seeds if options.seeds is None else options.seeds
    if num_seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {num_seeds}")
    methods = [resolve(method) for method in options.methods or preset.methods]
    needs_generator = [get_method(method).needs_generator for method in methods]
    is_original = set(options.c or ()) == {ORIGINAL}
    if options.methods and is_original and set(methods) - {"none"}:
        raise ValueError(
            f"--c {ORIGINAL} goes with --methods none alone, got --methods {' '.join(methods)}; "
            f"--profile {NATURAL} takes all of them"
        )
    if is_original or not any(needs_generator):
        for option in ("generators", "generator_steps", "generator_epochs"):
            if getattr(options, option) is not None:
                flag = f"--{option.replace('_', '-')}"
                asked = f"--c {ORIGINAL}" if is_original else f"--methods {' '.join(methods)}"
                raise ValueError(f"{flag} needs a method with a generator, got {asked}")
    changes = dict(preset.overrides) | _read_budgets(options)
    protocols = [
        dataclasses.replace(get_protocol(name), **changes) for name in options.protocol or preset.protocols
    ]
    return Axes(
        name=f"{sweep}-{options.preset}" if options.name is None else options.name,
        dataset=options.dataset or preset.dataset,
        protocols=tuple(protocols),
        cs=tuple(read_levels(options) or _read_cs(options.c, preset.cs, methods)),
        methods=tuple(methods),
        generators=tuple(options.generators or preset.generators),
        seeds=tuple(range(num_seeds)),
    )


def _read_cs(asked: Sequence[str] | None, default: Sequence[str], methods: Sequence[str]) -> list[str | None]:
    if asked is None:
        # The original set stands beside the method "none" only.
        asked = [c for c in default if c != ORIGINAL or "none" in methods]
    elif ORIGINAL in asked and "none" not in methods:
        raise ValueError(
            f"--c {ORIGINAL} is run with the method none alone; add none to --methods or leave it out"
        )
    return [None if c == ORIGINAL else str(parse_c(c)) for c in asked]


def _read_budgets(options: argparse.Namespace) -> dict[str, Budget]:
    changes = {}
    for kind, prefix in (("classifier", ""), ("generator", "generator_")):
        steps, epochs = getattr(options, f"{prefix}steps"), getattr(options, f"{prefix}epochs")
        if steps is not None and epochs is not None:
            flag = prefix.replace("_", "-")
            raise ValueError(f"--{flag}epochs is not allowed with --{flag}steps: a budget has one unit")
        if steps is not None:
            changes[f"{kind}_budget"] = step_budget(steps)
        if epochs is not None:
            changes[f"{kind}_budget"] = Budget(epochs=epochs)
    return changes
