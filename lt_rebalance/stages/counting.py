"""Count the arithmetic and the parameters of networks."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lt_rebalance.networks.initialization import build_network

TRAINING_PASSES = 3
"""of a network in training, in multiples of a forward pass: forward, and backward to inputs and to weights"""


@torch.no_grad()
def count_forward_flop(network: nn.Module, *inputs_of_two: Tensor) -> float:
    """Return the multiplications and additions of all linear and convolutional layers for one item."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal total
        weight = layer.get_parameter("weight")
        # A transposed convolution applies its kernel at every input position, the others at every output.
        positions = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        total += 2 * weight.numel() * positions[0, 0].numel() if weight.dim() == 4 else 2 * weight.numel()

    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(count)
    network(*inputs_of_two)
    return float(total)


def count_parameters(build: Callable[[], nn.Module]) -> int:
    """Return how many parameters the network has that is built so."""
    network = build_network(build, torch.Generator())
    return sum(parameter.numel() for parameter in network.parameters())
