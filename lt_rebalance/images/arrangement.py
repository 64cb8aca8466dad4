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

from lt_rebalance.ground.memory import count_cpus
from lt_rebalance.images.pool import RawSplit

FORMAT = 1
"""part of every identity; raised if the same images, labels, splits and groups would be stored otherwise"""
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

    def parts(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by the names under which they are stored."""
        parts: dict[str, NDArray[Any] | None]
        parts = {"images": self.images_NCHW, "labels": self.labels_N, "groups": self.groups_N}
        return {name: array for name, array in parts.items() if array is not None}


def digest_images(images_NCHW: NDArray[np.uint8]) -> Digests:
    """Return the sha256 of the pixels of each image, (N, D)."""

    def digest(start: int) -> bytes:
        chunk = images_NCHW[start : start + _CHUNK]
        return b"".join(hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in chunk)

    with ThreadPoolExecutor(count_cpus()) as executor:
        found = b"".join(executor.map(digest, range(0, len(images_NCHW), _CHUNK)))
    return np.frombuffer(found, np.uint8).reshape(-1, _DIGEST_BYTES)


def rank_digests(digests: Digests) -> Positions:
    """Return the rank of each digest among the distinct ones; equal images share it."""
    ranks: Positions = np.unique(digests, axis=0, return_inverse=True)[1].reshape(-1)
    return ranks


def order_images(splits: Mapping[str, RawSplit], ranks: Mapping[str, Positions]) -> dict[str, Positions]:
    """Return the positions of each split's images by class, by digest, and where these are equal by group.

    Groups come in the order of their images in all splits, whatever their names and files.
    """
    places = groups = number_groups_of(splits)
    if groups:
        rows = [
            np.stack([groups_N, np.full(len(groups_N), number), splits[name].labels_N, ranks[name]], axis=1)
            for number, (name, groups_N) in enumerate(groups.items())
        ]
        content = np.concatenate(rows)
        content = content[np.lexsort(content.T[::-1])]
        ends = np.cumsum(np.bincount(content[:, 0]))
        keys = [each.tobytes() for each in np.split(content[:, 1:].astype(">i8"), ends[:-1])]
        by_content = np.argsort(sorted(range(len(keys)), key=keys.__getitem__))
        places = {name: by_content[groups_N] for name, groups_N in groups.items()}
    ranks_and_places = {name: (places.get(name, ranks_N), ranks_N) for name, ranks_N in ranks.items()}
    return {name: np.lexsort((*ranks_and_places[name], splits[name].labels_N)) for name in splits}


def take_images(images_NCHW: NDArray[np.uint8], order: Positions) -> NDArray[np.uint8]:
    """Return images in an order, in the layout in which they are stored: no further copy is made."""
    taken_NCHW = np.empty((len(order), *images_NCHW.shape[1:]), np.uint8)
    for place, position in enumerate(order):
        taken_NCHW[place] = images_NCHW[position]
    return taken_NCHW


def number_groups(names: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return groups as numbers, in the order in which they first appear."""
    _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    numbers = np.empty(len(first), np.int64)
    numbers[np.argsort(first)] = np.arange(len(first))
    return numbers[inverse]


def number_groups_of(splits: Mapping[str, RawSplit]) -> dict[str, NDArray[np.int64]]:
    """Return the groups of the splits that have some, numbered over all of them."""
    grouped = {name: split.groups_N for name, split in splits.items() if split.groups_N is not None}
    if not grouped:
        return {}
    numbers = number_groups(np.concatenate(list(grouped.values())))
    ends = np.cumsum([len(groups_N) for groups_N in grouped.values()])
    return dict(zip(grouped, np.split(numbers, ends[:-1]), strict=True))


def join_groups(names_N: NDArray[np.generic], ranks_N: Positions) -> NDArray[np.int64]:
    """Return groups as numbers; those with an equal image are one, and so are those that others link."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groups_N = number_groups(names_N)
    num_groups, num_nodes = groups_N.max() + 1, groups_N.max() + ranks_N.max() + 2
    links = (np.ones(len(ranks_N)), (groups_N, num_groups + ranks_N))
    _, joined = connected_components(coo_array(links, shape=(num_nodes, num_nodes)), directed=False)
    numbers: NDArray[np.int64] = joined[groups_N]
    return numbers


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
