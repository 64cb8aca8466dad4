"""Keys of stages, where many stages share most of what is hashed: each shared part is written out once."""

import dataclasses
import functools
import hashlib
import json
import sys
from typing import Any, ClassVar, Protocol

from lt_rebalance.ground.plain import LATER, field_types, to_plain

SEEDS = ("seed", "subset_seed")
"""fields in which the lanes of a trial differ, of a stage and of those that it builds on"""
_TEXT = "_canonical_json"
"""where a configuration keeps what it was written out to, outside of its fields"""
_LANES = "_lanes"
"""where a stage keeps the text of `lanes_of`, of which there is one for all lanes"""


class StageLike(Protocol):
    """A dataclass with a kind: a stage. All other dataclasses are configurations, which stages share."""

    kind: ClassVar[str]


def key_of(stage: StageLike) -> str:
    """Return what `stage_key` returns of the plain values of a stage."""
    return hashlib.sha256(_write_stage(stage, has_kind=True, has_seeds=True).encode()).hexdigest()


def lanes_of(stage: StageLike) -> str:
    """Return a text that is the same of stages that differ only in their seeds, and of no others."""
    kept = vars(stage)
    if _LANES not in kept:
        kept[_LANES] = sys.intern(_write_stage(stage, has_kind=True, has_seeds=False))
    text: str = kept[_LANES]
    return text


def _write_stage(stage: StageLike, *, has_kind: bool, has_seeds: bool) -> str:
    parts = [
        f'"{name}":{_write(value, has_seeds=has_seeds)}'
        for name, is_later, default, is_float in _layout(type(stage))
        if (has_kind or name != "kind") and (has_seeds or name not in SEEDS)
        for value in [float(getattr(stage, name)) if is_float else getattr(stage, name)]
        if not (is_later and value == default)
    ]
    return f"{{{','.join(parts)}}}"


def _write(value: Any, *, has_seeds: bool) -> str:  # Any: the value of a field
    if value is None:
        return "null"
    if type(value) is int:
        return str(value)
    if not dataclasses.is_dataclass(value):
        return _dump(value)
    if hasattr(value, "kind"):
        return _write_stage(value, has_kind=False, has_seeds=has_seeds)  # type: ignore[arg-type]
    # Kept by the object, not by its value: 1 and 1.0 are equal and are written differently.
    kept = vars(value)
    if _TEXT not in kept:
        kept[_TEXT] = _dump(to_plain(value))
    text: str = kept[_TEXT]
    return text


def _dump(value: Any) -> str:  # Any: a JSON value
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@functools.cache
def _layout(cls: type) -> list[tuple[str, bool, Any, bool]]:  # Any: a default
    """Return the fields by name: each with whether it came later, its default, and whether it is a float."""
    types_of = field_types(cls)
    fields = [
        (each.name, each.metadata == LATER, each.default, types_of[each.name] is float)
        for each in dataclasses.fields(cls)
    ]
    return sorted([*fields, ("kind", False, None, False)], key=lambda each: each[0])
