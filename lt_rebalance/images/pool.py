"""The raw content of a location: pictures with labels, as found.

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
    """The images of one split in the order of their files."""

    images_NHWC: NDArray[np.uint8] | None
    """0..255; None if some could not be read"""
    labels_N: NDArray[np.int64]
    """0..K-1"""
    groups_N: NDArray[np.str_] | None
    """groups that must not be split, such as a patient or a track; None if there are none"""
    name_of: Callable[[int], str]
    """the location of each image, for messages"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """All splits of a location."""

    class_names: tuple[str, ...]
    are_named: bool
    """whether somebody has given these names, even if they are numbers"""
    splits: Mapping[str, RawSplit]
    """by a name of SPLITS; without "test" if it is still to be drawn"""
    sizes: Counter[tuple[int, int]]
    """number of images of each width and height"""
    errors: Sequence[str] = ()
    warnings: list[str] = field(default_factory=list)


def sum_up(faults: Sequence[str]) -> str:
    """Return the first of some errors of one kind, and the number of others."""
    return faults[0] + (f" (and {len(faults) - 1:,} more like it)" if len(faults) > 1 else "")
