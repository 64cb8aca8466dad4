"""A user's images in a store: they are uploaded once, compared when read, and kept while they are named."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lt_rebalance.cli.main import main as look
from lt_rebalance.cluster.trainable import trial_config
from lt_rebalance.data import at_hand
from lt_rebalance.ground.errors import DataError
from lt_rebalance.images import upload as upload_module
from lt_rebalance.images.cache import CACHE_DIR_VARIABLE
from lt_rebalance.images.load import bring, load_at_hand, note_uploaded, upload_own
from lt_rebalance.images.options import OwnOptions
from lt_rebalance.stages.inputs import load_dataset_once
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import Store, open_store
from lt_rebalance.studies.plan import compile_study, describe_plan
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from lt_rebalance.trainables.trainables import CNNTrainable
from lt_rebalance.training.configs import Budget, Execution
from tests.own_images import draw_images, to_arrays, write_npz
from tests.places import Place


@pytest.fixture(autouse=True)
def _nothing_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(CACHE_DIR_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(at_hand, "_AT_HAND", {})
    monkeypatch.setattr(upload_module, "PIECE_BYTES", 2000)  # of 768 bytes an image: two a piece
    load_dataset_once.cache_clear()
    yield
    load_dataset_once.cache_clear()


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Return a file of tiny colour pictures with groups, in pairs."""
    arrays = to_arrays(draw_images())
    return write_npz(tmp_path / "pets.npz", arrays | {"train_groups": np.arange(13) // 2})


@pytest.fixture
def store(place: Place) -> Store:
    """Return a new store, in a directory and in a bucket."""
    store = open_store(place.location, RESULTS_VERSION, create=True)
    assert store is not None
    return store


def lose_all_but_the_store(pets: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "cache")
    pets.unlink()


def list_pieces(store: Store, name: str) -> list[str]:
    directory = f"images/{at_hand.get_own_data(name).spec.identity}"
    return [f"{directory}/{each}" for each in store.files.list(directory)]


def test_worker_that_sees_no_path_takes_the_images_from_the_store(
    pets: Path, tmp_path: Path, store: Store
) -> None:
    name, _ = bring(str(pets), OwnOptions())
    there = load_at_hand(name)
    assert upload_own(name, store) and not upload_own(name, store)
    handed = json.loads(json.dumps(at_hand.hand_on([{"data": {"dataset": name}}])))
    lose_all_but_the_store(pets, tmp_path)
    at_hand._AT_HAND.clear()
    at_hand.take_in(handed)
    taken = load_at_hand(name)
    for field in dataclasses.fields(there):
        assert np.array_equal(getattr(taken, field.name), getattr(there, field.name)), field.name
    assert taken.train_groups_N is not None and len(list_pieces(store, name)) > 9
    store.files.remove_tree("images")
    assert len(load_at_hand(name).train_labels_N) == 13  # from the cache, from now on


def test_worker_without_path_and_without_upload_is_told_of_the_option(pets: Path, tmp_path: Path) -> None:
    name, _ = bring(str(pets), OwnOptions())
    lose_all_but_the_store(pets, tmp_path)
    with pytest.raises(DataError, match=r"got nothing at that path here.*--upload-data") as refused:
        load_at_hand(name)
    assert str(pets) in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["changed", "missing", "index", "labels"])
def test_damaged_upload_is_never_learned_from_and_is_mended_by_another(
    fault: str, pets: Path, tmp_path: Path, store: Store
) -> None:
    name, _ = bring(str(pets), OwnOptions())
    upload_own(name, store)
    pieces = list_pieces(store, name)
    index = next(each for each in pieces if each.endswith("index.json"))
    piece = next(each for each in pieces if "test_images-0001" in each)
    if fault == "changed":
        store.files.replace(piece, bytes([1]) + store.files.read(piece)[1:])
    elif fault == "missing":
        store.files.remove(piece)
    elif fault == "index":
        store.files.replace(index, b"[]")
    else:  # well-formed throughout, and another set
        plain = json.loads(store.files.read(index))
        pieces_of = plain["splits"]["train"]["pieces"]
        pieces_of["labels"] = pieces_of["groups"]
        store.files.replace(index, json.dumps(plain).encode())
    shutil.rmtree(tmp_path / "cache")
    load_dataset_once.cache_clear()
    with pytest.raises(DataError, match=r"as they were put there, got a damaged set.*--upload-data"):
        load_at_hand(name)
    assert not list((tmp_path / "cache" / "lt_rebalance" / "sets").iterdir())
    bring(str(pets), OwnOptions())
    if fault in ("changed", "missing"):
        assert upload_own(name, store)
        shutil.rmtree(tmp_path / "cache")
        assert len(load_at_hand(name).train_labels_N) == 13


def test_upload_says_how_its_test_split_was_drawn(tmp_path: Path, store: Store) -> None:
    arrays = {key: value for key, value in to_arrays(draw_images()).items() if not key.startswith("test")}
    name, warnings = bring(str(write_npz(tmp_path / "whole.npz", arrays)), OwnOptions(test_fraction=0.3))
    said = [each for each in warnings if each.startswith("the test split was drawn")]
    assert len(said) == 1 and "4 of 13 images, about 0.3 of each class" in said[0]
    assert "stream own_data/test_split of seed 0" in said[0]
    upload_own(name, store)
    index = next(each for each in list_pieces(store, name) if each.endswith("index.json"))
    assert json.loads(store.files.read(index))["said"] == said


def plan_pets(store: Store, name: str, protocol: Protocol, execution: Execution):  # type: ignore[no-untyped-def]
    short = dataclasses.replace(
        protocol, classifier_budget=Budget(steps=2, rounds=1), classifier_batch_size=4
    )
    cell = make_cell(short, dataset=name, c=None, method="none", generator=None)
    plan = compile_study(Study(name="pets", cells=(cell,), seeds=(0,)), execution)
    store.write_study(describe_plan(plan))
    return plan.runs[0].stage


def test_trial_learns_from_the_store_alone(
    pets: Path, tmp_path: Path, store: Store, small_protocol: Protocol, cpu_execution: Execution
) -> None:
    name, _ = bring(str(pets), OwnOptions())
    stage = plan_pets(store, name, small_protocol, cpu_execution)
    upload_own(name, store)
    at_hand._AT_HAND.clear()
    bring(str(pets), OwnOptions())
    note_uploaded([name], store)  # as a later command without --upload-data does
    config = json.loads(json.dumps(trial_config([stage], store.location, None)))
    lose_all_but_the_store(pets, tmp_path)
    at_hand._AT_HAND.clear()
    trainable = CNNTrainable(config)
    while not (result := trainable.train())["done"]:
        pass
    assert result["outcome"] == "finished", result.get("reason")
    record = store.read_record(stage.key)
    assert record is not None and sum(record.class_counts) == 13


def test_images_in_the_store_stay_while_a_study_or_a_stage_names_them(
    pets: Path, tmp_path: Path, small_protocol: Protocol, cpu_execution: Execution
) -> None:
    store = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert store is not None
    name, _ = bring(str(pets), OwnOptions())
    stage = plan_pets(store, name, small_protocol, cpu_execution)
    upload_own(name, store)
    run_stage(stage, store)
    (tmp_path / "store" / "images" / "notes.txt").write_text("of a user")

    def collect() -> bool:
        assert look(["gc", store.location, "--orphans"]) == 0
        return bool(list_pieces(store, name))

    assert collect()
    store.files.remove("studies/pets.json")
    kept = tmp_path / "result.json"
    result = tmp_path / "store" / "stages" / stage.key / "result.json"
    kept.write_bytes(result.read_bytes())
    assert collect(), "the record of a stage names them"
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_bytes(b"{")
    assert collect(), "nobody knows what this stage names"
    shutil.rmtree(result.parent, ignore_errors=True)
    assert look(["gc", store.location]) == 0 and list_pieces(store, name)
    assert not collect()
    assert (tmp_path / "store" / "images" / "notes.txt").exists()


@pytest.mark.slow
def test_trial_elsewhere_learns_what_a_sweep_has_put_into_the_store(
    pets: Path,
    tmp_path: Path,
    small_protocol: Protocol,
    cpu_execution: Execution,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Run the sweep as users do; then train another seed where there is neither the path nor its cache."""
    place = str(tmp_path / "store")
    arguments = [
        *("--dataset", str(pets), "--upload-data", "--storage", place, "--device", "cpu", "--seeds", "1"),
        *("--c", "original", "--methods", "none", "--steps", "2", "--name", "pets"),
    ]
    command = [sys.executable, "sweeps/full_grid.py", *arguments]
    for said in ("written to", "is already in"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and said in done.stderr, done.stderr
    store = open_store(place, RESULTS_VERSION, create=False)
    assert store is not None
    name, _ = bring(str(pets), OwnOptions())
    note_uploaded([name], store)
    cell = make_cell(small_protocol, dataset=name, c=None, method="none", generator=None)
    stage = cell.stage(1, cpu_execution)
    configs = [json.loads(json.dumps(trial_config([stage], place, None))) for _ in range(2)]
    configs[0]["own_data"][0]["uploaded_to"] = None
    lose_all_but_the_store(pets, tmp_path)
    monkeypatch.setenv(CACHE_DIR_VARIABLE, str(tmp_path / "elsewhere"))
    for config, outcome in zip(configs, ("blocked", "finished"), strict=True):
        at_hand._AT_HAND.clear()
        trainable = CNNTrainable(config)
        while not (result := trainable.train())["done"]:
            pass
        assert result["outcome"] == outcome, result.get("reason")
        assert outcome == "finished" or "--upload-data" in result["reason"]
    assert store.read_record(stage.key) is not None
