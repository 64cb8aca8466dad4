"""Variance components of balanced tables: the spread due to each source of randomness.

Shape suffixes: S seeds or subsets, M methods, G generators, C classifiers. Estimates by equating mean squares
with their expectations; a negative one is 0. Intervals are percentile bootstraps over the first axis. They
are too narrow: at 90 % they cover 75 to 85 % with 10 units of that axis, about 85 % with 20.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.estimates import NOT_ESTIMABLE, Interval

NUM_RESAMPLES = 2000
MIN_RESAMPLED = 5
"""units of the first axis below which an interval is not estimated"""
CONFIDENCE = 0.9
FloatArray = NDArray[np.float64]
_Estimate = Callable[[FloatArray, float], FloatArray]
"""Maps arrays with any leading axes to variances on the last.

It multiplies mean squares that hold spread over the first axis by a factor: resampling n units makes them too
small by (n - 1) / n on average (Brennan 2007, "Unbiased estimates of variance components with bootstrap
procedures").
"""


@dataclass(frozen=True, kw_only=True)
class Component:
    """One source of randomness."""

    sd: float
    """standard deviation due to this source alone, in the unit of the values"""
    interval: Interval
    """90 % bootstrap; nan below `MIN_RESAMPLED` units"""


@dataclass(frozen=True, kw_only=True)
class SeedComponents:
    """Sources in a table of seeds by methods, each cell one run."""

    seed: Component
    """what all methods of a seed share: the subset, initial weights"""
    residual: Component
    """specific to each run"""


@dataclass(frozen=True, kw_only=True)
class NestedComponents:
    """Sources in a nested design: subsets, and within each its generators crossed with its classifiers."""

    subset: Component
    generator: Component
    classifier: Component
    """what all runs of one classifier seed within a subset share"""
    residual: Component
    """the interaction of generator and classifier"""


def seed_components(values_SM: FloatArray, *, rng_seed: int = 0) -> SeedComponents:
    """Return the components of a two-way table without replication, methods fixed; nan below two of each."""
    seed, residual = _components(values_SM, _seed_variances, 2, rng_seed)
    return SeedComponents(seed=seed, residual=residual)


def nested_components(values_SGC: FloatArray, *, rng_seed: int = 0) -> NestedComponents:
    """Return the components of a balanced nested design; nan below two of each."""
    subset, generator, classifier, residual = _components(values_SGC, _nested_variances, 4, rng_seed)
    return NestedComponents(subset=subset, generator=generator, classifier=classifier, residual=residual)


def _components(
    values: FloatArray, estimate: _Estimate, num_components: int, rng_seed: int
) -> list[Component]:
    """Estimate the components, with intervals from resamples over the first axis."""
    num_first = len(values)
    if min(values.shape) < 2 or not np.isfinite(values).all():
        return [Component(sd=math.nan, interval=NOT_ESTIMABLE)] * num_components
    sds = np.sqrt(estimate(values, 1.0))
    if num_first < MIN_RESAMPLED:
        return [Component(sd=float(sd), interval=NOT_ESTIMABLE) for sd in sds]
    means = values.reshape(num_first, -1).mean(axis=1)
    sorted_values = values[np.argsort(means)]  # so that the order of seeds does not matter
    rows = np.random.default_rng(rng_seed).integers(num_first, size=(NUM_RESAMPLES, num_first))
    resampled_sds = np.sqrt(estimate(sorted_values[rows], num_first / (num_first - 1)))
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    ends = np.quantile(resampled_sds, tails, axis=0).T.tolist()
    return [Component(sd=float(sd), interval=Interval(*pair)) for sd, pair in zip(sds, ends, strict=True)]


def _seed_variances(values: FloatArray, factor: float) -> FloatArray:
    num_seeds, num_methods = values.shape[-2:]
    seed_means = values.mean(axis=-1, keepdims=True)
    method_means = values.mean(axis=-2, keepdims=True)
    grand = values.mean(axis=(-2, -1), keepdims=True)
    residuals = values - seed_means - method_means + grand
    residual = factor * (residuals**2).sum(axis=(-2, -1)) / ((num_seeds - 1) * (num_methods - 1))
    between = factor * num_methods * seed_means.var(axis=-2, ddof=1)[..., 0]
    seed = np.maximum(0.0, (between - residual) / num_methods)
    return np.stack([seed, residual], axis=-1)


def _nested_variances(values: FloatArray, factor: float) -> FloatArray:
    num_generators, num_classifiers = values.shape[-2:]
    by_generator = values.mean(axis=-1, keepdims=True)
    by_classifier = values.mean(axis=-2, keepdims=True)
    by_subset = values.mean(axis=(-2, -1), keepdims=True)
    residuals = values - by_generator - by_classifier + by_subset
    degrees = (num_generators - 1) * (num_classifiers - 1)
    residual = ((residuals**2).sum(axis=(-2, -1)) / degrees).mean(axis=-1)
    generator_means, classifier_means = by_generator[..., 0], by_classifier[..., 0, :]
    # The variance that inner sources add to the means of subsets is subtracted as estimated, never negative.
    generator = _within(generator_means) - residual / num_classifiers
    classifier = _within(classifier_means) - residual / num_generators
    generator, classifier = np.maximum(0.0, generator), np.maximum(0.0, classifier)
    chance = generator / num_generators + classifier / num_classifiers
    chance += residual / (num_generators * num_classifiers)
    subset = np.maximum(0.0, factor * by_subset[..., 0, 0].var(axis=-1, ddof=1) - chance)
    return np.stack([subset, generator, classifier, residual], axis=-1)


def _within(means: FloatArray) -> FloatArray:
    """Return the variance of means within a subset, averaged over subsets."""
    averaged: FloatArray = means.var(axis=-1, ddof=1).mean(axis=-1)
    return averaged
