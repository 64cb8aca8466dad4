"""What do many classes cost: the metrics of a round, and the record of a training?

Predictions of a classifier on 20,000 images are synthetic. It times the metrics of a round and the
precision-recall counts of the reported round; then creating, writing and checking the record of a training of
30 rounds with a CGAN, and its size. One thread computes, and its own CPU time counts, not that of other work
on the machine; medians.
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

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.measure import describe, median, report
from lt_rebalance.ground.confusion import MAX_DETAILED, Confusion
from lt_rebalance.ground.imbalance import rank_groups
from lt_rebalance.ground.metrics import metric_names, precision_recall_counts
from lt_rebalance.methods.losses import LOSSES
from lt_rebalance.store.records import Record, Timing
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.stage import ClassifierStage
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import prepare_torch, resolve_execution
from lt_rebalance.training.measuring import measure

NUM_IMAGES = 20_000
NUM_STEPS = 18_000


def make_answers(
    num_classes: int, num_images: int = NUM_IMAGES, sharpness: float = 7.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `logits_NK` and `labels_N`; a larger sharpness gives more correct predictions."""
    stream = torch.Generator().manual_seed(0)
    labels_N = torch.arange(num_images) % num_classes
    logits_NK = 2 * torch.randn(num_images, num_classes, generator=stream, dtype=torch.float64)
    logits_NK[torch.arange(num_images), labels_N] += sharpness
    return logits_NK, labels_N


def make_stage(execution: Execution) -> ClassifierStage:
    """Return a stage whose record can have any number of classes."""
    protocol = get_protocol("sound")
    cell = make_cell(protocol, dataset="fashion_mnist", c="1/2", method="oversample", generator=None)
    return cell.stage(0, execution)


def make_record(
    stage: ClassifierStage, values: dict[str, Any], predictions_N: Any, labels_N: torch.Tensor
) -> Record:
    """Return the record of a training whose round was measured, with quality as after a CGAN."""
    num_classes = int(labels_N.max()) + 1
    confusion = Confusion.of_predictions(labels_N.numpy(), predictions_N, num_classes)
    counts = [max(6000 - 5 * label, 12) for label in range(num_classes)]
    quality_K = np.random.default_rng(0).uniform(0.1, 1, num_classes).tolist()
    row = {"train_loss": values["loss"], **{f"test_{name}": value for name, value in values.items()}}
    budget = stage.classifier.budget
    num_rounds = budget.epochs or budget.rounds or 0
    steps = [(budget.steps or NUM_STEPS) * index // num_rounds for index in range(1, num_rounds + 1)]
    return Record(
        key=stage.key,
        kind=stage.kind,
        state="complete",
        stage=stage.to_dict(),
        num_steps=steps[-1],
        class_counts=tuple(counts),
        training_counts=(counts[0],) * num_classes,
        synthetic_counts=tuple(counts[0] - count for count in counts),
        rank_groups=rank_groups(counts),
        metrics={name: values[name] for name in metric_names()},
        confusion=confusion.to_rows(),
        quality_per_class={
            "diversity": quality_K,
            "distinct_nearest": [float(round(200 * value)) for value in quality_K],
            "nearest_distance_ratio": quality_K,
        },
        curves=tuple({"step": step} | row for step in steps),
        artifacts={},
        timing=Timing(wall_s=1.0, train_s=1.0, num_errors=0),
        provenance={},
    )


def time_wide(num_classes: int, repetitions: int, execution: Execution) -> dict[str, Any]:
    """Return seconds of a round, additional ones of the reported round, those of a record, and its bytes."""
    logits_NK, labels_N = make_answers(num_classes)
    true_N, loss = labels_N.numpy(), LOSSES["cross_entropy"]
    round_s, counts_s, record_s, contents = [], [], [], []
    stage = make_stage(execution)
    for _ in range(repetitions):
        copy_NK = logits_NK.clone()
        start = time.thread_time()
        values, predictions_N, probabilities_NK = measure(copy_NK, labels_N, loss)
        measured = time.thread_time()
        if num_classes <= MAX_DETAILED:
            precision_recall_counts(probabilities_NK, true_N)
        counted = time.thread_time()
        contents.append(make_record(stage, values, predictions_N, labels_N).to_json())
        Record.from_json(contents[-1])
        round_s.append(measured - start)
        counts_s.append(counted - measured)
        record_s.append(time.thread_time() - counted)
    return {
        "classes": num_classes,
        "accuracy": values["accuracy"],
        "s per round": median(round_s),
        "s more for the reported round": median(counts_s),
        "s to write and read a record": median(record_s),
        "bytes per record": len(contents[-1]),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    options = make_own_parser().parse_args(arguments)
    execution = resolve_execution("cpu", "float32", 1, has_cuda=False)
    prepare_torch(execution)
    rows = [time_wide(num_classes, options.repetitions, execution) for num_classes in options.classes]
    report(f"{NUM_IMAGES:,} images of many classes", rows, describe(execution), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
