"""Checks of LDAM, its weights late in training, and the head that answers with cosines."""

import math

import pytest
import torch
from torch import nn

from lt_rebalance.methods.registry import METHODS, MethodConfig
from lt_rebalance.networks.heads import CosineLinear
from tests.methods.toy import configure, finish, make_training

pytestmark = pytest.mark.usefixtures("one_thread")

EARLY, LATE = torch.tensor(0.79), torch.tensor(0.8)


def test_head_answers_with_scaled_cosines_by_hand() -> None:
    linear = nn.Linear(2, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[3.0, 0.0], [5.0, 5.0]]))
        linear.bias.fill_(7.0)
    head = CosineLinear(linear, 30.0)
    logits_NK = head(torch.tensor([[0.2, 0.0], [-4.0, 4.0]]))
    expected = [30.0, 30 / math.sqrt(2), -30 / math.sqrt(2), 0.0]
    assert logits_NK.flatten().tolist() == pytest.approx(expected, abs=1e-5)
    assert head.weight.norm(dim=1).tolist() == pytest.approx([1.0, 1.0])


def test_margin_is_the_largest_for_the_rarest_class_by_hand() -> None:
    """Counts 16 and 1: fourth roots 2 and 1, so margins 1/4 and 1/2; times 30 off the item's own class."""
    losses_LB = METHODS["ldam"].loss(
        torch.zeros(1, 2, 2),
        torch.tensor([[0, 1]]),
        torch.tensor([[16, 1]]),
        LATE,
        configure("ldam").options,
    )
    expected = [math.log1p(math.exp(7.5)), math.log1p(math.exp(15.0))]
    assert losses_LB[0].tolist() == pytest.approx(expected, rel=1e-6)


def test_ldam_without_margin_is_its_control() -> None:
    curves = [
        finish(make_training(configure(name, **options))).lanes[0].curves
        for name, options in (("ldam", {"max_margin": 0.0}), ("cosine", {}))
    ]
    assert curves[0] == curves[1]


def test_weights_come_late_and_are_those_of_the_class_balanced_loss() -> None:
    logits_LBK = torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(0))
    labels_LB, counts_LK = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[90, 3]])
    options = configure("ldam_drw", beta=0.99).options

    def find(name: str, progress: torch.Tensor) -> torch.Tensor:
        losses_LB: torch.Tensor = METHODS[name].loss(logits_LBK, labels_LB, counts_LK, progress, options)
        return losses_LB

    assert torch.equal(find("ldam_drw", EARLY), find("ldam", EARLY))
    inverse = [0.01 / (1 - 0.99**n) for n in (90, 3)]
    weights_B = torch.tensor([2 * each / sum(inverse) for each in inverse])[labels_LB]
    torch.testing.assert_close(find("ldam_drw", LATE), find("ldam", LATE) * weights_B)


def test_head_takes_the_place_of_the_last_layer_in_every_lane() -> None:
    training = make_training(configure("ldam_drw", scale=10.0), [0, 1])
    plain = make_training(configure("none"), [0, 1])
    for lane, twin in zip(training.lanes, plain.lanes, strict=True):
        head, linear = lane.network[14], twin.network[14]
        assert isinstance(head, CosineLinear) and head.scale == 10
        torch.testing.assert_close(head.weight, nn.functional.normalize(linear.weight, dim=1))
        assert torch.equal(lane.network[12].weight, twin.network[12].weight)


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("cosine", {"scale": 0.0}, "scale must be above 0"),
        ("ldam", {"max_margin": -1.0}, "max_margin must be at least 0"),
        ("ldam_drw", {"deferred": 2.0}, "deferred must be at least 0 and at most 1"),
        ("ldam_drw", {"beta": 1.0}, "beta must be at least 0 and below 1"),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, float], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        MethodConfig(name=name, draw=None, options=options)
