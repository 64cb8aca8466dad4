"""The embedded mini Fashion-MNIST, end to end once: a generator, and the classifier on its images."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.metrics import confusion_matrix as sk_confusion_matrix

from lt_rebalance.generation.images import sample_images
from lt_rebalance.ground.seeding import torch_stream
from lt_rebalance.images.load import load_at_hand
from lt_rebalance.networks.generators.registry import build_generator
from lt_rebalance.stages.inputs import InputReader
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import Store
from lt_rebalance.store.records import Record
from lt_rebalance.studies.stage import ClassifierStage, GeneratorStage, stage_from_dict
from lt_rebalance.training.configs import Budget
from lt_rebalance.training.device import torch_version
from tests.stages.toy import (
    CPU,
    GENERATOR,
    list_files,
    make_stage,
    make_store,
)
from tests.tiny import TINY

MINI_COUNTS = (200, 134, 89, 60, 40, 27, 18, 12, 8, 6)
"""200 times the powers of 2/3, rounded up"""


pytestmark = pytest.mark.usefixtures("one_thread")


@dataclasses.dataclass(frozen=True)
class EndToEnd:
    """A generator and its classifier on the mini set, run in a store."""

    root: Path
    store: Store
    stages: tuple[GeneratorStage, ClassifierStage]
    records: tuple[Record, Record]
    has_used_global_generators: bool


def run_end_to_end(root: Path) -> EndToEnd:
    store = make_store(root)
    stage = make_stage(
        "cgan",
        dataset=TINY,
        c="2/3",
        classifier_budget=Budget(steps=4, rounds=2),
        generator_budget=Budget(steps=4, rounds=2),
    )
    assert stage.generator_stage is not None
    before = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    records = run_stage(stage.generator_stage, store), run_stage(stage, store)
    after = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    is_same = torch.equal(before[0], after[0]) and before[1] == after[1]
    return EndToEnd(root, store, (stage.generator_stage, stage), records, not is_same)


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> EndToEnd:
    """Return the stages on the mini set, run once for this module."""
    return run_end_to_end(tmp_path_factory.mktemp("mini") / "store")


def test_records_of_the_mini_set_name_their_stages_and_are_complete(mini: EndToEnd) -> None:
    for stage, record in zip(mini.stages, mini.records, strict=True):
        assert (record.key, record.kind, record.state) == (stage.key, stage.kind, "complete")
        assert stage_from_dict(record.stage) == stage
        assert mini.store.load_record(stage.key) == record
    assert mini.store.list_keys() == sorted(stage.key for stage in mini.stages)


def test_records_of_the_mini_set_hold_the_counts_by_hand(mini: EndToEnd) -> None:
    generator, classifier = mini.records
    groups = {"head": [0, 1, 2], "medium": [3, 4, 5, 6], "tail": [7, 8, 9]}
    for record in mini.records:
        assert record.class_counts == MINI_COUNTS
        assert record.training_counts == (200,) * 10
        assert record.rank_groups == groups
        assert record.num_steps == 4
    assert generator.synthetic_counts == (0,) * 10  # it learns from copies
    assert classifier.synthetic_counts == (0, 66, 111, 140, 160, 173, 182, 188, 192, 194)


def test_records_of_the_mini_set_have_a_row_a_round(mini: EndToEnd) -> None:
    for record in mini.records:
        assert [row["step"] for row in record.curves] == [2, 4]
    assert {"discriminator_loss", "generator_loss"} <= set(mini.records[0].curves[0])
    assert {"train_loss", "test_loss", "test_macro_f1"} <= set(mini.records[1].curves[0])


def test_predictions_of_the_mini_set_give_the_metrics_again(mini: EndToEnd) -> None:
    record = mini.records[1]
    content = mini.store.read_artifact(record, "predictions")
    predictions_N = np.load(io.BytesIO(content), allow_pickle=False)
    labels_N = load_at_hand(TINY).test_labels_N
    assert (predictions_N.shape, predictions_N.dtype) == ((100,), np.uint8)
    macro_f1 = f1_score(labels_N, predictions_N, average="macro", zero_division=0)
    recall_K = recall_score(labels_N, predictions_N, average=None, zero_division=0)
    assert record.metrics["accuracy"] == pytest.approx(accuracy_score(labels_N, predictions_N))
    assert record.metrics["macro_f1"] == pytest.approx(macro_f1)
    assert record.metrics["num_dead_classes"] == (recall_K == 0).sum()
    confusion_KK = sk_confusion_matrix(labels_N, predictions_N, labels=range(10))
    assert record.confusion == tuple(confusion_KK.tolist())
    last = record.curves[-1]
    assert record.metrics == {name: last[f"test_{name}"] for name in record.metrics}
    assert 1.46 < record.metrics["loss"] < 2.47  # a double softmax of ten classes


def test_precision_recall_counts_of_the_mini_set_begin_with_every_test_image(mini: EndToEnd) -> None:
    content = mini.store.read_artifact(mini.records[1], "precision_recall")
    counts_K2T = np.load(io.BytesIO(content), allow_pickle=False)
    assert (counts_K2T.shape, counts_K2T.dtype) == ((10, 2, 51), np.uint32)
    assert counts_K2T[:, :, 0].tolist() == [[10, 90]] * 10
    assert (np.diff(counts_K2T.astype(int), axis=2) <= 0).all() and counts_K2T[:, 0, 1].sum() > 0


def test_weights_of_the_mini_set_draw_with_the_diversity_recorded(mini: EndToEnd) -> None:
    record = mini.records[0]
    generator = build_generator(GENERATOR, 10, (1, 28, 28))
    generator.load_state_dict(safetensors.torch.load(mini.store.read_artifact(record, "weights")))
    dataset = load_at_hand(TINY)
    subset = InputReader(TINY, None, mini.store, CPU).read(mini.stages[0]).subset
    stream = torch_stream(0, "diversity_noise")
    diversity_K = record.quality_per_class["diversity"]
    assert len(diversity_K) == 10
    for label, diversity in enumerate(diversity_K):
        fake = sample_images(generator, torch.full((200,), label), stream).double()
        real = torch.from_numpy(dataset.train_images_NCHW[subset.indices_by_class[label]]) / 127.5 - 1
        assert diversity == pytest.approx(float(fake.std(0).mean() / real.double().std(0).mean()), rel=1e-4)
    assert record.metrics["num_collapsed_classes"] == sum(diversity < 0.1 for diversity in diversity_K)


def test_records_of_the_mini_set_both_hold_the_quality_of_the_generator(mini: EndToEnd) -> None:
    generator, classifier = mini.records
    quality = generator.quality_per_class
    assert set(quality) == {"diversity", "distinct_nearest", "nearest_distance_ratio"}
    for count, num_nearest in zip(MINI_COUNTS, quality["distinct_nearest"], strict=True):
        assert num_nearest is not None
        assert 1 <= num_nearest <= min(200, count)
    assert all(ratio is not None and ratio > 0 for ratio in quality["nearest_distance_ratio"])
    assert classifier.quality_per_class == quality


def test_samples_of_the_mini_set_end_with_the_first_real_images(mini: EndToEnd) -> None:
    record = mini.records[0]
    assert set(record.artifacts) == {"weights", "samples"}
    content = mini.store.read_artifact(record, "samples")
    grid_3KSCHW = np.load(io.BytesIO(content), allow_pickle=False)
    assert (grid_3KSCHW.shape, grid_3KSCHW.dtype) == ((3, 10, 10, 1, 28, 28), np.uint8)
    images_NCHW = load_at_hand(TINY).train_images_NCHW
    subset = InputReader(TINY, None, mini.store, CPU).read(mini.stages[0]).subset
    for label, indices in enumerate(subset.indices_by_class):
        assert np.array_equal(grid_3KSCHW[2, label], images_NCHW[np.resize(indices, 10)])
        real = {image.tobytes() for image in images_NCHW[indices]}
        assert {image.tobytes() for image in grid_3KSCHW[1, label]} <= real


def test_stages_of_the_mini_set_in_another_store_give_the_same_records(
    mini: EndToEnd, tmp_path: Path
) -> None:
    again = run_end_to_end(tmp_path / "other store")
    for record, other in zip(mini.records, again.records, strict=True):
        assert record.deterministic() == other.deterministic()
        assert record.artifacts == other.artifacts


def test_stages_leave_global_generators_untouched(mini: EndToEnd) -> None:
    assert not mini.has_used_global_generators


def test_run_stage_of_a_finished_stage_trains_nothing(mini: EndToEnd) -> None:
    before = list_files(mini.root)
    for stage, record in zip(mini.stages, mini.records, strict=True):
        assert run_stage(stage, mini.store) == record
    assert list_files(mini.root) == before


def test_stages_leave_no_checkpoint_behind(mini: EndToEnd) -> None:
    assert not [path for path in list_files(mini.root) if "checkpoints" in path]
    for stage in mini.stages:
        assert mini.store.load_checkpoint(stage.key) is None


def test_record_says_where_and_how_long(mini: EndToEnd) -> None:
    for record in mini.records:
        assert 0 < record.timing.train_s < record.timing.wall_s
        assert record.timing.num_errors == 0
        assert record.provenance["versions"]["torch"].partition("+")[0] == torch_version()
        assert record.provenance["torch_build"] == torch.__version__
        assert record.provenance["lanes"] == 1
