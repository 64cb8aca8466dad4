"""Checks of mixup: means of images by hand, shares of labels, one draw per step."""

import numpy as np
import pytest
import torch

from lt_rebalance.ground.seeding import numpy_stream
from lt_rebalance.methods.mixup import MixupOptions
from lt_rebalance.methods.registry import METHODS, MethodConfig
from lt_rebalance.training.method import MethodInTraining
from tests.methods.toy import configure, make_training

pytestmark = pytest.mark.usefixtures("one_thread")

MIX = METHODS["mixup"].mix


def test_images_and_labels_of_a_batch_are_mixed_by_hand() -> None:
    images_LBCHW = torch.tensor([[0.0, 1.0], [10.0, 20.0]]).view(2, 2, 1, 1, 1)
    mixed = MIX.apply(
        images_LBCHW,
        torch.tensor([[0, 1], [2, 3]]),
        torch.tensor([[0.75, 0.25], [0.5, 1.0]]),
        torch.tensor([[1, 0], [1, 0]]),
    )
    assert mixed.images_LBCHW.flatten().tolist() == [0.25, 0.25, 15.0, 20.0]
    assert mixed.labels_LBP.tolist() == [[[0, 1], [1, 0]], [[2, 3], [3, 2]]]
    assert mixed.weights_LBP.tolist() == [[[0.75, 0.25], [0.25, 0.75]], [[0.5, 0.5], [1.0, 0.0]]]


def test_loss_equals_that_of_mixed_labels() -> None:
    """Cross-entropy against a soft label is computed by torch in one piece."""
    generator = torch.Generator().manual_seed(0)
    images_LBCHW = torch.randn(2, 5, 1, 2, 2, generator=generator)
    labels_LB = torch.randint(4, (2, 5), generator=generator)
    draws = [MIX.draw(numpy_stream(seed, MIX.stream, 0), 5, MixupOptions()) for seed in (0, 1)]
    extras = [torch.from_numpy(np.stack(each)) for each in zip(*draws, strict=True)]
    extras[0] = extras[0].float()
    method = MethodInTraining(configure("mixup"), "cross_entropy")
    mixed = method.mix(images_LBCHW, labels_LB, torch.ones(2, 4), extras)
    logits_LBK = torch.randn(2, 5, 4, generator=generator)
    found_LB = method.losses(logits_LBK, labels_LB, torch.ones(2, 4), extras, mixed)
    weights_LB1 = extras[0].unsqueeze(-1)
    one_hot_LBK = torch.nn.functional.one_hot(labels_LB, 4).float()
    others_LBK = torch.stack(
        [one_hot_BK[order_B] for one_hot_BK, order_B in zip(one_hot_LBK, extras[1], strict=True)]
    )
    soft_LBK = weights_LB1 * one_hot_LBK + (1 - weights_LB1) * others_LBK
    expected_N = torch.nn.functional.cross_entropy(
        logits_LBK.flatten(0, 1), soft_LBK.flatten(0, 1), reduction="none"
    )
    torch.testing.assert_close(found_LB.flatten(), expected_N)


@pytest.mark.parametrize(("alpha", "variance"), [(1.0, 1 / 12), (0.2, 0.25 / 1.4)])
def test_weights_come_from_the_beta_distribution(alpha: float, variance: float) -> None:
    weights_B, partners_B = MIX.draw(numpy_stream(0, MIX.stream, 0), 20_000, MixupOptions(alpha=alpha))
    assert weights_B.mean() == pytest.approx(0.5, abs=0.02)
    assert weights_B.var() == pytest.approx(variance, rel=0.05)
    assert sorted(partners_B.tolist()) == list(range(20_000))


def test_a_step_draws_the_same_whichever_steps_are_read_before_it() -> None:
    training = make_training(configure("mixup"))
    method = MethodInTraining(configure("mixup"), "cross_entropy")
    straight = [
        [each.tolist() for each in of_step] for of_step in method.read_extras(training.lanes, range(70))
    ]
    later = [
        [each.tolist() for each in of_step] for of_step in method.read_extras(training.lanes, range(40, 70))
    ]
    assert straight[40:] == later
    assert straight[0] != straight[3]


def test_alpha_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="alpha must be above 0, got 0"):
        MethodConfig(name="mixup", draw=None, options={"alpha": 0})
    with pytest.raises(ValueError, match=r"method\.options\.alpha must be a value of type float, got 'much'"):
        MethodConfig(name="mixup", draw=None, options={"alpha": "much"})
