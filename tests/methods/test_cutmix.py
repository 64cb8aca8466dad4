"""Checks of CutMix and Remix: rectangles and shares by hand, and weights late in training."""

import numpy as np
import pytest
import torch

from lt_rebalance.ground.seeding import numpy_stream
from lt_rebalance.methods.registry import METHODS, MethodConfig
from lt_rebalance.training.method import MethodInTraining
from tests.methods.toy import configure

CUT = METHODS["cutmix"].mix
LATE_BY_NAME = {"mixup_drw": "mixup", "cutmix_drw": "cutmix", "remix_drw": "remix"}


def cut(weights: list[float], rows: list[float], columns: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix a black and a white image of 4 x 4; return the images and the shares of their own labels."""
    images_LBCHW = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)]).unsqueeze(0)
    drawn = [torch.tensor([each]) for each in (weights, [1, 0], rows, columns)]
    mixed = CUT.apply(images_LBCHW, torch.tensor([[0, 1]]), *drawn)
    assert mixed.labels_LBP.tolist() == [[[0, 1], [1, 0]]]
    assert mixed.weights_LBP.sum(dim=-1).flatten().tolist() == [1, 1]
    return mixed.images_LBCHW[0, :, 0], mixed.weights_LBP[0, :, 0]


def test_rectangle_has_its_share_of_the_area_by_hand() -> None:
    """A share of 1/4 is a square of side 2; with its middle in row 2, column 2 it covers rows 1 and 2."""
    images_BHW, shares_B = cut([0.75, 0.75], [0.5, 0.5], [0.5, 0.5])
    assert images_BHW[0].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert torch.equal(images_BHW[1], 1 - images_BHW[0])
    assert shares_B.tolist() == [0.75, 0.75]


def test_rectangle_that_leaves_the_image_is_cut_off_and_labels_go_by_what_is_left() -> None:
    images_BHW, shares_B = cut([0.75, 1.0], [0.0, 0.5], [0.0, 0.5])
    assert images_BHW[0].tolist() == [[1, 0, 0, 0], *[[0, 0, 0, 0]] * 3]
    assert bool((images_BHW[1] == 1).all())
    assert shares_B.tolist() == [15 / 16, 1.0]


def test_what_is_drawn_covers_the_image() -> None:
    options = configure("cutmix").options
    weights_B, partners_B, rows_B, columns_B = CUT.draw(numpy_stream(0, CUT.stream, 0), 20_000, options)
    assert weights_B.mean() == pytest.approx(0.5, abs=0.02)
    assert sorted(partners_B.tolist()) == list(range(20_000))
    for places_B in (rows_B, columns_B):
        assert places_B.min() >= 0 and places_B.max() < 1 and places_B.mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ((30, 10), 0.4, 0.0),  # three times as many, and less of the image: the rarer takes the label
        ((29, 10), 0.4, 0.4),
        ((30, 10), 0.5, 0.5),
        ((10, 30), 0.6, 1.0),
        ((10, 29), 0.6, 0.6),
        ((10, 30), 0.5, 0.5),
    ],
)
def test_label_goes_to_the_rarer_class(counts: tuple[int, int], share: float, expected: float) -> None:
    found_LBP = METHODS["remix"].mix.reweigh(
        torch.tensor([[[share, 1 - share]]]),
        torch.tensor([[[0, 1]]]),
        torch.tensor([counts]),
        configure("remix").options,
    )
    assert found_LBP.flatten().tolist() == pytest.approx([expected, 1 - expected])


def test_remix_that_never_moves_a_label_is_mixup() -> None:
    """No share is below a tau of 0."""
    generator = torch.Generator().manual_seed(0)
    images_LBCHW = torch.randn(1, 4, 1, 2, 2, generator=generator)
    labels_LB, counts_LK = torch.tensor([[0, 1, 1, 2]]), torch.tensor([[50, 5, 1]])
    extras = [torch.tensor([[0.1, 0.4, 0.6, 0.9]]), torch.tensor([[3, 2, 1, 0]])]
    mixed = [
        MethodInTraining(config, "cross_entropy").mix(images_LBCHW, labels_LB, counts_LK, extras)
        for config in (configure("mixup"), configure("remix", tau=0.0), configure("remix"))
    ]
    assert all(torch.equal(one, two) for one, two in zip(mixed[0], mixed[1], strict=True))
    assert not torch.equal(mixed[0].weights_LBP, mixed[2].weights_LBP)


@pytest.mark.parametrize("name", LATE_BY_NAME)
def test_weights_come_late(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits_LBK = torch.randn(1, 5, 3, generator=generator)
    labels_LB, counts_LK = torch.tensor([[0, 0, 1, 2, 2]]), torch.tensor([[50, 5, 1]])
    drawn = METHODS[name].mix.draw(np.random.default_rng(0), 5, configure(name).options)
    extras = [MethodInTraining.to_tensor(each[None], torch.device("cpu")) for each in drawn]
    found = {}
    for method, progress in ((LATE_BY_NAME[name], None), (name, 0.79), (name, 0.8)):
        acting = MethodInTraining(configure(method), "cross_entropy")
        told = extras if progress is None else [torch.tensor(progress), *extras]
        mixed = acting.mix(torch.randn(1, 5, 1, 4, 4, generator=generator), labels_LB, counts_LK, told)
        found[progress] = acting.losses(logits_LBK, labels_LB, counts_LK, told, mixed)
    torch.testing.assert_close(found[0.79], found[None])
    assert not torch.allclose(found[0.8], found[None])


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("cutmix", {"alpha": 0.0}, "alpha must be above 0"),
        *((name, {"kappa": 0.5}, "kappa must be at least 1") for name in ("remix", "remix_drw")),
        *((name, {"tau": 1.5}, "tau must be at least 0 and at most 1") for name in ("remix", "remix_drw")),
        *((name, {"beta": 1.0}, "beta must be at least 0 and below 1") for name in LATE_BY_NAME),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, float], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        MethodConfig(name=name, draw=None, options=options)
