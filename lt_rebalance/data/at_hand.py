"""Sets of the user's own that this process may use: named by content, found where their user's command said.

Beside them are sets of the catalogue whose class counts had to be read (`counting`): they too are handed on.

Configurations hold "images@75d61863", with the first digits of the identity, and no path: the same images
elsewhere are the same data. Such a name is looked up among the sets at hand, which are those that the command
line of this process gave or, in a worker, that its driver handed on. Nothing in a store makes a file be read.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """absolute path of the npz or the folder; the name of a set of the catalogue"""
    options: Mapping[str, Any]
    """how its images are prepared"""
    uploaded_to: str | None = None
    """location of a store that keeps the prepared arrays too; None where none does"""


_AT_HAND: dict[str, OwnData] = {}


def name_own(identity: str) -> str:
    """Return what configurations call a set of this identity."""
    return f"{_STEM}@{identity[:DIGITS]}"


def is_own_name(name: str) -> bool:
    """Whether a name is that of a set of a user's own."""
    return _NAME.fullmatch(name) is not None


def keep(own: OwnData) -> None:
    """Have a set at hand from now on, as it is said last where it is found and how.

    Raises:
        ValueError: another with these first digits is at hand.
    """
    kept = _AT_HAND.get(own.spec.name, own)
    if kept.spec.identity != own.spec.identity:
        raise ValueError(
            f"{kept.location} and {own.location} would both be named {own.spec.name}; name one of them"
        )
    _AT_HAND[own.spec.name] = own


def find(name: str) -> OwnData | None:
    """Return a set at hand, or None."""
    return _AT_HAND.get(name)


def get_own_data(name: str) -> OwnData:
    """Return a set at hand; ValueError where it is not."""
    if name not in _AT_HAND:
        others = "".join(
            f"; {own.location} holds {own.spec.name}" for own in _AT_HAND.values() if own.spec.is_own
        )
        raise ValueError(
            f"{name} are images of a user's own that are not at hand, and no store says where they lie; give "
            f"them with --dataset PATH, and --image-size and its like as their sweep did{others}"
        )
    return _AT_HAND[name]


def note_upload(name: str, location: str) -> None:
    """Note that a store keeps the arrays of a set at hand."""
    _AT_HAND[name] = dataclasses.replace(get_own_data(name), uploaded_to=location)


def list_names(stages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the sets at hand, or of a user's own, that descriptions of stages need, sorted."""
    names = {stage["data"]["dataset"] for stage in stages}
    return sorted(name for name in names if is_own_name(name) or name in _AT_HAND)


def say_dataset(name: str) -> str:
    """Return a data set as readers know it: "pets (images@75d61863)" after where it lies, or its name."""
    return entitle(name, call_after(_AT_HAND[name].location) if name in _AT_HAND else "")


def call_after(location: str) -> str:
    """Return what the images at a location are called: the name of the file or folder, in one line."""
    path = Path(location)
    return one_line(path.stem if path.suffix.lower() == ".npz" else path.name)


def hand_on(stages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sets that descriptions of stages need, as `take_in` takes them in another process."""
    return [
        {
            "spec": own.spec.to_plain(),
            "location": own.location,
            "options": dict(own.options),
            "uploaded_to": own.uploaded_to,
        }
        for own in map(get_own_data, list_names(stages))
    ]


def take_in(sets: Sequence[Mapping[str, Any]]) -> None:
    """Have sets at hand that a driver has handed on."""
    for each in sets:
        keep(OwnData(**{**each, "spec": DatasetSpec.from_plain(each["spec"])}))


@contextlib.contextmanager
def described(specs: Iterable[Mapping[str, Any]]) -> Iterator[None]:
    """Have sets at hand for a while, by descriptions alone, so that the keys of their stages can be told.

    Raises:
        ValueError: what a description says of itself is not so.
    """
    before = dict(_AT_HAND)
    try:
        for plain in specs:
            spec = DatasetSpec.from_plain(plain)
            is_own = spec.is_own or is_own_name(spec.name)
            if is_own and (spec.content_sha256 is None or spec.name != name_own(spec.identity)):
                raise ValueError(f"{spec.name} is not the name of the images {spec.identity}")
            if spec.name not in _AT_HAND:
                keep(OwnData(spec=spec, location="nowhere", options={}))
        yield
    finally:
        _AT_HAND.clear()
        _AT_HAND.update(before)
