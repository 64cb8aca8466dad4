"""A data set of more than 256 classes goes from its plan to the report."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest

from analysis.collect import Results, read_results
from analysis.figures import draw_figures
from analysis.tables import build_tables, compute_frames
from lt_rebalance.data import places
from lt_rebalance.data.catalog import DATASETS
from lt_rebalance.data.files import load_dataset
from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.ground.confusion import Confusion
from lt_rebalance.monitoring.concerns import MAX_NAMED, find_concerns
from lt_rebalance.monitoring.tensorboard.content import show_record, show_round
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import Store, open_store
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import torch_version
from tests.stages.toy import SHORT

pytestmark = pytest.mark.usefixtures("one_thread")
NUM_CLASSES = 300
TRAINED, TESTED = 4, 2  # images per class
EXECUTION = Execution(device="cpu", precision="float32", num_threads=1, torch_version=torch_version())


def make_spec(num_classes: int, content: bytes = b"") -> DatasetSpec:
    return DatasetSpec(
        name="wide",
        num_classes=num_classes,
        image_shape=(1, 8, 8),
        class_names=tuple(f"kind {label}" for label in range(num_classes)),
        train_counts_K=(TRAINED,) * num_classes,
        test_counts_K=(TESTED,) * num_classes,
        licence="none",
        sha256_by_file={"wide.npz": hashlib.sha256(content).hexdigest()},
    )


@pytest.fixture
def wide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set whose classes are patterns of eight bits."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, per_class in (("train", TRAINED), ("test", TESTED)):
        labels_N = np.repeat(np.arange(NUM_CLASSES), per_class)
        images_NHW = rng.integers(0, 60, size=(len(labels_N), 8, 8))
        images_NHW += 190 * ((labels_N[:, None] >> np.arange(8)) & 1)[:, :, None]
        arrays |= {f"{split}_images": images_NHW.astype(np.uint8), f"{split}_labels": labels_N}
    file = io.BytesIO()
    np.savez(file, **arrays)
    (tmp_path / "wide.npz").write_bytes(file.getvalue())
    monkeypatch.setattr(places, "EMBEDDED_DIR", tmp_path)
    monkeypatch.setitem(DATASETS, "wide", make_spec(NUM_CLASSES, file.getvalue()))


def plan_wide() -> Plan:
    cell = make_cell(SHORT, dataset="wide", c="1/2", method="none", generator=None)
    return compile_study(Study(name="wide", cells=(cell,), seeds=(0,)), EXECUTION)


@pytest.fixture
def store(wide: None, tmp_path: Path) -> Store:
    plan = plan_wide()
    store = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert store is not None
    store.write_study(describe_plan(plan))
    for run in plan.runs:
        run_stage(run.stage, store)
    return store


def test_300_classes_are_trained_kept_watched_and_reported(store: Store) -> None:
    results = read_results(store.location)
    check_record(store)
    check_events(store)
    check_report(results)


def check_record(store: Store) -> None:
    record = store.read_record(plan_wide().runs[0].key)
    assert record is not None and set(record.artifacts) == {"predictions"}
    assert "test_recall_K" not in record.curves[-1] and "test_macro_f1" in record.curves[-1]
    predictions_N = store.read_array(record, "predictions")
    assert predictions_N.dtype == np.uint16 and len(predictions_N) == NUM_CLASSES * TESTED
    labels_N = load_dataset("wide").test_labels_N
    confusion = Confusion.of_predictions(labels_N, predictions_N, NUM_CLASSES)
    assert record.confusion == confusion.to_rows()
    assert record.metrics["accuracy"] == (labels_N == predictions_N).mean()


def check_events(store: Store) -> None:
    """Nothing is shown a class, and of its dead classes only some are named."""
    record = store.read_record(plan_wide().runs[0].key)
    assert record is not None
    names = DATASETS["wide"].class_names
    tags = {value.tag for value in show_record(record, store, names)}
    tags |= {value.tag for value in show_round("classifier", record.curves[-1], names)}
    assert {"classifier/test_macro_f1", "result/last_accuracy"} <= tags
    assert len(tags) < 40
    (concern,) = find_concerns(record, names)
    num_dead = int(record.metrics["num_dead_classes"])
    assert concern.text.endswith(f" and {num_dead - MAX_NAMED} more") and num_dead > MAX_NAMED


def check_report(results: Results) -> None:
    frames = compute_frames(results)
    assert build_tables(results, frames)
    drawn = {each.name.partition("-")[0] for each in draw_figures(results, frames.contrasts, frames.methods)}
    assert {"f1", "f6", "f7"} <= drawn and "f8" not in drawn
    assert len(results.classes) == NUM_CLASSES


@pytest.mark.parametrize(("num_classes", "is_refused"), [(65_536, False), (65_537, True)])
def test_more_classes_than_16_bits_number_are_refused_when_planned(
    monkeypatch: pytest.MonkeyPatch, num_classes: int, is_refused: bool
) -> None:
    monkeypatch.setitem(DATASETS, "wide", make_spec(num_classes))
    cell = make_cell(get_protocol("sound"), dataset="wide", c=None, method="none", generator=None)
    study = Study(name="wide", cells=(cell,), seeds=(0,))
    if is_refused:
        with pytest.raises(ValueError, match=r"up to 65,536 classes, .* got 65,537 of wide; merge"):
            compile_study(study, EXECUTION)
    else:
        assert compile_study(study, EXECUTION).runs
