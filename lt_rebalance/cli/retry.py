"""`lt-rebalance retry`: run again what failed in a study, as the sweep would."""

import argparse
import contextlib
import dataclasses
import sys

import torch
from rich.console import Console

from lt_rebalance.arguments import EXIT_INCOMPLETE
from lt_rebalance.cli.stores import choose_study, print_json
from lt_rebalance.cluster import ClusterSize, RaySession, count_cpus, ray_cluster
from lt_rebalance.command import run_pending
from lt_rebalance.console import make_console
from lt_rebalance.events.overview import refresh_events
from lt_rebalance.forecast import Job, learn_throughput
from lt_rebalance.interrupts import Interrupted
from lt_rebalance.lease import Lease, LeaseLostError
from lt_rebalance.ledger import Ledger
from lt_rebalance.nodes import require_store_on_all_nodes
from lt_rebalance.observer import attempt
from lt_rebalance.plan import Plan, plan_from_description
from lt_rebalance.runner import plan_resources
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.study import RESULTS_VERSION
from lt_rebalance.text import one_line


def run(options: argparse.Namespace) -> int:
    """Run failed runs again; 0 when all of them have a result now."""
    store = open_store(options.store, RESULTS_VERSION, create=False)
    if store is None:
        raise StoreError(f"there is no store at {options.store!r}")
    study = store.load_study(choose_study(store, options.study))
    plan = keep_failed(plan_from_description(study), store)
    titles = [str(planned) for planned in plan.runs]
    if plan.runs and not options.dry_run:
        try:
            _run_again(plan, store, options)
        except Interrupted as interrupt:
            return interrupt.exit_code
        except (LeaseLostError, StoreError) as error:
            print(f"stopped: {error}", file=sys.stderr)
            return EXIT_INCOMPLETE
        attempt(lambda: refresh_events(store, study))
    ledger = Ledger(plan, store)
    failed = {str(each): ledger.reason(each.key) for each in plan.runs if ledger.state(each.key) == "failed"}
    if options.json:
        print_json({"is_dry_run": options.dry_run, "runs": titles, "failed": failed})
    else:
        for title in titles:
            print(
                one_line(
                    f"{'failed' if title in failed else 'done'}: {title}: "
                    + failed.get(title, "has a result now")
                )
            )
        print(f"{len(titles)} failed runs, {len(failed)} of them have no result still")
    return EXIT_INCOMPLETE if failed and not options.dry_run else 0


def keep_failed(plan: Plan, store: Store) -> Plan:
    """Return the part of a plan that failed."""
    ledger = Ledger(plan, store)
    failed = tuple(planned for planned in plan.runs if ledger.state(planned.key) == "failed")
    return dataclasses.replace(plan, runs=failed)


def _run_again(plan: Plan, store: Store, options: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        size: ClusterSize = {"CPU": count_cpus(), "GPU": torch.cuda.device_count()}
        if options.address is not None:
            size = stack.enter_context(ray_cluster(options.address))
            require_store_on_all_nodes(store)
        resources = plan_resources(
            plan.execution, options.gpus_per_trial, options.max_concurrent, options.lanes, size
        )
        lease = stack.enter_context(Lease(store.files, store.location, plan.study.name))
        ledger = Ledger(plan, store)
        for key in list(ledger.failures):
            store.clear_failure(key)
        ledger.forget_failures()
        job = Job(question="", ledger=ledger, store=store, resources=resources)
        console = Console(file=sys.stderr, highlight=False) if options.json else make_console()
        throughput = learn_throughput(ledger)
        session = stack.enter_context(RaySession(options.address, lease))
        run_pending(job, store, options.data_dir, session, console, throughput)
