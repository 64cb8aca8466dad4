"""Checks of what a filter keeps of synthetic images, on images of one pixel that is its own logit."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from lt_rebalance.generation.filtering import draw_filtered


class Sign(nn.Module):
    """Takes an image for class 1 where its one pixel is above 0, and for class 0 where it is below."""

    def forward(self, images_NCHW: Tensor) -> Tensor:
        value_N = images_NCHW.flatten()
        return torch.stack([-value_N, value_N], dim=1)


class Drawn:
    """Hands out prepared pixels, a list a draw, and keeps what it was asked for."""

    def __init__(self, *pixels: list[float]) -> None:
        self._pixels: Iterator[list[float]] = iter(pixels)
        self.asked: list[list[int]] = []

    def __call__(self, labels_N: Tensor) -> Tensor:
        self.asked.append(labels_N.tolist())
        return torch.tensor(next(self._pixels)).reshape(-1, 1, 1, 1)


def test_a_place_keeps_its_accepted_draw_and_others_are_drawn_again() -> None:
    # Class 0 accepts values below 0: the second image is wrong twice, then right. The image of class 1 is
    # right at its first draw.
    draw = Drawn([-1.0, 0.5, 0.3], [0.6], [-0.1])
    made, quality = draw_filtered(draw, Sign(), torch.tensor([0, 0, 1]), 10, 3)
    assert draw.asked == [[0, 0, 1], [0], [0]]
    assert made.flatten().tolist() == pytest.approx([-1.0, -0.1, 0.3])
    assert quality == {"filter_acceptance": [0.5, 1.0, None], "filter_agreement": [1.0, 1.0, None]}


def test_at_the_cap_the_draw_that_comes_nearest_stays() -> None:
    draw = Drawn([0.9, -1.0], [0.2], [0.4])
    made, quality = draw_filtered(draw, Sign(), torch.tensor([0, 0]), 3, 2)
    assert made.flatten().tolist() == pytest.approx([0.2, -1.0])
    assert quality == {"filter_acceptance": [0.25, None], "filter_agreement": [0.5, None]}


def test_accepted_draw_stays_where_a_rejected_one_had_a_higher_probability() -> None:
    # Of three classes the first has 0.45 and loses to 0.55, and then 0.4 and wins.
    shares = [torch.tensor([[0.45, 0.55, 1e-9]]), torch.tensor([[0.4, 0.3, 0.3]])]
    drawn = iter(share.log().reshape(1, 3, 1, 1) for share in shares)
    made, quality = draw_filtered(lambda _: next(drawn), nn.Flatten(), torch.tensor([0]), 2, 3)
    assert torch.equal(made.flatten(), shares[1].log().flatten())
    assert quality["filter_acceptance"] == [0.5, None, None]


def test_one_attempt_is_what_was_drawn() -> None:
    draw = Drawn([0.9, -1.0])
    made, quality = draw_filtered(draw, Sign(), torch.tensor([0, 1]), 1, 2)
    assert made.flatten().tolist() == pytest.approx([0.9, -1.0])
    assert quality == {"filter_acceptance": [0.0, 0.0], "filter_agreement": [0.0, 0.0]}


def test_network_is_asked_in_evaluation() -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(1), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        network[2].weight.copy_(torch.tensor([[-1.0], [1.0]]))
    draw = Drawn([3.0, 4.0])
    # Of this batch alone the first is below the mean, and would be of class 0.
    _, quality = draw_filtered(draw, network, torch.tensor([1, 1]), 1, 2)
    assert quality["filter_acceptance"] == [None, 1.0]
