"""The command line that every sweep shares: options, plan, run, tables, exit code."""

import argparse
import contextlib
import json
import logging
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from rich.console import Console
from rich.text import Text

from lt_rebalance.configs import DEVICES, PRECISIONS, Execution, to_plain
from lt_rebalance.costs import Throughput, estimate_remaining_s, stage_flop
from lt_rebalance.datasets import DATA_DIR_VARIABLE, load_dataset, locate_data_dir
from lt_rebalance.interrupts import Interrupted, InterruptWatch
from lt_rebalance.ledger import RUN_STATES, Ledger
from lt_rebalance.machine import AUTO, resolve_execution
from lt_rebalance.plan import compile_study, describe_plan
from lt_rebalance.progress import Progress, format_duration, make_console, render_cells
from lt_rebalance.runner import ClusterSize, Resources, count_cpus, plan_resources, ray_cluster, run_plan
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.study import RESULTS_VERSION, Study
from lt_rebalance.tables import cells_frame, runs_frame

PLANNED_KINDS = ("generator", "classifier")
EXIT_INCOMPLETE = 1
EXIT_USER_ERROR = 2

StudyBuilder = Callable[[argparse.Namespace], Study]
Preparation = Callable[[argparse.Namespace, contextlib.ExitStack], Callable[[], int]]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def make_parser(question: str) -> argparse.ArgumentParser:
    """Return the parser of a sweep with the options that all sweeps share.

    Args:
        question: the docstring of the sweep; shown by --help.
    """
    parser = _Parser(
        description=question, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    place = parser.add_argument_group("where")
    place.add_argument(
        "--storage", default="results", metavar="DIR", help="the store of all results (default: results)"
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
        "--max-concurrent",
        type=int,
        metavar="N",
        help="trials at a time (default: as many as fit the cluster)",
    )
    how.add_argument("--retry-failed", action="store_true", help="run again what failed in earlier calls")
    what = parser.add_argument_group("instead of running")
    what.add_argument(
        "--plan", action="store_true", help="show what would run, what it costs and how long it takes"
    )
    what.add_argument("--json", action="store_true", help="with --plan: print it as JSON")
    return parser


def main(
    parser: argparse.ArgumentParser, build_study: StudyBuilder, arguments: Sequence[str] | None = None
) -> int:
    """Run a sweep's command line and return its exit code.

    0: every planned run is complete or diverged. 1: some failed or are missing. Others: as `run_command`.
    """

    def prepare(options: argparse.Namespace, stack: contextlib.ExitStack) -> Callable[[], int]:
        job = _prepare(build_study(options), first_line(parser), options, stack)
        if options.plan:
            return lambda: _show_plan(job.ledger, job.resources, as_json=options.json)
        return lambda: run_job(job, options)

    return run_command(parser, prepare, arguments)


def run_command(
    parser: argparse.ArgumentParser, prepare: Preparation, arguments: Sequence[str] | None = None
) -> int:
    """Read a command line, prepare what it asks for, do it and return its exit code.

    Args:
        prepare: checks everything that can be wrong, raising ValueError, and returns what does the work.

    Returns:
        What the work returns; 2: wrong input, nothing was started; 130, 143: stopped by Ctrl-C or SIGTERM,
        the same command goes on from there.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with contextlib.ExitStack() as stack:
        try:
            work = prepare(parser.parse_args(arguments), stack)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_USER_ERROR
        except KeyboardInterrupt:
            print("stopped before anything was started")
            return Interrupted(signal.SIGINT).exit_code
        try:
            return work()
        except Interrupted as interrupt:
            print(f"stopped by {interrupt.signal.name}; nothing finished is lost. To go on: {this_command()}")
            return interrupt.exit_code


def first_line(parser: argparse.ArgumentParser) -> str:
    """Return what a sweep asks, in one line."""
    return (parser.description or "").strip().partition("\n")[0]


class RaySession:
    """Ray, started when it is first needed, and a watch for signals to stop; both until the command ends."""

    def __init__(self, address: str | None) -> None:
        """Start Ray on this machine unless an address says where it runs, and is connected to already."""
        self._address = address
        self._stack = contextlib.ExitStack()
        self._interrupts: InterruptWatch | None = None

    def __enter__(self) -> "RaySession":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self) -> InterruptWatch:
        """Return the watch, once Ray can be used."""
        if self._interrupts is None:
            interrupts = self._stack.enter_context(InterruptWatch())
            if self._address is None:
                self._stack.enter_context(ray_cluster(None))
            interrupts.install()  # Ray has put its own handlers in place
            self._interrupts = interrupts
        return self._interrupts


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a command has to do, once all its input is known to be right."""

    question: str
    """what the sweep asks, in one line"""
    ledger: Ledger
    store: Store | None
    """None where there is none, and only a plan was asked for"""
    resources: Resources
    session: RaySession
    seeds_option: str = "--seeds"
    """the option that grows the study"""


def _prepare(study: Study, question: str, options: argparse.Namespace, stack: contextlib.ExitStack) -> Job:
    """Check everything that can be wrong before anything is written; ValueError when something is."""
    execution, resources = prepare_machine(options, stack)
    plan = compile_study(study, execution)
    if not options.plan:
        for dataset in sorted({cell.data.dataset for cell in study.cells}):
            load_dataset(dataset, options.data_dir, download=options.download)
    store = open_store(options.storage, RESULTS_VERSION, create=not options.plan)
    ledger = Ledger(plan, store)
    if options.retry_failed:
        ledger.forget_failures()
    session = stack.enter_context(RaySession(options.address))
    return Job(question=question, ledger=ledger, store=store, resources=resources, session=session)


def prepare_machine(options: argparse.Namespace, stack: contextlib.ExitStack) -> tuple[Execution, Resources]:
    """Return how trials compute and what they may use, connected to the cluster if one is named.

    Raises:
        ValueError: options that contradict each other, or what they ask for is not there.
    """
    if options.json and not options.plan:
        raise ValueError("--json goes with --plan")
    has_cuda = torch.cuda.is_available()
    size: ClusterSize = {"CPU": count_cpus(), "GPU": torch.cuda.device_count()}
    if options.address is not None:
        size = stack.enter_context(ray_cluster(options.address))
        # A cluster may have no GPU before it grows, so "cuda" is taken at its word.
        has_cuda = options.device == "cuda" or size.get("GPU", 0) > 0
    execution = resolve_execution(options.device, options.precision, options.threads, has_cuda=has_cuda)
    resources = plan_resources(execution, options.gpus_per_trial, options.max_concurrent, size)
    return execution, resources


def run_job(job: Job, options: argparse.Namespace) -> int:
    """Run what is pending, show the results and return the exit code."""
    ledger, store, console = job.ledger, job.store, make_console()
    assert store is not None
    _note_replaced_runs(ledger, store, console)
    store.write_study(ledger.plan.study.name, describe_plan(ledger.plan, job.question))
    if pending := ledger.pending():
        console.print(
            f"{ledger.summary()}: {len(pending)} stages to run, {job.resources.num_slots} at a time"
        )
        if options.retry_failed:
            for key in pending:
                store.clear_failure(key)
        _run_pending(job, store, options, console)
    return _show_results(job, store, console)


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


def _run_pending(job: Job, store: Store, options: argparse.Namespace, console: Console) -> None:
    ledger = job.ledger
    # Workers have a working directory and an environment of their own.
    data_dir = str(locate_data_dir(options.data_dir))
    progress = Progress(ledger, _learn_throughput(ledger), job.resources.num_slots, console)
    interrupts = job.session.start()
    with progress:
        try:
            run_plan(ledger, store, data_dir, job.resources, progress, interrupts.check)
        except Interrupted:
            console.print(ledger.summary())
            raise


def _learn_throughput(ledger: Ledger) -> Throughput:
    throughput = Throughput()
    for key, record in ledger.records.items():
        throughput.observe_record(ledger.plan.stages[key], record)
    return throughput


def _show_plan(ledger: Ledger, resources: Resources, *, as_json: bool) -> int:
    """Print what would run, its cost and its time, measured here where the store knows nothing; return 0."""
    pending = ledger.pending()
    throughput = _learn_throughput(ledger)
    if ledger.plan.execution.device == "cpu" or torch.cuda.is_available():
        for stage in pending.values():
            throughput.calibrate(stage)
    eta_s = estimate_remaining_s(pending, throughput, resources.num_slots, {})
    seconds = [throughput.seconds(stage) or 0.0 for stage in pending.values()]
    planned = ledger.plan.count_stages()
    to_run = Counter(stage.kind for stage in pending.values())
    answer = {
        "study": ledger.plan.study.name,
        "runs": {
            "planned": len(ledger.plan.runs),
            **{state: ledger.count_runs()[state] for state in RUN_STATES},
        },
        "stages": {kind: {"planned": planned[kind], "to_run": to_run[kind]} for kind in PLANNED_KINDS},
        "execution": to_plain(ledger.plan.execution),
        "num_slots": resources.num_slots,
        "flop": sum(stage_flop(stage) for stage in pending.values()),
        "device_hours": None if eta_s is None else sum(seconds) / 3600,
        "eta_s": eta_s,
    }
    if as_json:
        print(json.dumps(answer, indent=2))
        return 0
    print(f"{answer['study']}: {ledger.summary()}")
    for kind in PLANNED_KINDS:
        print(f"{kind} runs: {planned[kind]} planned, {to_run[kind]} to run")
    print(f"arithmetic: {answer['flop'] / 1e15:.3g} PFLOP in {ledger.plan.execution.precision}")
    if eta_s is None:
        print("time: not known here; it needs a finished run in the store, or a GPU to measure on")
    else:
        total, left, slots = format_duration(sum(seconds)), format_duration(eta_s), resources.num_slots
        print(f"time: {total} of one {ledger.plan.execution.device} slot, about {left} on {slots}")
    return 0


def _show_results(job: Job, store: Store, console: Console) -> int:
    """Print the table, where everything lies and the account of all runs; return the exit code."""
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
    for run in ledger.plan.runs:
        if ledger.state(run.key) == "failed":
            console.print(Text(f"failed: {run}: {ledger.reason(run.key)}"), soft_wrap=True)
    for path in paths:
        print(f"table: {path}")
    print(f"records: {store.location}")
    counts = ledger.count_runs()
    if counts["failed"]:
        print(f"to try again what failed: {this_command()} --retry-failed")
    if counts["missing"]:
        print(f"to run what is missing: {this_command()}")
    if counts["complete"] == len(ledger.plan.runs):
        print(f"for twice the seeds: {this_command()} {job.seeds_option} {2 * len(study.seeds)}")
    print(ledger.summary())
    return EXIT_INCOMPLETE if counts["failed"] or counts["missing"] else 0


def this_command() -> str:
    return shlex.join(["python", *sys.argv])
