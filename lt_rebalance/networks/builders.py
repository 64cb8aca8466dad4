"""Find the function that builds a network by the place that a registry names; it is imported when asked for.

So names can be listed and checked where nothing trains, without the time that torch takes to import.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from lt_rebalance.ground.own_file import get_own, is_own
from lt_rebalance.ground.plain import require_known

ImageShape = tuple[int, int, int]
"""C, H, W"""


def find_builder(kind: str, registry: Mapping[str, str], name: str) -> Callable[..., Any]:
    """Return the function that a registry names as "module:function", or one in a file of a user's own.

    Args:
        kind: what the registry holds, for messages.

    Raises:
        ValueError: unknown name.
    """
    if is_own(name):
        own: Callable[..., Any] = get_own(name)
        return own
    require_known(kind, name, tuple(registry))
    builder: Callable[..., Any] = import_place(registry[name])
    return builder


def import_place(place: str) -> Any:
    """Return what a place names as "module:name"."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
