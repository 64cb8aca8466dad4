"""Checks of the losses that weigh: by hand, by identities, and by what torch computes in another way."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from lt_rebalance.methods.registry import METHODS, MethodConfig
from tests.methods.toy import configure

LOGITS_LBK = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
LABELS_LB = torch.tensor([[0, 0, 1, 1, 2, 2], [2, 1, 0, 0, 0, 1]])
CROSS_ENTROPY_LB = functional.cross_entropy(LOGITS_LBK.movedim(-1, 1), LABELS_LB, reduction="none")
COUNTS_LK = torch.tensor([[100, 25, 1], [4, 9, 16]])
WEIGHING = ("weighted_cross_entropy", "class_balanced", "class_balanced_focal")
DEFERRABLE = (*WEIGHING, "focal", "logit_adjusted_loss")


def find_losses(name: str, progress: float = 0.5, **options: Any) -> torch.Tensor:
    """Return `losses_LB` of the random logits above."""
    filled = configure(name, **options).options
    losses_LB: torch.Tensor = METHODS[name].loss(
        LOGITS_LBK, LABELS_LB, COUNTS_LK, torch.tensor(progress), filled
    )
    return losses_LB


def weigh_by(weights_LK: Any) -> torch.Tensor:
    """Return cross-entropies times weights that are given as lists, class by class."""
    return CROSS_ENTROPY_LB * torch.tensor(weights_LK, dtype=torch.float32).gather(1, LABELS_LB)


def test_weights_are_inverse_counts_of_mean_one() -> None:
    # 1/100, 1/25, 1/1 have the mean 0.35; 1/4, 1/9, 1/16 have 61/432.
    weights = [[0.01 / 0.35, 0.04 / 0.35, 1 / 0.35], [108 / 61, 48 / 61, 27 / 61]]
    torch.testing.assert_close(find_losses("weighted_cross_entropy"), weigh_by(weights))


def test_weights_of_the_square_root_form_by_hand() -> None:
    # 1/10, 1/5, 1 have the mean 13/30; 1/2, 1/3, 1/4 have 13/36.
    weights = [[3 / 13, 6 / 13, 30 / 13], [18 / 13, 12 / 13, 9 / 13]]
    found_LB = find_losses("weighted_cross_entropy", exponent=0.5)
    torch.testing.assert_close(found_LB, weigh_by(weights))


def test_weights_of_effective_numbers_by_hand() -> None:
    # beta 1/2: effective numbers 2 - 2^(1 - n), so 1 for one image and about 2 for many.
    inverse = [[0.5 / (1 - 0.5**n) for n in counts] for counts in COUNTS_LK.tolist()]
    weights = [[3 * each / sum(of_lane) for each in of_lane] for of_lane in inverse]
    assert weights[0] == pytest.approx([0.75, 0.75, 1.5], rel=1e-6)
    torch.testing.assert_close(find_losses("class_balanced", beta=0.5), weigh_by(weights))


@pytest.mark.parametrize(
    ("counts", "beta", "ratio"),
    # Largest over smallest weight of the paper's counts at C = 7/9 and 1/2.
    [((6000, 625), 0.9999, 7.4), ((6000, 12), 0.9999, 376), ((6000, 12), 0.999, 84), ((6000, 12), 0.99, 8.8)],
)
def test_ratio_of_weights_is_the_one_that_is_known(
    counts: tuple[int, int], beta: float, ratio: float
) -> None:
    losses_LB = METHODS["class_balanced"].loss(
        torch.zeros(1, 2, 2),
        torch.tensor([[0, 1]]),
        torch.tensor([counts]),
        torch.tensor(0.0),
        configure("class_balanced", beta=beta).options,
    )
    assert float(losses_LB[0, 1] / losses_LB[0, 0]) == pytest.approx(ratio, rel=0.01)


def test_focal_loss_by_hand() -> None:
    """With logits 0, ln 2 and ln 5 the classes have 1/8, 2/8 and 5/8."""
    logits_LBK = torch.log(torch.tensor([1.0, 2.0, 5.0])).expand(1, 3, 3)
    found = METHODS["focal"].loss(
        logits_LBK,
        torch.tensor([[0, 1, 2]]),
        torch.ones(1, 3),
        torch.tensor(0.0),
        configure("focal").options,
    )
    expected = [(7 / 8) ** 2 * math.log(8), (6 / 8) ** 2 * math.log(4), (3 / 8) ** 2 * math.log(8 / 5)]
    assert found[0].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_loss_of_an_item_that_is_surely_right_has_a_finite_slope(gamma: float) -> None:
    logits_LBK = torch.tensor([[[200.0, -200.0]]], requires_grad=True)
    one = torch.tensor([[0]]), torch.ones(1, 2), torch.tensor(0.0)
    METHODS["focal"].loss(logits_LBK, *one, configure("focal", gamma=gamma).options).sum().backward()
    assert logits_LBK.grad is not None and bool(logits_LBK.grad.isfinite().all())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("focal", {"gamma": 0.0}),
        ("class_balanced", {"beta": 0.0}),
        ("weighted_cross_entropy", {"exponent": 0.0}),
        ("logit_adjusted_loss", {"tau": 0.0}),
        ("class_balanced_focal", {"beta": 0.0, "gamma": 0.0}),
    ],
)
def test_methods_at_zero_are_cross_entropy(name: str, options: dict[str, float]) -> None:
    torch.testing.assert_close(find_losses(name, **options), CROSS_ENTROPY_LB)


def test_effective_numbers_become_counts_as_beta_goes_to_one() -> None:
    near = find_losses("class_balanced", beta=1 - 1e-9)
    torch.testing.assert_close(near, find_losses("weighted_cross_entropy"), rtol=1e-5, atol=0)


def test_class_balanced_focal_is_focal_times_the_weights() -> None:
    ratio_LB = find_losses("class_balanced", beta=0.9) / CROSS_ENTROPY_LB
    expected_LB = find_losses("focal", gamma=1.5) * ratio_LB
    torch.testing.assert_close(find_losses("class_balanced_focal", beta=0.9, gamma=1.5), expected_LB)


def test_logit_adjusted_loss_at_tau_one_is_balanced_softmax() -> None:
    assert torch.equal(find_losses("logit_adjusted_loss"), find_losses("balanced_softmax"))


def test_logit_adjusted_loss_at_another_tau_has_shares_to_that_power() -> None:
    found_LB = find_losses("logit_adjusted_loss", tau=2.0)
    weighed_LBK = COUNTS_LK.double().numpy()[:, None, :] ** 2 * np.exp(LOGITS_LBK.double().numpy())
    shares_LBK = weighed_LBK / weighed_LBK.sum(axis=-1, keepdims=True)
    own_LB1 = np.take_along_axis(shares_LBK, LABELS_LB.numpy()[..., None], axis=-1)
    np.testing.assert_allclose(found_LB.numpy(), -np.log(own_LB1[..., 0]), rtol=1e-5)


@pytest.mark.parametrize("name", DEFERRABLE)
def test_deferred_method_begins_with_the_share_that_is_asked_for(name: str) -> None:
    plain_LB = find_losses("focal", gamma=1.0) if name == "class_balanced_focal" else CROSS_ENTROPY_LB
    torch.testing.assert_close(find_losses(name, 0.79, deferred=0.8), plain_LB)
    assert torch.equal(find_losses(name, 0.8, deferred=0.8), find_losses(name))
    assert not torch.allclose(find_losses(name), plain_LB)


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        *((name, {"deferred": 1.1}, "deferred must be at least 0 and at most 1") for name in DEFERRABLE),
        ("class_balanced", {"beta": 1.0}, "beta must be at least 0 and below 1"),
        ("class_balanced_focal", {"beta": -0.1}, "beta must be at least 0 and below 1"),
        ("class_balanced_focal", {"gamma": -1.0}, "gamma must be at least 0"),
        ("focal", {"gamma": -1.0}, "gamma must be at least 0"),
        ("weighted_cross_entropy", {"exponent": -1.0}, "exponent must be at least 0"),
        ("logit_adjusted_loss", {"tau": -1.0}, "tau must be at least 0"),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, float], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        MethodConfig(name=name, draw=None, options=options)
