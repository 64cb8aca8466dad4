"""What a location gives before anything is made of it: pictures with labels, as they were found.

Shape suffixes: N images, H rows, W columns, C channels.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True, eq=False)
class RawSplit:
    """The images of one split in the order in which they were found."""

    images_NHWC: NDArray[np.uint8] | None
    """0..255; None where some could not be read"""
    labels_N: NDArray[np.int64]
    """0..K-1"""
    groups_N: NDArray[np.str_] | None
    """what must not be torn apart, such as a patient or a track; None where there is no such thing"""
    name_of: Callable[[int], str]
    """where an image was found, for messages"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """All splits of a location."""

    class_names: tuple[str, ...]
    splits: Mapping[str, RawSplit]
    """by a name of SPLITS; without "test" where one is still to be drawn"""
    sizes: Counter[tuple[int, int]]
    """how many images were found of each width and height"""
    errors: Sequence[str] = ()
    warnings: list[str] = field(default_factory=list)


def sum_up(faults: Sequence[str]) -> str:
    """Return the first of some faults of one kind, and how many more there are."""
    return faults[0] + (f" (and {len(faults) - 1:,} more like it)" if len(faults) > 1 else "")
