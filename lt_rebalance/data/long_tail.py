"""Make a training set long-tailed: class counts from a profile, class order, subset draw, validation.

Source of C and of the fixed draw: Mankikar, Patel, Zhang, "Re-Balancing of Long-Tailed Datasets Using CGAN
Generation", section 3.1, and the code published with it. Of the profiles "exp" and "step": Buda, Maki,
Mazurowski 2018, arXiv 1710.05381 (step), and Cao et al. 2019, arXiv 1906.07413, whose published code
`imbalance_cifar.py` (LDAM-DRW) fixes the rounding. Shape suffixes: K classes, N images.
"""

import itertools
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.ground.imbalance import CUT_PROFILES, name_data
from lt_rebalance.ground.plain import LATER, require_known, require_numbers
from lt_rebalance.ground.seeding import numpy_stream

IndexArray = NDArray[np.int64]

PAPER_DRAW_SEED = 10707
SUBSET_DRAWS = ("paper", "per_seed")
CLASS_ORDERS = ("label", "permuted")
OWN_SPLIT = "own"
VALIDATION_PER_CLASS = 500
VALIDATION_SHARE = 12
"""a search sets aside one image in this number of the smallest class, at least one and at most 500 of each
class; of a set with groups, one group if that is more"""
GROUP_SIZES = {"gtsrb": 30, "gtsrb_online": 30}
"""images of a group, in sets of the catalogue with groups; a few groups have less"""
RATIO_TOLERANCE = 0.05
MAX_RATIO = 1e12
"""larger than any data set"""
MAX_C_LETTERS = 40
MAX_PART = 10**9
"""bound of the numerator and the denominator of a ratio in a store"""
CLOSE = 1e-9
"""relative bound of the rounding error of a count in floating point"""


def parse_c(text: str) -> Fraction:
    """Read C from text such as "7/9" or "0.5".

    Raises:
        ValueError: not a number, or not 0 < C < 1.
    """
    c = _parse_fraction(text, "C must be a fraction such as 7/9 or a number such as 0.5")
    if not 0 < c < 1:
        raise ValueError(f"C must be strictly between 0 and 1, got {text}; the whole set is named 'original'")
    return c


def _parse_fraction(text: str, rule: str) -> Fraction:
    try:
        if len(text) > MAX_C_LETTERS or re.search(r"e[+-]?\d{3}", text, re.IGNORECASE):
            raise ValueError  # a power of ten of millions of digits would be written out
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{rule}, got {text!r}") from None


def c_of_ratio(ratio: float, num_classes: int) -> Fraction:
    """Return the simplest C whose largest class is `ratio` times its smallest, within 5 %, before rounding.

    C = ratio ** (-1 / (num_classes - 1)) is irrational for most ratios. For ten classes, 10 gives 7/9 and 500
    gives 1/2, the paper's.

    Raises:
        ValueError: the ratio is not above 1, or above `MAX_RATIO`.
    """
    exponent = num_classes - 1
    if not 1 < ratio <= MAX_RATIO or (wanted := ratio ** (-1 / exponent)) == 1:  # as closely as a float tells
        raise ValueError(f"an imbalance ratio is a number above 1, and at most {MAX_RATIO:g}, got {ratio:g}")
    highest = wanted * (1 - RATIO_TOLERANCE) ** (-1 / exponent)
    # Of smaller denominators the numerator would be 0, or the fraction too large, or rounded to 1.
    for denominator in itertools.count(max(2, int(1 / highest), int(0.5 / (1 - wanted)))):
        c = Fraction(round(wanted * denominator), denominator)
        if 0 < c < 1 and abs(float(c) ** -exponent / ratio - 1) <= RATIO_TOLERANCE:
            return c
    raise AssertionError("unreachable: the count has no end")


def parse_ratio(text: str) -> Fraction:
    """Read an imbalance ratio, largest over smallest class, from text such as "100" or "3/2".

    Raises:
        ValueError: not a number, not above 1, or above `MAX_RATIO`.
    """
    ratio = _parse_fraction(text, "an imbalance ratio must be a number such as 100")
    if not 1 < ratio <= MAX_RATIO or max(ratio.numerator, ratio.denominator) >= MAX_PART:
        raise ValueError(
            f"an imbalance ratio is a number above 1, of whole numbers below {MAX_PART:,}, got {text}; a set "
            "as it comes is the profile natural"
        )
    return ratio


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How many images the class of each rank keeps."""

    profile: str | None
    """one of CUT_PROFILES; None for the paper's C"""
    value: Fraction
    """C, or the imbalance ratio of a profile"""

    def wanted(self, largest: int, num_classes: int) -> list[int]:
        """Return the images of each rank, given those of the largest class, if all classes have enough.

        C: ceil(largest * C**rank). "exp": int(largest * ratio**(-rank / (K - 1))). "step": the first K // 2
        classes are unchanged, and the others keep int(largest / ratio); for an odd number of classes the code
        of Cao et al. would drop the last. Arithmetic is exact wherever rounding could change a count.
        """
        if self.profile is None:
            return [math.ceil(largest * self.value**rank) for rank in range(num_classes)]
        if self.profile == "exp":
            return [_exponential(largest, self.value, rank, num_classes) for rank in range(num_classes)]
        num_large = num_classes // 2
        return [largest] * num_large + [int(largest / self.value)] * (num_classes - num_large)

    def require_images(self, largest: int, num_classes: int) -> None:
        """Raise a ValueError where the profile would leave the smallest class without an image."""
        if self.profile is not None and self.wanted(largest, num_classes)[-1] < 1:
            raise ValueError(
                f"profile {self.profile} at ratio {self.value} leaves the smallest class no image of the "
                f"{largest:,} of the largest; take a ratio of at most {largest:,}"
            )


def _exponential(largest: int, ratio: Fraction, rank: int, num_classes: int) -> int:
    """Return int(largest * ratio**(-rank / (num_classes - 1))), exactly."""
    if rank == 0:
        return largest
    exponent = num_classes - 1
    near: float = largest * float(ratio) ** (-rank / exponent)
    nearest = round(near)
    if abs(near - nearest) > CLOSE * max(near, 1.0):
        return int(near)
    # Too near to a whole number for rounded arithmetic: m <= largest * ratio**(-rank/exponent), exactly.
    is_reached = Fraction(nearest) ** exponent * ratio**rank <= Fraction(largest) ** exponent
    return nearest if is_reached else nearest - 1


def counts_by_rank(available_K: Sequence[int], cut: Cut) -> list[int]:
    """Return how many images the class of each rank keeps: what the cut asks, at most what it has.

    `available_K` is in rank order.
    """
    wanted_K = cut.wanted(max(available_K), len(available_K))
    return [min(available, wanted) for available, wanted in zip(available_K, wanted_K, strict=True)]


def rank_order(num_classes: int, class_order: str, seed: int) -> list[int]:
    """Return the classes from head to tail: by label, or in a permutation drawn from the seed."""
    if class_order == "label":
        return list(range(num_classes))
    if class_order == "permuted":
        return [int(label) for label in numpy_stream(seed, "class_order").permutation(num_classes)]
    raise ValueError(f"unknown class order {class_order!r}; known: {', '.join(CLASS_ORDERS)}")


def kept_counts(available_K: Sequence[int], cut: Cut | None, class_order: str | None, seed: int) -> list[int]:
    """Return the training images that each class keeps, by label; everything where nothing is cut."""
    if cut is None or class_order is None:
        return list(available_K)
    order = rank_order(len(available_K), class_order, seed)
    counts_K = [0] * len(available_K)
    for label, count in zip(order, counts_by_rank([available_K[label] for label in order], cut), strict=True):
        counts_K[label] = count
    return counts_K


def count_short(available_K: Sequence[int], cut: Cut | None, class_order: str | None, seed: int) -> int:
    """Return how many classes have fewer images than a cut asks of them, and so keep what they have."""
    if cut is None or class_order is None:
        return 0
    order = rank_order(len(available_K), class_order, seed)
    wanted_K = cut.wanted(max(available_K), len(available_K))
    return sum(available_K[label] < wanted for label, wanted in zip(order, wanted_K, strict=True))


@dataclass(frozen=True, kw_only=True)
class Subset:
    """The real images that a run may see, as indices into the training split."""

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
    cut: Cut | None,
    subset_draw: str | None,
    class_order: str | None,
    validation_per_class: int,
    seed: int,
    groups_N: IndexArray | None = None,
) -> Subset:
    """Draw the long-tailed training set, after setting aside the validation images.

    Args:
        labels_N: labels of the whole training split.
        cut: how many images each class keeps; None keeps every image, whatever the draw and the order.
        subset_draw: "paper" is the published fixed draw, the same for every seed; "per_seed" draws for each
            seed.
        class_order: "label" makes class 0 the head; "permuted" permutes the ranks per seed.
        validation_per_class: balanced images per class that training never sees.
        groups_N: groups that must not be split when these are set aside; None if there are none.

    Raises:
        ValueError: unknown draw or order, or a class with too few images for its validation share.
    """
    validation_indices, pools = _set_aside_validation(
        labels_N, num_classes, validation_per_class, seed, groups_N
    )
    counts_K = kept_counts([len(pool) for pool in pools], cut, class_order, seed)
    if cut is None:
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
    labels_N: IndexArray,
    num_classes: int,
    validation_per_class: int,
    seed: int,
    groups_N: IndexArray | None,
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
    if groups_N is not None:
        chosen = [_choose_groups(pool, groups_N[pool], validation_per_class, rng) for pool in pools]
        left = [np.setdiff1d(pool, taken) for pool, taken in zip(pools, chosen, strict=True)]
        return np.concatenate(chosen), left
    shuffled = [rng.permutation(pool) for pool in pools]
    validation = np.concatenate([pool[:validation_per_class] for pool in shuffled])
    return validation, [np.sort(pool[validation_per_class:]) for pool in shuffled]


def _choose_groups(
    pool: IndexArray, groups_N: IndexArray, num_images: int, rng: np.random.Generator
) -> IndexArray:
    """Return `num_images` images of a class in whole groups: the first ones, in random order, that add up."""
    numbers, sizes = np.unique(groups_N, return_counts=True)
    ways: dict[int, tuple[int, ...]] = {0: ()}
    """for each number of images, groups that have it together"""
    for group in rng.permutation(len(numbers)).tolist():
        size = int(sizes[group])
        open_ways = [(count + size, taken) for count, taken in ways.items() if count + size <= num_images]
        ways = {count: (*taken, group) for count, taken in open_ways} | ways
        if num_images in ways:
            return pool[np.isin(groups_N, numbers[list(ways[num_images])])]
    raise ValueError(
        f"validation_per_class sets whole groups aside, and none of them have {num_images} images together "
        f"in a class with groups of {min(sizes)} to {max(sizes)}"
    )


def choose_validation(dataset: str) -> int:
    """Return how many images per class a search sets aside: a twelfth of the smallest class, 1 to 500.

    Of a set of the catalogue with groups it is a whole number of groups, at least one: 30 of 210 in gtsrb.
    Nothing is set aside of a set that brings a validation split, whatever the number.

    Raises:
        ValueError: the set brings no such split, and a class has too few images to set one aside.
    """
    spec = get_dataset_spec(dataset)
    smallest = min(spec.train_counts_K)
    if smallest < 2 and not brings_validation(dataset):
        name = spec.class_names[spec.train_counts_K.index(smallest)]
        raise ValueError(
            f"a search sets images of every class aside and learns from the others, got {smallest} training "
            f"image of {name!r}; add some, or a val split with images of every class"
        )
    number = max(1, min(VALIDATION_PER_CLASS, smallest // VALIDATION_SHARE))
    size = GROUP_SIZES.get(dataset, 1)
    return number if size == 1 else max(1, number // size) * size


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
    """Return the labels in the order of their first appearance in the label file."""
    labels_K, first_positions_K = np.unique(labels_N, return_index=True)
    return [int(label) for label in labels_K[np.argsort(first_positions_K)]]


def brings_validation(dataset: str) -> bool:
    """Whether a data set has a validation split of its own, with images of every class."""
    counts_K = get_dataset_spec(dataset).validation_counts_K
    return counts_K is not None and min(counts_K) > 0


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The real images that a run may see."""

    dataset: str
    """a name in DATASETS"""
    c: str | None
    """ratio between consecutive classes as an exact fraction, "7/9"; None for profile and original set"""
    subset_draw: str | None
    """"paper": the published fixed draw; "per_seed": drawn for each seed; None for the original set"""
    class_order: str | None
    """"label": class 0 is the head; "permuted" per seed; None for the original set"""
    validation_per_class: int
    """balanced images per class set aside before the long-tailed cut"""
    profile: str | None = field(default=None, metadata=LATER)
    """of CUT_PROFILES, instead of C; None for C and for the original set, which is the profile "natural\""""
    ratio: str | None = field(default=None, metadata=LATER)
    """imbalance ratio of the profile, largest over smallest class, as an exact fraction, "100\""""
    validation: str | None = field(default=None, metadata=LATER)
    """"own": the whole validation split of a user's set, and nothing is set aside; None for
    `validation_per_class`"""

    def __post_init__(self) -> None:
        require_numbers(self)
        counts_K = get_dataset_spec(self.dataset).train_counts_K
        self._check_cut()
        self._check_validation()
        if not 0 <= self.validation_per_class < min(counts_K):
            raise ValueError(
                f"validation_per_class must be at least 0 and below the smallest class of {self.dataset} "
                f"({min(counts_K)} images), so that some are left for training, got "
                f"{self.validation_per_class}"
            )
        if self.cut is None:
            if self.subset_draw is not None or self.class_order is not None:
                raise ValueError(
                    "the original set has neither a subset draw nor a class order; leave them out, or cut it "
                    "with a C or a profile"
                )
        else:
            self.cut.require_images(max(counts_K) - self.validation_per_class, len(counts_K))
            require_known("subset draw", str(self.subset_draw), SUBSET_DRAWS)
            require_known("class order", str(self.class_order), CLASS_ORDERS)
        self._check_groups()

    def _check_groups(self) -> None:
        if not self.validation_per_class or not get_dataset_spec(self.dataset).has_groups:
            return
        size = GROUP_SIZES.get(self.dataset)
        if size is None:
            raise ValueError(
                "validation_per_class sets single images aside and would split the groups of "
                f"{self.dataset}, got {self.validation_per_class}; give it a validation split, or have one "
                "drawn from images of your own: --dataset PATH --validation-fraction 0.1"
            )
        if self.validation_per_class % size:
            raise ValueError(
                f"validation_per_class sets whole groups aside, of {size} images in {self.dataset}, and must "
                f"be a multiple of that, got {self.validation_per_class}"
            )

    def _check_validation(self) -> None:
        if self.validation is None:
            return
        require_known("validation", self.validation, (OWN_SPLIT,))
        if not brings_validation(self.dataset):
            raise ValueError(
                f'validation "{OWN_SPLIT}" is for a set with a validation split of images of every class, '
                f"got {self.dataset}; give it one, or set some aside with validation_per_class"
            )
        if self.validation_per_class:
            raise ValueError(
                f'validation "{OWN_SPLIT}" sets nothing aside, so validation_per_class must be 0, got '
                f"{self.validation_per_class}"
            )

    def draw(self, labels_N: IndexArray, groups_N: IndexArray | None, seed: int) -> Subset:
        """Draw the subset of a training split with these labels and groups; errors as `draw_subset`."""
        return draw_subset(
            labels_N,
            get_dataset_spec(self.dataset).num_classes,
            cut=self.cut,
            subset_draw=self.subset_draw,
            class_order=self.class_order,
            validation_per_class=self.validation_per_class,
            seed=seed,
            groups_N=groups_N,
        )

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation set."""
        return self.validation is not None or self.validation_per_class > 0

    def _check_cut(self) -> None:
        if self.profile is not None:
            require_known("profile", self.profile, CUT_PROFILES)
        if (self.profile is None) != (self.ratio is None):
            raise ValueError(
                f"a profile goes with a ratio, got profile {self.profile!r} and ratio {self.ratio!r}"
            )
        if self.profile is not None and self.c is not None:
            raise ValueError(f"C and a profile exclude each other, got C {self.c} and {self.label}")
        for name, given, read in (("C", self.c, parse_c), ("a ratio", self.ratio, parse_ratio)):
            if given is not None and given != (exact := str(read(given))):
                raise ValueError(f"{name} must be given in lowest terms, {exact!r}, got {given!r}")

    @property
    def cut(self) -> Cut | None:
        """The images that each class keeps; None if all are kept."""
        if self.ratio is not None:
            return Cut(profile=self.profile, value=parse_ratio(self.ratio))
        return None if self.c is None else Cut(profile=None, value=parse_c(self.c))

    @property
    def label(self) -> str:
        """The name of the training data in tables: C, a profile with its ratio, or "original"."""
        return name_data({"c": self.c, "profile": self.profile, "ratio": self.ratio})
