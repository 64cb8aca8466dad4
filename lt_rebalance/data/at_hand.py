"""Sets of the user's own that this process may use: named by content, found where their user's command said.

Configurations hold "images@75d61863", with the first digits of the identity, and no path: the same images
elsewhere are the same data. Such a name is looked up among the sets at hand, which are those that the command
line of this process gave or, in a worker, that its driver handed on. Nothing in a store makes a file be read.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.ground.names import entitle
from lt_rebalance.ground.text import one_line

DIGITS = 8
"""of the identity that a name shows"""
_STEM = "images"
_NAME = re.compile(rf"{_STEM}@[0-9a-f]{{{DIGITS}}}")


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """A set of the user's own, and where its images can be read."""

    spec: DatasetSpec
    location: str
    """absolute path of the npz or the folder"""
    options: Mapping[str, Any]
    """how its images are prepared"""


_AT_HAND: dict[str, OwnData] = {}


def name_own(identity: str) -> str:
    """Return what configurations call a set of this identity."""
    return f"{_STEM}@{identity[:DIGITS]}"


def is_own_name(name: str) -> bool:
    """Whether a name is that of a set of a user's own."""
    return _NAME.fullmatch(name) is not None


def keep(own: OwnData) -> None:
    """Have a set at hand from now on.

    Raises:
        ValueError: another with these first digits is at hand.
    """
    kept = _AT_HAND.setdefault(own.spec.name, own)
    if kept.spec.identity != own.spec.identity:
        raise ValueError(
            f"{kept.location} and {own.location} would both be named {own.spec.name}; name one of them"
        )


def get_own_data(name: str) -> OwnData:
    """Return a set at hand; ValueError where it is not."""
    if name not in _AT_HAND:
        raise ValueError(
            f"{name} are images of a user's own that are not at hand; run their sweep with --dataset PATH"
        )
    return _AT_HAND[name]


def say_dataset(name: str) -> str:
    """Return a data set as readers know it: "pets (images@75d61863)" after where it lies, or its name."""
    return entitle(name, call_after(_AT_HAND[name].location) if name in _AT_HAND else "")


def call_after(location: str) -> str:
    """Return what the images at a location are called: the name of the file or folder, in one line."""
    path = Path(location)
    return one_line(path.stem if path.suffix.lower() == ".npz" else path.name)


def hand_on(stages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sets that descriptions of stages need, as `take_in` takes them in another process."""
    names = sorted({name for stage in stages if is_own_name(name := stage["data"]["dataset"])})
    found = [get_own_data(name) for name in names]
    return [
        {"spec": own.spec.to_plain(), "location": own.location, "options": dict(own.options)} for own in found
    ]


def take_in(sets: Sequence[Mapping[str, Any]]) -> None:
    """Have sets at hand that a driver has handed on."""
    for each in sets:
        spec = DatasetSpec.from_plain(each["spec"])
        keep(OwnData(spec=spec, location=each["location"], options=each["options"]))
