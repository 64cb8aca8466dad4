"""Options for own images, and their loading by commands."""

import argparse
from collections.abc import Collection, Iterable

from lt_rebalance.data.at_hand import allow_flips, is_own_name
from lt_rebalance.data.catalog import is_location, require_set
from lt_rebalance.ground.exits import note
from lt_rebalance.ground.option_types import finite, whole
from lt_rebalance.images.options import LARGEST_SIDE, OWN_FIELDS, OWN_FLAGS, SMALLEST_SIDE, OwnOptions
from lt_rebalance.store import Store


def bring_images(options: argparse.Namespace) -> None:
    """Load own images if --dataset is a location; it becomes their name.

    Raises:
        DataError: they cannot be used for training.
        ValueError: neither a name nor a location, or options for own images with a data set by name.
    """
    if options.dataset is not None:
        require_set(options.dataset)
    asked = OwnOptions(**{field: getattr(options, field) for field in OWN_FIELDS})
    if not is_location(options.dataset):
        others = [name for name in ("upload_data", "flip") if hasattr(options, name)]
        if asked != OwnOptions() or any(getattr(options, name) for name in others):
            flags = [*OWN_FLAGS, *(f"--{name.replace('_', '-')}" for name in others)]
            raise ValueError(
                f"{', '.join(flags)} are for images of your own, with --dataset PATH; leave them out"
            )
        return
    if getattr(options, "data_dir", None) is not None or getattr(options, "download", False):
        raise ValueError("--data-dir and --download are for sets by name, got --dataset PATH; leave them out")
    from lt_rebalance.images.load import bring  # here, not above: importing Pillow takes a while

    options.dataset, warnings = bring(options.dataset, asked)
    if getattr(options, "flip", False):
        allow_flips(options.dataset)
    for warning in warnings:
        note(warning)


def bring_images_again(options: argparse.Namespace) -> None:
    """Load the images that stages of a store learned from, if --dataset gives their location.

    Raises:
        DataError: as `bring_images`.
        ValueError: as there, or --dataset gives no location.
    """
    if options.dataset is not None and not is_location(options.dataset):
        require_set(options.dataset)
        raise ValueError(
            f"--dataset is the path of images of your own that stages learned from, got {options.dataset!r}; "
            "sets by name do not need it"
        )
    bring_images(options)


def require_running(options: argparse.Namespace) -> None:
    """Raise a ValueError if a command that writes nothing is asked to upload data."""
    flag = next((name for name in ("plan", "dry_run") if getattr(options, name, False)), None)
    if options.upload_data and flag is not None:
        raise ValueError(
            f"--upload-data does not go with --{flag.replace('_', '-')}, which writes nothing; leave out one"
        )


def share_images(datasets: Iterable[str], store: Store, options: argparse.Namespace) -> None:
    """Write users' images among some data sets to a store, if requested.

    Workers find images that the store has already in any case.

    Raises:
        DataError: their arrays cannot be prepared.
        OSError: the store cannot be written.
    """
    names = sorted(set(filter(is_own_name, datasets)))
    if not names:
        return
    from lt_rebalance.images.load import note_uploaded, upload_own

    if getattr(options, "upload_data", False):
        for name in names:
            is_new = upload_own(name, store)
            note(
                f"{name}: {'written to' if is_new else 'is already in'} {store.location}, for workers on "
                "other machines"
            )
    note_uploaded(names, store)


def note_needless(options: argparse.Namespace, datasets: Collection[str]) -> None:
    """Print a note if the images of --dataset are not among these data sets."""
    if options.dataset is not None and options.dataset not in datasets:
        note(f"--dataset changes nothing: {options.dataset} are not among what is run again")


def add_own_images(group: argparse._ActionsContainer) -> None:
    """Add the options for preparing own images."""
    group.add_argument(
        "--image-size",
        type=whole,
        metavar="N",
        help=f"resize to N x N pixels, {SMALLEST_SIDE} to {LARGEST_SIDE}, antialiased",
    )
    group.add_argument("--grey", action="store_true", help="make colour grey")
    group.add_argument(
        "--test-fraction",
        type=finite,
        metavar="F",
        help="share of each class, above 0 and below 1, to test on, of a set that has no test split",
    )
    group.add_argument(
        "--validation-fraction",
        type=finite,
        metavar="F",
        help="share of the rest, above 0 and below 1, for validation, of a set that has no such split",
    )
    group.add_argument(
        "--relabel", action="store_true", help="renumber the labels of an npz from 0 without gaps"
    )


def add_upload(group: argparse._ActionsContainer) -> None:
    """Add the option that writes own images to the store."""
    group.add_argument(
        "--upload-data",
        action="store_true",
        help="write the prepared images to the store, once, for workers that do not see PATH",
    )
