"""Make a data set of a user's images at a location: read, checked, arranged, prepared once.

Shape suffixes: N images, C H W image, K classes.
"""

import dataclasses
import hashlib
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.data.at_hand import OwnData, get_own_data, keep, name_own, note_upload
from lt_rebalance.data.catalog import NAMED_CLASSES, get_dataset_spec
from lt_rebalance.data.files import load_dataset
from lt_rebalance.data.spec import Dataset, DatasetSpec
from lt_rebalance.ground.errors import DataError
from lt_rebalance.ground.text import count, one_line
from lt_rebalance.images.archive import read_archive, say_damaged
from lt_rebalance.images.arrangement import (
    FORMAT,
    ArrangedSplit,
    Positions,
    digest_images,
    identify,
    join_groups,
    number_groups,
    number_groups_of,
    order_images,
    rank_digests,
    take_images,
)
from lt_rebalance.images.cache import Cache
from lt_rebalance.images.checks import (
    RULES,
    Findings,
    check_counts,
    check_duplicates,
    check_groups,
    check_range,
)
from lt_rebalance.images.decoding import decode_folder
from lt_rebalance.images.folder import LAYOUT, Folder, list_folder
from lt_rebalance.images.options import OwnOptions
from lt_rebalance.images.pool import SPLITS, Pool, RawSplit
from lt_rebalance.images.splitting import SEED, STREAMS, draw_split
from lt_rebalance.images.upload import download, is_uploaded, upload
from lt_rebalance.store import Store, open_store

LICENCE = "the user's own"
DRAWN = tuple(f"the {name} split was drawn:" for name in STREAMS)


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnSet:
    """A set that is ready for training."""

    spec: DatasetSpec
    dataset: Dataset


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """The content of a location, as far as it is known."""

    class_names: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]
    """images of each class, by split"""
    sizes: Counter[tuple[int, int]]
    """number of images of each width and height, before they are resized"""
    errors: Sequence[str]
    """errors, which would make results wrong, one line each"""
    warnings: Sequence[str]
    own: OwnSet | None
    """None if there are errors"""


def load_own(location: str, options: OwnOptions) -> tuple[OwnSet, Sequence[str]]:
    """Return the set at a location, and warnings.

    Raises:
        DataError: it cannot be used; the first reason, and the number of others.
    """
    look = look_at(location, options)
    require_faultless(look)
    assert look.own is not None
    return look.own, look.warnings


def require_faultless(look: Look) -> None:
    """Raise a DataError if a set has errors: the first, and the number of others."""
    if look.errors:
        more = len(look.errors) - 1
        raise DataError(
            look.errors[0] + (f" (and {more} more, which `lt-rebalance data` lists)" if more else "")
        )


def bring(location: str, options: OwnOptions) -> tuple[str, Sequence[str]]:
    """Load the set at a location for this process; return its name, and warnings. Errors as `load_own`."""
    own, warnings = load_own(location, options)
    where = os.path.abspath(location)
    keep(OwnData(spec=own.spec, location=where, options=dataclasses.asdict(options)))
    return own.spec.name, warnings


def load_at_hand(name: str) -> Dataset:
    """Return the arrays of a loaded set.

    They are the arrays prepared on this machine, or else from the store that has them, or else read from the
    set's location. What comes from a store is then prepared on this machine.

    Raises:
        DataError: the images are missing, or others are in their place.
    """
    planned = get_own_data(name)
    prepared = find_prepared(planned.spec)
    if prepared is not None:
        return prepared
    if planned.uploaded_to is not None:
        return _take_from_store(planned.spec, planned.uploaded_to)
    if not os.path.exists(planned.location):
        raise DataError(
            f"{name} must be at {planned.location} on every machine that trains on them, got nothing at that "
            "path here; copy them there, or put them into the store with --upload-data"
        )
    own, _ = load_own(planned.location, OwnOptions(**planned.options))
    if own.spec.identity != planned.spec.identity:
        raise DataError(
            f"images must be those of the plan, {name}, got {own.spec.name} at {planned.location}; put them "
            "back, or start the sweep again"
        )
    return own.dataset


def upload_own(name: str, store: Store) -> bool:
    """Put a loaded set into a store if it is missing, and note this; return whether anything was put."""
    planned = get_own_data(name)
    identity = planned.spec.identity
    splits = Cache().read_set(identity)
    if splits is None:
        load_at_hand(name)  # which prepares it, or says why it cannot be
        splits = Cache().read_set(identity)
        assert splits is not None
    look = look_at(planned.location, OwnOptions(**planned.options))
    drawn = [each for each in look.warnings if each.startswith(DRAWN)]
    is_new = upload(store, identity, splits, drawn)
    note_upload(name, store.location)
    return is_new


def note_uploaded(names: Iterable[str], store: Store) -> None:
    """Note which of some loaded sets a store has, for the processes that get them."""
    for name in names:
        if is_uploaded(store, get_own_data(name).spec.identity):
            note_upload(name, store.location)


def _take_from_store(spec: DatasetSpec, location: str) -> Dataset:
    store = open_store(location, None, create=False, is_read_only=True)
    if store is None:
        raise DataError(f"{spec.name} must be in the store {location}, got no store there on this machine")
    cache = Cache()
    with cache.preparing(spec.identity):
        # Another process may have taken it.
        if (splits := cache.read_set(spec.identity)) is None:
            cache.remove_left_overs()
            cache.write_set(spec.identity, splits := download(store, spec))
    return find_prepared(spec) or _to_dataset(splits)


def find_prepared(spec: DatasetSpec) -> Dataset | None:
    """Return the arrays of a set that has been prepared on this machine; None if it has not."""
    assert spec.content_sha256 is not None
    splits = Cache().read_set(spec.content_sha256)
    return None if splits is None else _to_dataset(splits)


def look_at(location: str, options: OwnOptions) -> Look:
    """Read the images at a location, from the cache if its files have not changed.

    Raises:
        DataError: it is neither a folder of pictures nor an npz, or is damaged as a whole.
    """
    source = _open(location, options)
    cache = Cache()
    if (known := _read_known(cache, source)) is not None:
        return known
    with cache.preparing(source.key):
        # Another process may have been preparing it.
        return _read_known(cache, source) or _prepare(cache, source)


def look_at_known(name: str, data_dir: str | None) -> Look:
    """Return the content of a set of the catalogue; errors as `load_dataset`."""
    spec, dataset = get_dataset_spec(name, data_dir), load_dataset(name, data_dir)
    num_images = sum(spec.train_counts_K) + sum(spec.test_counts_K)
    return Look(
        class_names=spec.class_names,
        counts={"train": spec.train_counts_K, "test": spec.test_counts_K},
        sizes=Counter({(spec.image_shape[2], spec.image_shape[1]): num_images}),
        errors=(),
        warnings=(),
        own=OwnSet(spec=spec, dataset=dataset),
    )


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A location whose files are listed but not read."""

    path: Path
    options: OwnOptions
    folder: Folder | None
    """None for an npz"""

    @property
    def key(self) -> str:
        """The key of the location and the options."""
        asked = [os.path.realpath(self.path), dataclasses.asdict(self.options)]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """A value that is the same as long as no file that is used is changed."""
        if self.folder is not None:
            state = self.folder.fingerprint()
        else:
            found = self.path.stat()
            state = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}".encode()
        return hashlib.sha256(f"{FORMAT} {RULES}\n".encode() + state).hexdigest()

    @property
    def warnings(self) -> list[str]:
        """What the listing says of files that are not used; it is made again each time."""
        return [] if self.folder is None else list(self.folder.warnings)

    def read(self) -> Pool:
        if self.folder is not None:
            return decode_folder(self.folder, self.options)
        return read_archive(self.path, self.options)


def _open(location: str, options: OwnOptions) -> _Source:
    path = Path(location)
    try:
        if path.is_dir():
            if options.relabel:
                raise DataError(
                    f"--relabel renumbers the labels of an npz, got the folder {location}, whose classes "
                    "have names; leave it out"
                )
            return _Source(path=path, options=options, folder=list_folder(path))
        if path.is_file() and zipfile.is_zipfile(path):
            return _Source(path=path, options=options, folder=None)
        if path.is_file() and (path.suffix.lower() == ".npz" or _begins_as_zip(path)):
            raise DataError(say_damaged(path, "its end is missing"))
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{one_line(location)} cannot be read ({one_line(error)})") from None
    got = "something else" if path.exists() else "nothing"
    raise DataError(
        f"images of your own are a folder with {LAYOUT}, or an npz in MedMNIST's layout, got {got} at "
        f"{one_line(location)!r}; name one of these"
    )


def _begins_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _read_known(cache: Cache, source: _Source) -> Look | None:
    """Return the earlier result of a location; None unless nothing has changed."""
    known = cache.read_source(source.key, source.fingerprint)
    splits = None if known is None else cache.read_set(known["identity"])
    if known is None or splits is None:
        return None
    class_names, said = _name_classes(known["class_names"], known.get("are_named", False), source.path)
    spec = _to_spec(known["identity"], class_names, splits)
    return Look(
        class_names=spec.class_names,
        counts=_count(splits, spec.num_classes),
        sizes=Counter({(width, height): count for width, height, count in known["sizes"]}),
        errors=(),
        warnings=said + source.warnings + known["warnings"],
        own=OwnSet(spec=spec, dataset=_to_dataset(splits)),
    )


def _prepare(cache: Cache, source: _Source) -> Look:
    # Before anything is read: what changes while it is read changes the fingerprint.
    fingerprint = source.fingerprint
    pool = source.read()
    class_names, said = _name_classes(pool.class_names, pool.are_named, source.path)
    found = Findings(errors=list(pool.errors), warnings=list(pool.warnings))
    found.errors.extend(_check_splits(source, pool))
    splits = None
    counts = _count_raw(pool.splits, len(pool.class_names))
    if all(split.images_NHWC is not None for split in pool.splits.values()):
        splits = _arrange(pool, source.options, found)
        counts = _count_raw(splits, len(pool.class_names))
    check_counts(counts, class_names, found)
    own = None
    if splits is not None and not found.errors:
        identity = identify(splits)
        cache.remove_left_overs()
        if cache.read_set(identity) is None:
            cache.write_set(identity, splits)
        content = {
            "fingerprint": fingerprint,
            "identity": identity,
            "class_names": pool.class_names,
            "are_named": pool.are_named,
            "sizes": [[*size, count] for size, count in sorted(pool.sizes.items())],
            "warnings": found.warnings,
        }
        cache.write_source(source.key, json.loads(json.dumps(content)))
        spec = _to_spec(identity, class_names, splits)
        own = OwnSet(spec=spec, dataset=_to_dataset(cache.read_set(identity) or splits))
    return Look(
        class_names=class_names,
        counts={name: tuple(counts_K.tolist()) for name, counts_K in counts.items()},
        sizes=pool.sizes,
        errors=found.errors,
        warnings=said + source.warnings + found.warnings,
        own=own,
    )


def _name_classes(names: Sequence[str], are_named: bool, path: Path) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of classes, and a note on them.

    A file such as "cifar10_lt.npz" may name no class, and numbers mean nothing in tables. The names are then
    those of the known set after which the file is named.
    """
    if not are_named and tuple(names) == tuple(map(str, range(len(names)))):
        for name in sorted(NAMED_CLASSES, key=len, reverse=True):
            is_named = re.match(rf"{re.escape(name)}(?![a-z0-9])", path.name, re.IGNORECASE)
            if is_named and len(NAMED_CLASSES[name]) == len(names):
                said = (
                    f"the names of the classes are those of {name}, after which the file is named; to give "
                    "others, save an array class_names in it"
                )
                return NAMED_CLASSES[name], [said]
    return tuple(names), []


def _check_splits(source: _Source, pool: Pool) -> Iterator[str]:
    """Yield the errors of the splits that a set has, and of those that are to be drawn."""
    if "test" not in pool.splits and source.options.test_fraction is None:
        yield f"a set needs test images, got {source.path} without any; draw some with --test-fraction 0.2"
    for name in _shares(source.options):
        if name in pool.splits:
            yield f"--{name}-fraction draws a {name} split, got {source.path} that has one; leave it out"


def _shares(options: OwnOptions) -> dict[str, float]:
    """Return the share of each class for each split that is to be drawn, in the order of drawing."""
    shares = {"test": options.test_fraction, "validation": options.validation_fraction}
    return {name: share for name, share in shares.items() if share is not None}


def _arrange(pool: Pool, options: OwnOptions, found: Findings) -> dict[str, ArrangedSplit]:
    """Return the splits in their final order, including the drawn ones."""
    raw = {name: pool.splits[name] for name in SPLITS if name in pool.splits}
    check_range(raw, found)
    found_NHWC = {name: split.images_NHWC for name, split in raw.items()}
    images = {name: np.moveaxis(each, 3, 1) for name, each in found_NHWC.items() if each is not None}
    joint = rank_digests(np.concatenate([digest_images(each) for each in images.values()]))
    ends = np.cumsum([len(split.labels_N) for split in raw.values()])
    ranks = dict(zip(raw, np.split(joint, ends[:-1]), strict=True))
    orders = order_images(raw, ranks)
    come_from = {name: name for name in raw}
    drawn = {name: share for name, share in _shares(options).items() if name not in raw}
    train = raw["train"]
    whole_N, whole, linked = _keep_together(train, ranks["train"])
    for name, share in drawn.items():
        left = orders["train"]
        numbers_N, takes_first = number_groups(whole_N[left]), train.groups_N is None
        is_drawn = draw_split(name, train.labels_N[left], numbers_N, share, takes_first=takes_first)
        orders = {**orders, "train": left[~is_drawn], name: left[is_drawn]}
        come_from[name] = "train"
    parts = {name: _take(raw[come_from[name]], orders[name]) for name in SPLITS if name in orders}
    ranks = {name: ranks[come_from[name]][orders[name]] for name in parts}
    check_duplicates(parts, ranks, pool.class_names, found)
    check_groups(parts, found)
    groups = number_groups_of(parts)
    for name in drawn:
        found.warnings.extend(_say_drawn(name, parts, options, pool.class_names, whole))
    if drawn and linked:
        found.warnings.append(linked)
        found.links.extend([f", where {linked}"] * ("test" in drawn))
    return {
        name: ArrangedSplit(
            images_NCHW=take_images(images[come_from[name]], orders[name]),
            labels_N=parts[name].labels_N,
            groups_N=groups.get(name),
        )
        for name in parts
    }


def _say_drawn(
    name: str, parts: Mapping[str, RawSplit], options: OwnOptions, class_names: Sequence[str], whole: str
) -> Iterator[str]:
    """Say how a split was drawn, and which classes have none of it or another share than others."""
    # The test split is drawn first, of all training images; the validation split of those that it leaves.
    others = ["train", *(_shares(options) if name == "test" else [name])]
    share = _shares(options)[name]
    counts = _count_raw(parts, len(class_names))
    drawn_K, before_K = counts[name], np.sum([counts[each] for each in others], axis=0)
    yield (
        f"the {name} split was drawn: {drawn_K.sum():,} of {before_K.sum():,} images, about {share:g} of "
        f"each class, {whole} together, by the stream {STREAMS[name]} of seed {SEED}"
    )
    left_out = np.flatnonzero(drawn_K == 0)
    if name != "test" and left_out.size:  # in the test split another check refuses them
        yield (
            f"without {name} images: {count(left_out.size, 'class', 'classes')}, such as "
            f"{class_names[left_out[0]]!r}, which cannot be divided if {whole} stay together; a search "
            "cannot choose by such a split"
        )
    miss_K = np.abs(drawn_K - share * before_K) * (drawn_K > 0)
    if (far := np.flatnonzero(miss_K > np.maximum(1, share / 2 * before_K))).size:
        worst = far[np.argmax(miss_K[far] / before_K[far])]
        more = f", and too large or small a share of {count(far.size - 1, 'other class', 'other classes')}"
        yield (
            f"the {name} split has {drawn_K[worst]:,} of {before_K[worst]:,} images of "
            f"{class_names[worst]!r}, and not {share:g} of them{more * (far.size > 1)}: {whole} stay together"
        )


def _keep_together(split: RawSplit, ranks_N: Positions) -> tuple[NDArray[np.int64], str, str]:
    """Return what a draw keeps together: as numbers, as words, and a note on groups that share images."""
    if split.groups_N is None:
        return ranks_N, "equal images", ""
    groups_N = number_groups(split.groups_N)
    ranks_P, groups_P = np.unique(np.stack([ranks_N, groups_N]), axis=1)
    uses = np.bincount(ranks_P)
    if uses.max() == 1:
        return groups_N, "groups and equal images", ""
    places = np.flatnonzero(ranks_N == uses.argmax())
    one, two = places[0], places[groups_N[places] != groups_N[places[0]]][0]
    linked = (
        f"{count(len(np.unique(groups_P[uses[ranks_P] > 1])), 'group')} share images with others, such as "
        f"{split.name_of(int(one))}, which equals {split.name_of(int(two))}, and "
    )
    joined_N = join_groups(groups_N, ranks_N)
    before_K, joined_K = (
        np.bincount(np.unique(np.stack([split.labels_N, each]), axis=1)[0]) for each in (groups_N, joined_N)
    )
    if (joined_K[before_K > 1] == 1).any():
        return groups_N, "groups", f"{linked}are drawn apart from them, or a class would be a single group"
    return joined_N, "groups and equal images", f"{linked}count as one with them"


def _take(split: RawSplit, order: Positions) -> RawSplit:
    return RawSplit(
        images_NHWC=None,
        labels_N=split.labels_N[order],
        groups_N=None if split.groups_N is None else split.groups_N[order],
        name_of=lambda place: split.name_of(int(order[place])),
    )


def _count(splits: Mapping[str, ArrangedSplit], num_classes: int) -> dict[str, tuple[int, ...]]:
    return {name: tuple(counts_K.tolist()) for name, counts_K in _count_raw(splits, num_classes).items()}


def _count_raw(
    splits: Mapping[str, RawSplit] | Mapping[str, ArrangedSplit], num_classes: int
) -> dict[str, NDArray[np.int64]]:
    return {name: np.bincount(split.labels_N, minlength=num_classes) for name, split in splits.items()}


def _to_spec(identity: str, class_names: tuple[str, ...], splits: Mapping[str, ArrangedSplit]) -> DatasetSpec:
    counts = _count(splits, len(class_names))
    num_channels, height, width = splits["train"].images_NCHW.shape[1:]
    return DatasetSpec(
        name=name_own(identity),
        num_classes=len(class_names),
        image_shape=(num_channels, height, width),
        class_names=class_names,
        train_counts_K=counts["train"],
        test_counts_K=counts["test"],
        validation_counts_K=counts.get("validation"),
        has_groups=splits["train"].groups_N is not None,
        licence=LICENCE,
        content_sha256=identity,
        sha256_by_file={},
    )


def _to_dataset(splits: Mapping[str, ArrangedSplit]) -> Dataset:
    train, test, validation = splits["train"], splits["test"], splits.get("validation")
    return Dataset(
        train_images_NCHW=train.images_NCHW,
        train_labels_N=train.labels_N,
        test_images_NCHW=test.images_NCHW,
        test_labels_N=test.labels_N,
        train_groups_N=train.groups_N,
        validation_images_NCHW=None if validation is None else validation.images_NCHW,
        validation_labels_N=None if validation is None else validation.labels_N,
    )
