"""Options for images of the user's own, and how a command has them at hand."""

import argparse

from lt_rebalance.data.catalog import is_location
from lt_rebalance.ground.exits import note
from lt_rebalance.ground.option_types import finite, whole
from lt_rebalance.images.options import OWN_FIELDS, OwnOptions


def bring_images(options: argparse.Namespace) -> None:
    """Have images of the user's own at hand where --dataset is a location; it becomes their name.

    Raises:
        DataError: they cannot be learned from.
        ValueError: options for such images, and a data set by name.
    """
    if not hasattr(options, "image_size"):
        return
    asked = OwnOptions(**{field: getattr(options, field) for field in OWN_FIELDS})
    if not is_location(options.dataset):
        if asked != OwnOptions():
            flags = ", ".join(f"--{field.replace('_', '-')}" for field in OWN_FIELDS)
            raise ValueError(f"{flags} are for images of your own, with --dataset PATH; leave them out")
        return
    if options.data_dir is not None or options.download:
        raise ValueError("--data-dir and --download are for sets by name, got --dataset PATH; leave them out")
    from lt_rebalance.images.load import bring  # here, not above: Pillow, and what it needs, takes a while

    options.dataset, warnings = bring(options.dataset, asked)
    for warning in warnings:
        note(warning)


def add_own_images(group: argparse._ActionsContainer) -> None:
    """Add the options of how images of the user's own are prepared."""
    group.add_argument("--image-size", type=whole, metavar="N", help="resize to N x N pixels, antialiased")
    group.add_argument("--grey", action="store_true", help="make colour grey")
    group.add_argument(
        "--test-fraction", type=finite, metavar="F", help="draw this share of each class to test on"
    )
    group.add_argument(
        "--relabel", action="store_true", help="number the labels of an npz anew, from 0 on and without holes"
    )
