"""Find which forms of fused lanes can compute a network, by trying them on a few artificial items on the CPU.

A form can compute a network if two fused lanes give the same outputs, gradients and buffers as each alone, in
training and in evaluation. Shape suffixes: L lanes, N items.
"""

import functools
import textwrap
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.ground.text import one_line
from lt_rebalance.networks.builders import find_builder
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS
from lt_rebalance.networks.generators.registry import GENERATORS, find_trained
from lt_rebalance.networks.optimizers import Adam
from lt_rebalance.training.batching import (
    Builder,
    Example,
    example_classifier,
    example_generator,
    example_partner,
)
from lt_rebalance.training.lane import TrainingState, stack
from lt_rebalance.training.stacks import FORMS, LaneStack

NUM_LANES = 2
NUM_ITEMS = 4
TOLERANCE = 0.01
"""relative to the norm of a tensor; rounding in float32 is far below, a different computation far above"""


def classifier_fault(form: str, architecture: str, spec: DatasetSpec) -> str | None:
    """Return in one line why a form cannot compute a classifier, or None if it can."""
    builder = find_builder("classifier", CLASSIFIERS, architecture)
    return _try_classifier(builder, form, architecture, spec)


def generator_fault(form: str, architecture: str, spec: DatasetSpec) -> str | None:
    """Return why a form cannot compute a generator and its partner, or None if it can."""
    builder = find_builder("generator", GENERATORS, architecture)
    fault = _try_generator(builder, form, architecture, spec)
    return fault or _try_partner(form, find_trained(architecture).partner, spec)


# The builder is an argument of its own, so that what is kept is known to be of the network of that name.
@functools.cache
def _try_classifier(_: Builder, form: str, architecture: str, spec: DatasetSpec) -> str | None:
    return find_fault(form, lambda seed: example_classifier(architecture, spec, seed))


@functools.cache
def _try_generator(_: Builder, form: str, architecture: str, spec: DatasetSpec) -> str | None:
    return find_fault(form, lambda seed: example_generator(architecture, spec, seed))


@functools.cache
def _try_partner(form: str, place: str, spec: DatasetSpec) -> str | None:
    return find_fault(form, lambda seed: example_partner(place, spec, seed))


def find_fault(form: str, make_example: Callable[[int], Example]) -> str | None:
    """Return why a form cannot compute what a function makes for a seed, or None if it can."""
    if FORMS[form] is LaneStack:  # one network after another is what the others are measured by
        return None
    open_layers: list[str] = []
    try:
        expected = _compute(FORMS["separate"], make_example, [])
        found = _compute(FORMS[form], make_example, open_layers)
    # Whatever error a network raises, the sweep has not caused it.
    except Exception as error:
        layer = f"layer {open_layers[-1]}: " if open_layers else ""
        return layer + describe(error)
    different = (name for name, tensor in expected.items() if not _agree(found[name], tensor))
    first = next(different, None)
    return None if first is None else f"it does not compute the same as single lanes: {first}"


def describe(error: Exception) -> str:
    """Return an error as one line for a log."""
    return textwrap.shorten(one_line(f"{type(error).__name__}: {error}"), 200, placeholder=" ...")


def _agree(found: Tensor, expected: Tensor) -> bool:
    difference = torch.linalg.vector_norm(found.double() - expected.double())
    return bool(difference <= TOLERANCE * torch.linalg.vector_norm(expected.double()))


def _compute(
    form: type[LaneStack], make_example: Callable[[int], Example], open_layers: list[str]
) -> TrainingState:
    """Return the results of lanes of a network in two steps and in evaluation, by a name for messages.

    The steps have a learning rate of 0, so Adam's moments show the gradients of the lanes.

    Args:
        open_layers: the layers that are being computed, the innermost last, also after an error.
    """
    examples = [make_example(seed) for seed in range(NUM_LANES)]
    networks = [network for network, _ in examples]
    optimizers = [Adam(network.parameters(), 0.0, fused=True) for network in networks]
    inputs = [_make_inputs(seed, tensors) for seed, (_, tensors) in enumerate(examples)]
    inputs_L = [stack(tensors) for tensors in zip(*inputs, strict=True)]
    lanes = form(networks, optimizers)
    results: TrainingState = {}
    _tell_layers(networks, open_layers)
    with torch.random.fork_rng(devices=[]):
        lanes.train()
        for step in range(2):
            outputs_LN = lanes(*inputs_L)
            results[f"outputs of step {step + 1}"] = outputs_LN.detach().clone()
            lanes.zero_grad()
            outputs_LN.square().mean().backward()
            lanes.step()
        lanes.train(False)
        with torch.no_grad():
            results["outputs in evaluation"] = lanes(*inputs_L).clone()
    return results | _state(networks, optimizers)


def _state(networks: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer]) -> TrainingState:
    """Return the gradients of all layers together, and every buffer."""
    results: TrainingState = {}
    for lane, (network, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
        moments = [
            optimizer.state[parameter].get("exp_avg", torch.zeros_like(parameter)).flatten()
            for parameter in network.parameters()
        ]
        results[f"gradients of lane {lane}"] = torch.cat([*moments, torch.empty(0)]).detach().clone()
        for name, buffer in network.named_buffers():
            results[f"buffer {name} of lane {lane}"] = buffer.clone()
    return results


def _make_inputs(seed: int, inputs_of_two: Sequence[Tensor]) -> list[Tensor]:
    """Return inputs of the shapes of an example, with random numbers."""
    stream = torch.Generator().manual_seed(seed)
    return [
        torch.randn(NUM_ITEMS, *tensor.shape[1:], generator=stream)
        if tensor.is_floating_point()
        else tensor[:1].expand(NUM_ITEMS, *tensor.shape[1:])
        for tensor in inputs_of_two
    ]


def _tell_layers(networks: Sequence[nn.Module], open_layers: list[str]) -> None:
    """Make networks, which are discarded later, record the layers that are being computed."""
    for network in networks:
        for name, layer in network.named_modules():
            told = f"{name} ({type(layer).__name__})"
            layer.register_forward_pre_hook(lambda *_, told=told: open_layers.append(told))
            layer.register_forward_hook(lambda *_: _close(open_layers))


def _close(open_layers: list[str]) -> None:
    open_layers.pop()
