"""The command line that every sweep shares: options, checks and the plan.

Until something is run, neither torch nor Ray is imported: wrong input is refused immediately.
"""

import argparse
import contextlib
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import filterfalse
from pathlib import Path

from lt_rebalance.cluster.resources import ClusterSize, Resources, plan_resources
from lt_rebalance.commands.agreement import list_asked, require_agreement
from lt_rebalance.commands.continuing import as_begun
from lt_rebalance.commands.flips import add_flip, check_flips, note_left_out
from lt_rebalance.commands.forecast import Answer, Job, show_plan
from lt_rebalance.commands.options import add_axes
from lt_rebalance.commands.own_images import (
    add_own_images,
    add_upload,
    bring_images,
    require_running,
    share_images,
)
from lt_rebalance.commands.planned_sweep import (
    PlannedParser,
    UnseededParser,
    add_plan_file,
    check_registration,
    registered_plan,
    require_continued,
)
from lt_rebalance.commands.shared_options import add_address, add_data_dir, add_resources
from lt_rebalance.data.at_hand import is_own_name
from lt_rebalance.data.catalog import are_embedded, get_dataset_spec
from lt_rebalance.data.counting import look_in
from lt_rebalance.data.files import load_dataset
from lt_rebalance.data.places import locate_data_dir
from lt_rebalance.files.archive import require_outside
from lt_rebalance.ground.exits import Parser, note, run_command
from lt_rebalance.ground.memory import count_cpus
from lt_rebalance.ground.option_types import place, price, whole
from lt_rebalance.methods.idle import describe_idle
from lt_rebalance.monitoring.verbosity import DETAILED, LEVELS, NORMAL, QUIET, quieten
from lt_rebalance.stages.installation import require_one_copy
from lt_rebalance.stages.provenance import driver_source
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.lease import Lease
from lt_rebalance.studies.axes import Preset
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.overrides import change_study, read_overrides
from lt_rebalance.studies.plan import compile_study
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from lt_rebalance.studies.workload import describe_batches, describe_short
from lt_rebalance.training.configs import DEVICES, PRECISIONS, Execution
from lt_rebalance.training.device import AUTO, count_gpus, resolve_execution

MANY_RUNS = 30_000
"""number of runs from which planning takes seconds"""

StudyBuilder = Callable[[argparse.Namespace], Study]
StudyChange = Callable[[Study, argparse.Namespace], Study]


def make_parser(question: str, parser_class: type[Parser] = Parser) -> argparse.ArgumentParser:
    """Return the parser with the options that all sweeps and searches share.

    Args:
        question: the docstring of the sweep; shown by --help.
    """
    parser = parser_class(
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
    add_data_dir(where)
    where.add_argument(
        "--download", action="store_true", help="fetch a missing data set into the data directory"
    )
    add_address(where)
    how = parser.add_argument_group("how")
    how.add_argument("--device", default=AUTO, help=f"{', '.join(DEVICES)} or auto (default)")
    how.add_argument("--precision", default=AUTO, help=f"{', '.join(PRECISIONS)} or auto (default)")
    how.add_argument(
        "--threads", type=whole, default=1, metavar="N", help="CPU threads of one trial (default: 1)"
    )
    add_resources(how)
    how.add_argument("--retry-failed", action="store_true", help="rerun what failed in earlier calls")
    how.add_argument(
        "--verbosity",
        type=whole,
        choices=LEVELS,
        metavar="N",
        help=f"output during the run. {QUIET}: failures, and the tables at the end. {NORMAL} (default): also "
        f"finished stages, on a terminal in a live table. {DETAILED}: also started stages, and each round",
    )
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
        help="one field, overrides --config; repeatable. The word null empties a field",
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


def make_axes_parser(
    question: str | None,
    presets: Mapping[str, Preset],
    *,
    takes_seeds: bool = True,
    with_dataset: str | None = None,
) -> argparse.ArgumentParser:
    """Return the parser of a sweep over axes, as `options.read_axes` reads them.

    Args:
        question: the docstring of the sweep.
        presets: by name; the first is the default.
        takes_seeds: whether --seeds says how many; if not, other options do, also of a registered plan.
        with_dataset: the default preset beside --dataset, if it is another; then the sweep chooses.
    """
    parser = make_parser(question or "", PlannedParser if takes_seeds else UnseededParser)
    add_plan_file(parser)
    add_axes(parser, presets, takes_seeds=takes_seeds, with_dataset=with_dataset)
    own = parser.add_argument_group("images of your own, with --dataset PATH")
    add_own_images(own)
    add_flip(own)
    add_upload(own)
    return parser


def main(
    parser: argparse.ArgumentParser,
    build_study: StudyBuilder,
    arguments: Sequence[str] | None = None,
    *,
    change: StudyChange | None = None,
    answer: Answer | None = None,
) -> int:
    """Run a sweep's command line and return its exit code.

    A sweep may `change` its study after --config and --set have. The run ends with the answer to the sweep's
    question, if it has one, and the account of its runs.

    0: every planned run is complete, diverged or not applicable. 1: some failed or are missing. Others: as
    `run_command`.
    """

    def prepare(options: argparse.Namespace, stack: contextlib.ExitStack) -> Callable[[], int]:
        check_options(options)
        look_in(options.data_dir, download=options.download)
        if hasattr(options, "image_size"):
            require_running(options)
            bring_images(options)
        given = list_asked(options)
        asked = build_study(options)
        overrides = read_overrides(options.config, options.set)
        require_agreement(given, overrides, asked.cells)
        study = change_study(asked, overrides)
        if change is not None:
            study = change(study, options)
        check_flips(study.cells, options)
        if "augmentation" not in overrides.tables.get("classifier", {}):
            note_left_out(asked.cells)
        if hasattr(options, "plan_file") and (registering := check_registration(study, options)) is not None:
            return registering
        settle_verbosity(options, stack)
        job, lease = _prepare(study, first_line(parser), answer, options, stack)
        if options.plan:
            return lambda: show_plan(job, options.rate, as_json=options.json)
        from lt_rebalance.cluster.session import RaySession
        from lt_rebalance.commands.running import run_job

        session = stack.enter_context(RaySession(options.address, lease))
        return lambda: run_job(job, options, session)

    return run_command(parser, prepare, arguments)


def check_options(options: argparse.Namespace) -> None:
    """Raise a ValueError for incompatible options of any sweep."""
    for name, is_given in {"json": options.json, "rate": options.rate is not None}.items():
        if is_given and not options.plan:
            raise ValueError(f"--{name} goes with --plan")
    if options.verbosity is not None and options.plan:
        raise ValueError("--verbosity does not go with --plan, which runs nothing; leave out one")
    if options.download and options.plan:
        raise ValueError("--download does not go with --plan, which fetches nothing; leave out one")


def settle_verbosity(options: argparse.Namespace, stack: contextlib.ExitStack) -> None:
    """Fill in the default verbosity, and suppress warnings at the lowest one."""
    options.verbosity = NORMAL if options.verbosity is None else options.verbosity
    stack.enter_context(quieten(options.verbosity))


def first_line(parser: argparse.ArgumentParser) -> str:
    """Return the question of a sweep, in one line."""
    return (parser.description or "").strip().partition("\n")[0]


def _prepare(
    study: Study,
    question: str,
    answer: Answer | None,
    options: argparse.Namespace,
    stack: contextlib.ExitStack,
) -> tuple[Job, Lease | None]:
    """Check everything that can be wrong before anything is trained; raises ValueError.

    Returns:
        The work, and the lease on the store; None if nothing is left to run or to write.
    """
    execution, resources = prepare_machine(as_begun(options, study.name), stack)
    if (num_runs := len(study.cells) * len(study.seeds)) >= MANY_RUNS:
        note(f"planning {num_runs:,} runs, which takes a while")
    plan = compile_study(study, execution)
    note_short(study)
    batches = [describe_batches(cell.data, cell.classifier) for cell in study.cells]
    idle = [describe_idle(cell.method, cell.data, cell.classifier.loss) for cell in study.cells]
    for said in filter(None, dict.fromkeys(batches + idle)):
        note(said)
    read_data(sorted({cell.data.dataset for cell in study.cells}), options)
    store, registered = open_results(options), registered_plan(options)
    if store is not None:
        require_continued(registered, plan, store)
    ledger, lease = Ledger(plan, store), None
    job = Job(
        question=question if registered is None else registered.question,
        confirmatory=() if registered is None else registered.confirmatory,
        changes=() if registered is None else registered.say_changes(),
        registered=None if registered is None else registered.registered,
        answer=answer,
        ledger=ledger,
        store=store,
        resources=resources,
        most_seeds=math.inf if registered is None else registered.seeds,
    )
    if store is not None and not options.plan:
        if not (is_needed := bool(ledger.pending() or options.retry_failed)):
            from lt_rebalance.commands.running import is_described

            is_needed = not is_described(job, store)
        if is_needed:
            lease = stack.enter_context(Lease(store.files, store.location, study.name))
            require_continued(registered, plan, store)
            ledger.look_again()  # until now other processes may have changed the store
    if options.retry_failed:
        ledger.forget_failures()
    if store is not None and lease is not None:
        require_room(ledger, store, resources, options.address)
    if store is not None and not options.plan:
        share_images([cell.data.dataset for cell in study.cells], store, options)
    return job, lease


def require_room(ledger: Ledger, store: Store, resources: Resources, address: str | None) -> None:
    """Raise a ValueError if pending stages need more memory or disk than there is.

    The memory of another machine is unknown.
    """
    from lt_rebalance.stages.memory import check_memory
    from lt_rebalance.stages.size import check_space

    pending = ledger.pending()
    check_space(store.location, pending, resources.num_slots * resources.max_lanes)
    if address is None:
        check_memory(pending, resources.num_slots, resources.max_lanes)


def note_short(study: Study) -> None:
    """Print once for each training set which classes have fewer images than it requires."""
    seeds = [seed if isinstance(seed, int) else seed.subset for seed in study.seeds]
    for data in dict.fromkeys(cell.data for cell in study.cells):
        if said := describe_short(data, seeds):
            note(said)


def prepare_machine(options: argparse.Namespace, stack: contextlib.ExitStack) -> tuple[Execution, Resources]:
    """Return how trials compute and their resources, connected to the cluster if one is named.

    Raises:
        ValueError: contradictory options, missing resources, two mixed copies of this project, or an invalid
            commit in the environment.
    """
    require_one_copy()
    driver_source()
    size = find_size(options.address, options.device, stack)
    has_cuda = any(node.get("GPU", 0) > 0 for node in size)
    # A cluster may have no GPU before it grows, so "cuda" is not checked.
    has_cuda = has_cuda or (options.device == "cuda" and options.address is not None)
    execution = resolve_execution(options.device, options.precision, options.threads, has_cuda=has_cuda)
    return execution, fit_trials(execution, options, size)


def find_size(address: str | None, device: str, stack: contextlib.ExitStack) -> ClusterSize:
    """Return the resources of this machine, or of the cluster at an address after connecting to it.

    Args:
        device: where trials compute; with "cpu", this machine's GPUs are not looked for.
    """
    if address is None:
        return [{"CPU": count_cpus(), "GPU": 0 if device == "cpu" else count_gpus()}]
    from lt_rebalance.cluster.session import ray_cluster

    return stack.enter_context(ray_cluster(address))


def fit_trials(execution: Execution, options: argparse.Namespace, size: ClusterSize) -> Resources:
    """Return the resources of one trial, and the number of concurrent trials, from the options.

    Raises:
        ValueError: nothing fits, or GPUs are requested for trials on a CPU.
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
    """Load and verify data sets, unless only a plan is requested; print notes on options without effect.

    Raises:
        DataError: one is missing or damaged, here or on a node of the cluster.
        StoreError: the place of the results cannot be used.
    """
    asked = [f"--{name.replace('_', '-')}" for name in ("data_dir", "download") if getattr(options, name)]
    if asked and are_embedded(datasets):
        note(f"{' and '.join(asked)} changes nothing: {', '.join(datasets)} comes with the package")
    elif asked and options.plan and all(get_dataset_spec(name).num_images is None for name in datasets):
        note(f"{' and '.join(asked)} changes nothing: a plan reads no data")
    if options.plan:
        return
    # Data sets take long to unpack: first check that the place for results is a store or free.
    open_store(options.storage, RESULTS_VERSION, create=False, is_read_only=True)
    by_name = list(filterfalse(is_own_name, datasets))
    for name in by_name:
        load_dataset(name, options.data_dir, download=options.download)
    if options.address is not None and not are_embedded(by_name):
        from lt_rebalance.cluster.nodes import require_data_on_all_nodes

        require_data_on_all_nodes(by_name, str(locate_data_dir(options.data_dir)))


def open_results(options: argparse.Namespace) -> Store | None:
    """Open the store of results, created unless only a plan is requested; all nodes of a cluster must see it.

    Raises:
        StoreError: it cannot be used; errors as `open_store` and `require_store_on_all_nodes`.
        ValueError: a new store would be inside of another, or of a published study.
    """
    root = Path(options.storage).expanduser().absolute()
    if not (options.plan or "://" in options.storage or os.path.exists(root / "store.json")):
        require_outside("--storage", str(root.parent))
    store = open_store(options.storage, RESULTS_VERSION, create=not options.plan, is_read_only=options.plan)
    if store is not None and options.address is not None and not options.plan:
        from lt_rebalance.cluster.nodes import require_store_on_all_nodes

        require_store_on_all_nodes(store)
    return store
