"""Options for images of the user's own, and how a command has them at hand."""

import argparse
from collections.abc import Collection, Iterable

from lt_rebalance.commands.flips import allow_flips
from lt_rebalance.data.at_hand import is_own_name
from lt_rebalance.data.catalog import is_location
from lt_rebalance.ground.exits import note
from lt_rebalance.ground.option_types import finite, whole
from lt_rebalance.images.options import OWN_FIELDS, OWN_FLAGS, OwnOptions
from lt_rebalance.store import Store


def bring_images(options: argparse.Namespace) -> None:
    """Have images of the user's own at hand where --dataset is a location; it becomes their name.

    Raises:
        DataError: they cannot be learned from.
        ValueError: options for such images, and a data set by name.
    """
    asked = OwnOptions(**{field: getattr(options, field) for field in OWN_FIELDS})
    if not is_location(options.dataset):
        others = [name for name in ("upload_data", "flip") if hasattr(options, name)]
        if asked != OwnOptions() or any(getattr(options, name) for name in others):
            flags = [*OWN_FLAGS, *(f"--{name.replace('_', '-')}" for name in others)]
            raise ValueError(
                f"{', '.join(flags)} are for images of your own, with --dataset PATH; leave them out"
            )
        return
    if options.data_dir is not None or getattr(options, "download", False):
        raise ValueError("--data-dir and --download are for sets by name, got --dataset PATH; leave them out")
    from lt_rebalance.images.load import bring  # here, not above: Pillow, and what it needs, takes a while

    options.dataset, warnings = bring(options.dataset, asked)
    if getattr(options, "flip", False):
        allow_flips(options.dataset)
    for warning in warnings:
        note(warning)


def bring_images_again(options: argparse.Namespace) -> None:
    """Have the images at hand that stages of a store learned from, where --dataset says where they are.

    Raises:
        DataError: as `bring_images`.
        ValueError: as there, or --dataset gives no location.
    """
    if options.dataset is not None and not is_location(options.dataset):
        raise ValueError(
            f"--dataset is the path of images of your own that stages learned from, got {options.dataset!r}; "
            "sets by name are known, and need none"
        )
    bring_images(options)


def require_running(options: argparse.Namespace) -> None:
    """Raise a ValueError where data would be put into a store by a command that writes nothing."""
    flag = next((name for name in ("plan", "dry_run") if getattr(options, name, False)), None)
    if options.upload_data and flag is not None:
        raise ValueError(
            f"--upload-data does not go with --{flag.replace('_', '-')}, which writes nothing; leave out one"
        )


def share_images(datasets: Iterable[str], store: Store, options: argparse.Namespace) -> None:
    """Put those of some data sets that are a user's own into a store, where that is asked for.

    What a store has of them already is told to workers either way.

    Raises:
        DataError: their arrays cannot be prepared.
        OSError: the store takes no more.
    """
    names = sorted(set(filter(is_own_name, datasets)))
    if not names:
        return
    from lt_rebalance.images.load import note_uploaded, upload_own

    if getattr(options, "upload_data", False):
        for name in names:
            is_new = upload_own(name, store)
            note(
                f"{name}: {'put into' if is_new else 'is already in'} {store.location}, for workers elsewhere"
            )
    note_uploaded(names, store)


def note_needless(options: argparse.Namespace, datasets: Collection[str]) -> None:
    """Say so where --dataset has brought images that none of some data sets is."""
    if options.dataset is not None and options.dataset not in datasets:
        note(f"--dataset changes nothing: {options.dataset} are not among what is run again")


def add_own_images(group: argparse._ActionsContainer) -> None:
    """Add the options of how images of the user's own are prepared."""
    group.add_argument("--image-size", type=whole, metavar="N", help="resize to N x N pixels, antialiased")
    group.add_argument("--grey", action="store_true", help="make colour grey")
    group.add_argument(
        "--test-fraction", type=finite, metavar="F", help="draw this share of each class to test on"
    )
    group.add_argument(
        "--validation-fraction",
        type=finite,
        metavar="F",
        help="set this share of what is left aside to choose by",
    )
    group.add_argument(
        "--relabel", action="store_true", help="number the labels of an npz anew, from 0 on and without holes"
    )


def add_upload(group: argparse._ActionsContainer) -> None:
    """Add the option that puts images of the user's own into the store."""
    group.add_argument(
        "--upload-data",
        action="store_true",
        help="put the prepared images into the store, once, for workers that do not see PATH",
    )
