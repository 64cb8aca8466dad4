"""The command line that every search shares: options, checks and the plan.

Until something is run, torch, Ray and Optuna are not imported: wrong input is refused immediately.
"""

import argparse
import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from lt_rebalance.cluster.resources import Resources
from lt_rebalance.commands.agreement import list_asked, require_agreement
from lt_rebalance.commands.flips import check_flips
from lt_rebalance.commands.own_images import bring_images, require_running, share_images
from lt_rebalance.commands.search_forecast import Comparison, SearchForecast
from lt_rebalance.commands.sweep import (
    check_options,
    first_line,
    open_results,
    prepare_machine,
    read_data,
    settle_verbosity,
)
from lt_rebalance.data.counting import look_in
from lt_rebalance.files.bucket import SCHEME
from lt_rebalance.files.private_directory import require_private
from lt_rebalance.ground.exits import note, run_command
from lt_rebalance.ground.plain import require_positive
from lt_rebalance.ground.text import make_console
from lt_rebalance.search.account import SearchBudget
from lt_rebalance.search.files import describe_search
from lt_rebalance.search.search import FIRST_SEARCH_SEED, Search
from lt_rebalance.store import Store
from lt_rebalance.store.lease import Lease
from lt_rebalance.studies.overrides import Overrides, change_cell, read_overrides, require_effect
from lt_rebalance.studies.workload import describe_batches
from lt_rebalance.training.configs import Execution

SearchBuilder = Callable[[argparse.Namespace, Execution], Search]


def main(
    parser: argparse.ArgumentParser,
    build_search: SearchBuilder,
    compare: Comparison,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a search's command line and return its exit code.

    0: a choice exists and is confirmed, or the method is not applicable. 1: no trial was completed, the
    search ended before its budget was spent, or runs of the confirmation failed or are missing. Others: as
    `run_command`.
    """

    def prepare(options: argparse.Namespace, stack: contextlib.ExitStack) -> Callable[[], int]:
        (search,), resources = make_searches(
            options, stack, lambda options, execution: [build_search(options, execution)]
        )
        budget = SearchBudget(trials=options.trials, steps=options.max_steps, minutes=options.max_minutes)
        require_positive(confirm_seeds=options.confirm_seeds)
        if search.scheduler == "pbt":
            _require_population(options)
        if options.reduction is not None and search.scheduler != "asha":
            raise ValueError(f"--reduction is for scheduler asha, got scheduler {search.scheduler!r}")
        if options.confirm_seeds > FIRST_SEARCH_SEED:
            raise ValueError(
                f"--confirm-seeds must be at most {FIRST_SEARCH_SEED}, got {options.confirm_seeds}"
            )
        if search.base.data.validation is not None:
            note("the set has its own validation split, which is used; no training images are set aside")
        if said := describe_batches(search.base.data, search.base.classifier):
            note(said)
        read_data([search.base.data.dataset], options)
        store = open_results(options)
        if store is not None:
            require_same_search(search, store)
        if options.plan:
            forecast = SearchForecast(
                search=search,
                budget=budget,
                resources=resources,
                confirm_seeds=options.confirm_seeds,
                store=store,
                retry_failed=options.retry_failed,
            )
            return lambda: forecast.show(options.rate, as_json=options.json)
        assert store is not None
        from lt_rebalance.cluster.session import RaySession
        from lt_rebalance.commands.searching import SearchCommand
        from lt_rebalance.search.journal import open_journal

        if options.address is None:  # the memory of another machine is unknown
            check_memory_of(search, resources)
        lease = stack.enter_context(Lease(store.files, store.location, search.name))
        share_images([search.base.data.dataset], store, options)
        journal = stack.enter_context(open_journal(search, store))
        command = SearchCommand(
            search=search,
            journal=journal,
            store=store,
            budget=budget,
            resources=resources,
            session=stack.enter_context(RaySession(options.address, lease)),
            options=options,
            question=first_line(parser),
            console=make_console(),
        )
        return lambda: command.run(compare)

    return run_command(parser, prepare, arguments)


def make_searches(
    options: argparse.Namespace,
    stack: contextlib.ExitStack,
    build_searches: Callable[[argparse.Namespace, Execution], Sequence[Search]],
) -> tuple[list[Search], Resources]:
    """Return the searches that options describe, after all checks without files and store.

    Raises:
        ValueError: unknown names, values out of range, or options that contradict each other.
        DataError: own images that cannot be used for training.
    """
    check_options(options)
    settle_verbosity(options, stack)
    look_in(options.data_dir, download=options.download)
    require_running(options)
    bring_images(options)
    overrides = read_overrides(options.config, options.set)
    execution, resources = prepare_machine(options, stack)
    asked = list_asked(options)  # before presets fill in the rest
    searches = build_searches(options, execution)
    require_agreement(asked, overrides, [search.base for search in searches])
    searches = [change_base(search, overrides) for search in searches]
    require_effect([search.base for search in searches], overrides)
    check_flips([search.base for search in searches], options)
    for search in searches:
        search.require_possible()
    return searches, resources


def require_same_search(search: Search, store: Store) -> None:
    """Raise a ValueError when the store holds another search of the same name."""
    if search.name not in store.list_searches():
        return
    kept, asked = store.load_search(search.name), describe_search(search)
    if different := sorted(name for name in asked if kept.get(name) != asked[name]):
        within = sorted(
            name for name in asked["search"] if kept.get("search", {}).get(name) != asked["search"][name]
        )
        raise ValueError(
            f"{store.location} holds another search {search.name!r}, which differs in "
            f"{', '.join(within or different)}; give this one another --name"
        )


def check_memory_of(search: Search, resources: Resources) -> None:
    """Refuse concurrent trials that do not fit into this machine's memory; errors as `check_memory`."""
    from lt_rebalance.stages.memory import check_memory

    groups = search.ladder(search.untuned)[-1].groups
    trials = itertools.product(range(resources.num_slots), (stage for group in groups for stage in group))
    stages = {f"{slot} {stage.key}": stage for slot, stage in trials}
    check_memory(stages, resources.num_slots, resources.max_lanes)


def change_base(search: Search, overrides: Overrides) -> Search:
    """Return a search whose untuned configuration has some fields replaced.

    Raises:
        ValueError: incompatible values, or values that options of the search set.
    """
    if not overrides.tables:
        return search
    tuned = "generator" if search.component == "generator" else "classifier"
    if "budget" in overrides.tables.get(tuned, {}):
        raise ValueError(f"{overrides.label}: the length of a trial is set by --steps")
    return dataclasses.replace(search, base=change_cell(search.base, overrides))


def _require_population(options: argparse.Namespace) -> None:
    for name in ("max_steps", "max_minutes", "max_concurrent"):
        if getattr(options, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} does not go with --scheduler pbt: all members of a population, "
                "--trials of them, train to the end, as many at a time as there are CPUs or GPUs"
            )
    if options.address is not None and options.storage.startswith(SCHEME):
        raise ValueError(
            "the members of a population pass checkpoints through a directory that all nodes share: name "
            f"one as --storage, got {options.storage!r}, or leave out --address to stay on this machine"
        )
    if options.address is not None and not options.plan:
        place = Path(options.storage).expanduser().absolute()
        require_private(next(each for each in (place, *place.parents) if each.is_dir()))
