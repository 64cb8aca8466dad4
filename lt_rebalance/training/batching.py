"""Find the smallest batch that a network can learn from, by trying; make networks for trials.

torch refuses to train batch normalisation on one value per channel. For a network with such a layer, a last
batch that is too small joins the one before it; for others it stays a separate batch.

Shape suffixes: N items, C H W image.
"""

import functools
import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.ground.global_streams import watched_streams
from lt_rebalance.ground.own_file import WrongReturnError, is_own, say_error
from lt_rebalance.networks.builders import find_builder
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS, build_classifier
from lt_rebalance.networks.dropout import name_masks
from lt_rebalance.networks.generators.registry import (
    GENERATORS,
    build_generator,
    build_partner,
    find_trained,
)
from lt_rebalance.networks.initialization import build_network

Builder = Callable[..., nn.Module]
Example = tuple[nn.Module, tuple[Tensor, ...]]
"""a network with meaningless weights, and inputs of two items"""


def smallest_generator_batch(architecture: str, spec: DatasetSpec) -> int:
    """Return the smallest batch of real images that a generator and its partner can learn from."""
    builder = find_builder("generator", GENERATORS, architecture)
    if is_own(architecture):
        _require_images(builder, architecture, spec)
    partner = find_trained(architecture).partner
    return max(_try_generator(builder, architecture, spec), _try_partner(partner, spec))


def smallest_classifier_batch(architecture: str, spec: DatasetSpec) -> int:
    """Return the smallest batch of images that a classifier accepts in training mode."""
    builder = find_builder("classifier", CLASSIFIERS, architecture)
    if is_own(architecture):
        _require_logits(builder, architecture, spec)
    return _try_classifier(builder, architecture, spec)


def example_generator(architecture: str, spec: DatasetSpec, seed: int = 0) -> Example:
    """Return a generator for trials, with weights from a seed, like all examples."""
    network = build_network(
        lambda: build_generator(architecture, spec.num_classes, spec.image_shape), _stream(seed)
    )
    return network, (torch.zeros(2, network.noise_dim), torch.zeros(2, dtype=torch.int64))


def example_partner(place: str, spec: DatasetSpec, seed: int = 0) -> Example:
    """Return a partner of generators for trials, by its name in `Trained`."""
    network = build_network(lambda: build_partner(place, spec.num_classes, spec.image_shape), _stream(seed))
    return network, network.example_inputs()


def example_classifier(architecture: str, spec: DatasetSpec, seed: int = 0) -> Example:
    """Return a classifier for trials."""
    network = build_network(
        lambda: build_classifier(architecture, spec.num_classes, spec.image_shape), _stream(seed)
    )
    name_masks(network, seed)
    return network, (torch.zeros(2, *spec.image_shape),)


def _stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# The builder is an argument of its own, so that what is kept is known to be of the network of that name.
@functools.cache
def _try_generator(_: Builder, architecture: str, spec: DatasetSpec) -> int:
    return _smallest_batch(*example_generator(architecture, spec))


@functools.cache
def _try_classifier(_: Builder, architecture: str, spec: DatasetSpec) -> int:
    return _smallest_batch(*example_classifier(architecture, spec))


@functools.cache
def _require_logits(builder: Builder, architecture: str, spec: DatasetSpec) -> None:
    """Raise a ValueError unless a user's network makes logits of the images of a data set."""
    rule = "a classifier is a function (num_classes, image_shape) -> nn.Module"
    _require_network(builder, rule, (spec.num_classes, spec.image_shape))
    images = _say_shape(spec)
    try:
        network, inputs = example_classifier(architecture, spec)
        logits = _try(network, inputs)
    except Exception as error:  # whatever a user's code raises, or torch for it
        words = f"{architecture} cannot be computed on {images}: {say_error(error)}"
        raise WrongReturnError(builder, words) from error
    if not isinstance(logits, Tensor) or logits.shape != (2, spec.num_classes):
        raise WrongReturnError(
            builder,
            f"{architecture} must make {spec.num_classes} logits an image, {(2, spec.num_classes)} of 2 "
            f"{images}, got {_say_got(logits)}",
        )
    _require_parameters(builder, network, architecture)


@functools.cache
def _require_images(builder: Builder, architecture: str, spec: DatasetSpec) -> None:
    """Raise a ValueError unless a user's generator makes images of the shape of a data set."""
    rule = "a generator is a function (image_shape) -> nn.Module"
    _require_network(builder, rule, (spec.image_shape,))
    images = _say_shape(spec)
    try:
        network, inputs = example_generator(architecture, spec)
        images_NCHW = _try(network, inputs)
    except Exception as error:  # as above
        words = f"{architecture} cannot make {images}: {say_error(error)}"
        raise WrongReturnError(builder, words) from error
    if not isinstance(images_NCHW, Tensor) or images_NCHW.shape != (2, *spec.image_shape):
        raise WrongReturnError(
            builder,
            f"{architecture} must make {images}, {(2, *spec.image_shape)} of 2 rows of noise and label, got "
            f"{_say_got(images_NCHW)}",
        )
    _require_parameters(builder, network.body, architecture)  # type: ignore[arg-type]  # a Generator has one


def _require_network(builder: Builder, rule: str, arguments: tuple[object, ...]) -> None:
    """Raise a ValueError unless a user's function accepts these arguments and returns a network."""
    try:
        inspect.signature(builder).bind(*arguments)
    except TypeError:
        taken = inspect.signature(builder)
        raise WrongReturnError(builder, f"{rule}, got one that takes {taken}") from None
    with torch.random.fork_rng(devices=[]):  # constructors draw initial weights, which are drawn again
        network = builder(*arguments)
    if not isinstance(network, nn.Module):
        raise WrongReturnError(builder, f"{rule}, got {_say_got(network)}")


def _say_shape(spec: DatasetSpec) -> str:
    channels, height, width = spec.image_shape
    return f"images of {channels}x{height}x{width}"


def _say_got(value: object) -> object:
    if value is None:
        return value
    return tuple(value.shape) if isinstance(value, Tensor) else f"one of type {type(value).__name__}"


@torch.no_grad()
def _try(network: nn.Module, inputs_of_two: tuple[Tensor, ...]) -> object:
    with torch.random.fork_rng(devices=[]):
        return network(*inputs_of_two)


def _require_parameters(builder: Builder, network: nn.Module, architecture: str) -> None:
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise WrongReturnError(builder, f"{architecture} must have parameters to train, got none")


@functools.cache
def _try_partner(place: str, spec: DatasetSpec) -> int:
    return _smallest_batch(*example_partner(place, spec))


@torch.no_grad()
def _smallest_batch(network: nn.Module, inputs_of_two: tuple[Tensor, ...]) -> int:
    """Return 1, or 2 if a single item is refused in training mode; found by trying.

    Raises:
        ValueError: a layer draws from the global stream.
    """
    network.train()
    with torch.random.fork_rng(devices=[]):
        with watched_streams() as touched:
            network(*inputs_of_two)  # what two items cannot pass either is another fault
        if touched:
            raise ValueError(
                f"a network must not draw from the global random stream of {touched[0]}, as nn.Dropout does: "
                "what a seed sees would depend on what runs beside it; use Dropout of networks/dropout.py"
            )
        try:
            network(*(tensor[:1] for tensor in inputs_of_two))
        except ValueError:
            return 2
    return 1
