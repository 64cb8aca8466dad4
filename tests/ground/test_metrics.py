"""Checks of the metrics: by hand, against scikit-learn, and one contract over each registry."""

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from lt_rebalance.ground.confusion import Confusion
from lt_rebalance.ground.metrics import (
    ECE_BINS,
    METRICS,
    NUM_THRESHOLDS,
    Metric,
    check_labels,
    confusion_metrics,
    precision_recall_counts,
    probability_metrics,
)

OF_CONFUSION = [name for name, metric in METRICS.items() if metric.of_confusion]
OF_PROBABILITIES = [name for name, metric in METRICS.items() if metric.of_probabilities]

K = 10
# Classes 0, 1, 2 with 4, 3, 3 images:
#   0 -> 3 right, 1 taken for 1; 1 -> 1 right, 2 taken for 0; 2 -> none right, 1 taken for 0, 2 for 1.
HAND_LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
HAND_PREDICTIONS = np.array([0, 0, 0, 1, 1, 0, 0, 0, 1, 1])
HAND_MATRIX = [[3, 1, 0], [2, 1, 0], [1, 2, 0]]
HAND_CONFUSION = Confusion.of_matrix(np.array(HAND_MATRIX))


def _zero(*_: object) -> float:
    return 0.0


def draw_predictions(case: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return labels and predictions of 10 classes, about 40 % of them right."""
    rng = np.random.default_rng(0)
    labels_N = rng.integers(K, size=500)
    predictions_N = np.where(rng.random(500) < 0.4, labels_N, rng.integers(K, size=500))
    if case == "dead":  # classes 3 and 7: predicted, but never rightly
        predictions_N = np.where(
            np.isin(predictions_N, [3, 7]) & (labels_N == predictions_N), 0, predictions_N
        )
    if case == "never predicted":
        predictions_N = np.where(np.isin(predictions_N, [2, 9]), 0, predictions_N)
    if case == "one answer":
        predictions_N = np.full(500, 4)
    return labels_N, predictions_N


def balanced_confusion() -> Confusion:
    """Return a confusion matrix of 20 test images per class."""
    rng = np.random.default_rng(1)
    rows = [np.bincount(rng.integers(K, size=20), minlength=K) for _ in range(K)]
    return Confusion.of_matrix(np.stack(rows))


def test_confusion_matrix_has_true_classes_as_rows() -> None:
    confusion = Confusion.of_predictions(HAND_LABELS, HAND_PREDICTIONS, 3)
    assert confusion.to_matrix().tolist() == HAND_MATRIX


def test_confusion_matrix_of_bytes_counts_like_integers() -> None:
    labels_N, predictions_N = draw_predictions("plain")
    expected = sk.confusion_matrix(labels_N, predictions_N, labels=range(K))
    confusion = Confusion.of_predictions(labels_N, predictions_N.astype(np.uint8), K)
    assert confusion.to_matrix().tolist() == expected.tolist()


def test_confusion_matrix_keeps_classes_that_never_occur() -> None:
    confusion_KK = Confusion.of_predictions(np.array([0, 0]), np.array([0, 1]), 4).to_matrix()
    assert confusion_KK.shape == (4, 4)
    assert confusion_KK.sum() == 2


def test_recall_of_hand_made_confusion() -> None:
    assert HAND_CONFUSION.recall_K.tolist() == [3 / 4, 1 / 3, 0]


def test_precision_of_hand_made_confusion_is_zero_where_never_predicted() -> None:
    assert HAND_CONFUSION.precision_K.tolist() == [3 / 6, 1 / 4, 0]


def test_f1_of_hand_made_confusion() -> None:
    # 2 * right / (images + predictions): 6 / (4 + 6), 2 / (3 + 4), 0 / (3 + 0)
    assert HAND_CONFUSION.f1_K.tolist() == [6 / 10, 2 / 7, 0]


def test_confusion_metrics_of_hand_made_confusion() -> None:
    expected = {
        "accuracy": 4 / 10,
        "balanced_accuracy": (3 / 4 + 1 / 3) / 3,
        "macro_f1": (6 / 10 + 2 / 7) / 3,
        "weighted_f1": (4 * 6 / 10 + 3 * 2 / 7) / 10,
        "worst_class_recall": 0,
        "num_dead_classes": 1,
    }
    values = confusion_metrics(HAND_CONFUSION)
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("case", ["plain", "dead", "never predicted", "one answer"])
def test_metrics_agree_with_scikit_learn(case: str) -> None:
    labels_N, predictions_N = draw_predictions(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"labels": range(K), "zero_division": 0}
        recall_K = sk.recall_score(labels_N, predictions_N, average=None, **options)
        precision_K = sk.precision_score(labels_N, predictions_N, average=None, **options)
        f1_K = sk.f1_score(labels_N, predictions_N, average=None, **options)
        expected = {
            "accuracy": sk.accuracy_score(labels_N, predictions_N),
            "balanced_accuracy": sk.balanced_accuracy_score(labels_N, predictions_N),
            "macro_f1": sk.f1_score(labels_N, predictions_N, average="macro", **options),
            "weighted_f1": sk.f1_score(labels_N, predictions_N, average="weighted", **options),
            "worst_class_recall": min(recall_K),
            "num_dead_classes": sum(recall == 0 for recall in recall_K),
        }
    confusion = Confusion.of_predictions(labels_N, predictions_N, K)
    np.testing.assert_allclose(confusion.recall_K, recall_K, rtol=1e-12)
    np.testing.assert_allclose(confusion.precision_K, precision_K, rtol=1e-12)
    np.testing.assert_allclose(confusion.f1_K, f1_K, rtol=1e-12)
    values = confusion_metrics(confusion)
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("case", "num_dead"), [("plain", 0), ("dead", 2), ("never predicted", 2)])
def test_num_dead_classes_counts_classes_without_a_right_answer(case: str, num_dead: int) -> None:
    assert (
        confusion_metrics(Confusion.of_predictions(*draw_predictions(case), K))["num_dead_classes"]
        == num_dead
    )


def test_macro_f1_equals_weighted_f1_on_a_balanced_test_set() -> None:
    values = confusion_metrics(balanced_confusion())
    assert values["macro_f1"] == pytest.approx(values["weighted_f1"], rel=1e-12)
    unbalanced = confusion_metrics(HAND_CONFUSION)
    assert abs(unbalanced["macro_f1"] - unbalanced["weighted_f1"]) > 0.01


def test_confusion_metrics_returns_every_metric_as_a_float() -> None:
    values = confusion_metrics(balanced_confusion())
    assert list(values) == OF_CONFUSION
    assert {type(value) for value in values.values()} == {float}


@pytest.mark.parametrize("name", OF_CONFUSION)
def test_metric_of_a_perfect_predictor_is_the_best_value(name: str) -> None:
    metric = METRICS[name]
    assert metric.of_confusion is not None
    perfect = metric.of_confusion(Confusion.of_matrix(np.diag(np.arange(1, K + 1))))
    others = [balanced_confusion(), Confusion.of_predictions(*draw_predictions("one answer"), K)]
    # Rows turned by one: every answer is wrong.
    others.append(Confusion.of_matrix(np.roll(np.diag(np.arange(1, K + 1)), 1, axis=1)))
    for confusion in others:
        value = metric.of_confusion(confusion)
        assert value <= perfect if metric.is_higher_better else value >= perfect
    worst = metric.of_confusion(others[-1])
    assert worst < perfect if metric.is_higher_better else worst > perfect


@pytest.mark.parametrize("name", OF_CONFUSION)
def test_metric_stays_in_range(name: str) -> None:
    metric = METRICS[name]
    assert metric.of_confusion is not None
    for case in ("plain", "dead", "never predicted", "one answer"):
        value = metric.of_confusion(Confusion.of_predictions(*draw_predictions(case), K))
        assert np.isfinite(value)
        assert metric.low <= value <= metric.high


def test_metric_labels_are_unique() -> None:
    labels = [metric.label for metric in METRICS.values()]
    assert len(set(labels)) == len(labels)


# Of probabilities

# Three images of three classes: right with 0.5, right with 0.7, wrong with 0.7.
HAND_PROBABILITIES = np.array([[0.5, 0.25, 0.25], [0.1, 0.7, 0.2], [0.1, 0.7, 0.2]])
HAND_TRUTH = np.array([0, 1, 2])


def draw_probabilities() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return probabilities of 10 classes, from spread out to almost certain, and labels they often hit."""
    rng = np.random.default_rng(2)
    logits_NK = rng.normal(size=(400, K)) * rng.uniform(0.1, 8, size=(400, 1))
    probabilities_NK = np.exp(logits_NK) / np.exp(logits_NK).sum(axis=1, keepdims=True)
    labels_N = np.where(rng.random(400) < 0.5, logits_NK.argmax(axis=1), rng.integers(K, size=400))
    return probabilities_NK, labels_N


def test_probability_metrics_by_hand() -> None:
    values = probability_metrics(HAND_PROBABILITIES, HAND_TRUTH)
    assert list(values) == OF_PROBABILITIES
    assert values["nll"] == pytest.approx(-np.log(0.5 * 0.7 * 0.2) / 3, rel=1e-12)
    # Squared distances: 0.5^2 + 2 * 0.25^2, 0.3^2 + 0.1^2 + 0.2^2, 0.1^2 + 0.7^2 + 0.8^2.
    assert values["brier"] == pytest.approx((0.375 + 0.14 + 1.14) / 3, rel=1e-12)
    # One image of confidence 0.5, right; two of confidence 0.7 in one bin, one of them right.
    assert values["ece"] == pytest.approx((1 * abs(1 - 0.5) + 2 * abs(0.5 - 0.7)) / 3, rel=1e-12)


def test_ece_lets_errors_within_a_bin_cancel_but_not_those_of_two_bins() -> None:
    in_one_bin = np.array([[0.75, 0.25]] * 4)
    assert probability_metrics(in_one_bin, np.array([0, 0, 0, 1]))["ece"] == 0
    in_two_bins = np.array([[0.6, 0.4], [0.9, 0.1]])
    ece = probability_metrics(in_two_bins, np.array([0, 1]))["ece"]
    assert ece == pytest.approx((0.4 + 0.9) / 2)


def test_probability_metrics_agree_with_independent_formulas() -> None:
    probabilities_NK, labels_N = draw_probabilities()
    values = probability_metrics(probabilities_NK, labels_N)
    assert values["nll"] == pytest.approx(sk.log_loss(labels_N, probabilities_NK, labels=range(K)), rel=1e-9)
    brier = K * sk.mean_squared_error(np.eye(K)[labels_N], probabilities_NK)
    assert values["brier"] == pytest.approx(brier, rel=1e-12)
    confidence_N, is_hit_N = probabilities_NK.max(axis=1), probabilities_NK.argmax(axis=1) == labels_N
    ece, num_bins = 0.0, 0
    for index in range(ECE_BINS):
        in_bin_N = (confidence_N > index / ECE_BINS) & (confidence_N <= (index + 1) / ECE_BINS)
        if in_bin_N.any():
            num_bins += 1
            ece += in_bin_N.mean() * abs(is_hit_N[in_bin_N].mean() - confidence_N[in_bin_N].mean())
    assert values["ece"] == pytest.approx(ece, rel=1e-12)
    assert num_bins > 5  # or this test could not tell bins apart


@pytest.mark.parametrize("name", ["nll", "brier", "ece"])
def test_probability_metric_of_certain_answers_is_zero_when_right_and_finite_when_wrong(name: str) -> None:
    compute = METRICS[name].of_probabilities
    assert compute is not None
    certain_NK = np.eye(K)
    assert compute(certain_NK, np.arange(K)) == 0
    wrong = compute(certain_NK, np.roll(np.arange(K), 1))
    assert type(wrong) is float
    assert np.isfinite(wrong)
    assert wrong >= 1


# Precision and recall by threshold


def test_precision_recall_counts_equal_comparisons_with_every_threshold() -> None:
    rng = np.random.default_rng(5)
    logits_NK = 3 * rng.normal(size=(300, 4))
    probabilities_NK = np.exp(logits_NK) / np.exp(logits_NK).sum(axis=1, keepdims=True)
    probabilities_NK[:3] = [[1, 0, 0, 0], [0.02, 0.98, 0, 0], [0.5, 0.5, 0, 0]]  # on thresholds
    labels_N = rng.integers(4, size=300)
    counts_K2T = precision_recall_counts(probabilities_NK, labels_N)
    for label in range(4):
        for index, threshold in enumerate(np.linspace(0, 1, NUM_THRESHOLDS)):
            is_positive_N = probabilities_NK[:, label] >= threshold
            expected = [
                (is_positive_N & (labels_N == label)).sum(),
                (is_positive_N & (labels_N != label)).sum(),
            ]
            assert counts_K2T[label, :, index].tolist() == expected


def test_precision_recall_counts_at_threshold_zero_are_all_images() -> None:
    counts_K2T = precision_recall_counts(np.full((10, 3), 1 / 3), HAND_LABELS)
    assert counts_K2T[:, :, 0].tolist() == [[4, 6], [3, 7], [3, 7]]
    assert counts_K2T[:, :, -1].tolist() == [[0, 0]] * 3


@pytest.mark.parametrize(
    "wrong", [float("nan"), None, np.array([0.5, 0.5]), np.array(0.5), 1.5, -0.1, True, "1"]
)
def test_value_of_a_registered_metric_that_is_no_number_of_its_range_is_refused(
    wrong: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    common: dict[str, Any] = {"is_higher_better": True, "low": 0, "high": 1}
    said = "metric new must give a number from 0 to 1, got "
    monkeypatch.setitem(METRICS, "new", Metric(label="new", of_confusion=lambda _: wrong, **common))
    with pytest.raises(ValueError, match=said):
        confusion_metrics(HAND_CONFUSION)
    monkeypatch.setitem(METRICS, "new", Metric(label="new", of_probabilities=lambda *_: wrong, **common))
    with pytest.raises(ValueError, match=said):
        probability_metrics(HAND_PROBABILITIES, HAND_TRUTH)


def test_two_metrics_of_one_label_are_refused() -> None:
    with pytest.raises(ValueError, match="mine needs a unique label, got 'accuracy', which accuracy has"):
        check_labels(METRICS | {"mine": Metric(label="accuracy", is_higher_better=True)})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"label": " "}, "a metric needs a label"),
        ({"low": 1, "high": 1}, "with low below high, got 1 to 1"),
        ({"high": float("nan")}, "must be finite"),
        ({"high": float("inf")}, "must be finite"),
        ({"shown": "everywhere"}, "unknown place 'everywhere' of metric 'new'; known: headline"),
        ({"of_confusion": _zero, "of_probabilities": _zero}, "got both"),
    ],
)
def test_entry_that_contradicts_itself_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Metric(**{"label": "new", "is_higher_better": True, **wrong})
