"""Records of many classes: small, checked like all others, with predictions of 16 bits."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.wide import make_answers, make_record, make_stage
from lt_rebalance.ground.arrays import parse_array
from lt_rebalance.methods.losses import LOSSES
from lt_rebalance.store import StoreError, open_store
from lt_rebalance.store.records import Record, stage_key
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.measuring import measure
from tests.made_up import forge

pytestmark = pytest.mark.usefixtures("one_thread")
EXECUTION = Execution(device="cpu", precision="float32", num_threads=1, torch_version="2.15.0")
NUM_CLASSES = 300


def make_wide(num_classes: int, num_images: int, sharpness: float = 7.0) -> Record:
    logits_NK, labels_N = make_answers(num_classes, num_images, sharpness)
    values, predictions_N, _ = measure(logits_NK, labels_N, LOSSES["cross_entropy"])
    return make_record(make_stage(EXECUTION), values, predictions_N, labels_N)


@pytest.fixture(scope="module")
def content() -> bytes:
    return make_wide(NUM_CLASSES, 1500).to_json()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("sharpness", [7.0, 0.0])
def test_record_of_1000_classes_and_20000_images_is_below_200_kb(sharpness: float) -> None:
    """With answers of which half are right, and with random ones, whose matrix has the most cells."""
    record = make_wide(1000, 20_000, sharpness)
    written = record.to_json()
    assert len(written) < 200_000
    assert Record.from_json(written) == record
    assert record.read_confusion().num_images == 20_000
    assert not any(name.endswith("_K") for name in record.curves[0])


def test_record_grows_with_classes_and_not_with_their_square() -> None:
    sizes = [len(make_wide(num_classes, 2000).to_json()) for num_classes in (200, 400, 800)]
    assert sizes[2] - sizes[1] < 3 * (sizes[1] - sizes[0])


def test_all_metrics_of_a_wide_record_follow_from_its_cells(content: bytes) -> None:
    record = Record.from_json(content)
    values = json.loads(content)
    del values["metrics"]["weighted_f1"]
    assert Record.from_json(forge(values)).all_metrics() == pytest.approx(record.metrics, rel=1e-12)


def edit_row(change: Callable[[list[str]], list[str]]) -> Callable[[dict[str, Any]], None]:
    def edit(values: dict[str, Any]) -> None:
        values["confusion"][0] = " ".join(change(values["confusion"][0].split()))

    return edit


def set_metric(values: dict[str, Any]) -> None:
    values["metrics"]["accuracy"] += 0.001


def make_dense(values: dict[str, Any]) -> None:
    values["confusion"] = Record.from_json(forge(values)).read_confusion().to_matrix().tolist()


CHANGES = {
    "a metric that does not follow": (set_metric, "by its confusion matrix"),
    "a cell of no class": (edit_row(lambda cells: [*cells, "300"]), "classes below 300"),
    "a cell twice": (edit_row(lambda cells: [*cells, cells[-1]]), "each cell once, in order"),
    "cells out of order": (edit_row(lambda cells: cells[::-1]), "each cell once, in order"),
    "a count of none": (edit_row(lambda cells: [*cells[:-1], "299:0"]), "cells such as"),
    "a count of one in full": (edit_row(lambda cells: [*cells[:-1], "299:1"]), "cells such as"),
    "a number with zeros before it": (edit_row(lambda cells: ["00", *cells]), "cells such as"),
    "no number": (edit_row(lambda cells: [*cells, "x"]), "cells such as"),
    "a class without images": (edit_row(lambda cells: []), "of images of every class"),
    "a row too few": (lambda values: values["confusion"].pop(), "300 sparse rows"),
    "a matrix in full": (make_dense, "300 sparse rows"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_wide_record_that_contradicts_itself_is_refused(content: bytes, change: str) -> None:
    edit, rule = CHANGES[change]
    values = json.loads(content)
    assert Record.from_json(forge(values))
    edit(values)
    with pytest.raises(ValueError, match=rule):
        Record.from_json(forge(values))


def test_narrow_record_with_sparse_rows_is_refused() -> None:
    values = json.loads(make_wide(10, 1000).to_json())
    values["confusion"] = ["0:100"] * 10
    with pytest.raises(ValueError, match="10 rows of 10"):
        Record.from_json(forge(values))


@pytest.mark.parametrize(("num_classes", "dtype"), [(10, "uint8"), (256, "uint8"), (257, "uint16")])
def test_predictions_take_the_bytes_that_their_classes_need(num_classes: int, dtype: str) -> None:
    predictions_N = np.array([0, num_classes - 1], dtype=dtype)
    assert parse_array(npy(predictions_N), "predictions", num_classes).tolist() == [0, num_classes - 1]
    other = {"uint8": "uint16", "uint16": "uint8"}[dtype]
    with pytest.raises(ValueError, match=f"it must be {dtype} with axes N, got {other}"):
        parse_array(npy(predictions_N.astype(other)), "predictions", num_classes)


def test_predictions_of_another_number_than_the_confusion_are_refused(tmp_path: Path) -> None:
    """Two bytes an image are as many images as they are, not twice as many."""
    store = open_store(str(tmp_path), RESULTS_VERSION, create=True)
    assert store is not None
    record = make_wide(NUM_CLASSES, 1500)
    assert stage_key(record.stage) == record.key
    for num_images, fits in ((1500, True), (3000, False), (750, False)):
        predictions_N = np.arange(num_images, dtype=np.uint16) % NUM_CLASSES
        artifact = store.write_artifact(record.key, "predictions", ".npy", npy(predictions_N))
        values = json.loads(record.to_json()) | {"artifacts": {"predictions": vars(artifact)}}
        if fits:
            kept = Record.from_json(forge(values))
            assert store.read_array(kept, "predictions")[299] == 299
        else:
            with pytest.raises(ValueError, match=f"of {num_images} images, the number of predictions"):
                Record.from_json(forge(values))


def test_predictions_that_are_cut_to_8_bits_are_refused(tmp_path: Path) -> None:
    """Class 299 would be read as class 43."""
    store = open_store(str(tmp_path), RESULTS_VERSION, create=True)
    assert store is not None
    record = make_wide(NUM_CLASSES, 1500)
    predictions_N = np.arange(3000, dtype=np.uint16).astype(np.uint8)
    artifact = store.write_artifact(record.key, "predictions", ".npy", npy(predictions_N))
    values = json.loads(record.to_json()) | {"artifacts": {"predictions": vars(artifact)}}
    kept = Record.from_json(forge(values))
    with pytest.raises(StoreError, match="it must be uint16"):
        store.read_array(kept, "predictions")
