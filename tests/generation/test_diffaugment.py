"""Checks of DiffAugment: each change on a tiny image by hand, ranges, gradients, and draws by place."""

import torch
from scipy import stats
from torch import Tensor

from lt_rebalance.generation.diffaugment import (
    NUM_DRAWS,
    DiffAugment,
    augment,
    cut_out,
    draw_uniform,
    recolour,
    translate,
)
from lt_rebalance.ground.seeding import stream_key

KEYS_L = torch.tensor([stream_key(seed, "generator_augmentation") for seed in (0, 1)])
STEP = torch.tensor(7)
SMALL = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])


def whole(*numbers: int) -> Tensor:
    return torch.tensor(numbers)


def test_translation_moves_each_image_and_fills_with_zeros() -> None:
    images = SMALL.expand(3, 1, 3, 3)
    moved = translate(images, whole(1, 0, -2), whole(0, -1, 1))
    assert moved[:, 0].tolist() == [
        [[0, 0, 0], [1, 2, 3], [4, 5, 6]],
        [[2, 3, 0], [5, 6, 0], [8, 9, 0]],
        [[0, 7, 8], [0, 0, 0], [0, 0, 0]],
    ]


def test_cutout_takes_half_a_side_and_less_at_the_border() -> None:
    """Of 4 x 3 the part is 2 x 2: sides of 2 and of 3 / 2, rounded up."""
    images = torch.ones(3, 1, 4, 3)
    cut = cut_out(images, whole(1, -1, 3), whole(0, 1, -1))
    assert cut[:, 0].tolist() == [
        [[1, 1, 1], [0, 0, 1], [0, 0, 1], [1, 1, 1]],
        [[1, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]],
        [[1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 1, 1]],
    ]


def test_colour_changes_are_counted_by_hand() -> None:
    """Two pixels of three colours, in turn: brightness, saturation, contrast, each alone."""
    pixels = torch.tensor([[0.0, 0.6], [0.3, 0.6], [0.6, 0.6]]).view(1, 3, 1, 2)
    half = torch.tensor([0.5])
    brighter = recolour(pixels, torch.tensor([0.75]), half, half)
    torch.testing.assert_close(brighter, pixels + 0.25)
    grey = recolour(pixels, half, torch.tensor([0.0]), half)
    torch.testing.assert_close(grey[0, :, 0], torch.tensor([[0.3, 0.6]] * 3))
    flat = recolour(pixels, half, half, torch.tensor([0.0]))  # half of what differs from the mean, 0.45
    torch.testing.assert_close(flat, (pixels + 0.45) / 2)


def test_extreme_draws_stay_within_the_shares_of_the_paper() -> None:
    """An image of ones of 16 x 16: moved by 2 at most, and a part of 8 x 8 at most at 0."""
    images = torch.ones(2, 1, 16, 16)
    draws = torch.zeros(2, NUM_DRAWS)
    draws[0, 3:5], draws[1, 3:5] = 0.0, 1 - 2**-24
    draws[:, 5:7] = 0.5
    first, last = augment(images, draws)[:, 0]
    assert first[14:].sum() == 0 and first[:, 14:].sum() == 0 and first[0, 0] == 1
    assert last[:2].sum() == 0 and last[:, :2].sum() == 0 and last[15, 15] == 1
    middle = torch.ones(16, 16)
    middle[4:12, 4:12] = 0
    assert torch.equal(first[:14, :14], middle[:14, :14])


def test_grey_images_keep_their_values_and_colours_do_not() -> None:
    draws = draw_uniform(KEYS_L[:1], STEP, 0, 50)[0]
    grey, colour = (torch.full((50, channels, 8, 8), 0.25) for channels in (1, 3))
    assert set(augment(grey, draws).unique().tolist()) == {0.0, 0.25}
    assert len(augment(colour, draws).unique()) > 50


def test_draws_are_uniform() -> None:
    draws = draw_uniform(KEYS_L, STEP, 0, 500).flatten().numpy()
    assert draws.min() >= 0 and draws.max() < 1
    assert stats.kstest(draws, "uniform").pvalue > 0.01


def test_every_move_and_every_place_of_the_cut_occurs_equally_often() -> None:
    """8 x 8: moves of -1, 0, 1, seen at a single bright point; centres of a part of 4 at 0 to 8."""
    point = torch.zeros(1, 1, 8, 8)
    point[..., 4, 4] = 1
    draws = draw_uniform(KEYS_L[:1], STEP, 0, 4000)[0]
    draws[:, 5:7] = 0.0  # the part is in the corner
    places = augment(point.expand(4000, 1, 8, 8), draws).flatten(1).argmax(dim=1)
    rows, counts = (places // 8).unique(return_counts=True)
    assert rows.tolist() == [3, 4, 5] and stats.chisquare(counts).pvalue > 0.01
    draws = draw_uniform(KEYS_L[:1], STEP, 0, 4000)[0]
    draws[:, 3:5] = 0.5  # no move
    left = augment(torch.ones(4000, 1, 8, 8), draws).sum(dim=(2, 3)).unique()
    assert left.tolist() == sorted({64.0 - rows * columns for rows in (2, 3, 4) for columns in (2, 3, 4)})


def test_gradients_pass_to_what_is_seen_alone() -> None:
    images = torch.rand(20, 3, 8, 8, requires_grad=True)
    changed = augment(images, draw_uniform(KEYS_L[:1], STEP, 0, 20)[0])
    changed.sum().backward()
    assert images.grad is not None
    grey = torch.rand(20, 1, 8, 8, requires_grad=True)
    seen = augment(grey, draw_uniform(KEYS_L[:1], STEP, 0, 20)[0])
    seen.sum().backward()
    assert grey.grad is not None
    assert set(grey.grad.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(grey.grad.sum(dim=(1, 2, 3)), (seen != 0).sum(dim=(1, 2, 3)).float())


def test_images_are_changed_by_lane_step_and_place_alone() -> None:
    images = torch.rand(2, 6, 1, 8, 8)
    change = DiffAugment(keys_L=KEYS_L)
    whole_batch = change(images, STEP, 0)
    for lane in (0, 1):
        alone = DiffAugment(keys_L=KEYS_L[[lane]])
        assert torch.equal(alone(images[[lane], :4], STEP, 0)[0], whole_batch[lane, :4])
        assert torch.equal(alone(images[[lane], 4:], STEP, 4)[0], whole_batch[lane, 4:])
    same = images[:1].expand(2, -1, -1, -1, -1)
    assert not torch.equal(change(same, STEP, 0)[0], change(same, STEP, 0)[1])
    assert not torch.equal(change(images, STEP + 1, 0), whole_batch)
    assert not torch.equal(change(images, STEP, 6), whole_batch)
