"""Checks of whole stages: true records, same bits whatever the order, company or interruption, refusals.

The embedded mini Fashion-MNIST goes end to end once; a toy data set of four classes serves the rest.
"""

import dataclasses
import hashlib
import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.metrics import confusion_matrix as sk_confusion_matrix

from lt_rebalance.data.catalog import DATASETS
from lt_rebalance.data.files import load_dataset
from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.generation.images import sample_images
from lt_rebalance.ground.errors import NotApplicableError
from lt_rebalance.ground.seeding import numpy_stream, torch_stream
from lt_rebalance.images.load import load_at_hand
from lt_rebalance.methods.interpolation import resample
from lt_rebalance.methods.registry import MethodConfig
from lt_rebalance.networks.generators.registry import build_generator
from lt_rebalance.stages.base import StageRun
from lt_rebalance.stages.inputs import InputReader
from lt_rebalance.stages.kinds import open_run, run_stage
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.store.records import Failure, Record
from lt_rebalance.studies.protocols import PROTOCOLS, Protocol, make_cell
from lt_rebalance.studies.stage import AnyStage, ClassifierStage, GeneratorStage, stage_from_dict
from lt_rebalance.training.configs import Budget, Execution
from lt_rebalance.training.device import torch_version
from tests.tiny import TINY

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
# From 600 images per class at C = 1/2, rounded up.
MINI_COUNTS = (200, 134, 89, 60, 40, 27, 18, 12, 8, 6)
"""200 times the powers of 2/3, rounded up"""


pytestmark = pytest.mark.usefixtures("one_thread")


def make_toy_images(images_per_class: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return bytes that are bright in the quarter that their label names, and the labels."""
    labels_N = rng.permutation(np.repeat(np.arange(4), images_per_class))
    images_NHW = rng.integers(0, 120, size=(len(labels_N), 8, 8))
    for image_HW, label in zip(images_NHW, labels_N, strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image_HW[row : row + 4, column : column + 4] += 100
    return images_NHW.astype(np.uint8), labels_N.astype(np.uint8)


@pytest.fixture(scope="session")
def toy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory with the toy data set as IDX files."""
    rng = np.random.default_rng(0)
    raw_dir = tmp_path_factory.mktemp("toy") / "Toy" / "raw"
    raw_dir.mkdir(parents=True)
    for split, images_per_class in [("train", TOY_TRAIN), ("t10k", TOY_TEST)]:
        images_NHW, labels_N = make_toy_images(images_per_class, rng)
        for name, array in [
            (f"{split}-images-idx3-ubyte", images_NHW),
            (f"{split}-labels-idx1-ubyte", labels_N),
        ]:
            header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (raw_dir / name).write_bytes(header + array.tobytes())
    return raw_dir.parents[1]


@pytest.fixture
def data_dir(toy_dir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Register the toy data set and return its data directory."""
    names = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"]
    files = [toy_dir / "Toy" / "raw" / f"{name}-ubyte" for name in names]
    spec = DatasetSpec(
        name="toy",
        num_classes=4,
        image_shape=(1, 8, 8),
        class_names=("a", "b", "c", "d"),
        train_counts_K=(TOY_TRAIN,) * 4,
        test_counts_K=(TOY_TEST,) * 4,
        licence="none",
        torchvision_name="Toy",
        sha256_by_file={file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
    )
    monkeypatch.setitem(DATASETS, "toy", spec)
    return str(toy_dir)


def make_store(root: Path) -> Store:
    store = open_store(str(root), 1, create=True)
    assert store is not None
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a new store."""
    return make_store(tmp_path / "store")


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


# The mini set, end to end


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


# Inputs


@pytest.mark.parametrize(
    ("method", "counts"),
    [("none", TOY_COUNTS), ("undersample", (4,) * 4), ("oversample", (32,) * 4)],
)
@pytest.mark.parametrize("protocol", ["paper", "sound"])
def test_training_set_holds_the_planned_images_of_the_data_set(
    method: str, counts: tuple[int, ...], protocol: str, store: Store, data_dir: str
) -> None:
    stage = make_stage(method, protocol=PROTOCOLS[protocol])
    inputs = InputReader("toy", data_dir, store, CPU).read(stage)
    images_NCHW, labels_N = inputs.training_set.batch(torch.arange(len(inputs.training_set)))
    assert torch.bincount(labels_N).tolist() == list(counts)
    dataset = load_dataset("toy", data_dir)
    for label, (indices, positions) in enumerate(
        zip(inputs.subset.indices_by_class, inputs.plan.positions_by_class, strict=True)
    ):
        assert set(dataset.train_labels_N[indices]) == {label}
        expected = dataset.train_images_NCHW[indices[positions]] / np.float64(127.5) - 1
        np.testing.assert_allclose(images_NCHW[labels_N == label], expected, atol=1e-6)
    assert images_NCHW.abs().max() <= 1


def test_lanes_share_one_pool_of_bytes_and_hold_their_synthetic_images_alone(
    store: Store, data_dir: str
) -> None:
    stages = [make_stage("cgan", seed, validation_per_class=2) for seed in (0, 1)]
    for stage in stages:
        assert stage.generator_stage is not None
        run_stage(stage.generator_stage, store, data_dir)
    reader = InputReader("toy", data_dir, store, CPU)
    first, second = (reader.read(stage) for stage in stages)
    pools = [
        images.images_PCHW
        for inputs in (first, second)
        for images in (inputs.training_set, inputs.validation_set)
        if images is not None
    ]
    assert len(pools) == 4 and len({pool.data_ptr() for pool in pools}) == 1
    assert {pool.dtype for pool in pools} == {torch.uint8}
    assert len(pools[0]) == 4 * TOY_TRAIN
    for inputs in (first, second):
        synthetic_SCHW = inputs.training_set.synthetic_SCHW
        assert synthetic_SCHW is not None and synthetic_SCHW.dtype == torch.float32
        assert len(synthetic_SCHW) == sum(inputs.plan.num_synthetic_K)
        assert len(inputs.training_set) == sum(inputs.plan.counts_K)
    plain = reader.read(make_stage("none")).training_set
    assert plain.synthetic_SCHW is None
    generator_set = reader.read(make_generator_stage()).training_set
    assert plain.labels_P.data_ptr() == generator_set.labels_P.data_ptr()


def test_validation_set_holds_the_images_set_aside_in_order(store: Store, data_dir: str) -> None:
    inputs = InputReader("toy", data_dir, store, CPU).read(make_stage("none", validation_per_class=2))
    validation_set, indices = inputs.validation_set, inputs.subset.validation_indices
    assert validation_set is not None and len(indices) > 1
    dataset = load_dataset("toy", data_dir)
    expected = torch.from_numpy(dataset.train_images_NCHW[indices]).float().div_(127.5).sub_(1)
    assert torch.equal(torch.cat(list(validation_set.split([1, len(indices) - 1]))), expected)
    assert validation_set.labels_N.tolist() == dataset.train_labels_N[indices].tolist()


def test_test_set_holds_every_test_image_in_order(store: Store, data_dir: str) -> None:
    dataset, test_set = load_dataset("toy", data_dir), InputReader("toy", data_dir, store, CPU).test_set
    assert test_set.labels_N.tolist() == dataset.test_labels_N.tolist()
    expected = dataset.test_images_NCHW / np.float64(127.5) - 1
    (images_NCHW,) = test_set.split([len(expected)])
    np.testing.assert_allclose(images_NCHW, expected, atol=1e-6)


def test_longer_generator_changes_neither_subset_nor_initial_weights_nor_batches(
    store: Store, data_dir: str
) -> None:
    stages = [make_stage("cgan", generator_budget=Budget(epochs=epochs)) for epochs in (1, 2)]
    runs = []
    for stage in stages:
        assert stage.generator_stage is not None
        run_stage(stage.generator_stage, store, data_dir)
        runs.append(open_run([stage], store, data_dir))
    assert stages[0].generator_stage.key != stages[1].generator_stage.key
    assert stages[0].key != stages[1].key
    lanes = [run.lanes[0] for run in runs]
    states = [lane.network.state_dict() for lane in lanes]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert all(torch.equal(lanes[0].batches[step], lanes[1].batches[step]) for step in range(40))
    images, other_images = (lane.training_set.batch(torch.arange(4 * 32))[0] for lane in lanes)
    num_real = sum(TOY_COUNTS)
    assert torch.equal(images[:num_real], other_images[:num_real])
    assert not torch.equal(images[num_real:], other_images[num_real:])
    assert torch.equal(lanes[0].training_set.labels_P, lanes[1].training_set.labels_P)


def test_synthetic_images_are_drawn_from_the_sampling_stream_of_the_seed(store: Store, data_dir: str) -> None:
    stage = make_stage("cgan", seed=1)
    assert stage.generator_stage is not None
    record = run_stage(stage.generator_stage, store, data_dir)
    training_set = InputReader("toy", data_dir, store, CPU).read(stage).training_set
    generator = build_generator(GENERATOR, 4, (1, 8, 8))
    generator.load_state_dict(safetensors.torch.load(store.read_artifact(record, "weights")))
    labels_N = torch.tensor([1] * 16 + [2] * 24 + [3] * 28)
    images_NCHW = sample_images(generator, labels_N, torch_stream(1, "sampling_noise"))
    assert training_set.synthetic_SCHW is not None
    assert torch.equal(training_set.synthetic_SCHW, images_NCHW)
    num_real = sum(TOY_COUNTS)
    items_BCHW, items_labels_B = training_set.batch(torch.arange(num_real, 4 * 32))
    assert torch.equal(items_BCHW, images_NCHW)
    assert items_labels_B.tolist() == labels_N.tolist()


def test_images_that_a_method_makes_itself_follow_the_real_ones_and_are_kept_as_counts(
    store: Store, data_dir: str
) -> None:
    stage = make_stage("smote:k_neighbors=3", seed=1)
    inputs = InputReader("toy", data_dir, store, CPU).read(stage)
    images_NCHW = load_dataset("toy", data_dir).train_images_NCHW / np.float32(127.5) - 1
    real = [images_NCHW[indices] for indices in inputs.subset.indices_by_class]
    rng = numpy_stream(1, "smote/synthesis")
    made_SCHW = resample("imblearn.over_sampling.SMOTE", {"k_neighbors": 3}, real, (0, 16, 24, 28), rng)
    assert inputs.training_set.synthetic_SCHW is not None
    np.testing.assert_allclose(inputs.training_set.synthetic_SCHW.numpy(), made_SCHW, atol=1e-6)
    assert inputs.training_set.labels_P[-68:].tolist() == [1] * 16 + [2] * 24 + [3] * 28
    record = run_stage(stage, store, data_dir)
    assert record.synthetic_counts == (0, 16, 24, 28) and record.training_counts == (32,) * 4


def test_filling_nothing_is_no_method_bit_for_bit(store: Store, data_dir: str) -> None:
    stage = make_stage("smote", seed=1)
    method = dataclasses.replace(stage.method, fill_fraction=0.0)
    nothing = run_stage(dataclasses.replace(stage, method=method), store, data_dir)
    none = run_stage(make_stage("none", seed=1), store, data_dir)
    assert nothing.curves == none.curves and nothing.confusion == none.confusion


def test_method_that_is_not_applicable_is_refused_with_its_reason(store: Store, data_dir: str) -> None:
    with pytest.raises(NotApplicableError, match=r"SMOTE is not applicable to classes of 4 to 32 images"):
        run_stage(make_stage("smote"), store, data_dir)


def test_classifiers_of_two_methods_start_from_the_same_weights_and_test_images(
    store: Store, data_dir: str
) -> None:
    states = [
        open_run([make_stage(method)], store, data_dir).lanes[0].network.state_dict()
        for method in ("none", "undersample")
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


# Same bits, whatever happens


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("stops", [{1}, {2}, {1, 2}], ids=str)
def test_stage_interrupted_between_rounds_gives_the_same_record(
    kind: str, stops: set[int], tmp_path: Path, data_dir: str
) -> None:
    stage = MAKE[kind]()
    undisturbed = run_stage(stage, make_store(tmp_path / "undisturbed"), data_dir)
    run = open_run([stage], make_store(tmp_path / "disturbed"), data_dir)
    for num_rounds in (1, 2, 3):
        run.run_round()
        if num_rounds in stops:
            run = open_run([stage], make_store(tmp_path / "disturbed"), data_dir)
            assert run.lanes[0].round == num_rounds
    assert run.is_finished
    record = load(make_store(tmp_path / "disturbed"), stage)
    assert record.deterministic() == undisturbed.deterministic()


@pytest.mark.parametrize("kind", MAKE)
def test_stage_resumed_from_the_checkpoint_before_a_damaged_one_gives_the_same_record(
    kind: str, tmp_path: Path, data_dir: str
) -> None:
    stage = MAKE[kind]()
    undisturbed = run_stage(stage, make_store(tmp_path / "undisturbed"), data_dir)
    store = make_store(tmp_path / "disturbed")
    run = open_run([stage], store, data_dir)
    run.run_round()
    run.run_round()
    newest = sorted((tmp_path / "disturbed" / "stages" / stage.key / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    run = open_run([stage], store, data_dir)
    assert run.lanes[0].round == 1
    finish(run)
    assert load(store, stage).deterministic() == undisturbed.deterministic()


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("seeds", [(0, 1), (1, 0)], ids=str)
def test_stages_as_lanes_give_the_records_of_each_alone(
    kind: str, seeds: tuple[int, int], tmp_path: Path, data_dir: str
) -> None:
    stages = [
        MAKE[kind](seed, protocol=SHORT) if kind == "generator" else make_stage(seed=seed) for seed in seeds
    ]
    together = make_store(tmp_path / "together")
    finish(open_run(stages, together, data_dir))
    for stage in stages:
        alone = run_stage(stage, make_store(tmp_path / f"alone {stage.seed}"), data_dir)
        record = load(together, stage)
        assert record.deterministic() == alone.deterministic()
        assert record.provenance["lanes"] == 2


@pytest.mark.parametrize("kind", MAKE)
def test_stage_resumed_in_other_company_gives_the_same_record(
    kind: str, tmp_path: Path, data_dir: str
) -> None:
    stages = [dataclasses.replace(MAKE[kind](), seed=seed) for seed in (0, 1)]
    store = make_store(tmp_path / "mixed")
    open_run([stages[1]], store, data_dir).run_round()
    run = open_run(stages, store, data_dir)
    assert [lane.round for lane in run.lanes] == [0, 1]
    finish(run)
    for stage in stages:
        alone = run_stage(stage, make_store(tmp_path / f"alone {stage.seed}"), data_dir)
        assert load(store, stage).deterministic() == alone.deterministic()


def test_stages_in_another_order_give_the_same_records(tmp_path: Path, data_dir: str) -> None:
    stages = [make_stage(method, seed) for method in ("none", "undersample") for seed in (0, 1)]
    records = []
    for name, order in [("forward", stages), ("backward", stages[::-1])]:
        store = make_store(tmp_path / name)
        for stage in order:
            run_stage(stage, store, data_dir)
        records.append([load(store, stage).deterministic() for stage in stages])
    assert records[0] == records[1]
    keys = [record["key"] for record in records[0]]
    assert len(set(keys)) == 4


def test_seeds_and_methods_give_different_predictions(store: Store, data_dir: str) -> None:
    stages = [make_stage("none", 0), make_stage("none", 1), make_stage("undersample", 0)]
    digests = {run_stage(stage, store, data_dir).artifacts["predictions"].sha256 for stage in stages}
    losses = {load(store, stage).metrics["loss"] for stage in stages}
    assert len(digests) > 1
    assert len(losses) == 3


def test_stage_sets_the_threads_it_names_whatever_the_process_had(tmp_path: Path, data_dir: str) -> None:
    stage = make_stage()
    records = []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        records.append(run_stage(stage, make_store(tmp_path / str(num_threads)), data_dir).deterministic())
        assert torch.get_num_threads() == 1
    assert records[0] == records[1]


def test_run_keeps_a_checkpoint_of_each_lane_until_it_is_committed(store: Store, data_dir: str) -> None:
    stages = [make_stage(seed=seed) for seed in (0, 1)]
    run = open_run(stages, store, data_dir)
    for num_rounds in (1, 2):
        run.run_round()
        checkpoints = [store.load_checkpoint(stage.key) for stage in stages]
        assert [checkpoint and checkpoint.round for checkpoint in checkpoints] == [num_rounds] * 2
        assert [store.load_record(stage.key) for stage in stages] == [None, None]
    run.run_round()
    assert None not in [store.load_record(stage.key) for stage in stages]
    assert [store.load_checkpoint(stage.key) for stage in stages] == [None, None]


# Other records


def test_record_of_the_original_set_has_every_image_and_no_groups(store: Store, data_dir: str) -> None:
    record = run_stage(make_stage(c=None), store, data_dir)
    assert record.class_counts == record.training_counts == (TOY_TRAIN,) * 4
    assert record.rank_groups == {}
    assert record.quality_per_class == {}


def test_record_ranks_classes_by_their_real_images(store: Store, data_dir: str) -> None:
    record = run_stage(make_stage("oversample", seed=1, class_order="permuted"), store, data_dir)
    by_rank = sorted(range(4), key=lambda label: -record.class_counts[label])
    assert sorted(record.class_counts, reverse=True) == list(TOY_COUNTS)
    assert by_rank != [0, 1, 2, 3]  # or ranks of anything else would do as well
    assert record.rank_groups == {"head": by_rank[:1], "medium": by_rank[1:3], "tail": by_rank[3:]}


def test_record_selected_on_validation_reports_its_best_round(store: Store, data_dir: str) -> None:
    stage = make_stage(
        protocol=PROTOCOLS["sound"],
        selection="best_validation",
        validation_per_class=4,
        classifier_budget=Budget(steps=16, rounds=8),
        classifier_batch_size=8,
        classifier_learning_rate=5e-3,
    )
    record = run_stage(stage, store, data_dir)
    assert record.class_counts == (28, 14, 7, 4)
    scores = [row["validation_macro_f1"] for row in record.curves]
    best = record.curves[scores.index(max(scores))]
    assert best["step"] != record.curves[-1]["step"]  # or the last round would do as well
    assert record.metrics == {name: best[f"test_{name}"] for name in record.metrics}
    recall_K = [row[label] / sum(row) for label, row in enumerate(record.confusion)]
    assert recall_K == pytest.approx(best["test_recall_K"])
    predictions_N = np.load(io.BytesIO(store.read_artifact(record, "predictions")), allow_pickle=False)
    labels_N = load_dataset("toy", data_dir).test_labels_N
    assert record.metrics["accuracy"] == pytest.approx(accuracy_score(labels_N, predictions_N))


@pytest.mark.parametrize("selection", ["last", "best_validation"])
def test_validation_stage_trains_as_its_classifier_does_and_touches_no_test_image(
    selection: str, store: Store, data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage(
        protocol=PROTOCOLS["sound"],
        selection=selection,
        validation_per_class=4,
        classifier_budget=Budget(steps=16, rounds=4),
        classifier_batch_size=8,
    )
    tested = run_stage(stage, store, data_dir)
    monkeypatch.setattr(InputReader, "test_set", lambda self: pytest.fail("test images were asked for"))
    validation = stage.on_validation()
    assert validation.key != stage.key
    record = run_stage(validation, store, data_dir)
    assert record.kind == "validation"
    assert record.artifacts == {}
    for row, tested_row in zip(record.curves, tested.curves, strict=True):
        assert row == {name: value for name, value in tested_row.items() if not name.startswith("test_")}
    scores = [row["validation_macro_f1"] for row in record.curves]
    reported = scores.index(max(scores)) if selection == "best_validation" else len(scores) - 1
    row = record.curves[reported]
    assert record.metrics == {name: row[f"validation_{name}"] for name in tested.metrics}
    recall_K = [row_K[label] / sum(row_K) for label, row_K in enumerate(record.confusion)]
    assert recall_K == pytest.approx(row["validation_recall_K"])
    assert [sum(row_K) for row_K in record.confusion] == [4] * 4


def test_record_counts_the_errors_before_it(store: Store, data_dir: str) -> None:
    stage = make_stage()
    for _ in range(2):
        store.note_error(
            Failure(
                key=stage.key,
                kind=stage.kind,
                stage=stage.to_dict(),
                error="e",
                traceback="",
                provenance={},
            )
        )
    assert run_stage(stage, store, data_dir).timing.num_errors == 2


@pytest.mark.parametrize("kind", MAKE)
def test_stage_that_diverges_is_recorded_as_such_and_not_run_again(
    kind: str, store: Store, data_dir: str
) -> None:
    stage = MAKE[kind](classifier_learning_rate=1e30, generator_learning_rate=1e30)
    record = run_stage(stage, store, data_dir)
    assert record.state == "diverged"
    assert (record.metrics, record.artifacts, record.confusion) == ({}, {}, ())
    assert len(record.curves) < 3
    assert record.class_counts == TOY_COUNTS
    before = list_files(Path(store.location))
    assert run_stage(stage, store, data_dir) == record
    assert list_files(Path(store.location)) == before


def test_generator_whose_last_update_spoils_its_weights_is_recorded_as_diverged(
    store: Store, data_dir: str
) -> None:
    stage = make_generator_stage()
    run = open_run([stage], store, data_dir)
    for _ in range(2):
        run.run_round()
    # So that only the update after the last loss of the last step goes astray.
    lane = run.lanes[0]
    lane.round_ends = [*lane.round_ends[:2], lane.step + 1]
    lane.generator_optimizer.param_groups[0]["lr"] = 1e30
    run.run_round()
    assert load(store, stage).state == "diverged"


# Refusals


def test_classifier_whose_generator_is_missing_is_refused(store: Store, data_dir: str) -> None:
    stage = make_stage("cgan")
    assert stage.generator_stage is not None
    with pytest.raises(StoreError, match=f"generator stage {stage.generator_stage.key} is missing"):
        run_stage(stage, store, data_dir)
    assert store.list_keys() == []


def test_classifier_whose_generator_has_diverged_is_refused(store: Store, data_dir: str) -> None:
    stage = make_stage("cgan", generator_learning_rate=1e30)
    assert stage.generator_stage is not None
    run_stage(stage.generator_stage, store, data_dir)
    with pytest.raises(StoreError, match=f"generator stage {stage.generator_stage.key} is diverged"):
        run_stage(stage, store, data_dir)


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_classifier_whose_generator_has_lost_its_weights_is_refused_until_it_is_made_again(
    damage: str, store: Store, data_dir: str
) -> None:
    stage = make_stage("cgan")
    assert stage.generator_stage is not None
    first = run_stage(stage.generator_stage, store, data_dir)
    path = Path(store.location) / "stages" / first.key / first.artifacts["weights"].file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(StoreError, match=f"generator stage {first.key}|{path.name}"):
        run_stage(stage, store, data_dir)
    again = run_stage(stage.generator_stage, store, data_dir)
    assert again.deterministic() == first.deterministic()
    assert run_stage(stage, store, data_dir).state == "complete"


@pytest.mark.parametrize("kind", MAKE)
def test_stage_planned_for_another_torch_is_refused(kind: str, store: Store, data_dir: str) -> None:
    execution = dataclasses.replace(EXECUTION, torch_version="1.0.0")
    with pytest.raises(ValueError, match=f"torch 1.0.0, this worker has {torch_version()}"):
        run_stage(MAKE[kind](execution=execution), store, data_dir)
    assert store.list_keys() == []


@pytest.mark.parametrize(
    "change", [{"classifier_learning_rate": 1e-3}, {"c": "1/3"}, {"method": "undersample"}]
)
def test_open_run_of_stages_that_differ_in_more_than_the_seed_is_refused(
    change: dict[str, Any], store: Store, data_dir: str
) -> None:
    stages = [make_stage(seed=0), make_stage(seed=1, **change)]
    with pytest.raises(ValueError, match="must differ in nothing but the seed"):
        open_run(stages, store, data_dir)


def test_open_run_of_stages_of_two_kinds_is_refused(store: Store, data_dir: str) -> None:
    with pytest.raises(ValueError, match="must differ in nothing but the seed"):
        open_run([make_stage(), make_generator_stage()], store, data_dir)


def test_generator_that_learns_from_the_raw_set_sees_the_raw_counts(store: Store, data_dir: str) -> None:
    stage = make_generator_stage(generator_training_method="none")
    assert stage.training_method == MethodConfig(name="none", draw=None)
    assert run_stage(stage, store, data_dir).training_counts == TOY_COUNTS


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.marker,)


def test_classifier_on_pickled_weights_fails_without_executing_them(
    store: Store, data_dir: str, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    trap = pickle.dumps(Trap(marker))
    pickle.loads(trap)
    assert marker.exists()  # the trap works
    marker.unlink()
    stage = make_stage("cgan")
    assert stage.generator_stage is not None
    honest = run_stage(stage.generator_stage, make_store(tmp_path / "honest"), data_dir)
    artifact = store.write_artifact(honest.key, "weights", ".safetensors", trap)
    store.commit(dataclasses.replace(honest, artifacts={"weights": artifact}))
    with pytest.raises(StoreError, match="holds no weights"):
        run_stage(stage, store, data_dir)
    assert not marker.exists()
