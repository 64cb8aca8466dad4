"""Whether images may be flipped: the option for own images, and notes on studies that flip."""

import argparse
from collections.abc import Iterable, Sequence

from lt_rebalance.data.at_hand import is_own_name, say_dataset
from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.ground.exits import note
from lt_rebalance.studies.flips import flips, require_allowed_flips
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


def note_left_out(cells: Iterable[Cell]) -> None:
    """Print once for each data set that a protocol with flips is followed without them."""
    for protocol, dataset in dict.fromkeys(
        (cell.protocol, cell.data.dataset) for cell in cells if not flips(cell)
    ):
        recipe = dict(PROTOCOLS[protocol].classifier_recipe) if protocol in PROTOCOLS else {}
        if (
            "flip" in read_augmentation(recipe.get("augmentation", "none"))
            and not get_dataset_spec(dataset).may_flip
        ):
            remedy = "; --flip allows it" if is_own_name(dataset) else ""
            note(
                f"protocol {protocol} is used without its flip, which {say_dataset(dataset)} does not "
                f"allow{remedy}"
            )


def check_flips(cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Refuse forbidden flips, and print a note if --flip has no effect.

    Raises:
        ValueError: a cell flips images of a set that does not allow it.
    """
    for cell in cells:
        require_allowed_flips(cell, allow="allow it by --flip")
    if getattr(options, "flip", False) and not any(map(flips, cells)):
        note("--flip changes nothing: no recipe flips; --set classifier.augmentation=flip is one that does")
