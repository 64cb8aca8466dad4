"""Records of trainings that never were, as stages leave them: what follows from other values does."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.ground.confusion import Confusion
from lt_rebalance.ground.imbalance import rank_groups
from lt_rebalance.ground.metrics import confusion_metrics
from lt_rebalance.store.records import Record, Timing
from lt_rebalance.store.study_document import StudyDocument
from lt_rebalance.studies.plan import compile_study, describe_plan
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.stage import AnyStage, GeneratorStage, ValidationStage
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Budget, Execution

NUM_CLASSES = 10
GENERATOR_CURVES = {
    "discriminator_loss": 0.6,
    "generator_loss": 0.9,
    "probability_real": 0.6,
    "probability_fake": 0.4,
}


def round_steps(budget: Budget) -> list[int]:
    """Return the step at which each round ends, of passes that take 100 steps."""
    return budget.round_ends(steps_per_pass=100)


def make_up(
    stage: AnyStage,
    state: str = "complete",
    *,
    hits: int = 50,
    dead: Sequence[int] = (),
    loss: float = 1.5,
    diversity_K: Sequence[float] = (1.0,) * NUM_CLASSES,
    **changes: Any,
) -> Record:
    """Return the record of a stage.

    Args:
        hits: images of a class that are recognised, of 100. dead: classes of which none is. changes: fields.
    """
    counts = [20 - 2 * label for label in range(NUM_CLASSES)]
    values: dict[str, Any] = {
        "key": stage.key,
        "kind": stage.kind,
        "state": state,
        "stage": stage.to_dict(),
        "class_counts": tuple(counts),
        "training_counts": tuple(counts),
        "synthetic_counts": (0,) * NUM_CLASSES,
        "rank_groups": {} if stage.data.cut is None else rank_groups(counts),
        "metrics": {},
        "confusion": (),
        "quality_per_class": {},
        "artifacts": {},
        "timing": Timing(wall_s=2.0, train_s=1.0, num_errors=0),
        "provenance": {},
    }
    if isinstance(stage, GeneratorStage):
        steps, row = round_steps(stage.generator.budget), GENERATOR_CURVES
        if state == "complete":
            collapsed = sum(value < 0.1 for value in diversity_K)
            values["quality_per_class"] = {"diversity": list(diversity_K)}
            values["metrics"] = row | {"num_collapsed_classes": float(collapsed)}
    else:
        steps = round_steps(stage.classifier.budget)
        size = stage.data.validation_per_class if isinstance(stage, ValidationStage) else 100
        confusion_KK = make_confusion(size, hits, dead)
        metrics, row = _measure(stage, confusion_KK, loss)
        if state == "complete":
            values |= {"metrics": metrics, "confusion": tuple(confusion_KK.tolist())}
    values["curves"] = tuple({"step": step, **row} for step in steps[: None if state == "complete" else -1])
    return Record(**{"num_steps": steps[-1], **values, **changes})


def make_confusion(per_class: int, hits: int, dead: Sequence[int] = ()) -> NDArray[np.int64]:
    """Return a confusion matrix whose errors go to the next class."""
    confusion_KK = np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    for label in range(NUM_CLASSES):
        of_class = 0 if label in dead else min(hits, per_class)
        confusion_KK[label, label] = of_class
        confusion_KK[label, (label + 1) % NUM_CLASSES] = per_class - of_class
    return confusion_KK


def _measure(
    stage: AnyStage, confusion_KK: NDArray[np.int64], loss: float
) -> tuple[dict[str, float], Mapping[str, Any]]:
    confusion = Confusion.of_matrix(confusion_KK)
    metrics = confusion_metrics(confusion) | {"loss": loss, "nll": loss, "brier": 0.5, "ece": 0.1}
    recall_K = confusion.recall_K.tolist()
    splits = ["validation"] if stage.data.validation_per_class else []
    splits += [] if isinstance(stage, ValidationStage) else ["test"]
    row: dict[str, Any] = {"train_loss": loss}
    for split in splits:
        row |= {f"{split}_{name}": value for name, value in metrics.items()} | {f"{split}_recall_K": recall_K}
    return metrics, row


def forge(values: Mapping[str, Any]) -> bytes:
    """Return values as a record's file, with the seal that `Record.to_json` would have put on them."""
    body = json.dumps(
        {name: value for name, value in values.items() if name != "sha256"},
        sort_keys=True,
        separators=(",", ":"),
    )
    return f'{body[:-1]},"sha256":"{hashlib.sha256(body.encode()).hexdigest()}"}}'.encode()


def make_study(name: str, **changes: Any) -> StudyDocument:
    """Return what a store keeps of a study of one cell at two seeds."""
    cell = make_cell(
        get_protocol("sound"), dataset="fashion_mnist_mini", c="1/2", method="undersample", generator=None
    )
    execution = Execution(device="cpu", precision="float32", num_threads=1, torch_version="2.15.0")
    plan = compile_study(Study(name=name, cells=(cell,), seeds=(0, 1)), execution)
    return dataclasses.replace(describe_plan(plan), **changes)


def make_search(name: str, **changes: Any) -> dict[str, Any]:
    """Return the account of a search whose first trial is complete."""
    score = {"mean": 0.5, "sd": None, "by_seed": [0.5]}
    rung = {"round": 1, "num_steps": 10, "scores": {"macro_f1": score}, "total_steps": 10, "train_s": 1.0}
    trial = {"number": 0, "values": {"beta1": 0.9}, "state": "complete", "reason": "", "rungs": [rung]}
    return {
        "search": {
            "name": name,
            "component": "classifier",
            "scheduler": "none",
            "seeds": [1000],
            "objectives": ["macro_f1"],
            "base": {},
        },
        "question": "Which beta1?",
        "budget": {"trials": 1, "steps": None, "minutes": None},
        "objectives": {"macro_f1": "macro F1 on validation"},
        "space": {"beta1": {"kind": "range", "low": 0.5, "high": 0.99, "is_log": False, "unit": "share"}},
        "untuned": {"beta1": 0.9},
        "rung_rounds": [1],
        "trials": [trial],
        "importance": {},
        "best": 0,
        "front": [0],
        "confirmation": f"{name}-confirmation",
    } | changes
