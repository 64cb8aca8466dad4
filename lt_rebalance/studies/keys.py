"""Keys of stages; the JSON that many stages share is written only once."""

import dataclasses
import functools
import hashlib
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, get_args

from lt_rebalance.ground.plain import LATER, field_types, to_plain
from lt_rebalance.ground.values import canonical

SEEDS = ("seed", "subset_seed")
"""fields in which the lanes of a trial differ, of a stage and of those that it needs"""
_HOLE = "\0"
"""placeholder for a seed; no JSON contains it"""
_MOST_FORMS = 10_000


class StageLike(Protocol):
    """A dataclass with a kind: a stage. All other dataclasses are configurations, which stages share."""

    kind: ClassVar[str]


class _Form(NamedTuple):
    """The common part of stages that hold the same objects and differ in seeds."""

    pieces: list[str]
    """of the hashed text, around the seeds"""
    lanes: str
    """result of `lanes_of`"""
    first: StageLike
    """the first such stage; while it holds these objects, no other object has their ids"""


_FORMS: dict[tuple[int, ...], _Form] = {}
"""by the ids of shared objects, not by value: 1 and 1.0 are equal and are written differently"""


def key_of(stage: StageLike) -> str:
    """Return the same as `stage_key` of the plain values of a stage."""
    form, seeds = _find_form(stage)
    parts = itertools.zip_longest(form.pieces, map(str, seeds), fillvalue="")
    return hashlib.sha256("".join(itertools.chain.from_iterable(parts)).encode()).hexdigest()


def lanes_of(stage: StageLike) -> str:
    """Return a text that is equal exactly for stages that differ only in their seeds."""
    return _find_form(stage)[0].lanes


def _find_form(stage: StageLike) -> tuple[_Form, list[int]]:
    """Return the part that a stage shares with others, and its seeds."""
    ids: list[int] = []
    seeds: list[int] = []
    _take_apart(stage, ids, seeds)
    if (form := _FORMS.get(tuple(ids))) is None:
        if len(_FORMS) >= _MOST_FORMS:
            _FORMS.clear()
        pieces = _write_stage(stage, has_kind=True, has_seeds=True).split(_HOLE)
        lanes = _write_stage(stage, has_kind=True, has_seeds=False)
        form = _FORMS[tuple(ids)] = _Form(pieces=pieces, lanes=lanes, first=stage)
    return form, seeds


def _take_apart(stage: StageLike, ids: list[int], seeds: list[int]) -> None:
    """Collect the ids of objects that a stage and those inside it share with others, and their seeds.

    Seeds come in the order of the JSON: a stage's own after those of the stages inside it.
    """
    get_shared, get_inner, get_seeds = _getters(type(stage))
    ids.append(id(type(stage)))
    ids.extend(map(id, get_shared(stage)))
    for each in get_inner(stage):
        if each is None:
            ids.append(id(None))
        else:
            _take_apart(each, ids, seeds)
    for seed in get_seeds(stage):
        if type(seed) is int:
            ids.append(0)
            seeds.append(seed)
        else:
            ids.append(id(seed))


@functools.cache
def _getters(cls: type) -> tuple[Callable[[Any], tuple[Any, ...]], ...]:  # Any: a stage and its values
    """Return readers of the values that a stage shares, of the stages inside it, and of its seeds."""
    types_of = field_types(cls)
    names = sorted(each.name for each in dataclasses.fields(cls))
    kinds_of = {name: get_args(types_of[name]) or (types_of[name],) for name in names}
    inner = [name for name in names if any(hasattr(each, "kind") for each in kinds_of[name])]
    assert all(name < SEEDS[0] for name in inner)
    shared = [name for name in names if name not in (*inner, *SEEDS)]
    return tuple(_read_all(group) for group in (shared, inner, SEEDS))


def _read_all(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:  # Any: as above
    """Return a function that reads attributes as a tuple, also for one name or none."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda stage: tuple(getattr(stage, name) for name in names)


def _write_stage(stage: StageLike, *, has_kind: bool, has_seeds: bool) -> str:
    parts = [
        f'"{name}":{_write(name, value, has_seeds=has_seeds)}'
        for name, is_later, default, is_float in _layout(type(stage))
        if (has_kind or name != "kind") and (has_seeds or name not in SEEDS)
        for value in [float(getattr(stage, name)) if is_float else getattr(stage, name)]
        if not (is_later and value == default)
    ]
    return f"{{{','.join(parts)}}}"


def _write(name: str, value: Any, *, has_seeds: bool) -> str:  # Any: the value of a field
    if name in SEEDS and type(value) is int:
        return _HOLE
    if hasattr(value, "kind"):
        return _write_stage(value, has_kind=False, has_seeds=has_seeds)
    return canonical(to_plain(value))


@functools.cache
def _layout(cls: type) -> list[tuple[str, bool, Any, bool]]:  # Any: a default
    """Return the fields by name: whether each was added later, its default, and whether it is a float."""
    types_of = field_types(cls)
    fields = [
        (each.name, each.metadata == LATER, each.default, types_of[each.name] is float)
        for each in dataclasses.fields(cls)
    ]
    return sorted([*fields, ("kind", False, None, False)], key=lambda each: each[0])
