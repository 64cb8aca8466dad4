"""A user's data sets in studies: keys follow from content, and workers find the images."""

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lt_rebalance.cluster.trainable import trial_config
from lt_rebalance.data import at_hand
from lt_rebalance.data.catalog import get_dataset_spec, is_location
from lt_rebalance.ground.errors import DataError
from lt_rebalance.images.cache import CACHE_DIR_VARIABLE
from lt_rebalance.images.load import bring, load_at_hand
from lt_rebalance.images.options import OwnOptions
from lt_rebalance.stages.inputs import load_dataset_once
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import open_store
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, ClassifierStage
from lt_rebalance.training.configs import Budget, Execution
from tests.own_images import COUNTS, draw_images, write_folder


@pytest.fixture(autouse=True)
def _nothing_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(CACHE_DIR_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(at_hand, "_AT_HAND", {})
    load_dataset_once.cache_clear()
    yield
    load_dataset_once.cache_clear()


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Return a folder of tiny colour pictures."""
    return write_folder(tmp_path / "pets", draw_images())


def make_stage(dataset: str, protocol: Protocol, execution: Execution) -> ClassifierStage:
    short = dataclasses.replace(
        protocol, classifier_budget=Budget(steps=2, rounds=1), classifier_batch_size=4
    )
    return make_cell(short, dataset=dataset, c=None, method="none", generator=None).stage(0, execution)


def bring_stage(path: Path, protocol: Protocol, execution: Execution) -> ClassifierStage:
    return make_stage(bring(str(path), OwnOptions())[0], protocol, execution)


def test_key_follows_from_content_alone(
    pets: Path, tmp_path: Path, small_protocol: Protocol, cpu_execution: Execution
) -> None:
    first = bring_stage(pets, small_protocol, cpu_execution)
    moved = pets.rename(tmp_path / "animals")
    assert bring_stage(moved, small_protocol, cpu_execution).key == first.key
    file = moved / "test" / "eel" / "0.png"
    with Image.open(file) as image:
        pixels = np.array(image)
    pixels[3, 3, 0] ^= 1
    Image.fromarray(pixels).save(file)
    changed = bring_stage(moved, small_protocol, cpu_execution)
    assert changed.key != first.key and changed.dataset_identity != first.dataset_identity
    assert "pets" not in json.dumps(first.to_dict())


def test_version_that_began_the_study_is_a_remedy_where_another_set_was_given(pets: Path) -> None:
    name, _ = bring(str(pets), OwnOptions())
    said = f"; {pets} holds {name}; if files and options are those of the sweep, another version of "
    with pytest.raises(ValueError, match=f"{re.escape(said)}.* use the version that began the study$"):
        get_dataset_spec("images@00000000")


def test_classifier_learns_from_colour_images_of_the_users_own(
    pets: Path, tmp_path: Path, small_protocol: Protocol, cpu_execution: Execution
) -> None:
    stage = bring_stage(pets, small_protocol, cpu_execution)
    store = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert store is not None
    record = run_stage(stage, store)
    assert record.state == "complete" and tuple(record.class_counts) == COUNTS["train"]


def test_worker_that_knows_nothing_is_handed_the_set_and_reads_it_where_it_lies(
    pets: Path, tmp_path: Path, small_protocol: Protocol, cpu_execution: Execution
) -> None:
    stage = bring_stage(pets, small_protocol, cpu_execution)
    config = json.loads(json.dumps(trial_config([stage], "nowhere", None, driver={})))
    planned = get_dataset_spec(stage.data.dataset)
    at_hand._AT_HAND.clear()
    with pytest.raises(ValueError, match=r"not loaded, .* similar options as their sweep did$"):
        get_dataset_spec(stage.data.dataset)
    shutil.rmtree(tmp_path / "cache")
    at_hand.take_in(config["own_data"])
    assert get_dataset_spec(stage.data.dataset) == planned
    assert load_at_hand(stage.data.dataset).train_labels_N.tolist() == [0] * 6 + [1] * 4 + [2] * 3
    (pets / "train" / "cat" / "0.png").unlink()
    # Prepared before, and so still what was planned with.
    assert len(load_at_hand(stage.data.dataset).train_labels_N) == 13
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(DataError, match="images must be those of the plan"):
        load_at_hand(stage.data.dataset)
    shutil.rmtree(pets)
    with pytest.raises(DataError, match="got nothing at"):
        load_at_hand(stage.data.dataset)


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (None, False),
        ("fashion_mnist_mini", False),
        ("mnits", False),
        ("./mnist", True),
        ("a.npz", True),
        ("here", True),
    ],
)
def test_location_is_told_from_a_name(
    dataset: str | None, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "fashion_mnist_mini").mkdir()
    assert is_location(dataset) is expected
