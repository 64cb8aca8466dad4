"""Make images from the training set with a sampler of imbalanced-learn, as pixels in [-1, 1].

Samplers get floats: on bytes they subtract in unsigned arithmetic and wrap around. If a sampler cannot fill
these classes, or does not (some silently return a class unchanged), the run ends as not applicable, with the
reason.

Shape suffixes: N images of a class, S synthetic images, C H W image, K classes.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.ground.errors import NotApplicableError
from lt_rebalance.ground.text import one_line

FloatImages = NDArray[np.float32]
ROUNDING = 0.1
"""share of the requested number by which a sampler may miss it by rounding"""
ROUNDING_PER_IMAGE = 0.5
"""the same for each image that it starts from: ADASYN rounds the number to make from each"""


def resample(
    sampler: str,
    parameters: Mapping[str, Any],
    images_by_class: Sequence[FloatImages],
    num_synthetic_K: Sequence[int],
    rng: np.random.Generator,
) -> FloatImages:
    """Return `synthetic_SCHW`, class by class, in the requested numbers; as `resample_points`.

    Args:
        images_by_class: K arrays of `images_NCHW`, float32 in [-1, 1].
    """
    made = resample_points(sampler, parameters, images_by_class, num_synthetic_K, rng)
    return np.clip(made, -1, 1)  # SVMSMOTE goes beyond the images that it starts from


def resample_points(
    sampler: str,
    parameters: Mapping[str, Any],
    points_by_class: Sequence[FloatImages],
    num_synthetic_K: Sequence[int],
    rng: np.random.Generator,
) -> FloatImages:
    """Return the points that a sampler makes, class by class, in the requested numbers.

    A sampler that misses a number by rounding has some of its images left out or repeated, drawn at random.

    Args:
        sampler: import path of a class of imbalanced-learn, "imblearn.over_sampling.SMOTE".
        parameters: of its constructor, without the strategy and the random state.
        points_by_class: K arrays of equal shape except the first axis, float32.

    Raises:
        NotApplicableError: the sampler cannot be used for these classes.
    """
    counts_K = [len(points) for points in points_by_class]
    targets = {
        label: count + num
        for label, (count, num) in enumerate(zip(counts_K, num_synthetic_K, strict=True))
        if num
    }
    shape = points_by_class[0].shape[1:]
    if not targets:
        return np.empty((0, *shape), np.float32)
    module, _, name = sampler.rpartition(".")
    build = getattr(importlib.import_module(module), name)
    pixels = np.concatenate([points.reshape(len(points), -1) for points in points_by_class])
    labels = np.repeat(np.arange(len(counts_K)), counts_K)
    seed = int(rng.integers(2**31))
    try:
        drawn = build(sampling_strategy=targets, random_state=seed, **parameters)
        after, labels_after = drawn.fit_resample(pixels, labels)
    except (ValueError, RuntimeError) as error:
        raise NotApplicableError(
            f"{name} is not applicable to classes of {min(counts_K)} to {max(counts_K)} images: "
            f"{one_line(error)}{_advise(parameters, counts_K, targets, error)}"
        ) from None
    if not np.array_equal(after[: len(pixels)], pixels):
        raise NotApplicableError(
            f"{name} is not applicable: it does not keep the original images in their order"
        )
    made, labels_made = after[len(pixels) :], labels_after[len(pixels) :]
    chosen = [
        _pick(name, label, np.flatnonzero(labels_made == label), counts_K[label], num_synthetic_K[label], rng)
        for label in targets
    ]
    points: FloatImages = made[np.concatenate(chosen)].reshape(-1, *shape).astype(np.float32)
    return points


def _advise(
    parameters: Mapping[str, Any], counts_K: Sequence[int], targets: Mapping[int, int], error: Exception
) -> str:
    """Return what to do about an error of too few neighbours; nothing for another error."""
    options = [name for name in parameters if name.endswith("neighbors")]
    if "neighbors" not in str(error) or not options:
        return ""
    smallest = min(counts_K[label] for label in targets)
    if smallest == 1:
        return (
            "; a class to fill has a single image, and interpolation needs two: take oversample or a higher C"
        )
    return (
        f"; the smallest class to fill has {smallest} images, so set {' or '.join(options)} to at most "
        f"{smallest - 1}"
    )


def _pick(
    name: str, label: int, places: NDArray[np.int64], count: int, wanted: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the places of the requested number of images, all if that many were made from `count` images."""
    missed = abs(len(places) - wanted)
    rounding = max(1, ROUNDING * wanted, min(wanted, ROUNDING_PER_IMAGE * count))
    if missed > rounding or len(places) < wanted / 2:
        raise NotApplicableError(
            f"{name} is not applicable: asked for {wanted} images of class {label}, it made {len(places)}"
        )
    if len(places) >= wanted:
        return np.sort(rng.permutation(places)[:wanted])
    return np.concatenate([places, rng.choice(places, wanted - len(places))])
