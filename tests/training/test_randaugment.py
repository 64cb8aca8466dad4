"""Checks of RandAugment: by hand, beside torchvision's operations, and of images in company."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import RandAugment as Torchvision

from lt_rebalance.ground.seeding import random_words, stream_key
from lt_rebalance.training.augmentation import augment
from lt_rebalance.training.lane import to_floats
from lt_rebalance.training.randaugment import OPERATIONS, RandAugment

CPU = torch.device("cpu")
SHAPES = [(3, 32, 32), (1, 28, 28), (3, 17, 23)]
MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
EXACT = (*MOVES, "identity", "posterize", "solarize", "equalize")
"""what torchvision computes in whole numbers, or moves as they are"""

pytestmark = pytest.mark.usefixtures("one_thread")


def make_levels(image_shape: tuple[int, ...], num_images: int = 6) -> Tensor:
    """Return noise, an image of few levels, one of a single level, one half flat, a ramp, and noise."""
    generator = torch.Generator().manual_seed(0)
    levels_NCHW = torch.randint(0, 256, (num_images, *image_shape), generator=generator)
    levels_NCHW[1] = levels_NCHW[1] // 4 + 60
    levels_NCHW[2] = 77
    levels_NCHW[3, :, :, : image_shape[2] // 2] = 200
    levels_NCHW[4] = torch.arange(image_shape[2]) * 5
    return levels_NCHW.to(torch.uint8)


def apply_one(levels_NCHW: Tensor, name: str, magnitude: int, sign: int = 1) -> Tensor:
    entry = 2 * OPERATIONS.index(name) + (sign < 0)
    entries_N = torch.full((len(levels_NCHW),), entry)
    changer = RandAugment(1, magnitude, tuple(levels_NCHW.shape[1:]), CPU)  # type: ignore[arg-type]
    return changer.apply(levels_NCHW.float(), entries_N)


def apply_torchvision(levels_NCHW: Tensor, name: str, magnitude: int, sign: int) -> Tensor:
    theirs = {each.lower(): each for each in Torchvision._AUGMENTATION_SPACE}[name.replace("_", "")]
    make, is_signed = Torchvision._AUGMENTATION_SPACE[theirs]
    strengths = make(31, *levels_NCHW.shape[2:])
    strength = 0.0 if strengths is None else float(strengths[magnitude]) * (sign if is_signed else 1)
    images = [
        Torchvision()._apply_image_or_video_transform(
            image, theirs, strength, interpolation=InterpolationMode.NEAREST, fill={}
        )
        for image in levels_NCHW
    ]
    return torch.stack(images).float()


@pytest.mark.parametrize("image_shape", SHAPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_is_that_of_torchvision_or_one_level_above_where_it_rounds(
    name: str, image_shape: tuple[int, ...]
) -> None:
    """At the default magnitude and at two more, at neither of which pixels lie between two."""
    levels_NCHW = make_levels(image_shape)
    for magnitude in (3, 9, 25):
        for sign in (1, -1):
            found = apply_one(levels_NCHW, name, magnitude, sign)
            above = found - apply_torchvision(levels_NCHW, name, magnitude, sign)
            assert set(above.unique().tolist()) <= ({0} if name in EXACT else {0, 1}), (magnitude, sign)
            assert (above == 0).float().mean() > 0.8  # an image of a single level is blended with itself


def test_levels_are_those_computed_by_hand() -> None:
    row = torch.tensor([0, 50, 100, 150, 200, 255], dtype=torch.uint8).expand(1, 3, 3, -1)

    def change(name: str, magnitude: int, sign: int = 1) -> list[float]:
        return apply_one(row, name, magnitude, sign)[0, 0, 0].tolist()

    assert change("brightness", 10) == [0, 65, 130, 195, 255, 255]
    assert change("brightness", 10, -1) == [0, 35, 70, 105, 140, 178]
    assert change("posterize", 30) == [0, 48, 96, 144, 192, 240]
    assert change("solarize", 10) == [0, 50, 100, 150, 55, 0]  # from 170 on
    dim = row[..., 1:4]
    assert apply_one(dim, "auto_contrast", 9)[0, 0, 0].tolist() == [0, 127, 255]
    # Its grey is 49, 99, 149, as the weights of the colours add up to 0.9999; of it, 99 is the mean.
    assert apply_one(dim, "contrast", 20)[0, 0, 0].tolist() == [20, 100, 180]
    assert apply_one(dim, "contrast", 20, -1)[0, 0, 0].tolist() == [79, 99, 119]
    red = torch.tensor([100, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(-1, -1, 3, 3)
    # The grey of it is 29: 100 + 0.3 x 71, and 0 - 0.3 x 29, which is black.
    assert apply_one(red, "color", 10)[0, :, 0, 0].tolist() == [121, 0, 0]
    assert apply_one(red, "color", 10, -1)[0, :, 0, 0].tolist() == [78, 8, 8]


def test_translation_moves_by_whole_pixels_and_leaves_black() -> None:
    """Of 20 pixels, 150 / 331 at magnitude 30 are 9."""
    levels_NCHW = make_levels((1, 20, 20))
    expected = torch.zeros(6, 1, 20, 20)
    expected[..., 9:] = levels_NCHW[..., :-9].float()
    assert torch.equal(apply_one(levels_NCHW, "translate_x", 30), expected)
    expected.zero_()[..., :-9, :] = levels_NCHW[..., 9:, :].float()
    assert torch.equal(apply_one(levels_NCHW, "translate_y", 30, -1), expected)


def test_color_does_nothing_to_grey_images() -> None:
    grey = make_levels((1, 28, 28))
    assert torch.equal(apply_one(grey, "color", 30), grey.float())


def test_every_entry_acts_on_its_own_image_alone_and_as_it_does_alone() -> None:
    """All entries together give the same bits as each alone, whatever else is in the batch."""
    images = (make_levels((3, 32, 32))[:1] // 2 + 100).expand(2 * len(OPERATIONS), -1, -1, -1)
    together = RandAugment(1, 9, (3, 32, 32), CPU).apply(images.float(), torch.arange(len(images)))
    for index, name in enumerate(OPERATIONS):
        for sign in (1, -1):
            alone = apply_one(images[:1], name, 9, sign)[0]
            assert torch.equal(together[2 * index + (sign < 0)], alone)
            assert torch.equal(alone, images[0].float()) == (name == "identity")


@pytest.mark.parametrize("image_shape", SHAPES)
def test_what_a_lane_sees_does_not_depend_on_its_company(image_shape: tuple[int, int, int]) -> None:
    changer = RandAugment(3, 12, image_shape, CPU)
    images_LBCHW = to_floats(make_levels(image_shape, 24).view(3, 8, *image_shape))
    keys_L = torch.tensor([stream_key(seed, "classifier_augmentation") for seed in (0, 1, 2)])
    names = ("crop", "flip", "randaugment", "cutout")
    together = augment(images_LBCHW, keys_L, torch.tensor(5), names, changer)
    for lane in range(3):
        alone = augment(
            images_LBCHW[lane : lane + 1], keys_L[lane : lane + 1], torch.tensor(5), names, changer
        )
        assert torch.equal(together[lane], alone[0])
    later = augment(images_LBCHW, keys_L, torch.tensor(6), names, changer)
    assert not torch.equal(together, later)


def test_images_are_changed_by_the_operations_that_their_keys_draw() -> None:
    """Operation i of an image is word i of its key, of as many entries as there are; results are bytes."""
    levels_NCHW = make_levels((3, 32, 32))
    keys_N = torch.arange(6) * 12_345
    found = RandAugment(2, 9, (3, 32, 32), CPU)(to_floats(levels_NCHW), keys_N)
    words = random_words(keys_N[:, None], torch.arange(2)) & (2**62 - 1)
    expected = levels_NCHW.float()
    for step in range(2):
        entries = [int(word) % 28 for word in words[:, step]]
        expected = torch.cat(
            [
                apply_one(expected[i : i + 1], OPERATIONS[entry // 2], 9, 1 - 2 * (entry % 2))
                for i, entry in enumerate(entries)
            ]
        )
    assert torch.equal(found, to_floats(expected.to(torch.uint8)))


def test_operations_are_equally_frequent() -> None:
    """Of 28,000 draws, each of 28 entries is drawn about 1,000 times (six deviations: 186)."""
    words = random_words(random_words(torch.tensor(7), torch.arange(14_000))[:, None], torch.arange(2))
    counts = torch.bincount((words & (2**62 - 1)).flatten() % 28, minlength=28)
    assert (counts - 1000).abs().max() < 186


def test_synthetic_images_are_rounded_to_bytes() -> None:
    images_NCHW = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(1)) * 2.2 - 1.1
    found = RandAugment(1, 9, (1, 28, 28), CPU)(images_NCHW, torch.arange(64))
    assert torch.isin(found, to_floats(torch.arange(256).to(torch.uint8))).all()
