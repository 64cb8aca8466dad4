"""Checks of post-hoc logit adjustment: by hand, against balanced softmax, and in what is measured."""

import math

import numpy as np
import pytest
import torch

from lt_rebalance.methods.logit_adjustment import LogitAdjustmentOptions
from lt_rebalance.methods.registry import METHODS, MethodConfig
from tests.methods.toy import COUNTS, configure, finish, list_differences, make_training

pytestmark = pytest.mark.usefixtures("one_thread")

ADJUST = METHODS["logit_adjustment"].adjust


def test_logarithms_of_the_shares_are_taken_off_in_each_lane() -> None:
    counts_LK = torch.tensor([[6, 2], [1, 3]])
    found = ADJUST(torch.zeros(2, 1, 2).double(), counts_LK, LogitAdjustmentOptions(tau=2.0))
    expected = [-2 * math.log(share) for share in (0.75, 0.25, 0.25, 0.75)]
    assert found.flatten().tolist() == pytest.approx(expected)


def test_adjusting_undoes_what_balanced_softmax_adds() -> None:
    """At tau 1 the two are the same equation, except for a number that is the same for all classes."""
    generator = torch.Generator().manual_seed(0)
    logits_LNK, labels_LN = torch.randn(1, 6, 4, generator=generator), torch.arange(6).view(1, 6) % 4
    counts_LK = torch.tensor([COUNTS])
    adjusted_LNK = ADJUST(logits_LNK, counts_LK, LogitAdjustmentOptions())
    losses = METHODS["balanced_softmax"].loss(adjusted_LNK, labels_LN, counts_LK, torch.tensor(0.0), None)
    expected = torch.nn.functional.cross_entropy(logits_LNK[0], labels_LN[0], reduction="none")
    torch.testing.assert_close(losses[0], expected)


def test_training_is_that_of_no_method_and_what_is_measured_is_adjusted() -> None:
    training, plain = (finish(make_training(configure(name))) for name in ("logit_adjustment", "none"))
    states = [each.get_lane_state(each.lanes[0]) for each in (training, plain)]
    assert not [name for name in list_differences(*states) if ".network." in name]
    lane, twin = training.lanes[0], plain.lanes[0]
    assert [row["train_loss"] for row in lane.curves] == [row["train_loss"] for row in twin.curves]
    found, expected = (np.bincount(each.predictions_N, minlength=4) for each in (lane, twin))
    assert found[3] > expected[3]


def test_tau_of_zero_is_no_method() -> None:
    lanes = [
        finish(make_training(each)).lanes[0]
        for each in (configure("logit_adjustment", tau=0), configure("none"))
    ]
    assert lanes[0].curves == lanes[1].curves


def test_tau_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="tau must be at least 0, got -1"):
        MethodConfig(name="logit_adjustment", draw=None, options={"tau": -1})
