"""What does running cost beside the training itself: a stage through Ray Tune, planning, scanning a store?

The stages of the first part are done before they start: each trial opens the store, finds its record and
returns, so what is timed is the way there and back. Planning compiles a study of so many runs; scanning opens
a store of so many records, as resuming does.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.measure import describe, make_parser, report
from lt_rebalance.cluster.dispatch import run_plan
from lt_rebalance.cluster.resources import count_cpus, plan_resources
from lt_rebalance.cluster.session import ray_cluster
from lt_rebalance.data.long_tail import rank_groups
from lt_rebalance.ground.confusion import Confusion
from lt_rebalance.ground.metrics import confusion_metrics, metric_names
from lt_rebalance.stages.arithmetic import Throughput
from lt_rebalance.stages.progress import Progress
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.records import Record, Timing
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import Plan, compile_study
from lt_rebalance.studies.protocols import get_protocol, grid
from lt_rebalance.studies.stage import RESULTS_VERSION, AnyStage
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import resolve_execution

NUM_CLASSES = 10
NUM_ROUNDS = 30


def make_plan(num_runs: int, execution: Execution) -> Plan:
    """Return a plan of at least so many runs, without generators."""
    cells = grid(
        [get_protocol("sound")],
        dataset="fashion_mnist",
        cs=["7/9", "1/2"],
        methods=["none", "undersample", "oversample"],
        generators=[],
    )
    num_seeds = -(-num_runs // len(cells))
    return compile_study(Study(name="noop", cells=cells, seeds=tuple(range(num_seeds))), execution)


def make_record(stage: AnyStage) -> Record:
    """Return a record of the usual size."""
    confusion = Confusion.of_matrix(np.full((NUM_CLASSES, NUM_CLASSES), 100))
    loss = 0.123456789012345
    metrics = dict.fromkeys(metric_names(), loss) | confusion_metrics(confusion)
    row: dict[str, Any] = {"train_loss": loss, "test_recall_K": [loss] * NUM_CLASSES}
    row |= {f"test_{name}": value for name, value in metrics.items()}
    return Record(
        key=stage.key,
        kind=stage.kind,
        state="complete",
        stage=stage.to_dict(),
        num_steps=600 * NUM_ROUNDS,
        class_counts=(100,) * NUM_CLASSES,
        training_counts=(100,) * NUM_CLASSES,
        synthetic_counts=(0,) * NUM_CLASSES,
        rank_groups=rank_groups([100] * NUM_CLASSES),
        metrics=metrics,
        confusion=confusion.to_rows(),
        quality_per_class={},
        curves=tuple({"step": 600 * (index + 1)} | row for index in range(NUM_ROUNDS)),
        artifacts={},
        timing=Timing(wall_s=1.0, train_s=1.0, num_errors=0),
        provenance={},
    )


def make_store(folder: str, plan: Plan) -> Store:
    """Return a new store in which every run of a plan is complete."""
    store = open_store(folder, RESULTS_VERSION, create=True)
    assert store is not None
    for stage in plan.stages.values():
        store.commit(make_record(stage))
    return store


def time_stages(num_stages: int, execution: Execution) -> dict[str, Any]:
    """Return the seconds that a stage takes which has nothing to do, as part of a run of so many."""
    plan = make_plan(num_stages, execution)
    with tempfile.TemporaryDirectory() as folder:
        empty = open_store(str(Path(folder, "store")), RESULTS_VERSION, create=True)
        ledger = Ledger(plan, empty)
        store = make_store(str(Path(folder, "store")), plan)
        resources = plan_resources(execution, 1.0, None, 1, {"CPU": count_cpus(), "GPU": 0})
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            progress = Progress(ledger, Throughput(), resources.num_slots, Console(file=nowhere))
            start = time.perf_counter()
            with progress:
                run_plan(ledger, store, None, resources, progress, lambda: None)
            seconds = time.perf_counter() - start
    assert ledger.count_runs()["complete"] == len(plan.runs)
    return {
        "what": "stages through Ray Tune",
        "count": num_stages,
        "s": seconds,
        "ms each": 1e3 * seconds / num_stages,
    }


def time_planning(num_runs: int, execution: Execution) -> dict[str, Any]:
    """Return the seconds to compile a study and order its stages."""
    start = time.perf_counter()
    ledger = Ledger(make_plan(num_runs, execution), None)
    pending = len(ledger.pending())
    seconds = time.perf_counter() - start
    assert pending >= num_runs
    return {"what": "runs planned", "count": num_runs, "s": seconds, "ms each": 1e3 * seconds / num_runs}


def time_scan(num_records: int, execution: Execution) -> dict[str, Any]:
    """Return the seconds to find out what of a study is done."""
    plan = make_plan(num_records, execution)
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(folder, plan)
        start = time.perf_counter()
        ledger = Ledger(plan, store)
        seconds = time.perf_counter() - start
    assert ledger.count_runs()["complete"] == len(plan.runs)
    return {
        "what": "records scanned",
        "count": num_records,
        "s": seconds,
        "ms each": 1e3 * seconds / num_records,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--stages", type=int, nargs="+", default=[30, 300, 1000], metavar="N")
    parser.add_argument("--records", type=int, nargs="+", default=[1000, 10_000], metavar="N")
    parser.add_argument("--bucket", action="store_true", help="measure only the scan of a slow bucket")
    options = parser.parse_args(arguments)
    execution = resolve_execution("cpu", "auto", 1, has_cuda=False)
    if options.bucket:
        from benchmarks.bucket_scan import time_bucket  # here, for it makes its plans and stores as this does

        rows = [row for count in options.records for row in time_bucket(count, execution)]
        report("bucket", rows, describe(execution), options.json)
        return 0
    rows = [time_planning(count, execution) for count in options.records]
    rows += [time_scan(count, execution) for count in options.records]
    with ray_cluster(None):
        time_stages(2, execution)  # workers start
        rows += [time_stages(count, execution) for count in options.stages]
    report("orchestration", rows, describe(execution), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
