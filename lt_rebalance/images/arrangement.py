"""Put images into an order that depends only on their content, and compute the identity of the set.

The same pixels, labels, splits and groups give the same arrays and the same identity, whatever their path and
file names, as npz or as a folder. Shape suffixes: N images, C H W image, D bytes of a digest.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.images.progress import count_threads

FORMAT = 1
"""part of every identity; raised if the same files would give other arrays"""
_DIGEST_BYTES = 32
_CHUNK = 1024

Digests = NDArray[np.uint8]
Positions = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrangedSplit:
    """One split as it is stored."""

    images_NCHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    groups_N: NDArray[np.int64] | None
    """numbered from 0 on, over all splits; None if there are no groups"""


def digest_images(images_NCHW: NDArray[np.uint8]) -> Digests:
    """Return the sha256 of the pixels of each image, (N, D)."""

    def digest(start: int) -> bytes:
        chunk = images_NCHW[start : start + _CHUNK]
        return b"".join(hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in chunk)

    with ThreadPoolExecutor(count_threads()) as executor:
        found = b"".join(executor.map(digest, range(0, len(images_NCHW), _CHUNK)))
    return np.frombuffer(found, np.uint8).reshape(-1, _DIGEST_BYTES)


def rank_digests(digests: Digests) -> Positions:
    """Return the rank of each digest among the distinct ones; equal images share it."""
    ranks: Positions = np.unique(digests, axis=0, return_inverse=True)[1].reshape(-1)
    return ranks


def order_images(labels_N: NDArray[np.int64], ranks_N: Positions) -> Positions:
    """Return the positions of images class by class and, within a class, by digest."""
    order: Positions = np.lexsort((ranks_N, labels_N))
    return order


def number_groups(names: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return groups as numbers, in the order in which they first appear."""
    _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    numbers = np.empty(len(first), np.int64)
    numbers[np.argsort(first)] = np.arange(len(first))
    return numbers[inverse]


def identify(splits: Mapping[str, ArrangedSplit]) -> str:
    """Return the sha256 of pixels, labels, splits and groups, on which results depend."""
    total = hashlib.sha256()
    for name, split in splits.items():
        header: dict[str, Any] = {
            "format": FORMAT,
            "split": name,
            "shape": split.images_NCHW.shape,
            "has_groups": split.groups_N is not None,
        }
        total.update(json.dumps(header).encode() + b"\n")
        total.update(split.labels_N.astype("<i8").tobytes())
        if split.groups_N is not None:
            total.update(split.groups_N.astype("<i8").tobytes())
        total.update(digest_images(split.images_NCHW).tobytes())
    return total.hexdigest()
