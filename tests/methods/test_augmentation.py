"""Checks of augmentation as a method: shifts, mirrors and rectangles by hand."""

import numpy as np
import pytest
import torch

from lt_rebalance.ground.seeding import numpy_stream
from lt_rebalance.methods.registry import METHODS, MethodConfig
from tests.methods.toy import configure, finish, make_training

pytestmark = pytest.mark.usefixtures("one_thread")

MIX = METHODS["augmentation"].mix
IMAGE = torch.arange(1.0, 10.0).view(3, 3)


def change(
    shift: tuple[int, int] = (0, 0),
    middle: tuple[float, float] = (0.5, 0.5),
    sides: tuple[float, float] = (0.0, 0.0),
    *,
    mirrored: bool = False,
) -> list[list[float]]:
    drawn = [torch.tensor([[each]]) for each in (shift, mirrored, sides, middle)]
    mixed = MIX.apply(IMAGE.view(1, 1, 1, 3, 3), torch.tensor([[4]]), *drawn)
    assert (mixed.labels_LBP.tolist(), mixed.weights_LBP.tolist()) == ([[[4]]], [[[1.0]]])
    found: list[list[float]] = mixed.images_LBCHW[0, 0, 0].tolist()
    return found


def test_image_is_shifted_and_its_border_is_empty() -> None:
    assert change() == IMAGE.tolist()
    assert change(shift=(1, 0)) == [[-1, -1, -1], [1, 2, 3], [4, 5, 6]]
    assert change(shift=(0, -1)) == [[2, 3, -1], [5, 6, -1], [8, 9, -1]]
    assert change(shift=(-1, 1)) == [[-1, 4, 5], [-1, 7, 8], [-1, -1, -1]]


def test_image_is_mirrored_left_to_right_before_it_is_shifted() -> None:
    assert change(mirrored=True) == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]
    assert change(mirrored=True, shift=(0, 1)) == [[-1, 3, 2], [-1, 6, 5], [-1, 9, 8]]


def test_rectangle_is_grey_and_cut_off_at_the_border() -> None:
    assert change(sides=(1 / 3, 2 / 3)) == [[1, 2, 3], [0, 0, 6], [7, 8, 9]]
    assert change(sides=(1.0, 1 / 3), middle=(0.0, 0.99)) == [[1, 2, 0], [4, 5, 0], [7, 8, 9]]


def test_draws_keep_to_their_ranges() -> None:
    options = configure("augmentation", shift=3, erasing=0.25, flip=True).options
    shifts_B2, is_mirrored_B, sides_B2, middles_B2 = MIX.draw(numpy_stream(0, MIX.stream, 0), 20_000, options)
    assert np.unique(shifts_B2).tolist() == list(range(-3, 4))
    assert is_mirrored_B.mean() == pytest.approx(0.5, abs=0.02)
    areas_B = sides_B2.prod(axis=1)
    assert (areas_B > 0).mean() == pytest.approx(0.25, abs=0.02)
    assert (areas_B[areas_B > 0].min(), areas_B.max()) == pytest.approx((0.02, 0.4), abs=1e-3)
    assert middles_B2.min() >= 0 and middles_B2.max() < 1


def test_images_are_mirrored_only_where_that_is_asked_for() -> None:
    options = configure("augmentation").options
    assert not MIX.draw(numpy_stream(0, MIX.stream, 0), 100, options)[1].any()


def test_augmentation_that_changes_nothing_is_no_method() -> None:
    nothing = finish(make_training(configure("augmentation", shift=0, erasing=0.0)))
    assert nothing.lanes[0].curves == finish(make_training(configure("none"))).lanes[0].curves


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shift": -1}, "shift must be at least 0, got -1"),
        ({"erasing": 1.5}, "erasing must be at least 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MethodConfig(name="augmentation", draw=None, options=options)
