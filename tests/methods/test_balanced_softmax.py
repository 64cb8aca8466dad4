"""Checks of balanced softmax against its equation."""

import math

import numpy as np
import pytest
import torch

from lt_rebalance.methods.registry import METHODS
from tests.methods.toy import configure, finish, make_training

pytestmark = pytest.mark.usefixtures("one_thread")

NOW = torch.tensor(0.0)


def test_loss_is_that_of_the_equation_in_each_lane() -> None:
    generator = torch.Generator().manual_seed(0)
    logits_LBK = torch.randn(2, 5, 3, generator=generator)
    labels_LB = torch.randint(3, (2, 5), generator=generator)
    counts_LK = torch.tensor([[9, 3, 1], [2, 2, 5]])
    found_LB = METHODS["balanced_softmax"].loss(logits_LBK, labels_LB, counts_LK, NOW, None)
    for lane in range(2):
        weighed_BK = counts_LK[lane].numpy() * np.exp(logits_LBK[lane].double().numpy())
        shares_BK = weighed_BK / weighed_BK.sum(axis=1, keepdims=True)
        expected_B = -np.log(shares_BK[np.arange(5), labels_LB[lane].numpy()])
        assert found_LB[lane].tolist() == pytest.approx(expected_B.tolist(), rel=1e-5)


def test_loss_of_equal_logits_is_the_surprise_at_the_class() -> None:
    counts_LK = torch.tensor([[6, 3, 1]])
    found = METHODS["balanced_softmax"].loss(torch.zeros(1, 1, 3), torch.tensor([[2]]), counts_LK, NOW, None)
    assert float(found) == pytest.approx(math.log(10))


def test_measured_loss_stays_the_one_that_the_classifier_names() -> None:
    """Before it has learned anything a network answers about evenly: ln 4 is measured, less is learned by."""
    (lane,) = finish(make_training(configure("balanced_softmax"), learning_rate=1e-9)).lanes
    assert lane.curves[-1]["test_loss"] == pytest.approx(math.log(4), abs=0.05)
    assert lane.curves[-1]["train_loss"] < math.log(4) - 0.1


def test_rare_classes_are_answered_more_often_than_by_cross_entropy() -> None:
    recalls = {}
    for name in ("none", "balanced_softmax"):
        (lane,) = finish(make_training(configure(name), counts=[(40, 20, 4, 2)])).lanes
        recalls[name] = np.bincount(lane.predictions_N, minlength=4)[2:].sum()
    assert recalls["balanced_softmax"] > recalls["none"]
