"""Metrics of a classifier: functions of its confusion matrix, and functions of its probabilities.

Shape suffixes: K classes, N items, T thresholds. `confusion_KK[i, j]` counts test images of class i predicted
as j.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ECE_BINS = 15
NUM_THRESHOLDS = 51
COLLAPSED_BELOW = 0.1
"""diversity of a class below which a generator draws almost the same image of it every time"""


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


def _nll(probabilities_NK: FloatArray, labels_N: IntArray) -> float:
    """Mean negative log likelihood of the labels."""
    likelihood_N = np.take_along_axis(probabilities_NK, labels_N[:, None], axis=1)
    return float(-np.log(likelihood_N.clip(np.finfo(np.float64).tiny)).mean())


def _brier(probabilities_NK: FloatArray, labels_N: IntArray) -> float:
    """Mean over images of the squared distance to the one-hot label, between 0 and 2; Brier 1950."""
    one_hot_NK = np.eye(probabilities_NK.shape[1])[labels_N]
    return float(((probabilities_NK - one_hot_NK) ** 2).sum(axis=1).mean())


def _ece(probabilities_NK: FloatArray, labels_N: IntArray) -> float:
    """Expected calibration error, 15 equal-width bins of the top probability; Guo et al. 2017, 1706.04599."""
    confidence_N = probabilities_NK.max(axis=1)
    is_hit_N = probabilities_NK.argmax(axis=1) == labels_N
    bins_N = np.ceil(confidence_N * ECE_BINS).astype(np.int64)
    gaps = np.bincount(bins_N, weights=is_hit_N - confidence_N, minlength=ECE_BINS + 1)
    return float(np.abs(gaps).sum() / len(labels_N))


def precision_recall_counts(probabilities_NK: FloatArray, labels_N: IntArray) -> IntArray:
    """Return `counts_K2T`: true and false positives of each class against all others, by threshold.

    An item is positive where its probability is at least the threshold; there are 51, evenly spaced from 0,
    where all items are positive, to 1.
    """
    num_classes = probabilities_NK.shape[1]
    thresholds_T = np.linspace(0, 1, NUM_THRESHOLDS)
    last_NK = np.searchsorted(thresholds_T, probabilities_NK, side="right") - 1
    is_class_NK = labels_N[:, None] == np.arange(num_classes)
    cells_NK = (2 * np.arange(num_classes) + ~is_class_NK) * NUM_THRESHOLDS + last_NK
    exact = np.bincount(cells_NK.ravel(), minlength=2 * num_classes * NUM_THRESHOLDS)
    exact_K2T = exact.reshape(num_classes, 2, NUM_THRESHOLDS)
    return np.flip(np.flip(exact_K2T, axis=2).cumsum(axis=2), axis=2)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a trained classifier that its confusion matrix gives."""

    label: str
    """How tables and plots name it."""
    is_higher_better: bool
    compute: Callable[[IntArray], float]
    """From `confusion_KK` to the value."""


@dataclass(frozen=True, kw_only=True)
class ProbabilityMetric:
    """One number of a trained classifier that takes its probabilities; lower is better."""

    label: str
    """How tables and plots name it."""
    compute: Callable[[FloatArray, IntArray], float]
    """From `probabilities_NK`, the softmax of the logits whatever the loss, and `labels_N` to the value."""


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


PROBABILITY_METRICS = {
    "nll": ProbabilityMetric(label="negative log likelihood", compute=_nll),
    "brier": ProbabilityMetric(label="Brier score", compute=_brier),
    "ece": ProbabilityMetric(label="expected calibration error", compute=_ece),
}


def compute_metrics(confusion_KK: IntArray) -> dict[str, float]:
    """Return every metric of `METRICS` by name."""
    return {name: metric.compute(confusion_KK) for name, metric in METRICS.items()}


def compute_probability_metrics(probabilities_NK: FloatArray, labels_N: IntArray) -> dict[str, float]:
    """Return every metric of `PROBABILITY_METRICS` by name."""
    return {name: metric.compute(probabilities_NK, labels_N) for name, metric in PROBABILITY_METRICS.items()}
