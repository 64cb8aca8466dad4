"""Measure the images of a trained generator by class: their diversity, and their distance to real images.

Shape suffixes: N M images, S sample images, B images of a chunk, D pixels, Z noise dimensions, C H W image, K
classes.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lt_rebalance.generation.images import sample_images
from lt_rebalance.ground.seeding import torch_stream
from lt_rebalance.networks.generators.generator import Generator

SAMPLES_PER_CLASS = 200
REFERENCE_IMAGES = 1000
"""real images of a class whose distance to their nearest neighbour is measured"""
GRID_IMAGES = 10
GRID_SEED = 0
_NEAREST_CHUNK = 250

Quality = dict[str, list[float | None]]
Measure = Callable[[Tensor, Tensor], float | None]


def measure_quality(
    generator: Generator,
    real_by_class: Iterable[Tensor],
    noise_stream: torch.Generator,
    measures: Mapping[str, Measure] | None = None,
) -> Quality:
    """Return measures of K classes, by name, from 200 samples per class.

    Args:
        real_by_class: K tensors (N, C, H, W) of the distinct real images the generator learned from, at
            least one per class, in [-1, 1].
        noise_stream: the stream "diversity_noise" of the seed.
        measures: the requested ones of `QUALITY_MEASURES`; all of them unless given.
    """
    measures = QUALITY_MEASURES if measures is None else measures
    quality: Quality = {name: [] for name in measures}
    for label, real_MCHW in enumerate(real_by_class):
        labels_N = torch.full((SAMPLES_PER_CLASS,), label, device=real_MCHW.device)
        samples_NCHW = sample_images(generator, labels_N, noise_stream)
        for name, measure in measures.items():
            quality[name].append(measure(samples_NCHW, real_MCHW))
    return quality


def diversity(samples_NCHW: Tensor, real_MCHW: Tensor) -> float | None:
    """Return the mean pixel standard deviation between images, generated over real.

    None if there are fewer than two real images, or identical ones, and the ratio cannot be estimated.
    """
    real_spread = _pixel_spread(real_MCHW) if len(real_MCHW) > 1 else 0.0
    return _pixel_spread(samples_NCHW) / real_spread if real_spread > 0 else None


def _pixel_spread(images_NCHW: Tensor) -> float:
    return float(images_NCHW.std(dim=0).mean())


def distinct_nearest(samples_NCHW: Tensor, real_MCHW: Tensor) -> float:
    """Return how many distinct real images are nearest to a sample: 1 to min(N, M)."""
    return float(len(nearest_positions(samples_NCHW, real_MCHW).unique()))


def nearest_distance_ratio(samples_NCHW: Tensor, real_MCHW: Tensor) -> float | None:
    """Return the mean distance of samples to their nearest real image, over that of real images.

    The latter is the mean over the first `REFERENCE_IMAGES` real images at most, each to its nearest other
    one among all M. Well below 1 the samples are copies. None if there are fewer than two real images, or if
    that mean is 0.
    """
    if len(real_MCHW) < 2:
        return None
    reference_NCHW = real_MCHW[:REFERENCE_IMAGES]
    others_N = nearest_positions(reference_NCHW, real_MCHW, skip_same_position=True)
    real_mean = _mean_distance(reference_NCHW, real_MCHW[others_N])
    sample_mean = _mean_distance(samples_NCHW, real_MCHW[nearest_positions(samples_NCHW, real_MCHW)])
    return sample_mean / real_mean if real_mean > 0 else None


def _mean_distance(images_NCHW: Tensor, others_NCHW: Tensor) -> float:
    return float((images_NCHW.double() - others_NCHW.double()).flatten(1).norm(dim=1).mean())


def nearest_positions(images_NCHW: Tensor, real_MCHW: Tensor, *, skip_same_position: bool = False) -> Tensor:
    """Return `positions_N` of the real images with the smallest Euclidean distance, pixel by pixel.

    Args:
        skip_same_position: exclude for the i-th image the i-th real one, which is the same.
    """
    real_MD = real_MCHW.flatten(1).double()
    squares_M = real_MD.square().sum(dim=1)
    chunks = []
    for index, images_BCHW in enumerate(images_NCHW.split(_NEAREST_CHUNK)):
        # The squared distance without the square of the image itself, which does not change the minimum.
        distances_BM = squares_M - 2 * images_BCHW.flatten(1).double() @ real_MD.T
        if skip_same_position:
            distances_BM.diagonal(index * _NEAREST_CHUNK).fill_(torch.inf)
        chunks.append(distances_BM.argmin(dim=1))
    return torch.cat(chunks)


@torch.no_grad()
def sample_grid(generator: Generator, real_by_class: Iterable[Tensor]) -> NDArray[np.uint8]:
    """Return `grid_3KSCHW` in bytes: generated, the nearest real image of each, and the first real ones.

    The noise is the same ten vectors for every class, seed and architecture, so that samples can be compared.
    Real images are repeated if a class has fewer than ten.

    Args:
        real_by_class: as for `measure_quality`.
    """
    grids = []
    for label, real_MCHW in enumerate(real_by_class):
        device = real_MCHW.device
        generated_SCHW = _draw_class(generator, label, device)
        nearest_SCHW = real_MCHW[nearest_positions(generated_SCHW, real_MCHW)]
        first_SCHW = real_MCHW[torch.arange(GRID_IMAGES, device=device) % len(real_MCHW)]
        grids.append(torch.stack([generated_SCHW, nearest_SCHW, first_SCHW]))
    return _to_bytes(torch.stack(grids, dim=1))


@torch.no_grad()
def draw_grid(generator: Generator, num_classes: int, device: torch.device) -> NDArray[np.uint8]:
    """Return `images_KSCHW` in bytes: generated samples."""
    return _to_bytes(torch.stack([_draw_class(generator, label, device) for label in range(num_classes)]))


def _draw_class(generator: Generator, label: int, device: torch.device) -> Tensor:
    generator.eval()
    noise_stream = torch_stream(GRID_SEED, "sheet_noise")
    noise_SZ = torch.randn(GRID_IMAGES, generator.noise_dim, generator=noise_stream)
    images_SCHW: Tensor = generator(noise_SZ.to(device), torch.full((GRID_IMAGES,), label, device=device))
    return images_SCHW


def _to_bytes(images: Tensor) -> NDArray[np.uint8]:
    scaled: NDArray[np.uint8] = ((images + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()
    return scaled


# From (samples_NCHW, real_MCHW) of one class to a number, or None if it cannot be estimated.
QUALITY_MEASURES: dict[str, Measure] = {
    "diversity": diversity,
    "distinct_nearest": distinct_nearest,
    "nearest_distance_ratio": nearest_distance_ratio,
}
