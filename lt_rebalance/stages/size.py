"""Estimate the bytes of a plan's stages in a store, and check that its disk has them."""

import logging
from collections.abc import Mapping

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.ground.disk import free_bytes
from lt_rebalance.ground.text import format_bytes
from lt_rebalance.stages.kinds import KINDS
from lt_rebalance.studies.stage import AnyStage

KEPT_BYTES = 2_000_000
"""most bytes of a stage without weights, predictions and values per class: record, counts, events, log"""
_BYTES_PER_CLASS = 150
"""bytes of a record per class: counts, rank groups, three measures of quality"""
_BYTES_PER_VALUE = 4
_VALUES_PER_PARAMETER = 3
"""of a checkpoint: the parameter and Adam's two moments"""
_CHECKPOINTS = 3
"""number of checkpoints: two are kept and one is being written"""

_log = logging.getLogger(__name__)


def kept_bytes(stage: AnyStage) -> int:
    """Return an upper estimate of the bytes of a finished stage."""
    kind = KINDS[stage.kind]
    by_class = _BYTES_PER_CLASS * get_dataset_spec(stage.data.dataset).num_classes
    return KEPT_BYTES + by_class + kind.array_bytes(stage) + _BYTES_PER_VALUE * kind.count_kept(stage)


def checkpoint_bytes(stage: AnyStage) -> int:
    """Return the bytes of the checkpoints of a stage while it trains."""
    count = KINDS[stage.kind].count_trained(stage)
    return _CHECKPOINTS * _VALUES_PER_PARAMETER * _BYTES_PER_VALUE * count


def check_space(location: str, pending: Mapping[str, AnyStage], num_at_once: int) -> None:
    """Warn if the disk of a store may be too small for a plan.

    Args:
        pending: the stages to run.
        num_at_once: most stages that train at a time.

    Raises:
        ValueError: the disk is too small even for the stages that train at a time.
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
            f"time take {format_bytes(working)}; make room, or name another store"
        )
    if free < needed:
        _log.warning(
            "the disk of %s has %s left; all that is planned may take up to %s",
            *(location, format_bytes(free), format_bytes(needed)),
        )
