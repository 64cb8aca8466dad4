"""A confusion matrix, stored as its nonzero cells.

Its size grows with the number of images, not with the square of the number of classes. Shape suffixes: K
classes, N images, M nonzero cells, ordered by true class, then by prediction.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MAX_DETAILED = 100
"""up to this many classes, each is stored and shown separately: its recall in every round, its row in full,
its precision-recall curve; beyond, only the cells of the reported round are stored"""
MAX_SHOWN = 20
"""up to this many classes, each has a row in tables; beyond, groups and the worst classes are shown"""
NUM_WORST = 5
"""number of worst classes that are named when there are more"""
_CELL = r"(0|[1-9][0-9]{0,4})(:([2-9]|[1-9][0-9]{1,14}))?"
SPARSE_ROW = re.compile(rf"({_CELL}( {_CELL})*)?")
"""a row of a matrix of many classes, such as "17 403:2": one image was classified as 17, two as 403"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Confusion:
    """Images by true class and prediction."""

    num_classes: int
    true_M: IntArray
    predicted_M: IntArray
    counts_M: IntArray
    """above 0"""

    @classmethod
    def of_predictions(
        cls, labels_N: IntArray, predictions_N: NDArray[np.integer], num_classes: int
    ) -> "Confusion":
        """Count predictions against the labels of the same images."""
        pairs_N = labels_N * num_classes + predictions_N.astype(np.int64)
        pairs_M, counts_M = np.unique(pairs_N, return_counts=True)
        true_M, predicted_M = np.divmod(pairs_M, num_classes)
        return cls(num_classes=num_classes, true_M=true_M, predicted_M=predicted_M, counts_M=counts_M)

    @classmethod
    def of_matrix(cls, confusion_KK: NDArray[np.integer]) -> "Confusion":
        """Convert a matrix whose rows are true classes and whose columns are predictions."""
        true_M, predicted_M = np.nonzero(confusion_KK)
        counts_M = confusion_KK[true_M, predicted_M].astype(np.int64)
        return cls(num_classes=len(confusion_KK), true_M=true_M, predicted_M=predicted_M, counts_M=counts_M)

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int] | str]) -> "Confusion":
        """Read what `to_rows` returned."""
        if len(rows) <= MAX_DETAILED:
            return cls.of_matrix(np.array(rows))
        cells = [
            (label, *map(int, (*cell.split(":"), "1")[:2]))
            for label, row in enumerate(rows)
            if isinstance(row, str)
            for cell in row.split()
        ]
        cells_M3 = np.array(cells, dtype=np.int64).reshape(-1, 3)
        true_M, predicted_M, counts_M = cells_M3.T
        return cls(num_classes=len(rows), true_M=true_M, predicted_M=predicted_M, counts_M=counts_M)

    def to_rows(self) -> tuple[list[int], ...] | tuple[str, ...]:
        """Return a row per true class: all its counts, or beyond `MAX_DETAILED` classes a `SPARSE_ROW`."""
        if self.num_classes <= MAX_DETAILED:
            return tuple(self.to_matrix().tolist())
        rows: list[list[str]] = [[] for _ in range(self.num_classes)]
        for label, predicted, count in self._cells():
            rows[label].append(str(predicted) if count == 1 else f"{predicted}:{count}")
        return tuple(" ".join(row) for row in rows)

    def _cells(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.true_M.tolist(), self.predicted_M.tolist(), self.counts_M.tolist(), strict=True)

    def to_matrix(self) -> IntArray:
        """Return `confusion_KK`: rows are true classes, columns predictions."""
        confusion_KK = np.zeros((self.num_classes, self.num_classes), dtype=np.int64)
        confusion_KK[self.true_M, self.predicted_M] = self.counts_M
        return confusion_KK

    @property
    def num_images(self) -> int:
        """Number of images."""
        return int(self.counts_M.sum())

    @cached_property
    def true_K(self) -> IntArray:
        """Images of each class."""
        return self._count_by(self.true_M, self.counts_M)

    @cached_property
    def predicted_K(self) -> IntArray:
        """Images classified as each class."""
        return self._count_by(self.predicted_M, self.counts_M)

    @cached_property
    def hits_K(self) -> IntArray:
        """Correctly classified images of each class."""
        is_hit_M = self.true_M == self.predicted_M
        return self._count_by(self.true_M[is_hit_M], self.counts_M[is_hit_M])

    def _count_by(self, classes_M: IntArray, counts_M: IntArray) -> IntArray:
        counts_K = np.zeros(self.num_classes, dtype=np.int64)
        np.add.at(counts_K, classes_M, counts_M)
        return counts_K

    @cached_property
    def recall_K(self) -> FloatArray:
        """In [0, 1]; 0 for a class without images."""
        return _ratio(self.hits_K, self.true_K)

    @cached_property
    def precision_K(self) -> FloatArray:
        """In [0, 1]; 0 for a class that is never predicted."""
        return _ratio(self.hits_K, self.predicted_K)

    @cached_property
    def f1_K(self) -> FloatArray:
        """In [0, 1]; 0 where precision and recall are both 0."""
        return _ratio(2 * self.hits_K, self.predicted_K + self.true_K)


def _ratio(numerator_K: IntArray, denominator_K: IntArray) -> FloatArray:
    return np.divide(numerator_K, denominator_K, out=np.zeros(len(numerator_K)), where=denominator_K > 0)
