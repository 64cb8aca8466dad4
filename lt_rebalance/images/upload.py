"""Prepared arrays of a user's set in a store: stored once, by content, and compared when read.

    images/<identity>/index.json                  sha256 and size of every piece, and how splits were drawn
    images/<identity>/<split>_<part>-<n>-<hash>   the bytes of consecutive images, labels or groups

The index is written last: a set that has one is whole. Labels and groups are little-endian int64.
Shape suffix: N images.
"""

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.files.filesystem import Filesystem
from lt_rebalance.ground.errors import DataError, NotAFileError
from lt_rebalance.ground.values import fields, flag, list_of, mapping_of, parse_json, text, whole
from lt_rebalance.images.arrangement import ArrangedSplit, identify
from lt_rebalance.images.pool import SPLITS
from lt_rebalance.images.progress import Progress
from lt_rebalance.images.room import require_room
from lt_rebalance.store import Store

DIRECTORY = "images"
INDEX = "index.json"
PIECE_BYTES = 2**25
"""largest size of one piece, which is in memory as a whole"""
IDENTITY = re.compile(r"[0-9a-f]{64}")
_FORMAT = 1
_PARTS = ("images", "labels", "groups")
_PIECE = fields({"file": text, "sha256": text, "num_bytes": whole(1)})
_INDEX = fields(
    {
        "format": whole(_FORMAT, _FORMAT),
        "splits": mapping_of(
            fields({"num_images": whole(1), "has_groups": flag, "pieces": mapping_of(list_of(_PIECE))})
        ),
        "said": list_of(text),
    }
)


def upload(store: Store, identity: str, splits: Mapping[str, ArrangedSplit], said: Sequence[str]) -> bool:
    """Put a set into a store if it is not complete there; return whether anything was put.

    Args:
        said: how its splits were drawn, for readers of the index.
    """
    directory = f"{DIRECTORY}/{identity}"
    index: dict[str, Any] = {"format": _FORMAT, "splits": {}, "said": list(said)}
    num_put = 0
    num_bytes = sum(each.nbytes for split in splits.values() for each in split.parts().values())
    with Progress(f"putting images into {store.location}", num_bytes) as progress:
        for name, split in splits.items():
            pieces: dict[str, list[dict[str, Any]]] = {}
            for part, array in split.parts().items():
                pieces[part] = []
                for number, content in enumerate(_cut(array)):
                    digest = hashlib.sha256(content).hexdigest()
                    file = f"{name}_{part}-{number:04d}-{digest[:12]}"
                    num_put += _put(store.files, f"{directory}/{file}", content, digest)
                    pieces[part].append({"file": file, "sha256": digest, "num_bytes": len(content)})
                    progress.add(len(content))
            index["splits"][name] = {
                "num_images": len(split.labels_N),
                "has_groups": split.groups_N is not None,
                "pieces": pieces,
            }
    if num_put or not is_uploaded(store, identity):
        store.files.replace(f"{directory}/{INDEX}", json.dumps(index, indent=1).encode())
        return True
    return False


def is_uploaded(store: Store, identity: str) -> bool:
    """Whether a store has a set, by its index; its pieces are compared when they are read."""
    return INDEX in store.files.list(f"{DIRECTORY}/{identity}")


def download(store: Store, spec: DatasetSpec) -> dict[str, ArrangedSplit]:
    """Return the splits of a set that a store has.

    Raises:
        DataError: it has none, or a different set.
    """
    identity = spec.identity
    directory = f"{DIRECTORY}/{identity}"
    try:
        index = parse_json(store.files.read(f"{directory}/{INDEX}"))
        _INDEX(index)
        sizes = {name: sum(counts_K) for name, counts_K in spec.counts.items()}
        if {name: each["num_images"] for name, each in index["splits"].items()} != sizes:
            raise ValueError("it is of other splits")
        # The numbers of images are those that the main process sent, so no index can make a worker read more.
        num_bytes = sum(sizes.values()) * math.prod(spec.image_shape)
        require_room(num_bytes, f"{store.location}/{directory}", "train where there is more of it")
        with Progress(f"taking images from {store.location}", sum(sizes.values())) as progress:
            splits = {}
            for name in (name for name in SPLITS if name in sizes):
                splits[name] = _read_split(store.files, directory, spec, index["splits"][name], sizes[name])
                progress.add(sizes[name])
        if identify(splits) != identity:
            raise ValueError("its pixels, labels or groups are other ones")
    except (FileNotFoundError, NotAFileError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = (
            str(error) if isinstance(error, ValueError) else f"{error.strerror or error}: {error.filename}"
        )
        raise DataError(
            f"{store.location}/{directory} must hold the images {spec.name} as they were put there, got a "
            f"damaged set ({reason}); run the sweep with --dataset PATH --upload-data on a machine that has "
            "them"
        ) from None
    return splits


def list_uploads(files: Filesystem) -> list[str]:
    """Return the identities of the sets of which a store has any part."""
    return [name for name in files.list(DIRECTORY) if IDENTITY.fullmatch(name)]


def _cut(array: NDArray[Any]) -> Iterator[bytes]:
    rows = max(1, PIECE_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        piece = np.ascontiguousarray(array[start : start + rows])
        yield (piece if piece.dtype == np.uint8 else piece.astype("<i8")).tobytes()


def _put(files: Filesystem, path: str, content: bytes, digest: str) -> bool:
    with contextlib.suppress(FileNotFoundError, NotAFileError):
        if files.has_content(path, digest, len(content)):
            return False
    files.replace(path, content)
    return True


def _read_split(
    files: Filesystem, directory: str, spec: DatasetSpec, described: Mapping[str, Any], num_images: int
) -> ArrangedSplit:
    shape = (num_images, *spec.image_shape)
    arrays: dict[str, NDArray[Any]] = {
        "images": np.empty(math.prod(shape), np.uint8),
        "labels": np.empty(num_images * 8, np.uint8),
    }
    if described["has_groups"]:
        arrays["groups"] = np.empty(num_images * 8, np.uint8)
    for part, content in arrays.items():
        start = 0
        for piece in described["pieces"].get(part, []):
            end = start + piece["num_bytes"]
            if end > len(content):
                raise ValueError(f"it has more {part} than images")
            read = files.read(f"{directory}/{piece['file']}")
            if hashlib.sha256(read).hexdigest() != piece["sha256"] or len(read) != piece["num_bytes"]:
                raise ValueError(f"{piece['file']} does not have the sha256 that {INDEX} states")
            content[start:end] = np.frombuffer(read, np.uint8)
            start = end
        if start != len(content):
            raise ValueError(f"{part} are missing")
    numbers = {part: arrays[part].view("<i8").astype(np.int64) for part in _PARTS[1:] if part in arrays}
    return ArrangedSplit(
        images_NCHW=arrays["images"].reshape(shape),
        labels_N=numbers["labels"],
        groups_N=numbers.get("groups"),
    )
