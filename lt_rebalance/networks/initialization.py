"""Build a network with all weights from one named random stream."""

import math
from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@runtime_checkable
class DrawsItself(Protocol):
    """A layer that states the distribution of its own parameters."""

    def draw_weights(self, generator: torch.Generator) -> None:
        """Set the layer's own parameters, not those of layers inside it."""


def build_network(build: Callable[[], ModuleT], generator: torch.Generator) -> ModuleT:
    """Return the network made by `build`, on the CPU, initialised from `generator`.

    The distributions are torch's own: uniform within 1 / sqrt(fan_in) for the weights and biases of linear
    and convolutional layers, standard normal for embeddings, ones and zeros for layers that normalise.

    Raises:
        ValueError: a layer with parameters whose distribution is stated neither here nor by the layer.
    """
    with torch.random.fork_rng(devices=[]):  # constructors draw from the global stream
        network = build()
    for module in network.modules():
        if next(module.parameters(recurse=False), None) is not None:
            _initialize(module, generator)
    return network


@torch.no_grad()
def _initialize(module: nn.Module, generator: torch.Generator) -> None:
    if isinstance(module, DrawsItself):
        module.draw_weights(generator)
    elif isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        fan_in = module.weight.shape[1] * module.weight[0, 0].numel()
        bound = 1 / math.sqrt(fan_in)
        module.weight.uniform_(-bound, bound, generator=generator)
        if module.bias is not None:
            module.bias.uniform_(-bound, bound, generator=generator)
    elif isinstance(module, nn.Embedding):
        module.weight.normal_(generator=generator)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        module.reset_running_stats()
        module.weight.fill_(1)
        module.bias.zero_()
    elif isinstance(module, nn.GroupNorm | nn.LayerNorm):
        module.weight.fill_(1)
        if module.bias is not None:
            module.bias.zero_()
    else:
        raise ValueError(
            f"no initial distribution is stated for {type(module).__name__}; use layers of "
            "networks/initialization.py, or give it a method draw_weights(generator) that sets its parameters"
        )
