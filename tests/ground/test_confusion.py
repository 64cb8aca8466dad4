"""A confusion matrix by its cells equals the matrix, and takes what its images take, not its classes."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from lt_rebalance.ground.confusion import MAX_DETAILED, SPARSE_ROW, Confusion
from lt_rebalance.ground.metrics import confusion_metrics, precision_recall_counts

WIDE = 1000


def draw_wide(num_images: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and random predictions of many classes: as many cells as there can be."""
    rng = np.random.default_rng(0)
    return np.arange(num_images) % WIDE, rng.integers(WIDE, size=num_images)


def test_wide_confusion_agrees_with_scikit_learn() -> None:
    labels_N, predictions_N = draw_wide()
    confusion = Confusion.of_predictions(labels_N, predictions_N.astype(np.uint16), WIDE)
    expected_KK = sk.confusion_matrix(labels_N, predictions_N, labels=range(WIDE))
    assert (confusion.to_matrix() == expected_KK).all()
    options = {"labels": range(WIDE), "average": None, "zero_division": 0}
    recall_K = sk.recall_score(labels_N, predictions_N, **options)
    assert confusion.recall_K == pytest.approx(recall_K, rel=1e-12)
    assert confusion.f1_K == pytest.approx(sk.f1_score(labels_N, predictions_N, **options), rel=1e-12)
    assert confusion_metrics(confusion) == confusion_metrics(Confusion.of_matrix(expected_KK))


def test_rows_of_a_wide_confusion_by_hand() -> None:
    labels_N = np.array([0, 0, 0, 2, 2])
    predictions_N = np.array([403, 17, 403, 0, 0])
    rows = Confusion.of_predictions(labels_N, predictions_N, 500).to_rows()
    assert rows[:4] == ("17 403:2", "", "0:2", "")
    assert len(rows) == 500 and set(rows[4:]) == {""}


@pytest.mark.parametrize("num_classes", [3, MAX_DETAILED, MAX_DETAILED + 1])
def test_rows_are_read_as_they_were_written(num_classes: int) -> None:
    rng = np.random.default_rng(1)
    labels_N, predictions_N = rng.integers(num_classes, size=(2, 400))
    confusion = Confusion.of_predictions(labels_N, predictions_N, num_classes)
    rows = confusion.to_rows()
    is_sparse = num_classes > MAX_DETAILED
    assert {type(row) for row in rows} == {str if is_sparse else list}
    assert all(SPARSE_ROW.fullmatch(row) for row in rows if isinstance(row, str))
    again = Confusion.from_rows(json.loads(json.dumps(rows)))
    assert (again.to_matrix() == confusion.to_matrix()).all()
    assert again.to_rows() == rows


def test_most_classes_there_can_be_take_no_matrix() -> None:
    labels_N = np.array([0, 65_535, 65_535])
    confusion = Confusion.of_predictions(labels_N, np.array([65_535, 65_535, 0], dtype=np.uint16), 65_536)
    assert len(confusion.counts_M) == 3
    assert confusion.recall_K[[0, 1, -1]].tolist() == [0, 0, 0.5]
    assert confusion_metrics(confusion)["accuracy"] == pytest.approx(1 / 3)


def test_precision_recall_counts_of_many_classes_equal_comparisons_with_thresholds() -> None:
    rng = np.random.default_rng(2)
    logits_NK = 4 * rng.normal(size=(300, 60))
    probabilities_NK = np.exp(logits_NK) / np.exp(logits_NK).sum(axis=1, keepdims=True)
    labels_N = rng.integers(60, size=300)
    counts_K2T = precision_recall_counts(probabilities_NK, labels_N)
    is_class_NK = labels_N[:, None] == np.arange(60)
    for index, threshold in enumerate(np.linspace(0, 1, 51)):
        is_positive_NK = probabilities_NK >= threshold
        assert (counts_K2T[:, 0, index] == (is_positive_NK & is_class_NK).sum(axis=0)).all()
        assert (counts_K2T[:, 1, index] == (is_positive_NK & ~is_class_NK).sum(axis=0)).all()
