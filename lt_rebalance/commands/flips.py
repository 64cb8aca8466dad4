"""Whether images may be flipped: the option for own images, and notes on studies that flip."""

import argparse
import dataclasses
from collections.abc import Iterable

from lt_rebalance.data.at_hand import get_own_data, is_own_name, keep, say_dataset
from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.ground.exits import note
from lt_rebalance.studies.protocols import PROTOCOLS
from lt_rebalance.studies.study import Cell
from lt_rebalance.training.recipe import read_augmentation


def add_flip(group: argparse._ActionsContainer) -> None:
    """Add the option by which a user allows flips of own images."""
    group.add_argument(
        "--flip",
        action="store_true",
        help="mirror images belong to the same class, unlike those of letters: recipes may flip them",
    )


def allow_flips(name: str) -> None:
    """Let recipes flip a user's images, as long as they are loaded unchanged."""
    own = get_own_data(name)
    keep(dataclasses.replace(own, spec=dataclasses.replace(own.spec, may_flip=True)))


def note_left_out(cells: Iterable[Cell]) -> None:
    """Print once for each data set that a protocol with flips is followed without them."""
    for protocol, dataset in dict.fromkeys(
        (cell.protocol, cell.data.dataset) for cell in cells if not _flips(cell)
    ):
        recipe = dict(PROTOCOLS[protocol].classifier_recipe) if protocol in PROTOCOLS else {}
        if "flip" in read_augmentation(recipe.get("augmentation", "none")) and not _may_flip(dataset):
            remedy = "; --flip allows it" if is_own_name(dataset) else ""
            note(
                f"protocol {protocol} is used without its flip, which {say_dataset(dataset)} does not "
                f"allow{remedy}"
            )


def check_flips(cells: Iterable[Cell], options: argparse.Namespace) -> None:
    """Refuse forbidden flips, and print a note if --flip has no effect.

    Raises:
        ValueError: a cell flips images of a set that does not allow it.
    """
    flipping = [cell for cell in cells if _flips(cell)]
    for cell in flipping:
        if not _may_flip(dataset := cell.data.dataset):
            other = ", or allow it by --flip" if is_own_name(dataset) else ""
            raise ValueError(
                f"{say_dataset(dataset)} does not allow flip, since mirror images may belong to another "
                f"class, got augmentation {cell.classifier.augmentation!r}; leave flip out of it{other}"
            )
    if getattr(options, "flip", False) and not flipping:
        note("--flip changes nothing: no recipe flips; --set classifier.augmentation=flip is one that does")


def _flips(cell: Cell) -> bool:
    return "flip" in read_augmentation(cell.classifier.augmentation)


def _may_flip(dataset: str) -> bool:
    return get_dataset_spec(dataset).may_flip
