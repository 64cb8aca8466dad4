"""Options of every method with synthetic images, in addition to its own options."""

from collections.abc import Mapping
from typing import Any

from lt_rebalance.ground.plain import require_known
from lt_rebalance.methods.contract import Method

FILTERS = ("none", "classifier_agrees")
_OF_IMAGES = {"fill_fraction": 1.0, "synthetic_weight": 1.0}
_OF_GENERATORS = {"filter": "none", "filter_attempts": 10}
KNOBS: Mapping[str, Any] = {**_OF_IMAGES, **_OF_GENERATORS}
"""with their defaults; fields of a `MethodConfig`"""


def list_knobs(method: Method) -> tuple[str, ...]:
    """Return the names of the knobs that a method has."""
    images = _OF_IMAGES if method.makes_images else {}
    return (*images, *(_OF_GENERATORS if method.needs_generator else {}))


def check_knobs(name: str, method: Method, values: Mapping[str, Any]) -> None:
    """Raise a ValueError unless the values of knobs are in range, and at their defaults for other methods."""
    for knob, value in values.items():
        default, known = KNOBS[knob], list_knobs(method)
        accepted = (int, float) if isinstance(default, float) else (type(default),)
        if not isinstance(value, accepted) or isinstance(value, bool):
            raise ValueError(f"{knob} must be a value of type {type(default).__name__}, got {value!r}")
        if isinstance(default, float) and not 0 <= value <= 1:
            raise ValueError(f"{knob} must be at least 0 and at most 1, got {value}")
        if value != default and knob not in known:
            needs = "makes no images" if knob in _OF_IMAGES else "has no generator"
            raise ValueError(f"method {name!r} {needs}: its {knob} stays {default}, got {value}")
    weight = values.get("synthetic_weight", 1)
    if weight != 1 and method.mix is not None:
        raise ValueError(
            f"method {name!r} mixes images, real with made ones: its synthetic_weight stays 1, got {weight}"
        )
    if "filter" in values:
        _check_filter(values["filter"], values["filter_attempts"])


def _check_filter(chosen: str, attempts: int) -> None:
    require_known("filter", chosen, FILTERS)
    if attempts < 1:
        raise ValueError(f"filter_attempts must be at least 1, got {attempts}")
    if chosen == "none" and attempts != (default := KNOBS["filter_attempts"]):
        raise ValueError(f"filter_attempts is of a filter: without one it stays {default}, got {attempts}")
