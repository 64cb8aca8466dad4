"""The command line of several consecutive searches in one store, each with its journal and account.

Until something is run, torch, Ray and Optuna are not imported: wrong input is refused immediately.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Sequence

from lt_rebalance.cluster.resources import Resources
from lt_rebalance.commands.own_images import share_images
from lt_rebalance.commands.search import check_memory_of, make_searches, require_same_search
from lt_rebalance.commands.search_forecast import SearchForecast
from lt_rebalance.commands.sweep import first_line, open_results, read_data
from lt_rebalance.ground.exits import EXIT_INCOMPLETE, run_command
from lt_rebalance.ground.text import count, format_duration, make_console
from lt_rebalance.search.account import SearchBudget
from lt_rebalance.search.search import Search
from lt_rebalance.store import Store
from lt_rebalance.store.lease import Lease
from lt_rebalance.training.configs import Execution

SearchesBuilder = Callable[[argparse.Namespace, Execution], Sequence[Search]]


def main(
    parser: argparse.ArgumentParser,
    build_searches: SearchesBuilder,
    say_next: Callable[[argparse.Namespace, Store, Sequence[str]], str],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run the command line of several searches with one budget each, and return its exit code.

    `say_next` returns what to do with the choices, as the last line; it is given the arguments as well.

    0: every search has spent its budget, and has a choice or only trials that are not applicable. 1:
    otherwise. Others: as `run_command`.
    """

    def prepare(options: argparse.Namespace, stack: contextlib.ExitStack) -> Callable[[], int]:
        searches, resources = make_searches(options, stack, build_searches)
        budget = SearchBudget(trials=options.trials)
        datasets = list(dict.fromkeys(search.base.data.dataset for search in searches))
        read_data(datasets, options)
        store = open_results(options)
        for search in searches if store is not None else ():
            assert store is not None
            require_same_search(search, store)
        if options.plan:
            return lambda: _show_plan(searches, budget, resources, store, options)
        assert store is not None
        from lt_rebalance.cluster.session import RaySession

        if options.address is None:  # the memory of another machine is unknown
            for search in searches:
                check_memory_of(search, resources)
        lease = stack.enter_context(Lease(store.files, store.location, options.name))
        share_images(datasets, store, options)
        session = stack.enter_context(RaySession(options.address, lease))
        question = first_line(parser)
        place = store

        def run() -> int:
            from lt_rebalance.commands.searching import SearchCommand
            from lt_rebalance.search.journal import open_journal

            exit_codes, num_chosen = [], 0
            for number, search in enumerate(searches, start=1):
                print(f"search {number} of {len(searches)}: {search.name}, {search.base}")
                with open_journal(search, place) as journal:
                    command = SearchCommand(
                        search=search,
                        journal=journal,
                        store=place,
                        budget=budget,
                        resources=resources,
                        session=session,
                        options=options,
                        question=f"{question} {search.base.method_label}",
                        console=make_console(),
                    )
                    exit_codes.append(command.run(None))
                    num_chosen += command.best is not None
            num_searches = len(searches)
            print(f"searches={num_searches} chosen={num_chosen} without={num_searches - num_chosen}")
            print(say_next(options, place, sys.argv[1:] if arguments is None else arguments))
            return EXIT_INCOMPLETE if any(exit_codes) else 0

        return run

    return run_command(parser, prepare, arguments)


def _show_plan(
    searches: Sequence[Search],
    budget: SearchBudget,
    resources: Resources,
    store: Store | None,
    options: argparse.Namespace,
) -> int:
    """Print what every search would do, and the total cost; return 0."""
    forecasts = [
        SearchForecast(
            search=search,
            budget=budget,
            resources=resources,
            confirm_seeds=0,
            store=store,
            retry_failed=options.retry_failed,
        )
        for search in searches
    ]
    answers = [forecast.describe(options.rate) for forecast in forecasts]
    hours = [answer["device_hours_at_most"] for answer in answers]
    total = None if None in hours else sum(hours)
    if options.json:
        print(json.dumps({"searches": answers, "device_hours_at_most": total}, indent=2))
        return 0
    for search, answer in zip(searches, answers, strict=True):
        states = " ".join(f"{state}={number}" for state, number in answer["trials"].items())
        print(f"{search.name}: {search.base}; {states}")
        for name, domain in search.space.items():
            print(f"  {name}: {domain}; untuned {search.untuned[name]}")
    first = searches[0]
    print(
        f"each: {budget} of {first.budget.steps} steps at seeds {', '.join(map(str, first.seeds))}; "
        f"{count(len(searches), 'search', 'searches')}, {count(resources.num_slots, 'trial')} at a time"
    )
    if total is not None:
        price = "" if options.rate is None else f"; price {total * options.rate:.2f}"
        print(f"device time in total, at most about {format_duration(3600 * total)}{price}")
    return 0
