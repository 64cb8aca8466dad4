"""Check a set as a whole: what makes results wrong is an error, the rest a warning.

Shape suffixes: N images, K classes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.ground.text import count
from lt_rebalance.images.arrangement import Positions
from lt_rebalance.images.options import MOST_CLASSES
from lt_rebalance.images.pool import RawSplit

FEW_IMAGES = 10
MOST_LEAKED = 0.001
"""largest share of the images of a split that another split has, too; it bounds their effect on accuracy"""
RULES = 6
"""raised if a set may be refused, warned of or drawn in another way: prepared sets are checked again"""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Errors and warnings, one line each."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    """groups that share images, where a class may have no test images because of them"""


def check_counts(
    counts: Mapping[str, NDArray[np.int64]], class_names: Sequence[str], found: Findings
) -> None:
    """Check the images of each class.

    Args:
        counts: (K,) by split.
    """
    for name, uses in Counter(class_names).items():
        if uses > 1 or not (name.strip() and name.isprintable()):
            found.errors.append(
                "names of classes must differ and be of letters that can be printed, got "
                f"{name!r:.80}; rename it"
            )
            break
    if len(class_names) < 2:
        found.errors.append(
            f"a set must have at least two classes, got {class_names[0]!r} alone; add another to tell it from"
        )
    if len(class_names) > MOST_CLASSES:
        found.errors.append(
            f"a set may have up to {MOST_CLASSES:,} classes, got {len(class_names):,}; merge the rarest"
        )
    for split in ("train", "test"):
        counts_K = counts.get(split, np.empty(0))
        if names := _name(counts_K == 0, class_names):
            found.errors.append(
                f"every class must have {split} images, got none of {_some(names)}"
                f"{''.join(found.links)}; add some, in further groups if a split is drawn, with no image of "
                "another, or leave the class out"
            )
        if names := _name((counts_K > 0) & (counts_K < FEW_IMAGES), class_names):
            found.warnings.append(f"fewer than {FEW_IMAGES} {split} images of {_some(names)}")


def check_range(splits: Mapping[str, RawSplit], found: Findings) -> None:
    """Check the range of pixels in each split."""
    for name, split in splits.items():
        if split.images_NHWC is not None and (largest := int(split.images_NHWC.max())) <= 1:
            found.errors.append(
                f"pixels must run from 0 to 255, got {largest} as the largest of all {name} images; multiply "
                "them by 255 before they become uint8"
            )


def check_duplicates(
    splits: Mapping[str, RawSplit],
    ranks: Mapping[str, Positions],
    class_names: Sequence[str],
    found: Findings,
) -> None:
    """Find equal images in several splits, and with different labels.

    Args:
        ranks: (N,) by split; equal where images are.
    """
    for other in ("train", "validation"):
        for split in ("validation", "test"):
            if other == split or not {other, split} <= splits.keys():
                continue
            leaked = np.flatnonzero(np.isin(ranks[split], ranks[other]))
            if not len(leaked):
                continue
            place = int(leaked[0])
            twin = int(np.flatnonzero(ranks[other] == ranks[split][place])[0])
            share = len(leaked) / len(ranks[split])
            got = (
                f"{len(leaked):,} of {len(ranks[split]):,} {split} images ({share:.2%}) that are also in "
                f"{other}, such as {splits[split].name_of(place)}, which equals {splits[other].name_of(twin)}"
            )
            if share > MOST_LEAKED:
                rule = f"at most {MOST_LEAKED:.1%} of the {split} images may be in {other}, too"
                found.errors.append(f"{rule}, got {got}; remove one of each two")
            else:
                found.warnings.append(got)
    for split, raw in splits.items():
        ranks_N, labels_N = ranks[split], raw.labels_N
        pairs = np.unique(np.stack([ranks_N, labels_N]), axis=1)
        conflicting, counts = np.unique(pairs[0], return_counts=True)
        if (conflicting := conflicting[counts > 1]).size:
            places = np.flatnonzero(ranks_N == conflicting[0])
            one = int(places[0])
            two = int(places[labels_N[places] != labels_N[one]][0])
            found.warnings.append(
                f"several labels for {count(conflicting.size, f'{split} image')}, such as {raw.name_of(one)} "
                f"({class_names[labels_N[one]]}), which equals {raw.name_of(two)} "
                f"({class_names[labels_N[two]]})"
            )
        if num_repeated := len(ranks_N) - len(np.unique(ranks_N)):
            copies = count(num_repeated, "copy", "copies")
            found.warnings.append(f"among the {split} images: {copies} of others")


def check_groups(splits: Mapping[str, RawSplit], found: Findings) -> None:
    """Find groups that several splits share."""
    groups = {name: split.groups_N for name, split in splits.items() if split.groups_N is not None}
    for other in ("train", "validation"):
        for split in ("validation", "test"):
            if other == split or not {other, split} <= groups.keys():
                continue
            if len(shared := np.intersect1d(groups[other], groups[split])):
                found.warnings.append(
                    f"{other} and {split} have {count(len(shared), 'group')} in common, such as "
                    f"{str(shared[0])!r}; if the name means one thing in both, scores on {split} are too high"
                )


def _name(is_meant_K: NDArray[np.bool_], class_names: Sequence[str]) -> list[str]:
    return [class_names[label] for label in np.flatnonzero(is_meant_K).tolist()]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"{name!r:.40}" for name in names[:3])
    return f"{shown} and {len(names) - 3:,} more" if len(names) > 3 else shown
