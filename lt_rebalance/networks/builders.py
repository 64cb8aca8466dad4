"""Find the function that builds a network by the location in a registry; it is imported on use.

So names can be listed and checked without importing torch.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from lt_rebalance.ground.own_file import get_own, is_own
from lt_rebalance.ground.plain import require_known

ImageShape = tuple[int, int, int]
"""C, H, W"""


def find_builder(kind: str, registry: Mapping[str, str], name: str) -> Callable[..., Any]:
    """Return the function that a registry names as "module:function", or one in a user's file.

    Args:
        kind: of the registry's entries, for messages.

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
    """Return the object that a location names as "module:name"."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
