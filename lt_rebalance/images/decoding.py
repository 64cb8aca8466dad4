"""Decode the pictures of a folder in parallel.

It uses threads, because Pillow releases the interpreter lock while it decodes, and because a process that is
forked next to Ray's threads may hang. Shape suffixes: N images, H rows, W columns, C channels.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.ground.errors import DataError
from lt_rebalance.ground.memory import count_cpus
from lt_rebalance.ground.text import count
from lt_rebalance.images.folder import Folder, Listed
from lt_rebalance.images.options import OwnOptions
from lt_rebalance.images.pictures import PictureError, decode, quiet_pillow
from lt_rebalance.images.pool import SPLITS, Pool, RawSplit, sum_up
from lt_rebalance.images.progress import Progress
from lt_rebalance.images.room import require_room, require_sides

_CHUNK = 64
"""pictures that a thread decodes per task"""

Decoded = tuple[tuple[int, int] | None, NDArray[np.uint8] | None, PictureError | None]
"""the size, the pixels, and the error if there are none"""


def decode_folder(folder: Folder, options: OwnOptions) -> Pool:
    """Return the decoded pictures of a folder, those of each split in the order of their names.

    Errors of single pictures are among the errors of the pool, whose images are then None.

    Raises:
        DataError: their size cannot be used, or they do not fit into memory.
    """
    if (side := options.image_size) is None:
        first, (width, height) = _find_first(folder, options)
        require_sides(width, height, first)
    else:
        width = height = side
    num_channels = 1 if options.grey else 3
    num_bytes = len(folder.pictures) * num_channels * width * height
    remedy = "make them smaller with --image-size, grey with --grey, or take fewer"
    require_room(num_bytes, folder.root, remedy)
    images_NHWC = np.empty((len(folder.pictures), height, width, num_channels), np.uint8)
    sizes: Counter[tuple[int, int]] = Counter()
    faults: defaultdict[str, list[str]] = defaultdict(list)
    num_grey = 0
    expected = (width, height) if side is None else None
    for place, (size, pixels, error) in enumerate(_decode_each(folder, options, expected)):
        name = folder.pictures[place].name
        if size is not None:
            sizes[size] += 1
        if error is not None:
            faults[error.rule].append(error.say(name))
        elif pixels is None:
            faults["size"].append(_say_mixed(name, size, (width, height)))
        else:
            num_grey += pixels.ndim == 2
            images_NHWC[place] = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    warnings = []
    if num_grey == len(folder.pictures):
        images_NHWC = images_NHWC[..., :1]
    elif num_grey and not options.grey:
        warnings.append(
            f"{count(num_grey, 'grey picture')} taken as colour, as others are; --grey makes all grey"
        )
    return Pool(
        class_names=folder.class_names,
        are_named=True,
        splits=_divide(folder, None if faults else images_NHWC),
        sizes=sizes,
        errors=[sum_up(each) for each in faults.values()],
        warnings=warnings,
    )


def _find_first(folder: Folder, options: OwnOptions) -> tuple[str, tuple[int, int]]:
    """Return the first readable picture, its width and height; DataError if there is none."""
    faults = []
    for listed in folder.pictures:
        try:
            with quiet_pillow():
                return listed.name, decode(os.path.join(folder.root, listed.name), options, (0, 0))[0]
        except PictureError as error:
            faults.append(error.say(listed.name))
    raise DataError(sum_up(faults))


def _decode_each(folder: Folder, options: OwnOptions, expected: tuple[int, int] | None) -> Iterator[Decoded]:
    """Yield the result of each picture, in order."""

    def decode_chunk(pictures: Sequence[Listed]) -> list[Decoded]:
        return [_decode(os.path.join(folder.root, each.name), options, expected) for each in pictures]

    starts = range(0, len(folder.pictures), _CHUNK)
    progress = Progress("decoding pictures", len(folder.pictures))
    executor = ThreadPoolExecutor(count_cpus())
    with quiet_pillow(), progress:
        try:
            chunks = [folder.pictures[start : start + _CHUNK] for start in starts]
            for decoded in executor.map(decode_chunk, chunks):
                progress.add(len(decoded))
                yield from decoded
        finally:
            executor.shutdown(cancel_futures=True)


def _decode(path: str, options: OwnOptions, expected: tuple[int, int] | None) -> Decoded:
    try:
        return *decode(path, options, expected), None
    except PictureError as error:
        return None, None, error


def _say_mixed(name: str, size: tuple[int, int] | None, first: tuple[int, int]) -> str:
    assert size is not None
    return (
        f"pictures must be of one size, got {name} of {size[0]} x {size[1]} among others of {first[0]} x "
        f"{first[1]}; resize all with --image-size N"
    )


def _divide(folder: Folder, images_NHWC: NDArray[np.uint8] | None) -> dict[str, RawSplit]:
    label_of = {name: label for label, name in enumerate(folder.class_names)}
    splits = {}
    for split in SPLITS:
        places = [place for place, each in enumerate(folder.pictures) if each.split == split]
        if not places:
            continue
        listed = [folder.pictures[place] for place in places]
        # A split is a run of neighbours, so this is a view.
        images = None if images_NHWC is None else images_NHWC[places[0] : places[-1] + 1]
        splits[split] = RawSplit(
            images_NHWC=images,
            labels_N=np.array([label_of[each.class_name] for each in listed], np.int64),
            groups_N=_list_groups(listed),
            name_of=[each.name for each in listed].__getitem__,
        )
    return splits


def _list_groups(listed: Sequence[Listed]) -> NDArray[np.str_] | None:
    """Return the group of each picture; one without forms its own group. None if no picture has a group."""
    if all(each.group is None for each in listed):
        return None
    return np.array([f"/{each.name}" if each.group is None else each.group for each in listed])
