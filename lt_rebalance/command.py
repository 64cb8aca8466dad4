"""The command line that every sweep shares: options, plan, run, tables, exit code."""

import argparse
import contextlib
import io
import logging
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

import torch
from rich.console import Console
from rich.text import Text

from lt_rebalance.arguments import EXIT_INCOMPLETE, EXIT_USER_ERROR, Parser, require_utf8
from lt_rebalance.axes import Preset, add_axes
from lt_rebalance.cluster import ClusterSize, RaySession, count_cpus, ray_cluster
from lt_rebalance.configs import DEVICES, PRECISIONS, Execution
from lt_rebalance.console import make_console
from lt_rebalance.costs import Throughput
from lt_rebalance.datasets import DATA_DIR_VARIABLE, load_dataset, locate_data_dir
from lt_rebalance.disk import takes_no_more
from lt_rebalance.errors import ClusterError
from lt_rebalance.events.overview import refresh_events, write_overview
from lt_rebalance.faults import advise_on
from lt_rebalance.filesystem import StorageError
from lt_rebalance.forecast import Job, describe_study, expect, learn_throughput, measure_unknown, show_plan
from lt_rebalance.interrupts import Interrupted
from lt_rebalance.lease import Lease, LeaseLostError
from lt_rebalance.ledger import Ledger
from lt_rebalance.machine import AUTO, resolve_execution
from lt_rebalance.nodes import require_store_on_all_nodes
from lt_rebalance.notes import DriverBeat
from lt_rebalance.observer import attempt
from lt_rebalance.overrides import change_study, read_overrides
from lt_rebalance.plan import compile_study
from lt_rebalance.progress import Progress, render_cells
from lt_rebalance.runner import Resources, plan_resources, run_plan
from lt_rebalance.space import check_space
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.study import RESULTS_VERSION, Study
from lt_rebalance.tables import cells_frame, runs_frame

StudyBuilder = Callable[[argparse.Namespace], Study]
Answer = Callable[[str, str, int], tuple[str, str]]
"""From the location of a store, the name of a study in it and characters a line to text and CSV."""
Preparation = Callable[[argparse.Namespace, contextlib.ExitStack], Callable[[], int]]


def make_parser(question: str) -> argparse.ArgumentParser:
    """Return the parser of a sweep with the options that all sweeps share.

    Args:
        question: the docstring of the sweep; shown by --help.
    """
    parser = Parser(
        description=question, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    place = parser.add_argument_group("where")
    place.add_argument(
        "--storage",
        default="results",
        metavar="PLACE",
        help="the store of all results: a directory, or s3://BUCKET/PREFIX (default: results)",
    )
    place.add_argument(
        "--data-dir",
        metavar="DIR",
        help=f"holds FashionMNIST/raw and its like (default: the variable {DATA_DIR_VARIABLE}, else data)",
    )
    place.add_argument(
        "--download", action="store_true", help="fetch a missing data set into the data directory"
    )
    place.add_argument(
        "--address", help='a running Ray cluster, "auto" on its head (default: start Ray on this machine)'
    )
    how = parser.add_argument_group("how")
    how.add_argument("--device", default=AUTO, help=f"{', '.join(DEVICES)} or auto (default)")
    how.add_argument("--precision", default=AUTO, help=f"{', '.join(PRECISIONS)} or auto (default)")
    how.add_argument(
        "--threads", type=int, default=1, metavar="N", help="CPU threads of one trial (default: 1)"
    )
    how.add_argument(
        "--gpus-per-trial",
        type=float,
        default=1.0,
        metavar="X",
        help="share of a GPU for one trial (default: 1)",
    )
    how.add_argument(
        "--lanes",
        type=int,
        metavar="N",
        help="most seeds of one trial, trained as one program (default: 64 on a GPU, 1 on a CPU)",
    )
    how.add_argument(
        "--max-concurrent",
        type=int,
        metavar="N",
        help="trials at a time (default: as many as fit the cluster)",
    )
    how.add_argument("--retry-failed", action="store_true", help="run again what failed in earlier calls")
    changes = parser.add_argument_group(
        "what to change in all cells: fields of data, method, generator and classifier"
    )
    changes.add_argument(
        "--config", metavar="FILE", help="a TOML file with a table for each of these sections"
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
        "--rate", type=float, metavar="PRICE", help="with --plan: price of a device-hour, to show prices"
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
        study = change_study(build_study(options), read_overrides(options.config, options.set))
        job, lease = _prepare(study, first_line(parser), options, stack)
        if options.plan:
            return lambda: show_plan(job, options.rate, as_json=options.json)
        session = stack.enter_context(RaySession(options.address, lease))
        return lambda: run_job(job, options, session, answer)

    return run_command(parser, prepare, arguments)


def run_command(
    parser: argparse.ArgumentParser, prepare: Preparation, arguments: Sequence[str] | None = None
) -> int:
    """Read a command line, prepare what it asks for, do it and return its exit code.

    Args:
        prepare: checks everything that can be wrong, raising ValueError, and returns what does the work.

    Returns:
        What the work returns; 1: it could not go on, for the store could not be reached any more or another
        driver has taken over; 2: wrong input, nothing was started; 130, 143: stopped by Ctrl-C or SIGTERM.
        After all but 2 the same command goes on from there.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # the log of a job should show each line as it comes
    with contextlib.ExitStack() as stack:
        try:
            require_utf8()
            work = prepare(parser.parse_args(arguments), stack)
        except (ValueError, StorageError, ClusterError) as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_USER_ERROR
        except OSError as error:
            if not takes_no_more(error):
                raise
            print(f"error: {error}; make room, or name another --storage", file=sys.stderr)
            return EXIT_USER_ERROR
        except KeyboardInterrupt:
            print("stopped before anything was started")
            return Interrupted(signal.SIGINT).exit_code
        try:
            return work()
        except Interrupted as interrupt:
            print(f"stopped by {interrupt.signal.name}; nothing finished is lost. To go on: {this_command()}")
            return interrupt.exit_code
        except LeaseLostError as error:
            print(f"stopped: {error}", file=sys.stderr)
            return EXIT_INCOMPLETE
        except (StoreError, ClusterError, OSError) as error:
            if not isinstance(error, StoreError | ClusterError | StorageError) and not takes_no_more(error):
                raise
            print(f"error: {error}", file=sys.stderr)
            print(f"stopped; nothing finished is lost. To go on, once that is mended: {this_command()}")
            return EXIT_INCOMPLETE


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
    if not options.plan:
        for dataset in sorted({cell.data.dataset for cell in study.cells}):
            load_dataset(dataset, options.data_dir, download=options.download)
    store = open_results(options)
    ledger, lease = Ledger(plan, store), None
    if store is not None and not options.plan and (ledger.pending() or options.retry_failed):
        lease = stack.enter_context(Lease(store.files, store.location, study.name))
        ledger = Ledger(plan, store)  # what the last holder finished may have been missing before
    if options.retry_failed:
        ledger.forget_failures()
    if store is not None and lease is not None:
        check_space(store.location, ledger.pending(), resources.num_slots * resources.max_lanes)
    return Job(question=question, ledger=ledger, store=store, resources=resources), lease


def prepare_machine(options: argparse.Namespace, stack: contextlib.ExitStack) -> tuple[Execution, Resources]:
    """Return how trials compute and what they may use, connected to the cluster if one is named.

    Raises:
        ValueError: options that contradict each other, or what they ask for is not there.
    """
    for name in ("json", "rate"):
        if getattr(options, name) and not options.plan:
            raise ValueError(f"--{name} goes with --plan")
    has_cuda = torch.cuda.is_available()
    size: ClusterSize = {"CPU": count_cpus(), "GPU": torch.cuda.device_count()}
    if options.address is not None:
        size = stack.enter_context(ray_cluster(options.address))
        # A cluster may have no GPU before it grows, so "cuda" is taken at its word.
        has_cuda = options.device == "cuda" or size.get("GPU", 0) > 0
    execution = resolve_execution(options.device, options.precision, options.threads, has_cuda=has_cuda)
    resources = plan_resources(execution, options.gpus_per_trial, options.max_concurrent, options.lanes, size)
    return execution, resources


def open_results(options: argparse.Namespace) -> Store | None:
    """Open the store of results, made unless only a plan is asked for; on a cluster, all nodes must see it.

    Raises:
        StoreError: it cannot be used; errors as `open_store` and `require_store_on_all_nodes`.
    """
    store = open_store(options.storage, RESULTS_VERSION, create=not options.plan)
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
        except (Interrupted, StorageError, ClusterError):
            console.print(ledger.summary())
            raise


def _show_results(job: Job, store: Store, console: Console, answer: Answer | None) -> int:
    """Print the tables, where everything lies and the account of all runs; return the exit code."""
    ledger = job.ledger
    study, runs = ledger.plan.study, runs_frame(ledger)
    cells = cells_frame(runs)
    paths = [
        store.write_table(study.name, name, frame.to_csv(index=False))
        for name, frame in (("cells", cells), ("runs", runs))
    ]
    console.print(
        render_cells(
            cells, f"{study.name}: mean ± standard deviation over seeds, beside the paper's single runs"
        )
    )
    if answer is not None:
        text, csv = answer(store.location, study.name, console.width)
        paths.append(store.write_table(study.name, "answer", csv))
        print(text)
    for run in ledger.plan.runs:
        if ledger.state(run.key) == "failed":
            console.print(Text(f"failed: {run}: {ledger.reason(run.key)}"), soft_wrap=True)
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


def this_command() -> str:
    return shlex.join(["python", *sys.argv])
