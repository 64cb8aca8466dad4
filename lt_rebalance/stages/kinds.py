"""The kinds of stages: what runs each, and what it counts."""

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lt_rebalance.stages.work import (
    classifier_image_flop,
    count_classifier,
    count_generator,
    count_generator_training,
    generator_image_flop,
    grid_bytes,
    measuring_flop,
    tested_bytes,
)
from lt_rebalance.store import Store
from lt_rebalance.store.records import Record
from lt_rebalance.studies.stage import AnyStage

if TYPE_CHECKING:  # it needs torch, and a plan goes without
    from lt_rebalance.stages.base import StageRun


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The differences of a kind of stage."""

    run: str
    """the class that runs it, as "module:class"; imported on use"""
    image_flop: Callable[[Any], float]
    """arithmetic of an image in training"""
    measuring_flop: Callable[[Any], float] = lambda _: 0.0
    """arithmetic at the end of a round"""
    count_trained: Callable[[Any], int]
    """parameters that checkpoints hold"""
    count_kept: Callable[[Any], int] = lambda _: 0
    """parameters that a result holds"""
    array_bytes: Callable[[Any], int] = lambda _: 0
    """bytes of a result without weights: per tested image, or per generated image"""


_CLASSIFIER = Kind(
    run="lt_rebalance.stages.classifier:ClassifierRun",
    image_flop=classifier_image_flop,
    measuring_flop=measuring_flop,
    count_trained=count_classifier,
    array_bytes=tested_bytes,
)
KINDS: Mapping[str, Kind] = {
    "generator": Kind(
        run="lt_rebalance.stages.generator:GeneratorRun",
        image_flop=generator_image_flop,
        count_trained=count_generator_training,
        count_kept=count_generator,
        array_bytes=grid_bytes,
    ),
    "classifier": _CLASSIFIER,
    "validation": replace(_CLASSIFIER, run="lt_rebalance.stages.classifier:ValidationRun"),
    "representation": Kind(
        run="lt_rebalance.stages.classifier:RepresentationRun",
        image_flop=classifier_image_flop,
        count_trained=count_classifier,
        count_kept=count_classifier,
    ),
}


def open_run(
    stages: Sequence[AnyStage],
    store: Store,
    data_dir: str | None,
    *,
    max_lanes: int | None = None,
    num_devices: float = 1.0,
    driver: Mapping[str, Any] | None = None,
    kept: Collection[str] = (),
) -> "StageRun[Any, Any]":
    """Open stages that differ only in the seed as lanes of one run; the rest as for `StageRun`.

    Raises:
        ValueError: the stages differ in more.
    """
    if len({stage.with_seed(0) for stage in stages}) != 1:
        raise ValueError("stages that run together must differ in nothing but the seed")
    module, _, name = KINDS[stages[0].kind].run.partition(":")
    run: type[StageRun[Any, Any]] = getattr(importlib.import_module(module), name)
    options: Any = {"max_lanes": max_lanes, "num_devices": num_devices, "driver": driver, "kept": kept}
    return run(stages, store, data_dir, **options)


def run_stage(stage: AnyStage, store: Store, data_dir: str | None = None) -> Record:
    """Run one stage to its end and return its record; a stage that is done is not run again."""
    record = store.load_record(stage.key)
    if record is None:
        run = open_run([stage], store, data_dir)
        while not run.is_finished:
            run.run_round()
        record = store.load_record(stage.key)
        assert record is not None
    return record
