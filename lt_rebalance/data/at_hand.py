"""The user's data sets that this process may use, named by content, with their locations.

They also include sets of the catalogue whose class counts had to be read (`counting`).

Configurations contain "images@75d61863", with the first digits of the identity, and no path: the same images
at another path are the same data. Such a name is looked up among the loaded sets: those that the command line
of this process gave or, in a worker, those that the main process sent. Nothing in a store causes a file to be
read.
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
"""digits of the identity in a name"""
_STEM = "images"
_NAME = re.compile(rf"{_STEM}@[0-9a-f]{{{DIGITS}}}")


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """A user's data set, and the location of its images."""

    spec: DatasetSpec
    location: str
    """absolute path of the npz or the folder; the name of a set of the catalogue"""
    options: Mapping[str, Any]
    """how its images are prepared"""
    uploaded_to: str | None = None
    """location of a store that has the prepared arrays, too; None if there is none"""


_AT_HAND: dict[str, OwnData] = {}


def name_own(identity: str) -> str:
    """Return the name of a set of this identity in configurations."""
    return f"{_STEM}@{identity[:DIGITS]}"


def is_own_name(name: str) -> bool:
    """Whether a name is that of a user's data set."""
    return _NAME.fullmatch(name) is not None


def keep(own: OwnData) -> None:
    """Load a set for this process; a later call replaces location and options.

    Raises:
        ValueError: another set with these first digits is loaded.
    """
    kept = _AT_HAND.get(own.spec.name, own)
    if kept.spec.identity != own.spec.identity:
        raise ValueError(
            f"{kept.location} and {own.location} would both be named {own.spec.name}; name one of them"
        )
    _AT_HAND[own.spec.name] = own


def find(name: str) -> OwnData | None:
    """Return a loaded set, or None."""
    return _AT_HAND.get(name)


def get_own_data(name: str) -> OwnData:
    """Return a loaded set; ValueError if it is not loaded."""
    if name not in _AT_HAND:
        others = "; ".join(
            f"{own.location} holds {own.spec.name}" for own in _AT_HAND.values() if own.spec.is_own
        )
        if others:
            others = (
                f"; {others}; if files and options are those of the sweep, another version of lt_rebalance "
                "prepared them: use the version that began the study"
            )
        raise ValueError(
            f"{name} are a user's images that are not loaded, and no store records their path; give them "
            f"with --dataset PATH, and --image-size and similar options as their sweep did{others}"
        )
    return _AT_HAND[name]


def allow_flips(name: str) -> None:
    """Let recipes and methods flip a user's images, as long as they are loaded unchanged."""
    own = get_own_data(name)
    keep(dataclasses.replace(own, spec=dataclasses.replace(own.spec, may_flip=True)))


def note_upload(name: str, location: str) -> None:
    """Note that a store has the arrays of a loaded set."""
    _AT_HAND[name] = dataclasses.replace(get_own_data(name), uploaded_to=location)


def list_names(stages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the sorted names of loaded sets, or of a user's sets, that descriptions of stages need."""
    names = {stage["data"]["dataset"] for stage in stages}
    return sorted(name for name in names if is_own_name(name) or name in _AT_HAND)


def say_dataset(name: str) -> str:
    """Return the readable name of a data set: "pets (images@75d61863)" after its location, or its name."""
    own = _AT_HAND.get(name)
    return entitle(name, call_after(own.location) if own and own.spec.is_own else "")


def call_after(location: str) -> str:
    """Return the name of the images at a location: of the file or folder, in one line."""
    path = Path(location)
    return one_line(path.stem if path.suffix.lower() == ".npz" else path.name)


def hand_on(stages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sets that descriptions of stages need, for `take_in` in another process."""
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
    """Load sets that the main process has sent."""
    for each in sets:
        keep(OwnData(**{**each, "spec": DatasetSpec.from_plain(each["spec"])}))


@contextlib.contextmanager
def described(specs: Iterable[Mapping[str, Any]]) -> Iterator[None]:
    """Load sets temporarily by their descriptions alone, to compute the keys of their stages.

    Raises:
        ValueError: a description contradicts itself.
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
