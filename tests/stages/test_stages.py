"""Stages on the toy data: true records, same bits whatever the order, company or interruption, refusals."""

import dataclasses
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from sklearn.metrics import accuracy_score

from lt_rebalance.data.files import load_dataset
from lt_rebalance.generation.images import sample_images
from lt_rebalance.ground.errors import NotApplicableError
from lt_rebalance.ground.seeding import numpy_stream, torch_stream
from lt_rebalance.methods.interpolation import resample
from lt_rebalance.methods.registry import MethodConfig
from lt_rebalance.networks.generators.registry import build_generator
from lt_rebalance.stages.inputs import InputReader
from lt_rebalance.stages.kinds import open_run, run_stage
from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.records import Failure
from lt_rebalance.studies.protocols import PROTOCOLS
from lt_rebalance.training.configs import Budget
from lt_rebalance.training.device import torch_version
from tests.stages.toy import (
    CPU,
    EXECUTION,
    GENERATOR,
    MAKE,
    SHORT,
    TOY_COUNTS,
    TOY_TRAIN,
    finish,
    list_files,
    load,
    make_generator_stage,
    make_stage,
    make_store,
)

pytestmark = pytest.mark.usefixtures("one_thread")


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
