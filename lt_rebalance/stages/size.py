"""Bytes that the stages of a plan will take in a store, and whether its disk has them."""

import functools
import logging
from collections.abc import Callable, Mapping

import torch
from torch import nn

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.ground.disk import free_bytes
from lt_rebalance.ground.text import format_bytes
from lt_rebalance.networks.classifiers.registry import build_classifier
from lt_rebalance.networks.discriminator import Discriminator
from lt_rebalance.networks.generators.registry import build_generator
from lt_rebalance.networks.initialization import build_network
from lt_rebalance.studies.stage import AnyStage, GeneratorStage

KEPT_BYTES = 2_000_000
"""most that a stage keeps beside weights: record, predictions, counts, samples, events and log"""
_BYTES_PER_VALUE = 4
_VALUES_PER_PARAMETER = 3
"""of a checkpoint: the parameter and Adam's two moments"""
_CHECKPOINTS = 3
"""two that are kept and one that is being written"""

_log = logging.getLogger(__name__)


def kept_bytes(stage: AnyStage) -> int:
    """Return an upper estimate of what a finished stage keeps."""
    if not isinstance(stage, GeneratorStage):
        return KEPT_BYTES
    spec = get_dataset_spec(stage.data.dataset)
    return KEPT_BYTES + _BYTES_PER_VALUE * _count_generator(stage.generator.architecture, spec)


def checkpoint_bytes(stage: AnyStage) -> int:
    """Return what the checkpoints of a stage take while it trains."""
    spec = get_dataset_spec(stage.data.dataset)
    if isinstance(stage, GeneratorStage):
        count = _count_generator(stage.generator.architecture, spec) + _count_discriminator(spec)
    else:
        count = _count_classifier(stage.classifier.architecture, spec)
    return _CHECKPOINTS * _VALUES_PER_PARAMETER * _BYTES_PER_VALUE * count


def check_space(location: str, pending: Mapping[str, AnyStage], num_at_once: int) -> None:
    """Warn when the disk of a store may not hold what a plan will make.

    Args:
        pending: the stages to run.
        num_at_once: most stages that train at a time.

    Raises:
        ValueError: it does not even hold what trains at a time.
    """
    free = free_bytes(location)
    if free is None or not pending:
        return
    largest = sorted((checkpoint_bytes(stage) for stage in pending.values()), reverse=True)
    working = sum(largest[:num_at_once])
    needed = working + sum(kept_bytes(stage) for stage in pending.values())
    if free < working + KEPT_BYTES:
        raise ValueError(
            f"the disk of {location} has {format_bytes(free)} left, and the checkpoints of what trains at a "
            f"time take {format_bytes(working)}; make room, or name another --storage"
        )
    if free < needed:
        _log.warning(
            "the disk of %s has %s left; all that is planned may take up to %s",
            *(location, format_bytes(free), format_bytes(needed)),
        )


@functools.cache
def _count_generator(name: str, spec: DatasetSpec) -> int:
    return _count(lambda: build_generator(name, spec.num_classes, spec.image_shape))


@functools.cache
def _count_discriminator(spec: DatasetSpec) -> int:
    return _count(lambda: Discriminator(spec.num_classes, spec.image_shape))


@functools.cache
def _count_classifier(name: str, spec: DatasetSpec) -> int:
    return _count(lambda: build_classifier(name, spec.num_classes, spec.image_shape))


def _count(build: Callable[[], nn.Module]) -> int:
    network = build_network(build, torch.Generator())
    return sum(parameter.numel() for parameter in network.parameters())
