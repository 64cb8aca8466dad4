"""Checks of class-balanced, deferred and progressive sampling."""

import numpy as np
import pytest
import torch

from lt_rebalance.methods.registry import METHODS
from lt_rebalance.training.configs import Budget
from tests.methods.test_sqrt_sampling import count_drawn
from tests.methods.toy import configure, make_training

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS_K = np.array([60, 30, 10])


def find_chances(name: str, progress: float, **options: float) -> list[float]:
    chances_K = METHODS[name].order(COUNTS_K, progress, configure(name, **options).options)
    return (chances_K / chances_K.sum()).tolist()


def test_classes_come_up_alike() -> None:
    assert find_chances("class_balanced_sampling", 0.0) == pytest.approx([1 / 3] * 3)
    drawn_K = count_drawn(make_training(configure("class_balanced_sampling"), counts=[(64, 16, 4, 1)]), 40)
    assert drawn_K.tolist() == pytest.approx([40 * 85 / 4] * 4, rel=0.15)


def test_deferred_sampling_shows_items_alike_before() -> None:
    assert find_chances("class_balanced_sampling", 0.79, deferred=0.8) == pytest.approx([0.6, 0.3, 0.1])
    assert find_chances("class_balanced_sampling", 0.8, deferred=0.8) == pytest.approx([1 / 3] * 3)


def test_progressive_sampling_goes_from_items_to_classes() -> None:
    assert find_chances("progressive_sampling", 0.0) == pytest.approx([0.6, 0.3, 0.1])
    assert find_chances("progressive_sampling", 0.5) == pytest.approx([7 / 15, 19 / 60, 13 / 60])
    assert find_chances("progressive_sampling", 1.0) == pytest.approx([1 / 3] * 3)


def test_deferred_sampling_begins_with_a_pass_of_the_training() -> None:
    """A pass has 11 steps of 8 items, the budget 88 steps: the first four passes show items alike."""
    budget = Budget(steps=88, rounds=1)
    method = configure("class_balanced_sampling", deferred=0.5)
    (lane,) = make_training(method, counts=[(64, 16, 4, 1)], budget=budget).lanes
    labels = [lane.training_set.labels_P[lane.batches[step]] for step in range(88)]
    early_K, late_K = (np.bincount(torch.cat(part), minlength=4) for part in (labels[:44], labels[44:]))
    assert early_K.tolist() == pytest.approx([256, 64, 16, 4], abs=32)
    assert late_K.tolist() == pytest.approx([85] * 4, rel=0.3)
