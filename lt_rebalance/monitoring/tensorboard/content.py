"""What TensorBoard shows of a stage, computed from its curves and its record alone.

Shape suffixes: K classes, S samples, C H W image, T thresholds.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.ground.confusion import MAX_DETAILED
from lt_rebalance.ground.metrics import (
    FURTHER,
    HEADLINE,
    METRICS,
    SELECTION_METRIC,
    headline_metrics,
    reported_round,
    selection_column,
    shown_metrics,
)
from lt_rebalance.monitoring.tensorboard.pictures import draw_confusion, draw_samples
from lt_rebalance.monitoring.tensorboard.protos import Value, image, precision_recall, scalar
from lt_rebalance.store import Store
from lt_rebalance.store.records import Record

MAX_POINTS = 50
"""maximum number of points of a scalar; rounds between them are left out"""
MAX_PREVIEWS = 3
"""maximum number of sample grids of a generator during training, without the final one"""
MAX_SAMPLED = 20
"""number of classes in a grid of samples"""
BALANCED = tuple(f"{split}_balanced_accuracy" for split in ("test", "validation"))
"""columns shown only if they differ from the accuracy beside them, on unbalanced sets"""
ROUND_COLUMNS = {
    "classifier": (
        "train_loss",
        *(f"{split}_{name}" for split in ("test", "validation") for name in shown_metrics(HEADLINE, FURTHER)),
        *BALANCED,
    ),
    "generator": (
        *("discriminator_loss", "generator_loss", "probability_real", "probability_fake"),
        *("reconstruction_loss", "kl_divergence"),
    ),
    "representation": ("train_loss",),
}
"""columns of the curves that become scalars, by kind of stage"""
RESULTS = {
    "last": "last round",
    "best_validation": f"round of best validation {METRICS[SELECTION_METRIC].label}",
}
"""which rounds the table of hyperparameters shows, by name in `configs.SELECTIONS`"""
_CONFUSION_LEGEND = (
    "Test images by true class (rows) and prediction (columns); darker means a larger share of the row."
)
_SAMPLES_LEGEND = "One row per class, drawn from the same noise for every round, seed and generator."
_CURVE_LEGEND = "One class against all others, at 51 thresholds of its softmax probability."


ROUNDING = 1e-9
"""tolerance for equal metrics"""


def is_shown(round_index: int, num_rounds: int) -> bool:
    """Whether a round, counted from 1, is among the at most `MAX_POINTS` shown; the last one always is."""
    return _is_due(round_index, num_rounds, MAX_POINTS)


def is_previewed(round_index: int, num_rounds: int) -> bool:
    """Whether samples are drawn after a round; after the last, those of the record are shown."""
    return 0 < round_index < num_rounds and _is_due(round_index, num_rounds, MAX_PREVIEWS + 1)


def _is_due(round_index: int, num_rounds: int, most: int) -> bool:
    return round_index == num_rounds or round_index % -(-num_rounds // most) == 0


def planned_rounds(stage: Mapping[str, Any]) -> int:
    """Return how many rounds a stage has; a diverged one did not reach them all."""
    budget = stage["generator" if stage["kind"] == "generator" else "classifier"]["budget"]
    return int(budget["epochs"] or budget["rounds"])


def show_round(kind: str, row: Mapping[str, Any], class_names: Sequence[str]) -> list[Value]:
    """Return the scalars of a row of the curves."""
    values = [scalar(f"{kind}/{name}", row[name]) for name in ROUND_COLUMNS[kind] if tells(row, name)]
    return values + _by_class("recall", row.get("test_recall_K", ()), class_names)


def tells(row: Mapping[str, Any], column: str) -> bool:
    """Whether a column of a row differs from all others of it."""
    if column not in BALANCED or column not in row:
        return column in row
    accuracy = row.get(column.replace("balanced_accuracy", "accuracy"), row[column])
    return bool(abs(row[column] - accuracy) > ROUNDING)


def show_preview(
    samples_KSCHW: NDArray[np.uint8], diversity_K: Sequence[float | None], class_names: Sequence[str]
) -> list[Value]:
    """Return the generated images, and the diversity of each class."""
    return [
        image("samples", draw_samples(samples_KSCHW[:MAX_SAMPLED]), _say_samples(len(samples_KSCHW))),
        *_by_class("diversity", diversity_K, class_names),
    ]


def _say_samples(num_classes: int) -> str:
    if num_classes <= MAX_SAMPLED:
        return _SAMPLES_LEGEND
    return f"{_SAMPLES_LEGEND} Of {num_classes:,} classes, the first {MAX_SAMPLED}."


def show_record(record: Record, store: Store, class_names: Sequence[str]) -> list[Value]:
    """Return what is shown of a finished stage at its last step; nothing for a diverged one.

    Raises:
        StoreError: an artefact is missing or altered.
    """
    if record.state != "complete" or record.kind == "representation":
        return []
    if record.kind == "generator":
        if "samples" not in record.artifacts:
            return []
        sheet_3KSCHW = store.read_array(record, "samples")
        return show_preview(sheet_3KSCHW[0], record.quality_per_class["diversity"], class_names)
    values = []
    if len(class_names) <= MAX_DETAILED:
        confusion_KK = record.read_confusion().to_matrix()
        values.append(image("confusion", draw_confusion(confusion_KK, class_names), _CONFUSION_LEGEND))
    if "precision_recall" in record.artifacts:
        counts_K2T = store.read_array(record, "precision_recall")
        values += [
            precision_recall(f"precision_recall/{name}", counts_2T, _CURVE_LEGEND)
            for name, counts_2T in zip(_label(class_names), counts_K2T, strict=True)
        ]
    return values + list(_show_results(record))


def _show_results(record: Record) -> Iterator[Value]:
    computed = record.all_metrics()
    reported = reported_round(record.curves, record.stage["classifier"]["selection"])
    for selection, index in _selected_rounds(record.curves).items():
        for name in result_metrics(is_test_balanced=not tells(record.curves[index], BALANCED[0])):
            value = record.curves[index].get(f"test_{name}")
            if value is None and index == reported:  # of a metric that was added later
                value = computed.get(name)
            if value is not None:
                yield scalar(result_tag(selection, name), value)


def _selected_rounds(curves: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the index of the round that each selection would report."""
    rounds = {"last": reported_round(curves, "last")}
    if selection_column("best_validation") in curves[-1]:
        rounds["best_validation"] = reported_round(curves, "best_validation")
    return rounds


def result_metrics(*, is_test_balanced: bool) -> tuple[str, ...]:
    """Return the metrics of the table of hyperparameters, the leading one first."""
    return headline_metrics(is_test_balanced=is_test_balanced) + shown_metrics(FURTHER)


def result_tag(selection: str, metric: str) -> str:
    """Return the tag of a metric in the table of hyperparameters."""
    return f"result/{selection}_{metric}"


def _by_class(prefix: str, values_K: Sequence[float | None], class_names: Sequence[str]) -> list[Value]:
    if not values_K or len(class_names) > MAX_DETAILED:
        return []
    labelled = zip(_label(class_names), values_K, strict=True)
    return [scalar(f"{prefix}/{name}", value) for name, value in labelled if value is not None]


def _label(class_names: Sequence[str]) -> list[str]:
    """Return the names with numbers that keep them in order."""
    digits = len(str(len(class_names) - 1))
    return [f"{label:0{digits}d} {name}" for label, name in enumerate(class_names)]
