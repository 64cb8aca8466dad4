"""What does a report of many classes cost: seconds, and bytes of its page?

The store is synthetic: colour images of unbalanced classes, the methods none and cgan at three seeds each,
predictions that are more accurate for larger classes, and samples of noise. Nothing is trained. The report is
then written as `python -m analysis` writes it, and its wall-clock seconds are shown, medians over
repetitions.
"""

import argparse

from benchmarks.measure import make_parser


def make_own_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1000], metavar="K")
    return parser


if __name__ == "__main__":
    make_own_parser().parse_args()  # import below keeps --help and wrong options fast

import io
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.collect import read_results
from analysis.report import write_report
from benchmarks.measure import describe, median, report
from lt_rebalance.data.catalog import DATASETS
from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.ground.confusion import MAX_DETAILED, Confusion
from lt_rebalance.ground.metrics import confusion_metrics
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.records import Record, Timing
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan
from lt_rebalance.studies.protocols import get_protocol, grid
from lt_rebalance.studies.stage import RESULTS_VERSION, AnyStage, ClassifierStage, GeneratorStage
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Budget, Execution
from lt_rebalance.training.device import resolve_execution

NAME = "made_up"
TESTED = 20
"""test images per class"""
NUM_SEEDS = 3
_LOSSES = {"loss": 1.0, "nll": 1.0, "brier": 0.5, "ece": 0.1}
_CGAN = {"discriminator_loss": 0.6, "generator_loss": 0.9, "probability_real": 0.6, "probability_fake": 0.4}


def describe_dataset(num_classes: int) -> DatasetSpec:
    """Return a synthetic data set, with 600 to 6 training images per class."""
    counts = np.geomspace(600, 6, num_classes).round().astype(int).tolist()
    return DatasetSpec(
        name=NAME,
        num_classes=num_classes,
        image_shape=(3, 32, 32),
        class_names=tuple(f"kind {label}" for label in range(num_classes)),
        train_counts_K=tuple(counts),
        test_counts_K=(TESTED,) * num_classes,
        licence="none",
        sha256_by_file={"made_up.npz": "0" * 64},
    )


def make_plan(execution: Execution) -> Plan:
    """Return the plan of two methods at three seeds on the natural set."""
    cells = grid(
        [get_protocol("sound")],
        dataset=NAME,
        cs=["natural"],
        methods=["none", "cgan"],
        generators=["mlp_cgan_relu"],
    )
    return compile_study(Study(name="many", cells=cells, seeds=tuple(range(NUM_SEEDS))), execution)


def fill(store: Store, plan: Plan, rng: np.random.Generator) -> None:
    """Commit a synthetic record of every stage."""
    store.write_study(describe_plan(plan))
    counts_K = DATASETS[NAME].train_counts_K
    quality_K = rng.uniform(0.05, 1, len(counts_K)).round(3).tolist()
    quality = {
        "diversity": quality_K,
        "distinct_nearest": [float(round(200 * value)) for value in quality_K],
        "nearest_distance_ratio": quality_K,
    }
    for stage in plan.stages.values():
        if isinstance(stage, ClassifierStage):
            store.commit(
                make_classifier(stage, counts_K, {} if stage.generator_stage is None else quality, rng)
            )
        elif isinstance(stage, GeneratorStage):
            store.commit(make_generator(store, stage, counts_K, quality, rng))


def make_classifier(
    stage: ClassifierStage, counts_K: Sequence[int], quality: Any, rng: np.random.Generator
) -> Record:
    """Return the record of a classifier that recognises large classes better."""
    num_classes = len(counts_K)
    labels_N = np.repeat(np.arange(num_classes), TESTED)
    is_known_N = rng.random(len(labels_N)) < 0.9 - 0.85 * labels_N / num_classes
    others_N = (labels_N + rng.integers(1, 4, len(labels_N))) % num_classes
    confusion = Confusion.of_predictions(labels_N, np.where(is_known_N, labels_N, others_N), num_classes)
    metrics = confusion_metrics(confusion) | _LOSSES
    row: dict[str, Any] = {"train_loss": 0.5} | {f"test_{name}": value for name, value in metrics.items()}
    if num_classes <= MAX_DETAILED:
        row["test_recall_K"] = confusion.recall_K.tolist()
    synthetic_K = [max(counts_K) - count if quality else 0 for count in counts_K]
    return Record(
        **_common(stage, counts_K, synthetic_K, row, stage.classifier.budget),
        metrics=metrics,
        confusion=confusion.to_rows(),
        quality_per_class=quality,
        artifacts={},
    )


def make_generator(
    store: Store, stage: GeneratorStage, counts_K: Sequence[int], quality: Any, rng: np.random.Generator
) -> Record:
    """Return the record of a generator that draws noise."""
    file = io.BytesIO()
    shape = (3, len(counts_K), 10, *DATASETS[NAME].image_shape)
    np.save(file, rng.integers(0, 256, shape, np.uint8), allow_pickle=False)
    num_collapsed = float(sum(value < 0.1 for value in quality["diversity"]))
    return Record(
        **_common(stage, counts_K, [0] * len(counts_K), _CGAN, stage.generator.budget),
        metrics=_CGAN | {"num_collapsed_classes": num_collapsed},
        confusion=(),
        quality_per_class=quality,
        artifacts={"samples": store.write_artifact(stage.key, "samples", ".npy", file.getvalue())},
    )


def _common(
    stage: AnyStage, counts_K: Sequence[int], synthetic_K: Sequence[int], row: Any, budget: Budget
) -> dict[str, Any]:
    steps = budget.round_ends(steps_per_pass=100)
    return {
        "key": stage.key,
        "kind": stage.kind,
        "state": "complete",
        "stage": stage.to_dict(),
        "num_steps": steps[-1],
        "class_counts": tuple(counts_K),
        "training_counts": tuple(real + made for real, made in zip(counts_K, synthetic_K, strict=True)),
        "synthetic_counts": tuple(synthetic_K),
        "rank_groups": {},
        "curves": tuple({"step": step} | row for step in steps),
        "timing": Timing(wall_s=1.0, train_s=1.0, num_errors=0),
        "provenance": {},
    }


def time_report(num_classes: int, repetitions: int, execution: Execution) -> dict[str, Any]:
    """Return the cost of a report of this many classes."""
    DATASETS[NAME] = describe_dataset(num_classes)
    try:
        with tempfile.TemporaryDirectory() as directory:
            store = open_store(f"{directory}/store", RESULTS_VERSION, create=True)
            assert store is not None
            fill(store, make_plan(execution), np.random.default_rng(0))
            seconds = []
            for _ in range(repetitions):
                start = time.perf_counter()
                page = write_report(read_results(store.location), Path(directory) / "report")
                seconds.append(time.perf_counter() - start)
            num_bytes = page.stat().st_size
    finally:
        del DATASETS[NAME]
    return {"classes": num_classes, "s": median(seconds), "MB of the page": num_bytes / 1e6}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    options = make_own_parser().parse_args(arguments)
    execution = resolve_execution("cpu", "float32", 1, has_cuda=False)
    rows = [time_report(num_classes, options.repetitions, execution) for num_classes in options.classes]
    report("a report of many classes", rows, describe(execution), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
