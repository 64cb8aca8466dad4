"""The options for the axes of sweeps, and their parsing."""

import argparse
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from lt_rebalance.data.long_tail import parse_c, parse_ratio
from lt_rebalance.ground.imbalance import CUT_PROFILES, ORIGINAL
from lt_rebalance.ground.option_types import repeats, whole
from lt_rebalance.ground.own_file import resolve
from lt_rebalance.ground.plain import require_known
from lt_rebalance.methods.registry import METHODS, get_method, resolve_method, split_options
from lt_rebalance.networks.generators.registry import GENERATORS
from lt_rebalance.studies.axes import PROFILES, Axes, Preset
from lt_rebalance.studies.protocols import NATURAL, PROTOCOLS, get_protocol, step_budget
from lt_rebalance.training.configs import Budget


def say_defaults(by_preset: Mapping[str, str]) -> str:
    """Return "(default: A; full: B)": an option's values by preset, of which the first is the default."""
    default, *_ = by_preset.values()
    others: dict[str, list[str]] = {}
    for preset, value in by_preset.items():
        if value != default:
            others.setdefault(value, []).append(preset)
    said = [f"{', '.join(presets)}: {value}" for value, presets in others.items()]
    return f"({'; '.join([f'default: {default}', *said])})"


def say_budgets(kind: str, presets: Mapping[str, Preset]) -> str:
    """Return the default steps of all trainings of a kind, "classifier" or "generator", in each preset."""
    budgets = {name: preset.overrides.get(f"{kind}_budget") for name, preset in presets.items()}
    return say_defaults({name: f"{each.steps:,}" if each else "protocol's" for name, each in budgets.items()})


def say_methods(names: Iterable[str] = METHODS) -> str:
    """Return which methods an option takes."""
    return f"of {', '.join(names)}; imblearn.over_sampling.NAME; or of a file of your own, as PATH.py:NAME"


def add_axes(
    parser: argparse.ArgumentParser,
    presets: Mapping[str, Preset],
    *,
    takes_seeds: bool = True,
    with_dataset: str | None = None,
) -> None:
    """Add the options of the axes and their presets to a parser; as `sweep.make_axes_parser`."""
    default = next(iter(presets))
    chosen, also = (default, "") if with_dataset is None else (None, f"; with --dataset: {with_dataset}")
    axes = parser.add_argument_group("what to run")
    axes.add_argument("--preset", default=chosen, help=f"{', '.join(presets)} (default: {default}{also})")
    axes.add_argument("--dataset", metavar="NAME", help="a data set by name, or the path of your own images")
    cs = {name: " ".join(preset.cs) for name, preset in presets.items()}
    defaults = f" {say_defaults(cs)}" if any(cs.values()) else ""
    axes.add_argument("--c", nargs="+", metavar="C", help=f"7/9, 1/2, any 0 < C < 1, or {ORIGINAL}{defaults}")
    add_profile(axes)
    axes.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help=f"{say_methods()}; with options: ldam:max_margin=0.3,scale=20",
    )
    axes.add_argument(
        "--generators",
        nargs="+",
        metavar="NAME",
        help=f"of {', '.join(GENERATORS)}, or of a file of your own, as PATH.py:NAME",
    )
    protocols = say_defaults({name: " ".join(preset.protocols) for name, preset in presets.items()})
    paper, sound, cifar_lt = (PROTOCOLS[name].classifier_budget for name in ("paper", "sound", "cifar_lt"))
    axes.add_argument(
        "--protocol",
        nargs="+",
        metavar="NAME",
        help=f"paper: as its code, with double softmax, {paper}; sound: good practice, cross-entropy and "
        f"equal steps, {sound}; cifar_lt: ResNet-32 by SGD, {cifar_lt} {protocols}",
    )
    axes.add_argument("--name", help="name of the study in the store (default: SWEEP-PRESET)")
    seeds = say_defaults({name: str(preset.num_seeds) for name, preset in presets.items()})
    said = f"run seeds 0 to N - 1 of every cell; complete ones are kept {seeds}"
    axes.add_argument("--seeds", type=repeats, metavar="N", help=said if takes_seeds else argparse.SUPPRESS)
    budgets = parser.add_argument_group("budgets, instead of the protocol's")
    steps = f"optimizer steps of every classifier {say_budgets('classifier', presets)}"
    budgets.add_argument("--steps", type=whole, metavar="N", help=steps)
    budgets.add_argument("--epochs", type=repeats, metavar="N", help="epochs of every classifier")
    steps = f"steps of every CGAN {say_budgets('generator', presets)}"
    budgets.add_argument("--generator-steps", type=whole, metavar="N", help=steps)
    budgets.add_argument("--generator-epochs", type=repeats, metavar="N", help="epochs of every CGAN")


def add_profile(group: argparse._ArgumentGroup) -> None:
    """Add the options that name profiles instead of C."""
    group.add_argument(
        "--profile",
        nargs="+",
        metavar="NAME",
        help=f"of {', '.join(PROFILES)}, instead of --c: every image, or cut as for CIFAR-LT",
    )
    group.add_argument(
        "--ratio",
        nargs="+",
        metavar="X",
        help=f"largest over smallest class, of the profiles {' and '.join(CUT_PROFILES)}",
    )


def read_levels(options: argparse.Namespace) -> list[str] | None:
    """Return the training data of --profile and --ratio, as `read_level` takes it; None without them.

    Raises:
        ValueError: an unknown profile, an invalid ratio, or incompatible options.
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
        sweep: name of the sweep; the default name of the study is this and the preset's name.

    Raises:
        ValueError: unknown names, values out of range, or axes that cannot be combined.
    """
    if options.preset not in presets:
        raise ValueError(f"unknown preset {options.preset!r}; known: {', '.join(presets)}")
    preset = presets[options.preset]
    num_seeds = preset.num_seeds if options.seeds is None else options.seeds
    if num_seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {num_seeds}")
    methods = [resolve_method(method) for method in options.methods or preset.methods]
    also = [resolve_method(method) for method in getattr(options, "permuted", None) or ()]
    needs_generator = [get_method(split_options(method)[0]).needs_generator for method in (*methods, *also)]
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
        generators=tuple(resolve(name) for name in options.generators or preset.generators),
        seeds=tuple(range(num_seeds)),
    )


def _read_cs(asked: Sequence[str] | None, default: Sequence[str], methods: Sequence[str]) -> list[str | None]:
    if asked is None:
        # The original set is a reference under the method "none" only.
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
