"""Check that images which are set aside for validation have no copies among those that are learned from.

Only of a user's set: those of the catalogue are used as published. A split that a set brings, or that is
drawn when it is read, is checked then. Shape suffixes: N images, C H W image.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.data.at_hand import is_own_name
from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.long_tail import DataConfig, Subset
from lt_rebalance.ground.errors import DataError
from lt_rebalance.images.arrangement import digest_images, rank_digests
from lt_rebalance.images.cache import Cache
from lt_rebalance.images.checks import MOST_LEAKED


def require_apart(name: str, subset: Subset, images_NCHW: NDArray[np.uint8]) -> None:
    """Check the subset of a set's training images, if some of them are set aside.

    Raises:
        DataError: more than `MOST_LEAKED` of those equal images that are learned from.
    """
    if not is_own_name(name) or not len(subset.validation_indices):
        return
    ranks_N = rank_digests(digest_images(images_NCHW))
    learned_N = ranks_N[np.concatenate(subset.indices_by_class)]
    is_leaked_N = np.isin(ranks_N[subset.validation_indices], learned_N)
    if is_leaked_N.mean() > MOST_LEAKED:
        raise DataError(
            f"at most {MOST_LEAKED:.1%} of the validation images may be learned from, got "
            f"{is_leaked_N.sum():,} of {len(is_leaked_N):,} ({is_leaked_N.mean():.2%}) that "
            f"validation_per_class sets aside of {name}, which repeats images; remove the copies, or have a "
            "split drawn that keeps them together: --dataset PATH --validation-fraction 0.1"
        )


@functools.cache
def require_set_aside_apart(data: DataConfig, seed: int) -> None:
    """Check, as `require_apart`, what a seed sets aside, before any training.

    Arrays that are not prepared on this machine are checked when a stage reads them.
    """
    if not (data.validation_per_class and is_own_name(data.dataset)):
        return
    identity = get_dataset_spec(data.dataset).content_sha256
    splits = None if identity is None else Cache().read_set(identity)
    if splits is not None:
        train = splits["train"]
        subset = data.draw(train.labels_N, train.groups_N, seed)
        require_apart(data.dataset, subset, train.images_NCHW)
