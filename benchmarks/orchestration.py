"""What does a run cost beyond training: planning, the main process, scanning, stages through Ray Tune?

Planning compiles a study of a number of runs: seeds of a few cells, or separate seeds of each source. The
main process is timed in this project's own code for each stage that ends while many are pending: the real
searcher, schedule, ledger and progress, with a loop in place of Tune's. Both are CPU seconds of a separate
process, shown with its peak memory including imports. Scanning opens a store of many records, as resuming
does. The stages through Ray Tune are done before they start: each trial opens the store, finds its record and
returns, so only the overhead is timed.
"""

import argparse

from benchmarks.measure import make_parser


def make_own_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--stages", type=int, nargs="*", default=[30, 300, 1000], metavar="N")
    parser.add_argument("--records", type=int, nargs="*", default=[1000, 10_000], metavar="N")
    parser.add_argument("--bucket", action="store_true", help="measure only the scan of a slow bucket")
    parser.add_argument("--runs", type=int, nargs="*", default=[10_000, 100_000], metavar="N")
    parser.add_argument("--nested", type=int, nargs="*", default=[60], metavar="N", help="N x N x N seeds")
    parser.add_argument("--pending", type=int, nargs="*", default=[1400, 14_000, 50_000], metavar="N")
    parser.add_argument("--ends", type=int, default=300, metavar="N", help="stages that end meanwhile")
    return parser


if __name__ == "__main__":
    make_own_parser().parse_args()  # import below keeps --help and wrong options fast

import dataclasses
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.measure import describe, report
from lt_rebalance.cluster.dispatch import StageSearcher, run_plan
from lt_rebalance.cluster.resources import plan_resources
from lt_rebalance.cluster.session import ray_cluster
from lt_rebalance.ground.confusion import Confusion
from lt_rebalance.ground.imbalance import rank_groups
from lt_rebalance.ground.memory import count_cpus
from lt_rebalance.ground.metrics import confusion_metrics, metric_names
from lt_rebalance.monitoring.tensorboard.naming import name_runs
from lt_rebalance.stages.arithmetic import Remaining, Throughput, stage_flop
from lt_rebalance.stages.progress import Progress
from lt_rebalance.stages.watch import Watch
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.records import Artifact, Record, Timing
from lt_rebalance.studies.ablation import nested_seeds
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import Plan, Schedule, compile_study, describe_plan
from lt_rebalance.studies.protocols import get_protocol, grid
from lt_rebalance.studies.stage import RESULTS_VERSION, AnyStage, GeneratorStage, stage_from_dict
from lt_rebalance.studies.study import Study
from lt_rebalance.studies.workload import stage_round_ends
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import resolve_execution

NUM_CLASSES = 10
NUM_ROUNDS = 30
NUM_SLOTS = 2
OTHER_LOSS = "double_softmax"
GENERATOR_CURVES = ("discriminator_loss", "generator_loss", "probability_real", "probability_fake")


def make_plan(num_runs: int, execution: Execution) -> Plan:
    """Return a plan of at least this many runs, without generators."""
    return compile_study(make_study(num_runs), execution)


def make_study(num_runs: int) -> Study:
    """Return a study of at least this many runs, without generators."""
    cells = grid(
        [get_protocol("sound")],
        dataset="fashion_mnist",
        cs=["7/9", "1/2"],
        methods=["none", "undersample", "oversample"],
        generators=[],
    )
    num_seeds = -(-num_runs // len(cells))
    return Study(name="noop", cells=cells, seeds=tuple(range(num_seeds)))


def make_chains(num_stages: int, execution: Execution) -> Plan:
    """Return a plan of at least this many stages, a sixth of them generators that two classifiers need."""
    protocols = [get_protocol("sound"), dataclasses.replace(get_protocol("sound"), name="2", loss=OTHER_LOSS)]
    cells = grid(
        protocols,
        dataset="fashion_mnist",
        cs=["7/9", "1/2"],
        methods=["none", "oversample", "cgan"],
        generators=["mlp_cgan_relu"],
    )
    num_seeds = -(-num_stages // (len(cells) + 2))
    return compile_study(Study(name="chains", cells=cells, seeds=tuple(range(num_seeds))), execution)


def make_nested(num_each: int) -> Study:
    """Return a study with separate seeds: subsets, CGANs on each, classifiers on each of these."""
    cells = grid(
        [get_protocol("sound")],
        dataset="fashion_mnist",
        cs=["1/2"],
        methods=["cgan"],
        generators=["mlp_cgan_relu"],
    )
    return Study(name="nested", cells=cells, seeds=nested_seeds(num_each, num_each, num_each))


def make_record(stage: AnyStage, weights: Artifact | None = None) -> Record:
    """Return a record of typical size."""
    confusion = Confusion.of_matrix(np.full((NUM_CLASSES, NUM_CLASSES), 100))
    loss = 0.123456789012345
    row: dict[str, Any] = {}
    quality: dict[str, list[float | None]] = {}
    if isinstance(stage, GeneratorStage):
        row = dict.fromkeys(GENERATOR_CURVES, loss)
        metrics: dict[str, float] = row | {"num_collapsed_classes": 0.0}
        quality = {"diversity": [1.0] * NUM_CLASSES}
    else:
        metrics = dict.fromkeys(metric_names(), loss) | confusion_metrics(confusion)
        row = {"train_loss": loss, "test_recall_K": [loss] * NUM_CLASSES}
        row |= {f"test_{name}": value for name, value in metrics.items()}
    steps = stage_round_ends(stage)
    return Record(
        key=stage.key,
        kind=stage.kind,
        state="complete",
        stage=stage.to_dict(),
        num_steps=steps[-1],
        class_counts=(100,) * NUM_CLASSES,
        training_counts=(100,) * NUM_CLASSES,
        synthetic_counts=(0,) * NUM_CLASSES,
        rank_groups=rank_groups([100] * NUM_CLASSES),
        metrics=metrics,
        confusion=() if isinstance(stage, GeneratorStage) else confusion.to_rows(),
        quality_per_class=quality,
        curves=tuple({"step": step} | row for step in steps),
        artifacts={} if weights is None else {"weights": weights},
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
    """Return the seconds of a stage without work, in a run of this many."""
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
        "peak MB": peak_mb(),
    }


def time_driver(num_pending: int, num_ends: int, shown: str, execution: Execution) -> dict[str, Any]:
    """Return the main process's seconds for each stage that ends while this many are pending.

    Args:
        num_ends: how many stages are started and end.
        shown: "lines", or "table" for the live one.
    """
    plan = make_chains(num_pending, execution)
    seconds = 0.0
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w", encoding="utf-8") as nowhere:
        store = open_store(folder, RESULTS_VERSION, create=True)
        assert store is not None
        ledger = Ledger(plan, store)
        schedule = Schedule(ledger.pending(), stage_flop)
        console = Console(
            file=nowhere, width=140, force_terminal=shown == "table", _environ={"TERM": "xterm"}
        )
        resources = plan_resources(execution, 1.0, NUM_SLOTS, 1, {"CPU": NUM_SLOTS, "GPU": 0})
        progress = Progress(ledger, Throughput(), NUM_SLOTS, console)
        watch = Watch(runs=name_runs(describe_plan(plan)))
        searcher = StageSearcher(schedule, ledger, store, None, resources, progress, watch)
        running: deque[tuple[str, AnyStage]] = deque()
        with progress:
            for number in range(num_ends + NUM_SLOTS):
                start = time.process_time()
                config = searcher.suggest(str(number))
                seconds += time.process_time() - start
                assert config is not None
                running.append((str(number), stage_from_dict(config["stages"][0])))
                if len(running) <= NUM_SLOTS:
                    continue
                trial, stage = running.popleft()
                is_generator, suffix = isinstance(stage, GeneratorStage), ".safetensors"
                weights = store.write_artifact(stage.key, "weights", suffix, b"0") if is_generator else None
                store.commit(make_record(stage, weights))
                start = time.process_time()
                searcher.on_trial_result(trial, {"round": 1, "num_rounds": NUM_ROUNDS, "train_s": 0.1})
                searcher.on_trial_complete(trial, {"outcome": "finished"})
                seconds += time.process_time() - start
    return {
        "what": f"stages that end, shown in {shown}",
        "count": num_pending,
        "s": seconds,
        "ms each": 1e3 * seconds / num_ends,
        "peak MB": peak_mb(),
    }


def time_planning(study: Study, execution: Execution) -> dict[str, Any]:
    """Return the seconds to compile a study, to find pending stages and to describe it."""
    start = time.process_time()
    plan = compile_study(study, execution)
    ledger = Ledger(plan, None)
    pending = ledger.pending()
    describe_plan(plan, flop={key: stage_flop(stage) for key, stage in plan.stages.items()})
    Remaining(pending).seconds(Throughput(), NUM_SLOTS, {})
    seconds = time.process_time() - start
    count = len(plan.runs)
    assert len(pending) >= count
    what = "runs planned" + ("" if isinstance(study.seeds[0], int) else ", separate seeds")
    return {
        "what": what,
        "count": count,
        "s": seconds,
        "ms each": 1e3 * seconds / count,
        "peak MB": peak_mb(),
    }


def peak_mb() -> float:
    """Return the peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def alone(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Return the result of a measurement in a separate process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, *arguments).result()


def time_scan(num_records: int, execution: Execution) -> dict[str, Any]:
    """Return the seconds to find out which stages of a study are done."""
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
        "peak MB": peak_mb(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    options = make_own_parser().parse_args(arguments)
    execution = resolve_execution("cpu", "auto", 1, has_cuda=False)
    if options.bucket:
        from benchmarks.bucket_scan import (
            time_bucket,
        )  # here, to avoid a cycle

        rows = [row for count in options.records for row in time_bucket(count, execution)]
        report("bucket", rows, describe(execution), options.json)
        return 0
    studies = [make_study(count) for count in options.runs]
    studies += [make_nested(count) for count in options.nested]
    rows = [alone(time_planning, study, execution) for study in studies]
    for shown in ("lines", "table"):
        rows += [alone(time_driver, count, options.ends, shown, execution) for count in options.pending]
    rows += [time_scan(count, execution) for count in options.records]
    if options.stages:
        with ray_cluster(None):
            time_stages(2, execution)  # workers start
            rows += [time_stages(count, execution) for count in options.stages]
    report("orchestration", rows, describe(execution), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
