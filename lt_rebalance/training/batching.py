"""The smallest batch that a network can learn from, found by trying; and networks to try things with.

Batch normalisation that sees one value a channel cannot be trained: torch refuses it. Where a network holds
such a layer, a last batch that is too small joins the one before it; elsewhere it stays a batch of its own.

Shape suffixes: N items, C H W image.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.networks.builders import find_builder
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS, build_classifier
from lt_rebalance.networks.discriminator import HIDDEN_WIDTHS, Discriminator
from lt_rebalance.networks.generators.generator import NOISE_DIM
from lt_rebalance.networks.generators.registry import GENERATORS, build_generator
from lt_rebalance.networks.initialization import build_network

Builder = Callable[..., nn.Module]
Example = tuple[nn.Module, tuple[Tensor, ...]]
"""a network with weights of no meaning, and inputs of two items"""


def smallest_generator_batch(architecture: str, spec: DatasetSpec) -> int:
    """Return the fewest real images that a CGAN learns from at once."""
    builder = find_builder("generator", GENERATORS, architecture)
    return max(_try_generator(builder, architecture, spec), _try_discriminator(spec))


def smallest_classifier_batch(architecture: str, spec: DatasetSpec) -> int:
    """Return the fewest images that a classifier takes at once in training mode."""
    builder = find_builder("classifier", CLASSIFIERS, architecture)
    return _try_classifier(builder, architecture, spec)


def example_generator(architecture: str, spec: DatasetSpec) -> Example:
    """Return a generator to try things with."""
    network = build_network(
        lambda: build_generator(architecture, spec.num_classes, spec.image_shape), torch.Generator()
    )
    return network, (torch.zeros(2, NOISE_DIM), torch.zeros(2, dtype=torch.int64))


def example_discriminator(spec: DatasetSpec) -> Example:
    """Return a discriminator to try things with."""
    network = build_network(lambda: Discriminator(spec.num_classes, spec.image_shape), torch.Generator())
    kept_NH = torch.ones(2, sum(HIDDEN_WIDTHS), dtype=torch.bool)
    return network, (torch.zeros(2, *spec.image_shape), torch.zeros(2, dtype=torch.int64), kept_NH)


def example_classifier(architecture: str, spec: DatasetSpec) -> Example:
    """Return a classifier to try things with."""
    network = build_network(
        lambda: build_classifier(architecture, spec.num_classes, spec.image_shape), torch.Generator()
    )
    return network, (torch.zeros(2, *spec.image_shape),)


# The builder is an argument of its own, so that what is kept is known to be of the network of that name.
@functools.cache
def _try_generator(_: Builder, architecture: str, spec: DatasetSpec) -> int:
    return _smallest_batch(*example_generator(architecture, spec))


@functools.cache
def _try_classifier(_: Builder, architecture: str, spec: DatasetSpec) -> int:
    return _smallest_batch(*example_classifier(architecture, spec))


@functools.cache
def _try_discriminator(spec: DatasetSpec) -> int:
    return _smallest_batch(*example_discriminator(spec))


@torch.no_grad()
def _smallest_batch(network: nn.Module, inputs_of_two: tuple[Tensor, ...]) -> int:
    """Return 1, or 2 where one item is refused in training mode; found by trying."""
    network.train()
    with torch.random.fork_rng(devices=[]):  # a layer may draw from the global stream
        network(*inputs_of_two)  # what two items cannot pass either is another fault
        try:
            network(*(tensor[:1] for tensor in inputs_of_two))
        except ValueError:
            return 2
    return 1
