"""Convert frozen dataclasses to plain data and back, and check their values."""

import dataclasses
import functools
import math
import tomllib
import types
import typing
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

from lt_rebalance.ground.option_types import MOST

LATER = {"is_later": True}
"""metadata of a field that was added later: at its default it is left out of the plain form, so that earlier
results keep their keys"""

ConfigT = TypeVar("ConfigT")


def require_known(rule: str, value: str, known: Sequence[str]) -> None:
    """Raise a ValueError naming the known values unless `value` is one of them."""
    if value not in known:
        raise ValueError(f"unknown {rule} {value!r}; known: {', '.join(known)}")


def require_positive(**values: float | None) -> None:
    """Raise a ValueError unless every value is above 0 or None."""
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")


def require_numbers(config: Any) -> None:  # Any: a configuration, whatever its fields
    """Raise a ValueError if a number in a configuration is infinite, NaN or senselessly large."""
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{each.name} must be a finite number, got {value}")
        if isinstance(value, int) and abs(value) > MOST:
            raise ValueError(f"{each.name} must be at most {MOST:,}, got a larger one")


@functools.cache
def field_types(cls: type) -> dict[str, Any]:  # Any: an annotation may be a class or a union
    """Return the type of each field of a configuration."""
    return typing.get_type_hints(cls)


def to_plain(value: Any) -> Any:  # Any: converts configurations to JSON values
    """Return a configuration, with all nested configurations, as dicts of plain JSON values.

    Equal configurations give equal JSON: a whole number in a field of floats becomes a float.
    """
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    types_of = field_types(type(value))
    plain = {
        each.name: to_plain(getattr(value, each.name))
        for each in dataclasses.fields(value)
        if not (each.metadata == LATER and getattr(value, each.name) == each.default)
    }
    return {name: float(each) if types_of[name] is float else each for name, each in plain.items()}


def parse_value(text: str) -> Any:  # Any: a plain value
    """Return the value of a text from a command line: a TOML value, or the text itself."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # not TOML, or a number of thousands of digits
        return text
    return parsed["value"] if len(parsed) == 1 else text


def config_from_dict(cls: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Return the configuration dataclass `cls` from plain values.

    Raises:
        ValueError: unknown or missing keys, a value of another type, or not a mapping, here or in a nested
            configuration.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{cls.__name__} needs a mapping of its fields, got {values!r}")
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # ConfigT is always a dataclass
    known = [each.name for each in fields]
    for name in values:
        require_known(f"key of {cls.__name__}", name, known)
    missing = [
        each.name
        for each in fields
        if each.name not in values and each.default is each.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{cls.__name__} needs {', '.join(missing)}")
    types_of = field_types(typing.cast(Hashable, cls))
    where = cls.__name__
    return cls(
        **{name: _from_plain(types_of[name], value, f"{where}.{name}") for name, value in values.items()}
    )


def _from_plain(annotation: Any, value: Any, where: str) -> Any:  # Any: as configurations are annotated
    if isinstance(annotation, types.UnionType):
        if value is None:
            return None
        annotation = next(member for member in typing.get_args(annotation) if member is not types.NoneType)
    if dataclasses.is_dataclass(annotation):
        return config_from_dict(typing.cast(type, annotation), value)
    if annotation in (str, bool, int, float):
        accepted = (int, float) if annotation is float else annotation
        if not isinstance(value, accepted) or isinstance(value, bool) > (annotation is bool):
            raise ValueError(f"{where} must be of type {annotation.__name__}, got {value!r:.80}")
    return value
