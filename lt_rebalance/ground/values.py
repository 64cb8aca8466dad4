"""Read JSON strictly, and check values against shapes.

A shape is a function that takes a value and raises a `MisfitError` unless it fits. NaN, infinities and truth
values are never numbers, and texts never stand for numbers.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from lt_rebalance.ground.names import is_name

Shape = Callable[[Any], object]  # Any: a JSON value

LARGEST = 3.5e38
"""above every float32, and small enough that float64 can add and square it"""
LARGEST_WHOLE = 2**53
LARGEST_S = 1e11
"""seconds; some 3,000 years"""
_DEEPEST = 20
_SHOWN = 80


class MisfitError(ValueError):
    """A value does not fit; says where, what was expected, and what it is."""

    def __init__(self, rule: str, value: Any, where: tuple[str, ...] = ()) -> None:
        super().__init__(rule, value, where)
        self.rule, self.value, self.where = rule, value, where

    def inside(self, name: object) -> "MisfitError":
        """Return the same error as seen from the parent that holds the value under a name."""
        return MisfitError(self.rule, self.value, (str(name), *self.where))

    def __str__(self) -> str:
        return f"{'.'.join(self.where) or 'it'} must be {self.rule}, got {self.value!r:.{_SHOWN}}"


def parse_json(content: bytes | str) -> Any:  # Any: a JSON value
    """Return the value of a JSON text in UTF-8.

    Raises:
        ValueError: not JSON; a NaN or an infinity; a duplicate name in an object; a text that UTF-8 cannot
            encode; or deeper nesting than this project ever writes.
    """
    text = content if isinstance(content, str) else content.decode()
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    if "\\ud" in text or "\\uD" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"a document holds finite numbers only, got {name}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        numbers = Counter(name for name, _ in pairs)
        repeated = next(name for name, number_of in numbers.items() if number_of > 1)
        raise ValueError(f"an object that has {repeated!r} more than once")
    return found


# Shapes of single values


def number(low: float = -LARGEST, high: float = LARGEST) -> Shape:
    """Return the shape of a number within bounds."""
    return _within((int, float), low, high, "a number")


def whole(low: int = 0, high: int = LARGEST_WHOLE) -> Shape:
    """Return the shape of a whole number within bounds."""
    return _within((int,), low, high, "a whole number")


def _within(types: Collection[type], low: float, high: float, what: str) -> Shape:
    def check(value: Any) -> None:
        if type(value) not in types or not low <= value <= high:
            raise MisfitError(f"{what} from {low:g} to {high:g}", value)

    return check


def flag(value: Any) -> None:
    """Fit true and false."""
    if not isinstance(value, bool):
        raise MisfitError("true or false", value)


def text(value: Any) -> None:
    """Fit any text, which must be escaped when shown."""
    if not isinstance(value, str):
        raise MisfitError("a text", value)


def label(value: Any) -> None:
    """Fit a text of one line of printable characters."""
    if not isinstance(value, str) or not value.isprintable():
        raise MisfitError("a text of printable characters", value)


def name(value: Any) -> None:
    """Fit names that `names.check_name` accepts."""
    if not is_name(value):
        raise MisfitError("a plain file name", value)


def digest(value: Any) -> None:
    """Fit a sha256."""
    if not isinstance(value, str) or len(value) != 64 or value.strip("0123456789abcdef"):
        raise MisfitError("a sha256 in 64 hexadecimal digits", value)


def one_of(*known: str) -> Shape:
    """Return the shape of one of several words."""

    def check(value: Any) -> None:
        if not isinstance(value, str) or value not in known:
            raise MisfitError(f"one of {', '.join(known)}", value)

    return check


def anything(value: Any, depth: int = 0) -> None:
    """Fit any value whose numbers are finite and that is not nested too deeply."""
    if depth > _DEEPEST:
        raise MisfitError("nested less deeply", "...")
    if isinstance(value, dict):
        for inner in value.values():
            anything(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            anything(inner, depth + 1)
    elif type(value) in (int, float) and not -1e308 <= value <= 1e308:
        raise MisfitError("a finite number", value)


def scalar(value: Any) -> None:
    """Fit null, true and false, a number, or a printable text: what a field of a configuration may be."""
    if isinstance(value, str):
        label(value)
    elif isinstance(value, dict | list):
        raise MisfitError("a single value", value)
    else:
        anything(value)


# Shapes of several values


def optional(shape: Shape) -> Shape:
    """Return the shape of null, or of a value that fits a shape."""

    def check(value: Any) -> None:
        if value is not None:
            shape(value)

    return check


def either(*shapes: Shape) -> Shape:
    """Return the shape of values that fit at least one of several shapes."""

    def check(value: Any) -> None:
        misfits = []
        for shape in shapes:
            try:
                shape(value)
                return
            except MisfitError as misfit:
                misfits.append(misfit)
        raise misfits[-1]

    return check


def canonical(value: Any) -> str:
    """Return a JSON value as the text of which keys and seals are the sha256."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def list_of(shape: Shape) -> Shape:
    """Return the shape of a list."""

    def check(value: Any) -> None:
        if not isinstance(value, list):
            raise MisfitError("a list", value)
        for index, each in enumerate(value):
            inside(index, shape, each)

    return check


def mapping_of(shape: Shape, key: Shape = label) -> Shape:
    """Return the shape of an object whose names and values are all of one kind."""

    def check(value: Any) -> None:
        for each, inner in as_object(value).items():
            key(each)
            inside(each, shape, inner)

    return check


def fields(
    required: Mapping[str, Shape], later: Mapping[str, Shape] | None = None, others: Shape | None = None
) -> Shape:
    """Return the shape of an object with certain fields.

    Args:
        required: fields that must exist. later: fields that may be missing. others: shape of all further
            fields; None if none are allowed.
    """
    later = later or {}
    known = {**required, **later}

    def check(value: Any) -> None:
        found = as_object(value)
        if missing := [each for each in required if each not in found]:
            raise MisfitError(f"an object with {', '.join(map(repr, missing))}", sorted(found))
        for each, inner in found.items():
            shape = known.get(each, others)
            if shape is None:
                raise MisfitError(f"an object of {', '.join(known)}", sorted(found))
            inside(each, shape, inner)

    return check


def as_object(value: Any) -> dict[str, Any]:
    """Return an object; MisfitError for anything else."""
    if not isinstance(value, dict):
        raise MisfitError("an object", value)
    return value


def require(is_so: object, where: str, rule: str, value: Any) -> None:
    """Raise a MisfitError for a value, in a place such as "runs.0.cell", unless it fits the rule."""
    if not is_so:
        raise MisfitError(rule, value, tuple(where.split(".")))


def inside(name_of_value: object, shape: Shape, value: Any) -> None:
    """Check the value under a name; errors name it."""
    try:
        shape(value)
    except MisfitError as misfit:
        raise misfit.inside(name_of_value) from None
