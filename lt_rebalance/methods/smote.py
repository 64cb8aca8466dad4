"""SMOTE and its variants: fill classes with points between their images, pixel by pixel.

Source: Chawla, Bowyer, Hall, Kegelmeyer 2002, SMOTE: Synthetic Minority Over-sampling Technique, arXiv
1106.1813 (k = 5 neighbours of the same class); Han, Wang, Mao 2005, Borderline-SMOTE (of those images that
have mostly others among their m = 10 neighbours); He, Bai, Garcia, Li 2008, ADASYN (the more, the more others
are near). Implementations of imbalanced-learn. Deviations: none in the algorithms; images of ADASYN, which
rounds, are left out or repeated to meet the count. If a class has too few images for its neighbours, fewer
neighbours are not used: the run ends as failed and says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lt_rebalance.ground.plain import require_known, require_positive
from lt_rebalance.methods.contract import Method, Options
from lt_rebalance.methods.domains import Choice, searched
from lt_rebalance.methods.filling import fill_up
from lt_rebalance.methods.interpolation import FloatImages, resample

KINDS = ("borderline-1", "borderline-2")


@dataclass(frozen=True, kw_only=True)
class SmoteOptions:
    """Options of SMOTE."""

    k_neighbors: int = searched(5, Choice(values=(1, 3, 5, 7), unit="images"))
    """of its own class, of which one is drawn to interpolate with"""

    def __post_init__(self) -> None:
        require_positive(k_neighbors=self.k_neighbors)


@dataclass(frozen=True, kw_only=True)
class BorderlineSmoteOptions(SmoteOptions):
    """Options of Borderline-SMOTE."""

    m_neighbors: int = searched(10, Choice(values=(5, 10, 20), unit="images"))
    """neighbours of any class, which show whether an image is at the border"""
    kind: str = searched("borderline-1", Choice(values=KINDS, unit="kind"))
    """"borderline-1" interpolates within the class, "borderline-2" towards others too"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(m_neighbors=self.m_neighbors)
        require_known("kind of Borderline-SMOTE", self.kind, KINDS)


@dataclass(frozen=True, kw_only=True)
class AdasynOptions:
    """Options of ADASYN."""

    n_neighbors: int = searched(5, Choice(values=(1, 3, 5, 7), unit="images"))
    """neighbours of any class, which show how many others are near, and of its own class to interpolate
    with"""

    def __post_init__(self) -> None:
        require_positive(n_neighbors=self.n_neighbors)


def read_parameters(options: Options) -> dict[str, Any]:  # Any: numbers and words
    """Return options as the parameters of a sampler: words that are numbers become numbers."""
    parameters: dict[str, Any] = {} if options is None else dataclasses.asdict(options)
    for name, value in parameters.items():
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                parameters[name] = float(value)
        if isinstance(parameters[name], float) and not math.isfinite(parameters[name]):
            raise ValueError(f"{name} must be a finite number, got {value}")
    return parameters


def synthesize_by(
    sampler: str,
) -> Callable[[Sequence[FloatImages], Sequence[int], np.random.Generator, Options], FloatImages]:
    """Return the moment that makes images with a sampler of imbalanced-learn, given its import path."""

    def synthesize(
        images_by_class: Sequence[FloatImages],
        num_synthetic_K: Sequence[int],
        rng: np.random.Generator,
        options: Options,
    ) -> FloatImages:
        return resample(sampler, read_parameters(options), images_by_class, num_synthetic_K, rng)

    return synthesize


SMOTE = Method(
    description="fill every class with points between neighbours of that class",
    options=SmoteOptions,
    plan=fill_up,
    synthesize=synthesize_by("imblearn.over_sampling.SMOTE"),
)
BORDERLINE_SMOTE = Method(
    description="fill every class with points between neighbours at its border",
    options=BorderlineSmoteOptions,
    plan=fill_up,
    synthesize=synthesize_by("imblearn.over_sampling.BorderlineSMOTE"),
)
ADASYN = Method(
    description="fill every class with points between neighbours, the more where other classes are near",
    options=AdasynOptions,
    plan=fill_up,
    synthesize=synthesize_by("imblearn.over_sampling.ADASYN"),
)
