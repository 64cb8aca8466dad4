"""Which settings does each of the field's methods choose for itself, when all may try equally many?

As many searches as methods, in one command and one store, each with its own journal and account. Every method
gets the same number of trials, of the same steps at the same seeds, over its own space: the learning rate,
the options with a declared domain (`lt_rebalance/methods/domains.py`), for a CGAN also its learning rate, and
for undersampling the length of its training. The first trial is the untuned configuration. The objective is
the mean macro F1 on a balanced validation set that was set aside before the long-tailed cut; test images are
not used. sweeps/compare_methods.py --tuned STORE runs all methods with the chosen values, on fresh seeds.

  quick   the sample of Fashion-MNIST that comes with the package and a few methods; shows that it works
  full    Fashion-MNIST at C = 1/2, 1,200 steps, 20 trials of 2 seeds

Trials are kept in --storage: the same command resumes where it was stopped, and more --trials continue.
"""

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Sequence

from lt_rebalance.commands.options import say_budgets, say_methods
from lt_rebalance.commands.search_options import (
    SearchPreset,
    fill_in,
    make_search_parser,
    search_level,
    search_protocol,
    search_seeds,
)
from lt_rebalance.commands.searches import main
from lt_rebalance.ground.exits import say_command, this_command
from lt_rebalance.ground.option_types import whole
from lt_rebalance.ground.own_file import resolve
from lt_rebalance.methods.registry import get_method, resolve_method, split_options
from lt_rebalance.search.chosen import name_search
from lt_rebalance.search.search import Search
from lt_rebalance.search.spaces import METHOD
from lt_rebalance.store import Store
from lt_rebalance.studies.protocols import make_cell, step_budget
from lt_rebalance.training.configs import Budget, Execution
from sweeps import compare_methods

PRESETS = {
    "quick": SearchPreset(dataset="fashion_mnist_mini", steps=100, seeds=2, trials=3, confirm_seeds=1),
    "full": SearchPreset(dataset="fashion_mnist", steps=1200, seeds=2, trials=20, confirm_seeds=1),
}
FIXED = ("scheduler", "reduction", "max_steps", "max_minutes", "confirm_seeds")
"""options of other searches: here every trial runs to its end, and compare_methods.py confirms the choice"""
OF_SEARCHES = ("--name", "--plan", "--seeds", "--search-seed", "--steps", "--trials")
"""options that a comparison on fresh seeds does not take over"""


def make_methods_parser() -> argparse.ArgumentParser:
    """Return the parser: which methods, and the options of every search that leave budgets equal."""
    parser = make_search_parser(__doc__ or "", PRESETS, refused=FIXED)
    parser.add_argument("--methods", nargs="+", metavar="NAME", help=f"{say_methods()}; with options")
    generators = f"architectures of method cgan (default: {' '.join(compare_methods.GENERATORS)})"
    parser.add_argument("--generators", nargs="+", metavar="NAME", help=generators)
    steps = f"steps of every CGAN {say_budgets('generator', compare_methods.PRESETS)}"
    parser.add_argument("--generator-steps", type=whole, metavar="N", help=steps)
    return parser


def build_searches(options: argparse.Namespace, execution: Execution) -> Sequence[Search]:
    """Return a search for each requested method, including the references of a comparison.

    Raises:
        ValueError: unknown names, or options that would make budgets unequal.
    """
    for name in FIXED:
        if getattr(options, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(
                f"{flag} is not an option of this search: every method has the same --trials, each to its end"
            )
    fill_in(options, PRESETS)
    options.name = f"tune_methods-{options.preset}" if options.name is None else options.name
    preset = compare_methods.PRESETS[options.preset]
    asked = [resolve_method(method) for method in options.methods or preset.methods]
    needs_generator = [get_method(split_options(method)[0]).needs_generator for method in asked]
    for name in ("generators", "generator_steps") if not any(needs_generator) else ():
        if getattr(options, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} needs a method with a generator, got {' '.join(asked)}"
            )
    changes = dict(preset.overrides) | {"classifier_budget": Budget(steps=options.steps, rounds=1)}
    if options.generator_steps is not None:
        changes["generator_budget"] = step_budget(options.generator_steps)
    protocol = search_protocol(options, **changes)
    generators = [resolve(name) for name in options.generators or preset.generators]
    cells = [
        make_cell(
            protocol, dataset=options.dataset, c=search_level(options), method=method, generator=generator
        )
        for method in dict.fromkeys([*compare_methods.REFERENCES, *asked])
        for generator in (generators if get_method(split_options(method)[0]).needs_generator else [None])
    ]
    names = [name_search(options.name, cell.method_label) for cell in cells]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"several methods would have the search name {repeated[0]}; choose one of them")
    return [
        Search(
            name=name,
            component=METHOD,
            base=cell,
            objectives=("macro_f1",),
            seeds=search_seeds(options),
            scheduler="none",
            reduction=2,
            sampler_seed=options.search_seed,
            execution=execution,
        )
        for name, cell in zip(names, cells, strict=True)
    ]


def say_next(options: argparse.Namespace, store: Store, arguments: Sequence[str]) -> str:
    """Return the command that compares the methods with their choices, on the data and settings as typed."""
    typed = shlex.split(this_command())
    start = typed[: len(typed) - len(arguments)]
    if typed[len(start) :] != list(arguments) or "tune_methods" not in start[-1]:  # another program called
        start = shlex.split(say_command("python", "sweeps/tune_methods.py"))
    start[-1] = start[-1].replace("tune_methods", "compare_methods")
    kept = []
    is_kept = True
    for word in arguments:
        if word.startswith("--"):
            is_kept = word.partition("=")[0] not in OF_SEARCHES
        if is_kept:
            kept.append(word)
    taken = ["--steps", str(options.steps), "--tuned", store.location, "--tuned-name", options.name]
    command = [*start, *kept, *taken]
    return f"to compare all of them on fresh seeds: {shlex.join(command)}"


if __name__ == "__main__":
    sys.exit(main(make_methods_parser(), build_searches, say_next))
