"""Run the pending stages of a job, and show progress and results. This imports Ray, torch and pandas."""

import argparse
import dataclasses

from rich.console import Console

from lt_rebalance.cluster.dispatch import run_plan
from lt_rebalance.cluster.session import RaySession
from lt_rebalance.commands.forecast import Job, describe_study, expect, learn_throughput, measure_unknown
from lt_rebalance.data.places import locate_data_dir
from lt_rebalance.ground.errors import ClusterError, StorageError, attempt
from lt_rebalance.ground.exits import EXIT_INCOMPLETE, this_command
from lt_rebalance.ground.interrupts import Interrupted
from lt_rebalance.ground.text import count, make_console, rich, to_csv
from lt_rebalance.monitoring.concerns import advise_on
from lt_rebalance.monitoring.sessions import log_session
from lt_rebalance.monitoring.status import report_command
from lt_rebalance.monitoring.tensorboard.overview import refresh_events, write_overview
from lt_rebalance.monitoring.verbosity import NORMAL, QUIET
from lt_rebalance.stages.arithmetic import Throughput
from lt_rebalance.stages.progress import Progress, render_cells
from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.presence import DriverBeat
from lt_rebalance.store.records import NOT_APPLICABLE
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.tables import (
    cells_frame,
    describe_cells,
    runs_frame,
    summarized_metrics,
    with_titles,
)


def run_job(job: Job, options: argparse.Namespace, session: RaySession) -> int:
    """Run the pending stages, show the results and return the exit code."""
    ledger, store, console, verbosity = job.ledger, job.store, make_console(), options.verbosity
    assert store is not None
    _note_replaced_runs(ledger, store, console)
    pending = ledger.pending()
    throughput = learn_throughput(ledger)
    if options.address is None:
        measure_unknown(throughput, pending)
    study = dataclasses.replace(describe_study(job), expected_s=expect(throughput, pending))
    if session.lease is not None:
        store.write_study(study)
    if pending:
        if verbosity > QUIET:
            console.print(
                f"{ledger.summary()}: {count(len(pending), 'stage')} to run, "
                f"{job.resources.num_slots} at a time"
            )
        attempt(lambda: write_overview(store, study))
        run_pending(job, store, options.data_dir, session, console, throughput, verbosity)
        attempt(lambda: refresh_events(store, study))
    return _show_results(job, store, console)


def is_described(job: Job, store: Store) -> bool:
    """Whether a store has the document of a job's study, whatever its slots and speeds."""
    if (name := job.ledger.plan.study.name) not in store.list_studies():
        return False
    return store.load_study(name).plans_as(describe_study(job))


def _note_replaced_runs(ledger: Ledger, store: Store, console: Console) -> None:
    """Print a note if a study of the same name planned runs that are not in the new plan."""
    name = ledger.plan.study.name
    try:
        earlier = {run.key for run in store.load_study(name).runs}
    except StoreError:  # none yet, or unreadable: there is nothing to keep
        return
    if others := len(earlier - set(ledger.plan.stages)):
        console.print(
            f"note: study {name} planned {others} other runs before. Their results stay in the store, but "
            "reports no longer name them; give one of the two studies another --name to have both."
        )


def run_pending(
    job: Job,
    store: Store,
    data_dir: str | None,
    session: RaySession,
    console: Console,
    throughput: Throughput,
    verbosity: int = NORMAL,
) -> None:
    """Run the pending stages of a job, and show progress on a console.

    Args:
        throughput: known speeds of stages.
        verbosity: one of `verbosity.LEVELS`.

    Raises:
        Interrupted: a signal asked for it.
    """
    ledger, slots = job.ledger, job.resources.num_slots
    # Workers have their own working directory and environment.
    data_dir = str(locate_data_dir(data_dir))
    disk = None if store.directory is None else str(store.directory)
    progress = Progress(ledger, throughput, slots, console, disk, verbosity=verbosity)
    driver = DriverBeat(store.files, ledger.plan.study.name)
    attempt(store.gather)  # includes the note of a killed process
    if verbosity > QUIET:
        console.print("starting Ray")
    session.start()
    told = log_session(store.files, ledger.plan.study.name, this_command(), progress.num_stages)
    with driver, progress, told as session_log:

        def check() -> None:
            driver.beat()
            session_log.tell(progress.num_done, progress.seconds_left)
            session.check()

        try:
            run_plan(ledger, store, data_dir, job.resources, progress, check, driver.note.name)
        except (ClusterError, Interrupted, StorageError):
            console.print(ledger.summary())
            raise
    attempt(store.gather)


def _show_results(job: Job, store: Store, console: Console) -> int:
    """Print the tables, paths and the account of all runs; return the exit code."""
    ledger = job.ledger
    study, runs = ledger.plan.study, runs_frame(ledger)
    cells = cells_frame(runs, summarized_metrics(study.cells))
    paths = [
        store.write_table(study.name, name, to_csv(with_titles(frame)))
        for name, frame in (("cells", cells), ("runs", runs))
    ]
    console.print(render_cells(cells, describe_cells(study.name, runs, cells)))
    if job.answer is not None:
        try:
            text, csv = job.answer(store.location, study.name, console.width)
        except ValueError as error:  # the account of the runs is printed in any case
            text = f"the answer could not be computed: {error}"
        else:
            paths.append(store.write_table(study.name, "answer", csv))
        print(text)
    for run in ledger.plan.runs:
        if ledger.state(run.key) == "failed":
            end = NOT_APPLICABLE if ledger.cause(run.key) == NOT_APPLICABLE else "failed"
            console.print(rich(f"{end}: {run}: {ledger.reason(run.key)}"), soft_wrap=True)
    for path in paths:
        print(f"table: {path}")
    print(f"records: {store.location}")
    counts = ledger.count_runs()
    if quarantined := len(store.list_quarantine()):
        print(f"quarantine: set aside: {count(quarantined, 'damaged file')} in {store.location}/quarantine")
    causes = ledger.count_causes()
    num_not_applicable = causes.pop(NOT_APPLICABLE, 0)  # which is a result
    if num_not_applicable:
        print(
            f"not applicable: {count(num_not_applicable, 'run')} of a method that does not apply to the "
            "training set"
        )
    if causes:
        print("failed runs by cause: " + ", ".join(f"{name} {num}" for name, num in sorted(causes.items())))
        print(advise_on(causes, this_command()))
    if counts["missing"]:
        print(f"to run what is missing: {this_command()}")
    is_done = counts["complete"] + num_not_applicable == len(ledger.plan.runs)
    more = 2 * len(study.seeds)
    if is_done and more <= job.most_seeds and all(isinstance(seed, int) for seed in study.seeds):
        print(f"for twice the seeds: {this_command(job.seeds_option, more)}")
    if counts["complete"]:
        print(f"for a report: {report_command(store.location, [study.name], counts)}")
    print(ledger.summary())
    return EXIT_INCOMPLETE if causes or counts["missing"] else 0
