"""Count what networks cost, with meaningless inputs."""

import functools

import torch
from torch import Tensor, nn

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.networks.known_costs import NetworkCost
from lt_rebalance.training.batching import (
    Example,
    example_classifier,
    example_generator,
    example_partner,
)


@functools.cache
def count_generator(architecture: str, spec: DatasetSpec) -> NetworkCost:
    """Return the cost of a generator."""
    return _count(example_generator(architecture, spec))


@functools.cache
def count_partner(place: str, spec: DatasetSpec) -> NetworkCost:
    """Return the cost of a partner of generators, by its name in `Trained`."""
    return _count(example_partner(place, spec))


@functools.cache
def count_classifier(architecture: str, spec: DatasetSpec) -> NetworkCost:
    """Return the cost of a classifier."""
    return _count(example_classifier(architecture, spec))


def _count(example: Example) -> NetworkCost:
    network, inputs = example
    has_batch_norm = any(isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d) for each in network.modules())
    return NetworkCost(
        flop=_forward_flop(network, *inputs),
        has_batch_norm=has_batch_norm,
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        kept_bytes=_kept_of_item(network, *inputs),
    )


@torch.no_grad()
def _forward_flop(network: nn.Module, *inputs_of_two: Tensor) -> float:
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


def _kept_of_item(network: nn.Module, *inputs_of_two: Tensor) -> int:
    """Return the bytes that a network in training keeps of one item.

    Tensors of the size of the weights, which spectral norm keeps, do not belong to an item and are left out.
    """
    inputs_of_four = tuple(torch.cat([each, each]) for each in inputs_of_two)
    return (_sum_kept(network, inputs_of_four) - _sum_kept(network, inputs_of_two)) // 2


def _sum_kept(network: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Return the bytes that a network in training keeps of all inputs."""
    own = {each.untyped_storage().data_ptr() for each in (*network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if (place := tensor.untyped_storage().data_ptr()) not in own:
            kept[place] = tensor  # alive, so that no other is put where it was
        return tensor

    network.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(*inputs)
    assert outputs is not None
    return sum(each.untyped_storage().nbytes() for each in kept.values())
