"""Checks of the losses: known values, independent formulas, one contract over LOSSES."""

import math

import numpy as np
import pytest
import torch

from lt_rebalance.methods.losses import LOSSES

# Of the double softmax of ten classes: sure and right, undecided, sure and wrong.
FLOOR, UNIFORM, CEILING = 1.4612, 2.3026, 2.4612


pytestmark = pytest.mark.usefixtures("one_thread")


def saturated(predictions_B: torch.Tensor, num_classes: int = 10) -> torch.Tensor:
    """Return logits of a network that is sure of its predictions."""
    return torch.nn.functional.one_hot(predictions_B, num_classes).float() * 1e3


def random_logits(num_items: int = 7, num_classes: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits_BK = 3 * torch.randn(num_items, num_classes, generator=generator)
    return logits_BK, torch.randint(num_classes, (num_items,), generator=generator)


def softmax(values_BK: np.ndarray) -> np.ndarray:
    exponentials = np.exp(values_BK)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_double_softmax_of_a_sure_and_right_answer_is_the_floor() -> None:
    loss = float(LOSSES["double_softmax"](saturated(torch.tensor([4])), torch.tensor([4]), "mean"))
    assert loss == pytest.approx(FLOOR, abs=5e-5)
    assert loss == pytest.approx(math.log(math.e + 9) - 1, abs=1e-6)


def test_double_softmax_of_equal_logits_is_the_logarithm_of_the_number_of_classes() -> None:
    loss = float(LOSSES["double_softmax"](torch.zeros(1, 10), torch.tensor([4]), "mean"))
    assert loss == pytest.approx(UNIFORM, abs=5e-5)
    assert loss == pytest.approx(math.log(10), abs=1e-6)


def test_double_softmax_of_a_sure_and_wrong_answer_is_the_ceiling() -> None:
    loss = float(LOSSES["double_softmax"](saturated(torch.tensor([4])), torch.tensor([5]), "mean"))
    assert loss == pytest.approx(CEILING, abs=5e-5)
    assert loss == pytest.approx(math.log(math.e + 9), abs=1e-6)


def test_double_softmax_equals_the_formula() -> None:
    logits_BK, labels_B = random_logits()
    probabilities_BK = softmax(softmax(logits_BK.double().numpy()))
    expected_B = -np.log(probabilities_BK[np.arange(7), labels_B.numpy()])
    loss = LOSSES["double_softmax"]
    assert float(loss(logits_BK, labels_B, "mean")) == pytest.approx(expected_B.mean(), rel=1e-6)
    assert float(loss(logits_BK, labels_B, "sum")) == pytest.approx(expected_B.sum(), rel=1e-6)


@pytest.mark.parametrize("num_right", [0, 1, 37, 100])
def test_double_softmax_of_a_saturated_network_is_the_ceiling_less_the_accuracy(num_right: int) -> None:
    labels_B = torch.arange(100) % 10
    predictions_B = torch.where(torch.arange(100) < num_right, labels_B, (labels_B + 1) % 10)
    loss = float(LOSSES["double_softmax"](saturated(predictions_B), labels_B, "mean"))
    assert loss == pytest.approx(CEILING - num_right / 100, abs=1e-4)


def test_double_softmax_has_no_gradient_once_saturated_while_cross_entropy_has() -> None:
    gradients = {}
    for name in ("double_softmax", "cross_entropy"):
        logits_BK = saturated(torch.tensor([4])).requires_grad_()
        LOSSES[name](logits_BK, torch.tensor([5]), "mean").backward()
        gradients[name] = float(logits_BK.grad.abs().max())
    assert gradients == {"double_softmax": 0, "cross_entropy": 1}


def test_cross_entropy_of_two_classes_by_hand() -> None:
    # Odds of 3 to 1: probabilities 3/4 and 1/4.
    logits_BK = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
    loss = LOSSES["cross_entropy"](logits_BK, torch.tensor([0, 1]), "mean")
    assert float(loss) == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, rel=1e-6)


def test_cross_entropy_equals_the_formula() -> None:
    logits_BK, labels_B = random_logits()
    expected_B = -np.log(softmax(logits_BK.double().numpy())[np.arange(7), labels_B.numpy()])
    assert float(LOSSES["cross_entropy"](logits_BK, labels_B, "sum")) == pytest.approx(expected_B.sum(), 1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_sum_is_the_mean_times_the_number_of_items(name: str) -> None:
    logits_BK, labels_B = random_logits()
    mean, total = (LOSSES[name](logits_BK, labels_B, reduction) for reduction in ("mean", "sum"))
    assert mean.shape == total.shape == ()
    assert float(total) == pytest.approx(7 * float(mean), rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_lower_for_the_right_answer_and_its_gradient_says_so(name: str) -> None:
    logits_BK = torch.tensor([[2.0, 0.0, -1.0]], requires_grad=True)
    right, wrong = (LOSSES[name](logits_BK, torch.tensor([label]), "mean") for label in (0, 2))
    assert right < wrong
    wrong.backward()
    assert logits_BK.grad[0, 2] < 0 < logits_BK.grad[0, 0]


@pytest.mark.parametrize("name", LOSSES)
def test_loss_does_not_change_when_all_logits_are_raised(name: str) -> None:
    logits_BK, labels_B = random_logits()
    raised = LOSSES[name](logits_BK + 5, labels_B, "mean")
    assert float(raised) == pytest.approx(float(LOSSES[name](logits_BK, labels_B, "mean")), rel=1e-5)
