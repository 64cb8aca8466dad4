"""METRICS: numbers that describe a trained classifier, and the direction in which each is better.

A metric is one entry of the dict at the end of the file. Tables, TensorBoard, verdicts, the choice of the
reported round, and the check of records take its name, label, direction and range from there. A metric of the
confusion matrix also covers older results: if a record lacks it, it is computed when the record is read.

Shape suffixes: K classes, N items, T thresholds.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lt_rebalance.ground.confusion import Confusion, FloatArray, IntArray
from lt_rebalance.ground.own_file import get_own, is_own, resolve
from lt_rebalance.ground.values import LARGEST

ECE_BINS = 15
NUM_THRESHOLDS = 51
COLLAPSED_BELOW = 0.1
"""diversity of a class below which a generator draws almost the same image every time"""
_BLOCK_VALUES = 2**18
"""number of probabilities processed at a time, so that they stay in the cache"""

HEADLINE, FURTHER, FILES = "headline", "further", "files"
"""where a metric is shown: in every table and in TensorBoard; in the table of further metrics and in
TensorBoard; in CSV files alone"""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number that describes a trained classifier; exactly one of its two functions is set."""

    label: str
    """Its name in tables and plots."""
    is_higher_better: bool
    """Its direction, for verdicts and choices."""
    of_confusion: Callable[[Confusion], float] | None = None
    """Computes the value from the confusion matrix."""
    of_probabilities: Callable[[FloatArray, IntArray], float] | None = None
    """Computes the value from `probabilities_NK`, the softmax of the logits under any loss, and
    `labels_N`."""
    low: float = -LARGEST
    """Its smallest value."""
    high: float = LARGEST
    """Its largest value."""
    shown: str = FURTHER
    """One of `HEADLINE`, `FURTHER`, `FILES`."""

    def __post_init__(self) -> None:
        if not (isinstance(self.label, str) and self.label.strip()):
            raise ValueError(f"a metric needs a label, its name in tables, got {self.label!r}")
        if self.of_confusion is not None and self.of_probabilities is not None:
            raise ValueError(
                f"metric {self.label!r} needs exactly one of of_confusion and of_probabilities, got both"
            )
        if not -LARGEST <= self.low < self.high <= LARGEST:
            raise ValueError(
                f"the range of metric {self.label!r} must be finite, with low below high, got {self.low} to "
                f"{self.high}; omit low or high for an unbounded range"
            )
        if self.shown not in (HEADLINE, FURTHER, FILES):
            known = ", ".join((HEADLINE, FURTHER, FILES))
            raise ValueError(f"unknown place {self.shown!r} of metric {self.label!r}; known: {known}")

    def check(self, name: str, value: Any) -> float:  # Any: a metric's code may return anything
        """Return the result of its function as a float.

        Raises:
            ValueError: not a number within its range; NaN is outside.
        """
        is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not is_number or not self.low <= value <= self.high:
            raise ValueError(
                f"metric {name} must give a number from {self.low:g} to {self.high:g}, got {value!r}; "
                "correct it, or its low and high"
            )
        return float(value)


def _nll(probabilities_NK: FloatArray, labels_N: IntArray) -> float:
    """Mean negative log likelihood of the labels."""
    likelihood_N = np.take_along_axis(probabilities_NK, labels_N[:, None], axis=1)
    return float(-np.log(likelihood_N.clip(np.finfo(np.float64).tiny)).mean())


def _brier(probabilities_NK: FloatArray, labels_N: IntArray) -> float:
    """Mean over images of the squared distance to the one-hot label, between 0 and 2; Brier 1950."""
    num_items, num_classes = probabilities_NK.shape
    distances_N = np.empty(num_items)
    size = max(1, _BLOCK_VALUES // num_classes)
    for block in (slice(first, first + size) for first in range(0, num_items, size)):
        errors_BK = probabilities_NK[block].copy()
        errors_BK[np.arange(len(errors_BK)), labels_N[block]] -= 1
        distances_N[block] = np.square(errors_BK, out=errors_BK).sum(axis=1)
    return float(distances_N.mean())


def _ece(probabilities_NK: FloatArray, labels_N: IntArray) -> float:
    """Expected calibration error, 15 equal-width bins of the top probability; Guo et al. 2017, 1706.04599."""
    confidence_N = probabilities_NK.max(axis=1)
    is_hit_N = probabilities_NK.argmax(axis=1) == labels_N
    bins_N = np.ceil(confidence_N * ECE_BINS).astype(np.int64)
    gaps = np.bincount(bins_N, weights=is_hit_N - confidence_N, minlength=ECE_BINS + 1)
    return float(np.abs(gaps).sum() / len(labels_N))


def precision_recall_counts(probabilities_NK: FloatArray, labels_N: IntArray) -> IntArray:
    """Return `counts_K2T`: true and false positives of each class against all others, by threshold.

    An item is positive if its probability is at least the threshold. There are 51 thresholds, evenly spaced
    from 0, where all items are positive, to 1.
    """
    num_classes = probabilities_NK.shape[1]
    thresholds_T = np.linspace(0, 1, NUM_THRESHOLDS)
    # With many classes, nearly all probabilities are below the first threshold above 0: count the others.
    items_M, classes_M = np.nonzero(probabilities_NK >= thresholds_T[1])
    last_M = np.searchsorted(thresholds_T, probabilities_NK[items_M, classes_M], side="right") - 1
    cells_M = (2 * classes_M + (labels_N[items_M] != classes_M)) * NUM_THRESHOLDS + last_M
    exact = np.bincount(cells_M, minlength=2 * num_classes * NUM_THRESHOLDS)
    exact_K2T = exact.reshape(num_classes, 2, NUM_THRESHOLDS)
    of_class_K = np.bincount(labels_N, minlength=num_classes)
    all_K2 = np.stack([of_class_K, len(labels_N) - of_class_K], axis=1)
    exact_K2T[:, :, 0] = all_K2 - exact_K2T[:, :, 1:].sum(axis=2)
    return np.flip(np.flip(exact_K2T, axis=2).cumsum(axis=2), axis=2)


def confusion_metrics(confusion: Confusion, names: Collection[str] | None = None) -> dict[str, float]:
    """Return metrics of a confusion matrix by name: all, or those named; errors as `Metric.check`."""
    return {
        name: metric.check(name, metric.of_confusion(confusion))
        for name, metric in METRICS.items()
        if metric.of_confusion is not None and (names is None or name in names)
    }


def probability_metrics(probabilities_NK: FloatArray, labels_N: IntArray) -> dict[str, float]:
    """Return every metric of the probabilities by name; errors as `Metric.check`."""
    return {
        name: metric.check(name, metric.of_probabilities(probabilities_NK, labels_N))
        for name, metric in METRICS.items()
        if metric.of_probabilities is not None
    }


def metric_names() -> tuple[str, ...]:
    """Return all names: those that training measures, then those of confusion matrices and probabilities."""
    kinds: tuple[list[str], list[str], list[str]] = ([], [], [])
    for name, metric in METRICS.items():
        kinds[1 if metric.of_confusion else 2 if metric.of_probabilities else 0].append(name)
    return tuple(name for kind in kinds for name in kind)


def shown_metrics(*places: str) -> tuple[str, ...]:
    """Return the names that are shown in one of these places, in registry order."""
    return tuple(name for name, metric in METRICS.items() if metric.shown in places)


def is_higher_better(name: str) -> bool:
    """Return the direction of a metric, or of the recall of a group of classes.

    Raises:
        ValueError: the name is unknown.
    """
    if name.startswith("recall_"):
        return True
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}, so its direction is unknown; known: {', '.join(METRICS)}")
    return METRICS[name].is_higher_better


def is_better(name: str, value: float, other: float) -> bool:
    """Whether a value of a metric is strictly better than another."""
    return value > other if is_higher_better(name) else value < other


# User's metrics


@contextlib.contextmanager
def own_metrics(asked: Sequence[str]) -> Iterator[None]:
    """Add the user's metrics to `METRICS`: each a `Metric` of confusion matrices, given as "PATH.py:NAME".

    They are shown in the table of further metrics, whatever place they state.

    Raises:
        ValueError: no such file or name, not a metric, a metric of probabilities, or a label that is taken.
    """
    added: list[str] = []
    try:
        for each in asked:
            name = resolve(each)
            if not is_own(name):
                raise ValueError(f"a metric of your own is named PATH.py:NAME, got {each!r}")
            if name not in METRICS:
                METRICS[name] = _check_own(name)
                added.append(name)
        yield
    finally:
        for name in added:
            del METRICS[name]


def list_own() -> tuple[str, ...]:
    """Return the names of the user's metrics."""
    return tuple(name for name in METRICS if is_own(name))


def _check_own(name: str) -> Metric:
    metric: Metric = get_own(name, Metric)
    if metric.of_confusion is None:
        raise ValueError(
            f"{name} needs of_confusion, a function of the confusion matrix: stores hold no probabilities"
        )
    check_labels(METRICS | {name: metric})
    return replace(metric, shown=FURTHER)


def check_labels(metrics: Mapping[str, Metric]) -> None:
    """Raise a ValueError unless the label of each metric is unique, since tables use labels as names."""
    names: dict[str, str] = {}
    for name, metric in metrics.items():
        if (other := names.setdefault(metric.label, name)) != name:
            raise ValueError(
                f"{name} needs a unique label, got {metric.label!r}, which {other} has; choose another"
            )


# Which metric leads


def leading_metric(*, is_test_balanced: bool) -> str:
    """Return the metric by which methods are compared first.

    On an unbalanced test set, accuracy mostly describes the large classes.
    """
    return "accuracy" if is_test_balanced else SELECTION_METRIC


def headline_metrics(*, is_test_balanced: bool) -> tuple[str, ...]:
    """Return the metrics of every table, the leading one first; balanced accuracy where it says more."""
    names = shown_metrics(HEADLINE)
    if is_test_balanced:
        return names
    leading = (SELECTION_METRIC, "balanced_accuracy")
    return (*leading, *(name for name in names if name not in leading))


# Which round is reported

SELECTION_METRIC = "macro_f1"
_SELECTING_SPLITS = {"best_validation": "validation", "oracle_best_test": "test"}


def selection_column(selection: str) -> str | None:
    """Return the column of the curves whose first best value chooses the reported round, or None."""
    split = _SELECTING_SPLITS.get(selection)
    return None if split is None else f"{split}_{SELECTION_METRIC}"


def reported_round(curves: Sequence[Mapping[str, Any]], selection: str) -> int:
    """Return the index of the round that a training with this selection reports."""
    column, best = selection_column(selection), len(curves) - 1
    if column is None:
        return best
    best = 0
    for index, row in enumerate(curves):
        if is_better(SELECTION_METRIC, row[column], curves[best][column]):
            best = index
    return best


METRICS = {
    "accuracy": Metric(
        label="accuracy",
        is_higher_better=True,
        of_confusion=lambda confusion: float(confusion.hits_K.sum() / confusion.num_images),
        low=0,
        high=1,
        shown=HEADLINE,
    ),
    "balanced_accuracy": Metric(
        label="balanced accuracy",
        is_higher_better=True,
        of_confusion=lambda confusion: float(confusion.recall_K.mean()),
        low=0,
        high=1,
        shown=FILES,
    ),
    "macro_f1": Metric(
        label="macro F1",
        is_higher_better=True,
        of_confusion=lambda confusion: float(confusion.f1_K.mean()),
        low=0,
        high=1,
        shown=HEADLINE,
    ),
    "weighted_f1": Metric(
        label="weighted F1",
        is_higher_better=True,
        of_confusion=lambda confusion: float(np.average(confusion.f1_K, weights=confusion.true_K)),
        low=0,
        high=1,
        shown=FILES,
    ),
    "loss": Metric(label="loss", is_higher_better=False, shown=HEADLINE),  # measured during training
    "nll": Metric(label="negative log likelihood", is_higher_better=False, of_probabilities=_nll, low=0),
    "brier": Metric(label="Brier score", is_higher_better=False, of_probabilities=_brier, low=0, high=2),
    "ece": Metric(
        label="expected calibration error",
        is_higher_better=False,
        of_probabilities=_ece,
        low=0,
        high=1,
    ),
    "worst_class_recall": Metric(
        label="worst-class recall",
        is_higher_better=True,
        of_confusion=lambda confusion: float(confusion.recall_K.min()),
        low=0,
        high=1,
    ),
    "num_dead_classes": Metric(
        label="dead classes",
        is_higher_better=False,
        of_confusion=lambda confusion: float((confusion.recall_K == 0).sum()),
        low=0,
    ),
}

check_labels(METRICS)
