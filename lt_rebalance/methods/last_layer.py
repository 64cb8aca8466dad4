"""The last linear layer of a classifier: where it is, and how another takes its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def find_last_layer(network: nn.Module) -> tuple[str, nn.Linear]:
    """Return the name and the module of the last linear layer.

    Raises:
        ValueError: there is none.
    """
    from torch import nn

    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ValueError(
            f"a method that acts on the last linear layer needs a classifier with one, got a "
            f"{type(network).__name__} without"
        )
    return layers[-1]


def replace_last_layer(network: nn.Module, name: str, layer: nn.Module) -> None:
    """Put another layer where the one of this name is."""
    above, _, own = name.rpartition(".")
    setattr(network.get_submodule(above), own, layer)
