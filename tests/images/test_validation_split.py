"""The validation split that a user's own set brings: what chooses, where a protocol wants one."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lt_rebalance.data import at_hand
from lt_rebalance.data.long_tail import DataConfig, choose_validation
from lt_rebalance.images.cache import CACHE_DIR_VARIABLE
from lt_rebalance.images.load import bring
from lt_rebalance.images.options import OwnOptions
from lt_rebalance.stages import memory as reckoning
from lt_rebalance.stages.inputs import InputReader, load_dataset_once
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.stages.memory import check_memory, checkpoint_memory, lane_bytes, pool_bytes, step_bytes
from lt_rebalance.store import open_store
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, ClassifierStage
from lt_rebalance.trainables.hyperparameters import build_classifier_stage
from lt_rebalance.training.configs import Budget, Execution
from lt_rebalance.training.device import resolve_execution
from sweeps.tune_classifier import build_search, make_classifier_parser
from tests.own_images import COUNTS, draw_images, to_arrays, write_folder, write_npz

WITH_SPLIT = COUNTS | {"val": (3, 1, 2)}


@pytest.fixture(autouse=True)
def _nothing_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(CACHE_DIR_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(at_hand, "_AT_HAND", {})
    load_dataset_once.cache_clear()
    yield
    load_dataset_once.cache_clear()


def make_stage(name: str, protocol: Protocol, execution: Execution, validation: int) -> ClassifierStage:
    short = dataclasses.replace(
        protocol,
        classifier_budget=Budget(steps=2, rounds=1),
        classifier_batch_size=4,
        validation_per_class=validation,
    )
    return make_cell(short, dataset=name, c=None, method="none", generator=None).stage(0, execution)


def test_split_that_a_set_brings_is_what_chooses_and_nothing_is_set_aside(
    tmp_path: Path, small_protocol: Protocol, cpu_execution: Execution
) -> None:
    name, _ = bring(str(write_folder(tmp_path / "pets", draw_images(counts=WITH_SPLIT))), OwnOptions())
    stage = make_stage(name, small_protocol, cpu_execution, validation=2)
    store = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert store is not None and stage.data.validation == "own" and stage.data.validation_per_class == 0
    reader = InputReader(name, None, store, torch.device("cpu"))
    inputs = reader.read(stage)
    assert reader.read(stage.with_seed(1)).validation_set is inputs.validation_set  # which lanes share
    assert inputs.subset.counts_K == list(COUNTS["train"])
    assert inputs.validation_set is not None
    assert inputs.validation_set.labels_N.tolist() == [0, 0, 0, 1, 2, 2]
    measured = run_stage(stage.on_validation(), store)
    assert [sum(row) for row in measured.confusion] == [3, 1, 2]
    assert store.read_record(measured.key) == measured
    tested = run_stage(stage, store)
    assert [sum(row) for row in tested.confusion] == list(COUNTS["test"])
    assert store.read_record(tested.key) == tested


def test_such_a_split_counts_as_memory_of_the_stages_that_read_it(
    tmp_path: Path, small_protocol: Protocol, cpu_execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _ = bring(str(write_folder(tmp_path / "pets", draw_images(counts=WITH_SPLIT))), OwnOptions())
    chosen = make_stage(name, small_protocol, cpu_execution, validation=2)
    other = make_stage(name, small_protocol, cpu_execution, validation=0)
    an_image = 3 * 16 * 16 + 8
    assert pool_bytes(other.data) == (13 + 6) * an_image
    assert pool_bytes(chosen.data) == (13 + 6 + 6) * an_image
    asked: list[int] = []
    monkeypatch.setattr(reckoning, "available_bytes", lambda: 0)
    monkeypatch.setattr(reckoning, "require_memory", lambda num_bytes, *_: asked.append(num_bytes))
    lanes = max(lane_bytes(each) + step_bytes(each) + checkpoint_memory(each) for each in (chosen, other))
    check_memory({"a": other, "b": chosen}, 1, 1)
    check_memory({"a": chosen, "b": other}, 1, 1)
    assert asked == [25 * an_image + lanes] * 2  # one mapped set, with the split


def test_without_such_a_split_images_are_set_aside_as_before(
    tmp_path: Path, small_protocol: Protocol, cpu_execution: Execution
) -> None:
    name, _ = bring(str(write_folder(tmp_path / "pets", draw_images())), OwnOptions())
    stage = make_stage(name, small_protocol, cpu_execution, validation=2)
    assert stage.data.validation_per_class == 2 and 'validation"' not in json.dumps(stage.to_dict()["data"])
    with pytest.raises(ValueError, match="is for a set with a validation split"):
        dataclasses.replace(stage.data, validation_per_class=0, validation="own")


def test_groups_are_not_torn_apart_but_drawn_whole_where_that_is_asked(
    tmp_path: Path, small_protocol: Protocol, cpu_execution: Execution
) -> None:
    arrays = to_arrays(draw_images(counts={"train": (12, 12, 12), "test": (1, 1, 1)}))
    path = str(write_npz(tmp_path / "a.npz", {**arrays, "train_groups": np.arange(36) // 3}))
    name, _ = bring(path, OwnOptions())
    with pytest.raises(ValueError, match=r"split the groups of images@\w+, got 2; .*fraction 0.1"):
        make_stage(name, small_protocol, cpu_execution, validation=2)
    drawn, (note, *_) = bring(path, OwnOptions(validation_fraction=0.25))
    assert note.startswith("the validation split was drawn: 9 of 36 images, about 0.25 of each class")
    data = make_stage(drawn, small_protocol, cpu_execution, validation=2).data
    assert (data.validation, data.validation_per_class) == ("own", 0)


def test_protocol_without_validation_leaves_the_split_alone(
    tmp_path: Path, small_protocol: Protocol, cpu_execution: Execution
) -> None:
    name, _ = bring(str(write_folder(tmp_path / "pets", draw_images(counts=WITH_SPLIT))), OwnOptions())
    data = make_stage(name, small_protocol, cpu_execution, validation=0).data
    assert data == DataConfig(
        dataset=name, c=None, subset_draw=None, class_order=None, validation_per_class=0
    )
    with pytest.raises(ValueError, match="validation_per_class must be 0"):
        dataclasses.replace(data, validation_per_class=1, validation="own")


SEARCHED = {
    "twelve images": (12, None, (1, None)),
    "eleven images": (11, None, (1, None)),
    "two images": (2, None, (1, None)),
    "two twelfths": (24, None, (2, None)),
    "twelve images and a split": (12, (3, 1, 2), (0, "own")),
    "eleven images and a split": (11, (3, 1, 2), (0, "own")),
    "one image and a split": (1, (3, 1, 2), (0, "own")),
    "eleven images and a split without one class": (11, (3, 0, 2), (1, None)),
}


@pytest.mark.parametrize(("smallest", "split", "chosen"), SEARCHED.values(), ids=SEARCHED)
def test_search_takes_the_split_of_a_set_or_at_least_one_image_of_each_class(
    tmp_path: Path, smallest: int, split: tuple[int, ...] | None, chosen: tuple[int, str | None]
) -> None:
    counts = {"train": (40, 30, smallest), "test": (1, 1, 1)} | ({} if split is None else {"val": split})
    name, _ = bring(str(write_npz(tmp_path / "a.npz", to_arrays(draw_images(counts=counts)))), OwnOptions())
    arguments = ["--dataset", name, "--profile", "natural", "--device", "cpu"]
    options = make_classifier_parser().parse_args(arguments)
    data = build_search(options, resolve_execution("cpu", "float32", 1, has_cuda=False)).base.data
    assert (data.validation_per_class, data.validation) == chosen
    stage = build_classifier_stage({"dataset": name, "c": "natural", "device": "cpu"})
    assert (stage.data.validation_per_class, stage.data.validation) == chosen


def test_search_refuses_a_class_of_one_image_in_a_set_without_a_split(tmp_path: Path) -> None:
    counts = {"train": (40, 30, 1), "test": (1, 1, 1)}
    name, _ = bring(str(write_npz(tmp_path / "a.npz", to_arrays(draw_images(counts=counts)))), OwnOptions())
    with pytest.raises(ValueError, match="got 1 training image of 'eel'; add some, or a val split"):
        choose_validation(name)
