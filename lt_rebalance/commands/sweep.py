"""The command line that every sweep shares: options, plan, run, tables, exit code."""

import argparse
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from rich.console import Console

from lt_rebalance.cluster.dispatch import Resources, plan_resources, run_plan
from lt_rebalance.cluster.installation import require_one_copy
from lt_rebalance.cluster.nodes import require_store_on_all_nodes
from lt_rebalance.cluster.session import ClusterSize, RaySession, count_cpus, ray_cluster
from lt_rebalance.commands.forecast import (
    Job,
    describe_study,
    expect,
    learn_throughput,
    measure_unknown,
    show_plan,
)
from lt_rebalance.data.catalog import are_embedded
from lt_rebalance.data.files import load_dataset, locate_data_dir
from lt_rebalance.data.spec import DATA_DIR_VARIABLE
from lt_rebalance.ground.errors import ClusterError, StorageError
from lt_rebalance.ground.exits import EXIT_INCOMPLETE, Parser, note, run_command, this_command
from lt_rebalance.ground.interrupts import Interrupted
from lt_rebalance.ground.option_types import finite, place, price, whole
from lt_rebalance.ground.text import make_console, rich, to_csv
from lt_rebalance.monitoring.concerns import advise_on
from lt_rebalance.monitoring.tensorboard.overview import refresh_events, write_overview
from lt_rebalance.stages.arithmetic import Throughput
from lt_rebalance.stages.observer import attempt
from lt_rebalance.stages.progress import Progress, render_cells
from lt_rebalance.stages.provenance import driver_source
from lt_rebalance.stages.size import check_space
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.store.lease import Lease
from lt_rebalance.store.presence import DriverBeat
from lt_rebalance.studies.axes import Preset, add_axes
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.overrides import change_study, read_overrides
from lt_rebalance.studies.plan import compile_study
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from lt_rebalance.studies.tables import cells_frame, describe_cells, runs_frame
from lt_rebalance.training.configs import DEVICES, PRECISIONS, Execution
from lt_rebalance.training.device import AUTO, resolve_execution

StudyBuilder = Callable[[argparse.Namespace], Study]
Answer = Callable[[str, str, int], tuple[str, str]]
"""From the location of a store, the name of a study in it and characters a line to text and CSV."""


def make_parser(question: str) -> argparse.ArgumentParser:
    """Return the parser of a sweep with the options that all sweeps share.

    Args:
        question: the docstring of the sweep; shown by --help.
    """
    parser = Parser(
        description=question, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    where = parser.add_argument_group("where")
    where.add_argument(
        "--storage",
        type=place,
        default="results",
        metavar="PLACE",
        help="the store of all results: a directory, or s3://BUCKET/PREFIX (default: results)",
    )
    where.add_argument(
        "--data-dir",
        type=place,
        metavar="DIR",
        help=f"holds FashionMNIST/raw and its like (default: the variable {DATA_DIR_VARIABLE}, else data)",
    )
    where.add_argument(
        "--download", action="store_true", help="fetch a missing data set into the data directory"
    )
    where.add_argument(
        "--address", help='a running Ray cluster, "auto" on its head (default: start Ray on this machine)'
    )
    how = parser.add_argument_group("how")
    how.add_argument("--device", default=AUTO, help=f"{', '.join(DEVICES)} or auto (default)")
    how.add_argument("--precision", default=AUTO, help=f"{', '.join(PRECISIONS)} or auto (default)")
    how.add_argument(
        "--threads", type=whole, default=1, metavar="N", help="CPU threads of one trial (default: 1)"
    )
    how.add_argument(
        "--gpus-per-trial",
        type=finite,
        metavar="X",
        help="share of a GPU for one trial (default: 1)",
    )
    how.add_argument(
        "--lanes",
        type=whole,
        metavar="N",
        help="most seeds of one trial, trained as one program (default: 64 on a GPU, 1 on a CPU)",
    )
    how.add_argument(
        "--max-concurrent",
        type=whole,
        metavar="N",
        help="trials at a time (default: as many as fit the cluster)",
    )
    how.add_argument("--retry-failed", action="store_true", help="run again what failed in earlier calls")
    changes = parser.add_argument_group(
        "what to change in all cells: fields of data, method, generator and classifier"
    )
    changes.add_argument(
        "--config", type=place, metavar="FILE", help="a TOML file with a table for each of these sections"
    )
    changes.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help="one field, over --config; as often as needed. The word null empties a field",
    )
    what = parser.add_argument_group("instead of running")
    what.add_argument(
        "--plan", action="store_true", help="show what would run, what it costs and how long it takes"
    )
    what.add_argument("--json", action="store_true", help="with --plan: print it as JSON")
    what.add_argument(
        "--rate", type=price, metavar="PRICE", help="with --plan: price of a device-hour, to show prices"
    )
    return parser


def make_axes_parser(question: str | None, presets: Mapping[str, Preset]) -> argparse.ArgumentParser:
    """Return the parser of a sweep over the axes of `axes`.

    Args:
        question: the docstring of the sweep.
        presets: by name; the first is the default.
    """
    parser = make_parser(question or "")
    add_axes(parser, presets)
    return parser


def main(
    parser: argparse.ArgumentParser,
    build_study: StudyBuilder,
    arguments: Sequence[str] | None = None,
    *,
    answer: Answer | None = None,
) -> int:
    """Run a sweep's command line and return its exit code.

    The run ends with the answer to the sweep's question, where one is given, and the account of its runs.

    0: every planned run is complete or diverged. 1: some failed or are missing. Others: as `run_command`.
    """

    def prepare(options: argparse.Namespace, stack: contextlib.ExitStack) -> Callable[[], int]:
        check_options(options)
        study = change_study(build_study(options), read_overrides(options.config, options.set))
        job, lease = _prepare(study, first_line(parser), options, stack)
        if options.plan:
            return lambda: show_plan(job, options.rate, as_json=options.json)
        session = stack.enter_context(RaySession(options.address, lease))
        return lambda: run_job(job, options, session, answer)

    return run_command(parser, prepare, arguments)


def check_options(options: argparse.Namespace) -> None:
    """Raise a ValueError for options that cannot act together, whatever a sweep asks."""
    for name, is_given in {"json": options.json, "rate": options.rate is not None}.items():
        if is_given and not options.plan:
            raise ValueError(f"--{name} goes with --plan")
    if options.download and options.plan:
        raise ValueError("--download does not go with --plan, which fetches nothing; leave out one")


def first_line(parser: argparse.ArgumentParser) -> str:
    """Return what a sweep asks, in one line."""
    return (parser.description or "").strip().partition("\n")[0]


def _prepare(
    study: Study, question: str, options: argparse.Namespace, stack: contextlib.ExitStack
) -> tuple[Job, Lease | None]:
    """Check everything that can be wrong before anything is trained; ValueError when something is.

    Returns:
        What there is to do, and the lease on the store; None where nothing is left to run.
    """
    execution, resources = prepare_machine(options, stack)
    plan = compile_study(study, execution)
    read_data(sorted({cell.data.dataset for cell in study.cells}), options)
    store = open_results(options)
    ledger, lease = Ledger(plan, store), None
    if store is not None and not options.plan and (ledger.pending() or options.retry_failed):
        lease = stack.enter_context(Lease(store.files, store.location, study.name))
        ledger.look_again()  # what the last holder finished may have been missing before
    if options.retry_failed:
        ledger.forget_failures()
    if store is not None and lease is not None:
        check_space(store.location, ledger.pending(), resources.num_slots * resources.max_lanes)
    return Job(question=question, ledger=ledger, store=store, resources=resources), lease


def prepare_machine(options: argparse.Namespace, stack: contextlib.ExitStack) -> tuple[Execution, Resources]:
    """Return how trials compute and what they may use, connected to the cluster if one is named.

    Raises:
        ValueError: options that contradict each other, or what they ask for is not there; two copies of this
            project are mixed, or the environment names a commit that is none.
    """
    require_one_copy()
    driver_source()
    has_cuda = torch.cuda.is_available()
    size: ClusterSize = [{"CPU": count_cpus(), "GPU": torch.cuda.device_count()}]
    if options.address is not None:
        size = stack.enter_context(ray_cluster(options.address))
        # A cluster may have no GPU before it grows, so "cuda" is taken at its word.
        has_cuda = options.device == "cuda" or any(node.get("GPU", 0) > 0 for node in size)
    execution = resolve_execution(options.device, options.precision, options.threads, has_cuda=has_cuda)
    return execution, fit_trials(execution, options, size)


def fit_trials(execution: Execution, options: argparse.Namespace, size: ClusterSize) -> Resources:
    """Return what one trial takes of a cluster, and how many run at a time, as the options want it.

    Raises:
        ValueError: nothing fits, or GPUs are asked for while trials compute on a CPU.
    """
    share = options.gpus_per_trial
    if share is not None and execution.device != "cuda":
        raise ValueError(f"--gpus-per-trial is for trials on a GPU, got device {execution.device}")
    return plan_resources(
        execution,
        1.0 if share is None else share,
        options.max_concurrent,
        options.lanes,
        *size,
        may_grow=options.address is not None,
    )


def read_data(datasets: Collection[str], options: argparse.Namespace) -> None:
    """Load and verify data sets, unless only a plan is asked for; say which options have nothing to act on.

    Raises:
        DataError: one is missing or damaged.
    """
    asked = [f"--{name.replace('_', '-')}" for name in ("data_dir", "download") if getattr(options, name)]
    if asked and are_embedded(datasets):
        note(f"{' and '.join(asked)} changes nothing: {', '.join(datasets)} comes with the package")
    elif asked and options.plan:
        note(f"{' and '.join(asked)} changes nothing: a plan reads no data")
    for name in () if options.plan else datasets:
        load_dataset(name, options.data_dir, download=options.download)


def open_results(options: argparse.Namespace) -> Store | None:
    """Open the store of results, made unless only a plan is asked for; on a cluster, all nodes must see it.

    Raises:
        StoreError: it cannot be used; errors as `open_store` and `require_store_on_all_nodes`.
    """
    store = open_store(options.storage, RESULTS_VERSION, create=not options.plan, is_read_only=options.plan)
    if store is not None and options.address is not None and not options.plan:
        require_store_on_all_nodes(store)
    return store


def run_job(job: Job, options: argparse.Namespace, session: RaySession, answer: Answer | None = None) -> int:
    """Run what is pending, show the results and return the exit code."""
    ledger, store, console = job.ledger, job.store, make_console()
    assert store is not None
    _note_replaced_runs(ledger, store, console)
    pending = ledger.pending()
    throughput = learn_throughput(ledger)
    if options.address is None:
        measure_unknown(throughput, pending)
    study = describe_study(job) | {"expected_s": expect(throughput, pending)}
    store.write_study(study["study"], study)
    if pending:
        console.print(
            f"{ledger.summary()}: {len(pending)} stages to run, {job.resources.num_slots} at a time"
        )
        if options.retry_failed:
            for key in pending:
                store.clear_failure(key)
        attempt(lambda: write_overview(store, study))
        run_pending(job, store, options.data_dir, session, console, throughput)
        attempt(lambda: refresh_events(store, study))
    return _show_results(job, store, console, answer)


def _note_replaced_runs(ledger: Ledger, store: Store, console: Console) -> None:
    """Say when a study of the same name planned runs that the new plan does not have."""
    name = ledger.plan.study.name
    try:
        earlier = {run["key"] for run in store.load_study(name)["runs"]}
    except (StoreError, KeyError, TypeError):  # none yet, or not readable: there is nothing to keep
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
) -> None:
    """Run what is pending of a job, and show on a console how it goes.

    Args:
        throughput: what is known of how fast stages train.

    Raises:
        Interrupted: a signal asked for it.
    """
    ledger, slots = job.ledger, job.resources.num_slots
    # Workers have a working directory and an environment of their own.
    data_dir = str(locate_data_dir(data_dir))
    disk = None if store.directory is None else str(store.directory)
    progress = Progress(ledger, throughput, slots, console, disk)
    driver = DriverBeat(store.files, ledger.plan.study.name)
    session.start()
    with driver, progress:

        def check() -> None:
            driver.beat()
            session.check()

        try:
            run_plan(ledger, store, data_dir, job.resources, progress, check, driver.note.name)
        except (ClusterError, Interrupted, StorageError):
            console.print(ledger.summary())
            raise


def _show_results(job: Job, store: Store, console: Console, answer: Answer | None) -> int:
    """Print the tables, where everything lies and the account of all runs; return the exit code."""
    ledger = job.ledger
    study, runs = ledger.plan.study, runs_frame(ledger)
    cells = cells_frame(runs)
    paths = [
        store.write_table(study.name, name, to_csv(frame))
        for name, frame in (("cells", cells), ("runs", runs))
    ]
    console.print(render_cells(cells, describe_cells(study.name, runs, cells)))
    if answer is not None:
        try:
            text, csv = answer(store.location, study.name, console.width)
        except ValueError as error:  # the account of the runs does not wait for it
            text = f"no answer can be given: {error}"
        else:
            paths.append(store.write_table(study.name, "answer", csv))
        print(text)
    for run in ledger.plan.runs:
        if ledger.state(run.key) == "failed":
            console.print(rich(f"failed: {run}: {ledger.reason(run.key)}"), soft_wrap=True)
    for path in paths:
        print(f"table: {path}")
    print(f"records: {store.location}")
    counts = ledger.count_runs()
    if quarantined := len(store.list_quarantine()):
        print(f"quarantine: {quarantined} damaged files were set aside in {store.location}/quarantine")
    if counts["failed"]:
        causes = ledger.count_causes()
        print("failed runs by cause: " + ", ".join(f"{name} {num}" for name, num in sorted(causes.items())))
        print(f"{advise_on(causes)}: {this_command()} --retry-failed")
    if counts["missing"]:
        print(f"to run what is missing: {this_command()}")
    if counts["complete"] == len(ledger.plan.runs) and all(isinstance(seed, int) for seed in study.seeds):
        print(f"for twice the seeds: {this_command()} {job.seeds_option} {2 * len(study.seeds)}")
    print(ledger.summary())
    return EXIT_INCOMPLETE if counts["failed"] or counts["missing"] else 0
