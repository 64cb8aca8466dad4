"""Metrics of a classifier, each a function of its confusion matrix.

Shape suffixes: K classes, N items. `confusion_KK[i, j]` counts test images of class i predicted as j.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def confusion_matrix(labels_N: IntArray, predictions_N: NDArray[np.integer], num_classes: int) -> IntArray:
    """Return `confusion_KK`: rows are true classes, columns predictions."""
    pairs_N = labels_N * num_classes + predictions_N.astype(np.int64)
    return np.bincount(pairs_N, minlength=num_classes**2).reshape(num_classes, num_classes)


def recall_per_class(confusion_KK: IntArray) -> FloatArray:
    """Return `recall_K` in [0, 1]; 0 for a class without test images."""
    return _ratio(np.diag(confusion_KK), confusion_KK.sum(axis=1))


def precision_per_class(confusion_KK: IntArray) -> FloatArray:
    """Return `precision_K` in [0, 1]; 0 for a class that is never predicted."""
    return _ratio(np.diag(confusion_KK), confusion_KK.sum(axis=0))


def f1_per_class(confusion_KK: IntArray) -> FloatArray:
    """Return `f1_K` in [0, 1]; 0 where precision and recall are both 0."""
    return _ratio(2 * np.diag(confusion_KK), confusion_KK.sum(axis=0) + confusion_KK.sum(axis=1))


def _ratio(numerator: IntArray, denominator: IntArray) -> FloatArray:
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)


def _accuracy(confusion_KK: IntArray) -> float:
    return float(np.trace(confusion_KK) / confusion_KK.sum())


def _balanced_accuracy(confusion_KK: IntArray) -> float:
    return float(recall_per_class(confusion_KK).mean())


def _macro_f1(confusion_KK: IntArray) -> float:
    return float(f1_per_class(confusion_KK).mean())


def _weighted_f1(confusion_KK: IntArray) -> float:
    return float(np.average(f1_per_class(confusion_KK), weights=confusion_KK.sum(axis=1)))


def _worst_class_recall(confusion_KK: IntArray) -> float:
    return float(recall_per_class(confusion_KK).min())


def _num_dead_classes(confusion_KK: IntArray) -> float:
    return float((recall_per_class(confusion_KK) == 0).sum())


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a trained classifier."""

    label: str
    """How tables and plots name it."""
    is_higher_better: bool
    compute: Callable[[IntArray], float]
    """From `confusion_KK` to the value."""


METRICS = {
    "accuracy": Metric(label="accuracy", is_higher_better=True, compute=_accuracy),
    "balanced_accuracy": Metric(label="balanced accuracy", is_higher_better=True, compute=_balanced_accuracy),
    "macro_f1": Metric(label="macro F1", is_higher_better=True, compute=_macro_f1),
    "weighted_f1": Metric(label="weighted F1", is_higher_better=True, compute=_weighted_f1),
    "worst_class_recall": Metric(
        label="worst-class recall", is_higher_better=True, compute=_worst_class_recall
    ),
    "num_dead_classes": Metric(label="dead classes", is_higher_better=False, compute=_num_dead_classes),
}


def compute_metrics(confusion_KK: IntArray) -> dict[str, float]:
    """Return every metric of `METRICS` by name."""
    return {name: metric.compute(confusion_KK) for name, metric in METRICS.items()}
