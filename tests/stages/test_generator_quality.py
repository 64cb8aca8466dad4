"""Checks of the measures of a generator: hand-computed values on few pixels, generators of known images."""

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from lt_rebalance.generation.images import sample_images
from lt_rebalance.ground.metrics import COLLAPSED_BELOW
from lt_rebalance.ground.seeding import torch_stream
from lt_rebalance.networks.generators.generator import NOISE_DIM, Generator
from lt_rebalance.networks.generators.registry import build_generator
from lt_rebalance.networks.initialization import build_network
from lt_rebalance.stages.cgan_quality import (
    GRID_IMAGES,
    QUALITY_MEASURES,
    REFERENCE_IMAGES,
    SAMPLES_PER_CLASS,
    distinct_nearest,
    measure_quality,
    nearest_distance_ratio,
    nearest_positions,
    sample_grid,
)

K = 4
SMALL, BIG = "small_mlp_cgan_leaky", "big_mlp_cgan_leaky"


pytestmark = pytest.mark.usefixtures("one_thread")


class Recital(Generator):
    """Draws the images it was given of a class, one after the other, whatever the noise."""

    def __init__(self, images_by_class: Sequence[Tensor]) -> None:
        super().__init__(nn.Identity(), len(images_by_class))
        self.images_by_class = images_by_class
        self.noises: list[Tensor] = []

    def forward(self, noise_NZ: Tensor, labels_N: Tensor) -> Tensor:
        self.noises.append(noise_NZ)
        classes = [self.images_by_class[label] for label in labels_N.tolist()]
        return torch.stack([images[index % len(images)] for index, images in enumerate(classes)])


def make_generator(architecture: str = SMALL, seed: int = 0) -> Generator:
    return build_network(
        lambda: build_generator(architecture, K, (1, 8, 8)), torch_stream(seed, "generator_init")
    )


def make_real(num_images: Sequence[int] = (50,) * K) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(number, 1, 8, 8, generator=generator) * 2 - 1 for number in num_images]


def make_points(*points: tuple[float, float]) -> Tensor:
    """Return images of one row and two pixels."""
    return torch.tensor(points).reshape(-1, 1, 1, 2)


def make_line(positions_N: np.ndarray) -> Tensor:
    """Return images of one pixel."""
    return torch.from_numpy(positions_N).float().reshape(-1, 1, 1, 1)


# Diversity


def measure_diversity(generator: Generator, real_by_class: Sequence[Tensor]) -> list[float | None]:
    return measure_quality(generator, real_by_class, torch.Generator().manual_seed(0))["diversity"]


def test_diversity_of_a_generator_that_recites_real_images_is_about_one() -> None:
    real_by_class = make_real()
    assert measure_diversity(Recital(real_by_class), real_by_class) == pytest.approx([1] * K, abs=0.02)


def test_diversity_of_a_constant_generator_is_zero() -> None:
    generator = make_generator()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.zero_()
    assert measure_diversity(generator, make_real()) == [0] * K


def test_diversity_is_measured_for_each_class() -> None:
    # Class 2 always gets the same image.
    real_by_class = make_real()
    recital = Recital([real[:1] if label == 2 else real for label, real in enumerate(real_by_class)])
    diversity_K = measure_diversity(recital, real_by_class)
    assert [ratio < COLLAPSED_BELOW for ratio in diversity_K] == [False, False, True, False]


def test_diversity_equals_the_ratio_of_mean_standard_deviations() -> None:
    generator, real_by_class = make_generator(), make_real()
    stream = torch.Generator().manual_seed(0)
    for label, (ratio, real) in enumerate(
        zip(measure_diversity(generator, real_by_class), real_by_class, strict=True)
    ):
        fake = sample_images(generator, torch.full((SAMPLES_PER_CLASS,), label), stream).double().numpy()
        expected = fake.std(axis=0, ddof=1).mean() / real.double().numpy().std(axis=0, ddof=1).mean()
        assert ratio == pytest.approx(expected, rel=1e-5)


def test_diversity_is_none_where_real_images_have_no_spread() -> None:
    real_by_class = make_real((50, 1, 2, 2))
    real_by_class[3] = torch.zeros(2, 1, 8, 8)
    diversity_K = measure_diversity(make_generator(), real_by_class)
    assert [ratio is None for ratio in diversity_K] == [False, True, False, True]


# Nearest images

REAL = make_points((0, 0), (0.3, 0.4), (0.3, -0.6))
# The first two are 0.5 apart; the third is sqrt(0.3^2 + 0.6^2) from the first and 1 from the second.
NEAREST_OTHERS = (0.5, 0.5, 0.45**0.5)


def test_quality_of_two_classes_by_hand() -> None:
    # 0.1 above the first real image and 0.2 right of the third; the other class draws its only image twice.
    samples_by_class = [make_points((0, 0.1), (0.5, -0.6)), make_points((1, 1), (1, 1))]
    quality = measure_quality(Recital(samples_by_class), [REAL, make_points((1, 1))], torch.Generator())
    assert set(quality) == set(QUALITY_MEASURES)
    assert quality["distinct_nearest"] == [2, 1]
    ratio, of_a_single_image = quality["nearest_distance_ratio"]
    assert ratio == pytest.approx(0.15 / np.mean(NEAREST_OTHERS), rel=1e-6)
    assert of_a_single_image is None


@pytest.mark.parametrize("copies", [[0], [2, 2, 0], [0, 1, 2]], ids=str)
def test_samples_that_are_copies_have_ratio_zero_and_are_counted_once(copies: list[int]) -> None:
    samples_NCHW = REAL[copies]
    assert nearest_distance_ratio(samples_NCHW, REAL) == 0
    assert distinct_nearest(samples_NCHW, REAL) == len(set(copies))


def test_samples_as_far_from_real_images_as_those_from_each_other_have_ratio_one() -> None:
    real_MCHW = make_line(np.arange(5.0))
    assert nearest_distance_ratio(make_line(np.array([-1.0, 5.0])), real_MCHW) == 1


def test_ratio_is_none_where_real_images_are_one_or_all_the_same() -> None:
    samples_NCHW = make_points((0, 0.1))
    assert nearest_distance_ratio(samples_NCHW, REAL[:1]) is None
    assert nearest_distance_ratio(samples_NCHW, REAL[:1].repeat(3, 1, 1, 1)) is None


def test_ratio_takes_the_first_thousand_real_images_each_to_its_nearest_among_all() -> None:
    # Images are 1 apart, and one more image after the first thousand is 0.25 from the first image.
    real_MCHW = make_line(np.append(np.arange(REFERENCE_IMAGES), -0.25))
    ratio = nearest_distance_ratio(make_line(np.array([999.5])), real_MCHW)
    assert ratio == pytest.approx(0.5 / ((REFERENCE_IMAGES - 1 + 0.25) / REFERENCE_IMAGES), rel=1e-6)


@pytest.mark.parametrize("skip_same_position", [False, True])
def test_nearest_positions_of_several_chunks_equal_those_by_brute_force(skip_same_position: bool) -> None:
    real_MCHW = torch.rand(700, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    images_NCHW = real_MCHW[:600] if skip_same_position else real_MCHW.flip(0)[:600] * 0.9
    distances_NM = cdist(images_NCHW.flatten(1).double().numpy(), real_MCHW.flatten(1).double().numpy())
    if skip_same_position:
        distances_NM[np.arange(600), np.arange(600)] = np.inf
    found_N = nearest_positions(images_NCHW, real_MCHW, skip_same_position=skip_same_position)
    assert found_N.tolist() == distances_NM.argmin(axis=1).tolist()


def test_quality_of_equal_streams_is_equal_and_of_different_ones_differs() -> None:
    generator, real_by_class = make_generator(), make_real()
    first, again, other = (
        measure_quality(generator, real_by_class, torch_stream(seed, "diversity_noise")) for seed in (0, 0, 1)
    )
    assert first == again
    assert first["nearest_distance_ratio"] != other["nearest_distance_ratio"]


# Sample grids


def test_grid_noise_is_the_same_for_every_class() -> None:
    recital = Recital([REAL, REAL])
    sample_grid(recital, [REAL, REAL])
    expected_SZ = torch.randn(GRID_IMAGES, NOISE_DIM, generator=torch_stream(0, "sheet_noise"))
    assert len(recital.noises) == 2
    assert all(torch.equal(noise_SZ, expected_SZ) for noise_SZ in recital.noises)


@pytest.mark.parametrize("architecture", [SMALL, BIG])
def test_grid_holds_what_the_generator_draws_in_evaluation_mode(architecture: str) -> None:
    generator = make_generator(architecture).train()
    before = copy.deepcopy(generator.state_dict())
    grid_3KSCHW = sample_grid(generator, make_real())
    assert (grid_3KSCHW.shape, grid_3KSCHW.dtype) == ((3, K, GRID_IMAGES, 1, 8, 8), np.uint8)
    assert all(torch.equal(before[name], tensor) for name, tensor in generator.state_dict().items())
    noise_SZ = torch.randn(GRID_IMAGES, NOISE_DIM, generator=torch_stream(0, "sheet_noise"))
    for label in range(K):
        with torch.no_grad():
            images_SCHW = generator.eval()(noise_SZ, torch.full((GRID_IMAGES,), label)).double()
        expected = np.rint((images_SCHW.numpy() + 1) * 127.5)
        assert np.abs(grid_3KSCHW[0, label] - expected).max() <= 1  # at a half, float32 may round otherwise
        assert (grid_3KSCHW[0, label] == expected).mean() > 0.99


def test_grid_shows_the_nearest_real_image_of_each_and_the_first_real_ones_in_turn() -> None:
    real_by_class = [make_line(np.array([-1.0, 0.2, 1.0])), make_line(np.linspace(-1, 1, 12))]
    recital = Recital([make_line(np.array([0.9, -0.5, 0.1])), make_line(np.array([-0.99]))])
    generated_2S, nearest_2S, real_2S = sample_grid(recital, real_by_class).reshape(3, 2, GRID_IMAGES)
    # (x + 1) * 127.5: 0.9 -> 242.25, -0.5 -> 63.75, 0.1 -> 140.25; 0.2 -> 153
    assert generated_2S[0].tolist() == [242, 64, 140] * 3 + [242]
    assert nearest_2S[0].tolist() == [255, 0, 153] * 3 + [255]
    assert real_2S[0].tolist() == [0, 153, 255] * 3 + [0]
    assert nearest_2S[1].tolist() == [0] * GRID_IMAGES
    assert real_2S[1].tolist() == np.rint(np.linspace(-1, 1, 12)[:10] * 127.5 + 127.5).tolist()


def test_grid_gives_every_byte_of_real_images_back_and_clips_what_lies_beyond() -> None:
    bytes_M = np.arange(256, dtype=np.uint8)
    real_MCHW = torch.from_numpy(bytes_M).float().div_(127.5).sub_(1).reshape(1, 1, 16, 16)
    recital = Recital([torch.tensor([-1.5, 1.5]).reshape(2, 1, 1, 1).expand(2, 1, 16, 16)])
    generated_S, _, real_S = sample_grid(recital, [real_MCHW])[:, 0]
    assert (real_S.reshape(GRID_IMAGES, 256) == bytes_M).all()
    assert np.unique(generated_S[0]).tolist() == [0]
    assert np.unique(generated_S[1]).tolist() == [255]
