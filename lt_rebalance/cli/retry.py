"""`lt-rebalance retry`: rerun the failed runs of a study, as the sweep would."""

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Callable

from lt_rebalance.cli.stores import choose_study, print_json
from lt_rebalance.commands.forecast import Job, learn_throughput
from lt_rebalance.commands.own_images import bring_images_again, note_needless, require_running, share_images
from lt_rebalance.commands.sweep import find_size, fit_trials, require_room
from lt_rebalance.data.catalog import are_embedded
from lt_rebalance.ground.errors import attempt
from lt_rebalance.ground.exits import EXIT_INCOMPLETE, Work, note
from lt_rebalance.ground.own_file import bring, list_needed, require_at_hand
from lt_rebalance.ground.text import count, make_console, one_line
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.store.lease import Lease
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import Plan, plan_from_description
from lt_rebalance.studies.stage import RESULTS_VERSION


def prepare(options: argparse.Namespace, stack: contextlib.ExitStack) -> Work:
    """Return the work that reruns failed runs; its exit code is 0 if all of them then have a result."""
    store = open_store(options.store, RESULTS_VERSION, create=False, is_read_only=True)
    if store is None:
        raise StoreError(f"there is no store at {options.store!r}")
    study = store.load_study(choose_study(store, options.study))
    require_running(options)
    bring_images_again(options)
    for path in options.own_file or ():
        bring(path)
    plan = keep_failed(plan_from_description(study), store)
    if options.dry_run:
        for name in ("address", "data_dir", "gpus_per_trial", "lanes", "max_concurrent"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} does not go with --dry-run, which runs nothing")
    datasets = {stage.data.dataset for stage in plan.stages.values()}
    if options.data_dir is not None and are_embedded(datasets):
        note(f"--data-dir changes nothing: {', '.join(sorted(datasets))} comes with the package")
    note_needless(options, datasets)
    if options.own_file and options.dry_run and not any(list_needed([each.config for each in study.cells])):
        note("--own-file changes nothing: this study has no code of your own")
    if options.dry_run or not plan.runs:
        return lambda: _show(plan, store, options)
    needs_own = require_at_hand([stage.to_dict() for stage in plan.stages.values()])
    if options.own_file and not needs_own:
        note("--own-file changes nothing: the failed runs used no file of your own")
    writable = _open_to_write(options.store)
    again = _prepare_again(plan, writable, options, stack)

    def work() -> int:
        from lt_rebalance.monitoring.tensorboard.overview import refresh_events

        again()
        attempt(lambda: refresh_events(writable, study))
        return _show(plan, writable, options)

    return work


def _show(plan: Plan, store: Store, options: argparse.Namespace) -> int:
    """Print which runs have a result now, and return the exit code."""
    ledger = Ledger(plan, store)
    titles = [str(planned) for planned in plan.runs]
    states = {str(each): ledger.state(each.key) for each in plan.runs}
    failed = {str(each): ledger.reason(each.key) for each in plan.runs if states[str(each)] == "failed"}
    failed |= {title: "it has not been run" for title in titles if states[title] == "missing"}
    if options.json:
        print_json({"is_dry_run": options.dry_run, "runs": titles, "failed": failed})
    else:
        for title in titles:
            state = states[title] if title in failed else "done"
            print(one_line(f"{state}: {title}: {failed.get(title, 'has a result now')}"))
        print(f"failed runs: {len(titles)}; still without a result: {len(failed)}")
    return EXIT_INCOMPLETE if failed and not options.dry_run else 0


def keep_failed(plan: Plan, store: Store) -> Plan:
    """Return the part of a plan that failed; print a note if other runs are missing."""
    ledger = Ledger(plan, store)
    if missing := ledger.count_runs()["missing"]:
        runs = count(missing, "run")
        note(f"neither a result nor a failure: {runs} of study {plan.study.name}; run its sweep")
    failed = tuple(planned for planned in plan.runs if ledger.state(planned.key) == "failed")
    return dataclasses.replace(plan, runs=failed)


def _open_to_write(location: str) -> Store:
    store = open_store(location, RESULTS_VERSION, create=True)
    assert store is not None
    return store


def _prepare_again(
    plan: Plan, store: Store, options: argparse.Namespace, stack: contextlib.ExitStack
) -> Callable[[], None]:
    """Take the lease and return the work that reruns a plan of failed runs."""
    size = find_size(options.address, plan.execution.device, stack)
    if options.address is not None:
        from lt_rebalance.cluster.nodes import require_store_on_all_nodes

        require_store_on_all_nodes(store)
    resources = fit_trials(plan.execution, options, size)
    # Here, not above: this imports Ray, torch and pandas.
    from lt_rebalance.cluster.session import RaySession
    from lt_rebalance.commands.running import run_pending

    lease = stack.enter_context(Lease(store.files, store.location, plan.study.name))
    share_images([stage.data.dataset for stage in plan.stages.values()], store, options)
    ledger = Ledger(plan, store)
    ledger.forget_failures()
    require_room(ledger, store, resources, options.address)
    session = stack.enter_context(RaySession(options.address, lease))

    def again() -> None:
        job = Job(question="", ledger=ledger, store=store, resources=resources)
        console = make_console(sys.stderr if options.json else None)
        run_pending(job, store, options.data_dir, session, console, learn_throughput(ledger))

    return again
