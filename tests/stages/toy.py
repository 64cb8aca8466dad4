"""A data set of four classes of 8 x 8 pixels, and stages on it that take milliseconds."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lt_rebalance.stages.base import StageRun
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.records import Record
from lt_rebalance.studies.protocols import PROTOCOLS, Protocol, make_cell
from lt_rebalance.studies.stage import AnyStage, ClassifierStage, GeneratorStage
from lt_rebalance.training.configs import Budget, Execution
from lt_rebalance.training.device import torch_version

CPU = torch.device("cpu")
EXECUTION = Execution(device="cpu", precision="float32", num_threads=1, torch_version=torch_version())
GENERATOR = "small_mlp_cgan_leaky"
SHORT = dataclasses.replace(
    PROTOCOLS["paper"],
    classifier_budget=Budget(steps=6, rounds=3),
    classifier_batch_size=8,
    generator_budget=Budget(steps=6, rounds=3),
    generator_batch_size=8,
)
TOY_TRAIN, TOY_TEST = 32, 15  # images per class
TOY_COUNTS = (32, 16, 8, 4)  # kept at C = 1/2


def make_toy_images(images_per_class: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return bytes that are bright in the quarter that their label names, and the labels."""
    labels_N = rng.permutation(np.repeat(np.arange(4), images_per_class))
    images_NHW = rng.integers(0, 120, size=(len(labels_N), 8, 8))
    for image_HW, label in zip(images_NHW, labels_N, strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image_HW[row : row + 4, column : column + 4] += 100
    return images_NHW.astype(np.uint8), labels_N.astype(np.uint8)


def make_store(root: Path) -> Store:
    store = open_store(str(root), 1, create=True)
    assert store is not None
    return store


def make_stage(
    method: str = "none",
    seed: int = 0,
    *,
    protocol: Protocol = SHORT,
    c: str | None = "1/2",
    dataset: str = "toy",
    execution: Execution = EXECUTION,
    **changes: Any,
) -> ClassifierStage:
    """Return the classifier stage of a tiny protocol with some of its choices changed."""
    protocol = dataclasses.replace(protocol, **changes)
    generator = GENERATOR if method == "cgan" else None
    cell = make_cell(protocol, dataset=dataset, c=c, method=method, generator=generator)
    return cell.stage(seed, execution)


def make_generator_stage(seed: int = 0, **options: Any) -> GeneratorStage:
    stage = make_stage("cgan", seed, **options).generator_stage
    assert stage is not None
    return stage


MAKE: dict[str, Callable[..., AnyStage]] = {"classifier": make_stage, "generator": make_generator_stage}


def list_files(root: Path) -> dict[str, tuple[int, bytes]]:
    """Return time of change and content of every file below a directory."""
    paths = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def finish(run: StageRun[Any, Any]) -> None:
    while not run.is_finished:
        run.run_round()


def load(store: Store, stage: AnyStage) -> Record:
    record = store.load_record(stage.key)
    assert record is not None
    return record
