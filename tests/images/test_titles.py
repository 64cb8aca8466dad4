"""A user's data set is named after its file or folder, and its classes are shown by name."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.collect import read_results
from analysis.figures.style import describe_dataset
from lt_rebalance.data import at_hand
from lt_rebalance.data.at_hand import say_dataset
from lt_rebalance.images.cache import CACHE_DIR_VARIABLE
from lt_rebalance.images.load import bring
from lt_rebalance.images.options import OwnOptions
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.study_document import StudyDocument, parse_study
from lt_rebalance.studies.plan import compile_study, describe_plan
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from lt_rebalance.studies.tables import describe_means, with_titles
from lt_rebalance.training.configs import Execution
from tests.own_images import CLASSES, COUNTS, draw_images, to_arrays, write_folder, write_npz


@pytest.fixture(autouse=True)
def _nothing_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_DIR_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(at_hand, "_AT_HAND", {})


def plan(path: Path, protocol: Protocol, execution: Execution, name: str = "study") -> StudyDocument:
    """Return the document of a study on a user's images."""
    dataset, _ = bring(str(path), OwnOptions())
    cell = make_cell(protocol, dataset=dataset, c=None, method="none", generator=None)
    return describe_plan(compile_study(Study(name=name, cells=(cell,), seeds=(0,)), execution))


def write_studies(root: Path, *studies: StudyDocument) -> Store:
    store = open_store(str(root), RESULTS_VERSION, create=True)
    assert store is not None
    for study in studies:
        store.write_study(study)
    return store


@pytest.mark.parametrize("form", ["folder", "npz"])
def test_study_keeps_title_class_names_counts_and_balance(
    form: str, tmp_path: Path, small_protocol: Protocol, cpu_execution: Execution
) -> None:
    images = draw_images()
    path = (
        write_folder(tmp_path / "pets", images)
        if form == "folder"
        else write_npz(tmp_path / "pets.npz", to_arrays(images))
    )
    study = plan(path, small_protocol, cpu_execution)
    kept = write_studies(tmp_path / "store", study).load_study("study")
    (dataset,) = kept.class_names
    assert kept == study
    assert kept.titles == {dataset: "pets"} and kept.say_dataset(dataset) == f"pets ({dataset})"
    assert kept.class_names[dataset] == CLASSES and kept.unbalanced == (dataset,)
    assert kept.counts[dataset]["train"] == COUNTS["train"] and kept.counts[dataset]["test"] == COUNTS["test"]


def test_document_without_title_and_counts_goes_by_the_name(
    tmp_path: Path, small_protocol: Protocol, cpu_execution: Execution
) -> None:
    study = plan(write_folder(tmp_path / "pets", draw_images()), small_protocol, cpu_execution)
    values = study.to_plain()
    (dataset,) = values["datasets"]
    del values["datasets"][dataset]["title"], values["datasets"][dataset]["counts"]
    old = parse_study(values, "study")
    assert old.say_dataset(dataset) == dataset and not old.counts
    assert old == dataclasses.replace(study, titles={}, counts={})


def test_counts_of_other_than_all_classes_are_refused(
    tmp_path: Path, small_protocol: Protocol, cpu_execution: Execution
) -> None:
    values = plan(write_folder(tmp_path / "pets", draw_images()), small_protocol, cpu_execution).to_plain()
    (described,) = values["datasets"].values()
    described["counts"]["train"] = [6, 4]
    with pytest.raises(ValueError, match="3 numbers"):
        parse_study(values, "study")


def test_frames_and_tables_call_a_set_by_its_title_the_first_one_if_it_was_moved(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_protocol: Protocol,
    cpu_execution: Execution,
) -> None:
    pets = write_folder(tmp_path / "pets", draw_images())
    first = plan(pets, small_protocol, cpu_execution, "first")
    (dataset,) = first.class_names
    cells = pd.DataFrame({"dataset": [dataset], "n": [1], "paper_accuracy": [None]})
    assert describe_means("first", cells, has_shared_subsets=False).startswith(f"first, pets ({dataset}): ")
    monkeypatch.setattr(at_hand, "_AT_HAND", {})
    second = plan(pets.rename(tmp_path / "animals"), small_protocol, cpu_execution, "second")
    assert second.say_dataset(dataset) == f"animals ({dataset})"
    store = write_studies(tmp_path / "store", first, second)
    results = read_results(store.location, allow=["gaps"])
    assert results.class_names == {f"pets ({dataset})": CLASSES}
    assert set(results.runs["dataset"]) == {f"pets ({dataset})"}
    assert set(results.cells["data.dataset"]) == {dataset}
    assert describe_dataset(results.runs).startswith(f"Data set: pets ({dataset}).")


def test_tables_of_a_sweep_say_title_and_identity(tmp_path: Path) -> None:
    dataset, _ = bring(str(write_npz(tmp_path / "pets.npz", to_arrays(draw_images()))), OwnOptions())
    frame = with_titles(pd.DataFrame({"dataset": [dataset, "mnist"], "n": [1, 2]}))
    assert frame["dataset"].tolist() == [f"pets ({dataset})", "mnist"] and frame["n"].tolist() == [1, 2]


def test_name_that_would_move_the_cursor_is_spelled_out(tmp_path: Path) -> None:
    dataset, _ = bring(str(write_folder(tmp_path / "pe\x1b[2Jts", draw_images())), OwnOptions())
    assert say_dataset(dataset) == f"pe\\x1b[2Jts ({dataset})"


def test_numbers_of_a_file_called_after_cifar10_have_its_names(
    tmp_path: Path, small_protocol: Protocol, cpu_execution: Execution
) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        name: values
        for split in ("train", "test")
        for name, values in (
            (f"{split}_images", rng.integers(0, 256, (10, 16, 16, 3), np.uint8)),
            (f"{split}_labels", np.arange(10)),
        )
    }
    study = plan(write_npz(tmp_path / "cifar10_lt100_jpeg.npz", arrays), small_protocol, cpu_execution)
    (names,) = study.class_names.values()
    assert names == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert study.titles == dict.fromkeys(study.class_names, "cifar10_lt100_jpeg")
