"""Make a balanced training set long-tailed: class counts from C, class order, subset draw.

Source of rule and fixed draw: Mankikar, Patel, Zhang, "Re-Balancing of Long-Tailed Datasets Using CGAN
Generation", section 3.1, and the code published with it. Shape suffixes: K classes, N images.
"""

import itertools
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.ground.plain import require_known, require_numbers
from lt_rebalance.ground.seeding import numpy_stream

IndexArray = NDArray[np.int64]

PAPER_DRAW_SEED = 10707
SUBSET_DRAWS = ("paper", "per_seed")
CLASS_ORDERS = ("label", "permuted")
RATIO_TOLERANCE = 0.05
MAX_RATIO = 1e12
"""more than any data set has images"""
MAX_C_LETTERS = 40


def parse_c(text: str) -> Fraction:
    """Read C from text such as "7/9" or "0.5".

    Raises:
        ValueError: not a number, or not 0 < C < 1.
    """
    try:
        if len(text) > MAX_C_LETTERS or re.search(r"e[+-]?\d{3}", text, re.IGNORECASE):
            raise ValueError  # a power of ten of millions of digits would be written out
        c = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"C must be a fraction such as 7/9 or a number such as 0.5, got {text!r}") from None
    if not 0 < c < 1:
        raise ValueError(
            f"C must lie strictly between 0 and 1, got {text}; the balanced set is named 'original'"
        )
    return c


def c_of_ratio(ratio: float, num_classes: int) -> Fraction:
    """Return the simplest C whose largest class is `ratio` times its smallest, within 5 %, before rounding.

    C = ratio ** (-1 / (num_classes - 1)) is irrational but for a few ratios. For ten classes, 10 gives 7/9
    and 500 gives 1/2, the paper's.

    Raises:
        ValueError: the ratio is not above 1, or above `MAX_RATIO`.
    """
    if not 1 < ratio <= MAX_RATIO:
        raise ValueError(f"an imbalance ratio is a number above 1, and at most {MAX_RATIO:g}, got {ratio:g}")
    exponent = num_classes - 1
    for denominator in itertools.count(2):
        c = Fraction(round(ratio ** (-1 / exponent) * denominator), denominator)
        if 0 < c < 1 and abs(float(c) ** -exponent / ratio - 1) <= RATIO_TOLERANCE:
            return c
    raise AssertionError("unreachable: the count has no end")


def counts_by_rank(available_K: Sequence[int], c: Fraction) -> list[int]:
    """Return how many images the class of each rank keeps: `ceil(largest * C**rank)`, at most what it has.

    Exact arithmetic, so that no rounding decides a count. `available_K` is in rank order.
    """
    largest = max(available_K)
    return [min(available, math.ceil(largest * c**rank)) for rank, available in enumerate(available_K)]


def rank_order(num_classes: int, class_order: str, seed: int) -> list[int]:
    """Return the classes from head to tail: by label, or in a permutation drawn from the seed."""
    if class_order == "label":
        return list(range(num_classes))
    if class_order == "permuted":
        return [int(label) for label in numpy_stream(seed, "class_order").permutation(num_classes)]
    raise ValueError(f"unknown class order {class_order!r}; known: {', '.join(CLASS_ORDERS)}")


def kept_counts(
    available_K: Sequence[int], c: Fraction | None, class_order: str | None, seed: int
) -> list[int]:
    """Return the training images that each class keeps, by label; everything when `c` is None."""
    if c is None or class_order is None:
        return list(available_K)
    order = rank_order(len(available_K), class_order, seed)
    counts_K = [0] * len(available_K)
    for label, count in zip(order, counts_by_rank([available_K[label] for label in order], c), strict=True):
        counts_K[label] = count
    return counts_K


@dataclass(frozen=True, kw_only=True)
class Subset:
    """The real images a run may see, as indices into the training split."""

    indices_by_class: tuple[IndexArray, ...]
    """K arrays, each in the order in which its images were drawn."""
    validation_indices: IndexArray
    """Balanced images set aside before the long-tailed cut; empty unless asked for."""

    @property
    def counts_K(self) -> list[int]:
        """Training images kept of each class."""
        return [len(indices) for indices in self.indices_by_class]


def draw_subset(
    labels_N: IndexArray,
    num_classes: int,
    *,
    c: Fraction | None,
    subset_draw: str | None,
    class_order: str | None,
    validation_per_class: int,
    seed: int,
) -> Subset:
    """Draw the long-tailed training set, after setting aside the validation images.

    Args:
        labels_N: labels of the whole training split.
        c: the ratio between consecutive classes; None keeps every image, whatever the draw and the order.
        subset_draw: "paper" is the published fixed draw, the same for every seed; "per_seed" draws anew.
        class_order: "label" makes class 0 the head; "permuted" permutes the ranks per seed.
        validation_per_class: balanced images per class that training never sees.

    Raises:
        ValueError: unknown draw or order, or a class with too few images for its validation share.
    """
    validation_indices, pools = _set_aside_validation(labels_N, num_classes, validation_per_class, seed)
    counts_K = kept_counts([len(pool) for pool in pools], c, class_order, seed)
    if c is None:
        drawn = pools
    elif subset_draw == "paper":
        drawn = _draw_like_paper(labels_N, pools, counts_K)
    elif subset_draw == "per_seed":
        rng = numpy_stream(seed, "subset")
        drawn = [rng.permutation(pool)[:count] for pool, count in zip(pools, counts_K, strict=True)]
    else:
        raise ValueError(f"unknown subset draw {subset_draw!r}; known: {', '.join(SUBSET_DRAWS)}")
    return Subset(indices_by_class=tuple(drawn), validation_indices=validation_indices)


def _set_aside_validation(
    labels_N: IndexArray, num_classes: int, validation_per_class: int, seed: int
) -> tuple[IndexArray, list[IndexArray]]:
    pools = [np.flatnonzero(labels_N == label) for label in range(num_classes)]
    if validation_per_class == 0:
        return np.empty(0, dtype=np.int64), pools
    smallest = min(len(pool) for pool in pools)
    if not 0 < validation_per_class < smallest:
        raise ValueError(
            f"validation_per_class must be at least 0 and below the smallest class ({smallest} images), "
            f"got {validation_per_class}"
        )
    rng = numpy_stream(seed, "validation")
    shuffled = [rng.permutation(pool) for pool in pools]
    validation = np.concatenate([pool[:validation_per_class] for pool in shuffled])
    return validation, [np.sort(pool[validation_per_class:]) for pool in shuffled]


def _draw_like_paper(
    labels_N: IndexArray, pools: Sequence[IndexArray], counts_K: Sequence[int]
) -> list[IndexArray]:
    """Repeat the published draw: one Mersenne twister, classes in order of first appearance."""
    rng = random.Random(PAPER_DRAW_SEED)
    drawn: dict[int, IndexArray] = {}
    for label in classes_by_first_appearance(labels_N):
        drawn[label] = np.array(rng.sample(pools[label].tolist(), counts_K[label]), dtype=np.int64)
    return [drawn[label] for label in range(len(pools))]


def classes_by_first_appearance(labels_N: IndexArray) -> list[int]:
    """Return the labels in the order in which the label file first shows them."""
    labels_K, first_positions_K = np.unique(labels_N, return_index=True)
    return [int(label) for label in labels_K[np.argsort(first_positions_K)]]


def rank_groups(counts_K: Sequence[int]) -> dict[str, list[int]]:
    """Split classes by training rank into head (first 30 %), tail (last 30 %) and medium (the rest).

    For ten classes: 3, 4, 3. A group without classes is absent. Ties keep the order of the labels.
    """
    order = sorted(range(len(counts_K)), key=lambda label: (-counts_K[label], label))
    outer = round(0.3 * len(order))
    groups = {
        "head": order[:outer],
        "medium": order[outer : len(order) - outer],
        "tail": order[len(order) - outer :],
    }
    return {name: labels for name, labels in groups.items() if labels}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The real images a run may see."""

    dataset: str
    """a name in DATASETS"""
    c: str | None
    """ratio between consecutive classes as an exact fraction, "7/9"; None for the original set"""
    subset_draw: str | None
    """"paper": the published fixed draw; "per_seed": drawn anew; None for the original set"""
    class_order: str | None
    """"label": class 0 is the head; "permuted" per seed; None for the original set"""
    validation_per_class: int
    """balanced images per class set aside before the long-tailed cut"""

    def __post_init__(self) -> None:
        require_numbers(self)
        smallest = min(get_dataset_spec(self.dataset).train_counts_K)
        if self.c is None:
            if self.subset_draw is not None or self.class_order is not None:
                raise ValueError("the original set has neither a subset draw nor a class order")
        else:
            c = parse_c(self.c)
            if self.c != str(c):
                raise ValueError(f"C must be given in lowest terms, {str(c)!r}, got {self.c!r}")
            require_known("subset draw", str(self.subset_draw), SUBSET_DRAWS)
            require_known("class order", str(self.class_order), CLASS_ORDERS)
        if not 0 <= self.validation_per_class < smallest:
            raise ValueError(
                f"validation_per_class must be at least 0 and below the smallest class of {self.dataset} "
                f"({smallest} images), so that some are left to learn from, got {self.validation_per_class}"
            )

    @property
    def label(self) -> str:
        """How tables name the training data: C, or "original"."""
        return self.c or "original"
