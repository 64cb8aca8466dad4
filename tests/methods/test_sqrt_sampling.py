"""Checks of square-root sampling, and of the order that batches take from a method."""

import numpy as np
import pytest
import torch

from lt_rebalance.methods.registry import METHODS
from tests.methods.toy import configure, make_training

pytestmark = pytest.mark.usefixtures("one_thread")


def count_drawn(training: object, num_passes: int) -> np.ndarray:
    """Return how many items of each class a lane's first passes show."""
    (lane,) = training.lanes  # type: ignore[attr-defined]
    steps = range(num_passes * lane.batches.batching.steps_per_pass)
    items_N = torch.cat([lane.batches[step] for step in steps])
    return np.bincount(lane.training_set.labels_P[items_N].numpy(), minlength=4)


def test_chances_are_square_roots() -> None:
    assert METHODS["sqrt_sampling"].order(np.array([100, 25, 4, 1]), 0.0, None).tolist() == [10, 5, 2, 1]


def test_classes_come_up_in_proportion_to_the_square_roots_of_their_counts() -> None:
    counts_K = (64, 16, 4, 1)
    drawn_K = count_drawn(make_training(configure("sqrt_sampling"), counts=[counts_K]), 40)
    expected_K = 40 * 85 * np.sqrt(counts_K) / np.sqrt(counts_K).sum()
    # Five standard deviations of a binomial count.
    assert np.all(np.abs(drawn_K - expected_K) < 5 * np.sqrt(expected_K))
    plain_K = count_drawn(make_training(configure("none"), counts=[counts_K]), 40)
    assert plain_K.tolist() == [40 * count for count in counts_K]


def test_items_of_a_class_come_up_alike() -> None:
    (lane,) = make_training(configure("sqrt_sampling"), counts=[(8, 8, 8, 8)]).lanes
    drawn_N = np.bincount(torch.cat([lane.batches[step] for step in range(400)]).numpy(), minlength=32)
    assert drawn_N.sum() == 100 * 32
    assert np.abs(drawn_N - 100).max() < 50


def test_any_step_can_be_asked_for_first() -> None:
    (lane,), (other,) = (make_training(configure("sqrt_sampling")).lanes for _ in range(2))
    in_order = [lane.batches[step].tolist() for step in range(9)]
    assert [other.batches[step].tolist() for step in reversed(range(9))] == in_order[::-1]
    assert in_order[:3] != in_order[3:6]  # every epoch is drawn again


def test_order_is_told_how_much_of_the_budget_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    method = METHODS["sqrt_sampling"]

    def note(counts_K: np.ndarray, progress: float, options: object) -> np.ndarray:
        told.append((counts_K.tolist(), progress))
        return np.ones(4)

    monkeypatch.setitem(METHODS, "sqrt_sampling", type(method)(description="notes", order=note))
    (lane,) = make_training(configure("sqrt_sampling")).lanes  # 3 steps a pass, 6 in all
    for step in (0, 2, 3, 5):
        lane.batches[step]
    assert told == [([12, 6, 3, 1], 0.0), ([12, 6, 3, 1], 0.5)]
