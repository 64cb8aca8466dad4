"""Events of one run: what is written, once and completely, whatever interrupts it."""

import dataclasses
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.plugins.custom_scalar import layout_pb2

from lt_rebalance.files.filesystem import LocalFilesystem
from lt_rebalance.monitoring.tensorboard.content import MAX_POINTS, MAX_PREVIEWS, is_previewed, is_shown
from lt_rebalance.monitoring.tensorboard.log import EventLog, list_event_files, parse_events
from lt_rebalance.monitoring.tensorboard.naming import EventRun, name_runs
from lt_rebalance.monitoring.tensorboard.overview import hparam_domains, write_overview
from lt_rebalance.monitoring.tensorboard.pictures import draw_confusion, draw_samples
from lt_rebalance.monitoring.tensorboard.protos import precision_recall, scalar
from lt_rebalance.monitoring.tensorboard.writer import RunEvents, fill_in, read_end
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.records import Record
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan
from sweeps import full_grid
from tests.analysis.synthetic import Truth, make_store, plan_nested, plan_study

NUM_ROUNDS = 8
PLAN = plan_study(cs=["1/2"], methods=["none", "cgan"], generators=["mlp_cgan_relu"], num_seeds=2)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of invented records, without events; tests write them to stores of their own."""
    return make_store(tmp_path_factory.mktemp("records"), PLAN, Truth(num_rounds=NUM_ROUNDS))


@pytest.fixture
def store(records: Store, tmp_path: Path) -> Store:
    """An empty store for events."""
    opened = open_store(str(tmp_path / "store"), 1, create=True)
    assert opened is not None
    return opened


@pytest.fixture(scope="module")
def record(records: Store) -> Record:
    """The record of the first classifier, which has no generator."""
    found = records.read_record(PLAN.runs[0].key)
    assert found is not None
    return dataclasses.replace(found, stage=with_rounds(found.stage, NUM_ROUNDS))


def with_rounds(stage: Any, num_rounds: int) -> dict[str, Any]:
    budget = {"epochs": None, "steps": 100 * num_rounds, "rounds": num_rounds}
    return {**stage, stage["kind"]: {**stage[stage["kind"]], "budget": budget}}


RUN = name_runs(describe_plan(PLAN))[PLAN.runs[0].key]
NESTED = (
    "seed-0",
    "seed-1000-of-subset-0-with-generator-0",
    "seed-0-with-generator-1000",
    "seed-1000-of-subset-0",
    "seed-1",
    "seed-1001-of-subset-1-with-generator-1",
    "seed-1-with-generator-1001",
    "seed-1001-of-subset-1",
)
"""names of the runs of nested_seeds(2, 2, 2)"""


def read_scalars(store: Store, run: EventRun) -> dict[str, list[tuple[int, float]]]:
    """Return steps and values by tag, in the order in which readers meet them."""
    found: dict[str, list[tuple[int, float]]] = {}
    for name in list_event_files(store.files, run.directory):
        for event in parse_events(store.files.read(f"{run.directory}/{name}")):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def rounded(values: Sequence[float]) -> list[float]:
    """Return what float32 keeps of numbers."""
    return np.float32(values).astype(float).tolist()


# Resuming


def test_run_interrupted_anywhere_has_every_step_once(record: Record, store: Store, tmp_path: Path) -> None:
    RunEvents(store, "classifier", RUN).finish(record)
    undisturbed = read_scalars(store, RUN)
    for checkpoint in (0, 2, 7):
        for written in (0, 3, 7):
            interrupted = open_store(str(tmp_path / f"{checkpoint}-{written}"), 1, create=True)
            assert interrupted is not None
            first = RunEvents(interrupted, "classifier", RUN)
            for index in range(1, written + 1):
                first.note_rounds(record.curves[:index], NUM_ROUNDS)
            # The next attempt begins at its checkpoint, before or behind what is written.
            second = RunEvents(interrupted, "classifier", RUN)
            for index in range(checkpoint, NUM_ROUNDS + 1):
                second.note_rounds(record.curves[:index], NUM_ROUNDS)
            second.finish(record)
            assert {
                tag: sorted(points) for tag, points in read_scalars(interrupted, RUN).items()
            } == undisturbed


def test_file_cut_off_in_the_middle_is_taken_up_by_the_next_attempt(record: Record, store: Store) -> None:
    first = RunEvents(store, "classifier", RUN)
    first.note_rounds(record.curves[:5], NUM_ROUNDS)
    (name,) = list_event_files(store.files, RUN.directory)
    content = store.files.read(f"{RUN.directory}/{name}")
    store.files.replace(f"{RUN.directory}/{name}", content[:-10])
    RunEvents(store, "classifier", RUN).finish(record)
    steps = [step for step, _ in read_scalars(store, RUN)["classifier/test_accuracy"]]
    assert steps == [row["step"] for row in record.curves]


def test_scalars_are_the_numbers_of_the_record(record: Record, store: Store) -> None:
    RunEvents(store, "classifier", RUN).finish(record)
    found = read_scalars(store, RUN)
    for name in ("train_loss", "test_loss", "test_accuracy", "test_macro_f1", "test_num_dead_classes"):
        steps, values = [row["step"] for row in record.curves], [row[name] for row in record.curves]
        expected = list(zip(steps, rounded(values), strict=True))
        assert found[f"classifier/{name}"] == expected
    recalls = [row["test_recall_K"][9] for row in record.curves]
    assert [value for _, value in found["recall/9 Ankle boot"]] == rounded(recalls)
    assert found["result/last_macro_f1"] == [(record.num_steps, rounded([record.metrics["macro_f1"]])[0])]
    assert "result/best_validation_macro_f1" not in found


def test_results_of_the_best_validation_round_are_its_test_metrics(record: Record, store: Store) -> None:
    scores = [0.1, 0.3, 0.7, 0.7, 0.6, 0.5, 0.4, 0.2]  # the first of two equals is the one
    curves = tuple(
        {**row, "validation_macro_f1": score} for row, score in zip(record.curves, scores, strict=True)
    )
    RunEvents(store, "classifier", RUN).finish(dataclasses.replace(record, curves=curves))
    found = read_scalars(store, RUN)
    assert found["result/best_validation_accuracy"][0][1] == rounded([curves[2]["test_accuracy"]])[0]
    assert found["result/last_accuracy"][0][1] == rounded([curves[-1]["test_accuracy"]])[0]


def test_diverged_run_shows_its_rounds_and_no_result(record: Record, store: Store) -> None:
    diverged = dataclasses.replace(
        record,
        **{"metrics": {}, "confusion": (), "artifacts": {}},
        **{"state": "diverged", "curves": record.curves[:3], "num_steps": 2400},
    )
    RunEvents(store, "classifier", RUN).finish(diverged)
    found = read_scalars(store, RUN)
    assert [step for step, _ in found["classifier/test_accuracy"]] == [600, 1200, 1800]
    assert not [tag for tag in found if tag.startswith(("result/", "confusion", "precision_recall/"))]
    assert read_end(store, RUN) == "diverged"


def test_run_that_failed_begins_anew_when_it_is_tried_again(record: Record, store: Store) -> None:
    first = RunEvents(store, "classifier", RUN)
    first.note_rounds(record.curves[:2], NUM_ROUNDS)
    first.fail()
    assert read_end(store, RUN) == "failed"
    RunEvents(store, "classifier", RUN).finish(record)
    assert read_end(store, RUN) == "complete"
    assert len(read_scalars(store, RUN)["_hparams_/session_end_info"]) == 1


# Filling in from records


def test_events_that_were_deleted_are_made_again_from_the_records(records: Store) -> None:
    study = describe_plan(PLAN)
    runs = name_runs(study)
    assert fill_in(records, study) == len(PLAN.stages) == 6
    assert fill_in(records, study) == 0
    run = runs[PLAN.runs[1].stage.generator_stage.key]  # type: ignore[union-attr]  # the second cell has one
    expected = read_scalars(records, run)
    assert {"samples", "diversity/0 T-shirt/top", "generator/generator_loss"} <= set(expected)
    for name in ["ended", *list_event_files(records.files, run.directory)]:
        records.files.remove(f"{run.directory}/{name}")
    assert fill_in(records, study) == 1
    assert read_scalars(records, run) == expected


# Thinning


@pytest.mark.parametrize("num_rounds", [1, 2, 7, 30, 50, 51, 96, 1000])
def test_thinned_rounds_are_few_evenly_spaced_and_end_with_the_last(num_rounds: int) -> None:
    shown = [index for index in range(1, num_rounds + 1) if is_shown(index, num_rounds)]
    assert shown[-1] == num_rounds and len(shown) <= MAX_POINTS + 1
    assert len(shown) >= min(num_rounds, MAX_POINTS / 2)
    previewed = [index for index in range(1, num_rounds + 1) if is_previewed(index, num_rounds)]
    assert len(previewed) <= MAX_PREVIEWS and num_rounds not in previewed
    assert previewed or num_rounds == 1
    assert not is_previewed(0, num_rounds)


# Names


def test_runs_are_named_by_cell_and_seed_and_grouped_by_cell() -> None:
    runs = name_runs(describe_plan(PLAN))
    assert [runs[run.key].directory for run in PLAN.runs] == [
        f"events/synthetic/fashion_mnist/sound/C=1-2/{method}/seed-{seed}"
        for seed in range(2)
        for method in ("none", "mlp_cgan_relu")
    ]
    assert {runs[run.key].group for run in PLAN.runs} == {
        "none, C=1/2, sound, fashion_mnist",
        "mlp_cgan_relu, C=1/2, sound, fashion_mnist",
    }
    generators = [run for run in runs.values() if not run.group]
    assert [run.directory.split("/C=1-2/")[1] for run in generators] == [
        "generator-mlp_cgan_relu/seed-0",
        "generator-mlp_cgan_relu/seed-1",
    ]
    assert EventRun.from_dict(RUN.to_dict()) == RUN


def test_runs_with_seeds_apart_are_named_by_all_that_differ() -> None:
    plan = plan_nested()
    runs = name_runs(describe_plan(plan))
    assert list(runs) == list(plan.stages)
    names = {run.directory.split("/C=1-2/")[1]: run.group for run in runs.values()}
    cell = {f"mlp_cgan_relu/{name}": "mlp_cgan_relu, C=1/2, sound, fashion_mnist" for name in NESTED}
    generators = {
        f"generator-mlp_cgan_relu/{name}": ""
        for name in ("seed-0", "seed-1000-of-subset-0", "seed-1", "seed-1001-of-subset-1")
    }
    assert names == cell | generators


@pytest.mark.parametrize(
    "plan",
    [
        plan_nested(protocols=("paper", "sound"), cs=["1/2", "7/9"]),
        compile_study(
            full_grid.build_study(full_grid.make_grid_parser().parse_args(["--preset", "full"])),
            PLAN.execution,
        ),
    ],
    ids=["nested seeds", "full grid"],
)
def test_no_two_runs_share_a_directory(plan: Plan) -> None:
    runs = name_runs(describe_plan(plan))
    assert set(runs) == set(plan.stages)
    assert len({run.directory for run in runs.values()}) == len(runs)


def test_every_run_with_seeds_apart_is_a_session_of_its_own(tmp_path: Path) -> None:
    plan = plan_nested()
    runs = name_runs(describe_plan(plan))
    store = make_store(tmp_path / "store", plan, Truth(num_rounds=NUM_ROUNDS))
    assert fill_in(store, describe_plan(plan)) == len(plan.stages) == 12
    for planned in plan.runs:
        accuracy = store.read_record(planned.key).curves[-1]["test_accuracy"]  # type: ignore[union-attr]  # it has one
        scalars = read_scalars(store, runs[planned.key])
        assert len(scalars["_hparams_/session_start_info"]) == 1
        ((_, shown),) = scalars["result/last_accuracy"]
        assert shown == pytest.approx(accuracy)


def test_hyperparameters_are_those_that_vary_or_lead() -> None:
    plan = plan_study(protocols=("sound", "paper"), cs=["1/2"], methods=["none", "oversample"], num_seeds=1)
    domains = hparam_domains(describe_plan(plan))
    assert list(domains)[:4] == ["data.dataset", "protocol", "data.c", "method.name"]
    assert domains["data.c"] == ["1/2"]
    assert domains["classifier.loss"] == ["cross_entropy", "double_softmax"]
    # In epochs under one protocol, in steps under the other: each is absent somewhere.
    assert domains["classifier.budget.epochs"] == [30] and domains["classifier.budget.steps"] == [18000]
    assert "classifier.learning_rate" not in domains and "generator.architecture" not in domains


def test_cells_without_a_generator_do_not_make_the_settings_of_generators_vary() -> None:
    domains = hparam_domains(describe_plan(PLAN))
    assert domains["generator.architecture"] == ["mlp_cgan_relu"] and domains["method.name"] == [
        "cgan",
        "none",
    ]
    assert not {name for name in domains if name.startswith("generator.")} - {"generator.architecture"}


def test_original_set_does_not_make_the_class_order_vary() -> None:
    plan = plan_study(cs=[None, "1/2", "7/9"], methods=["none", "oversample"], num_seeds=1)
    assert list(hparam_domains(describe_plan(plan))) == ["data.dataset", "protocol", "data.c", "method.name"]


def test_layout_shows_the_original_set_beside_the_methods_of_each_c(tmp_path: Path) -> None:
    plan = plan_study(cs=[None, "1/2", "7/9"], methods=["none", "oversample"], num_seeds=1)
    store = open_store(str(tmp_path / "store"), 1, create=True)
    assert store is not None
    write_overview(store, describe_plan(plan))
    (name,) = list_event_files(store.files, "events/synthetic")
    events = list(parse_events(store.files.read(f"events/synthetic/{name}")))
    (value,) = (each for each in events[-1].summary.value if each.tag == "custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(value.tensor.string_val[0])
    titles = [category.title.rpartition(", ")[2] for category in layout.category]
    assert titles == ["C=1/2", "C=7/9", "All selected runs"]
    chart, bands = layout.category[1].chart[0], layout.category[1].chart[1]
    tags = ["C=7/9/test_macro_f1", "original/test_macro_f1", "C=1/2/test_macro_f1", "C=7/9/test_macro_f1/low"]
    found = [
        [bool(re.search(each, f"means/fashion_mnist/sound/{tag}")) for each in chart.multiline.tag]
        for tag in tags
    ]
    assert found == [[True, False], [False, True], [False, False], [False, False]]
    assert [series.value.split("/")[3] for series in bands.margin.series] == ["C=7", "original"]


# Protos and pictures


def test_precision_recall_curve_of_counts_by_hand() -> None:
    value = precision_recall("tag", np.array([[4, 3, 0], [6, 1, 0]]), "legend")
    data_6T = np.frombuffer(value.tensor.tensor_content, np.float32).reshape(6, 3)
    # true and false positives, true and false negatives, precision, recall
    assert data_6T.tolist() == [
        [4, 3, 0],
        [6, 1, 0],
        [0, 5, 6],
        [0, 1, 4],
        [np.float32(0.4), 0.75, 0],
        [1, 0.75, 0],
    ]


def test_log_without_anything_new_makes_no_file(tmp_path: Path) -> None:
    files = LocalFilesystem(tmp_path)
    log = EventLog(files, "run")
    log.add(1, [scalar("a", 1.0)])
    log.flush()
    again = EventLog(files, "run")
    again.add(1, [scalar("a", 1.0)])
    again.flush()
    assert len(list_event_files(files, "run")) == 1


def test_confusion_is_dark_where_a_row_has_its_images() -> None:
    picture = draw_confusion(np.array([[5, 0], [0, 5]]), ["a", "b"])
    pixels = np.asarray(Image.open(io.BytesIO(picture.content)).convert("L"))
    assert pixels.shape == (picture.height, picture.width)
    corners = pixels[-36:-6, -36:-6], pixels[-36:-6, -70:-40]  # the cells (1, 1) and (1, 0)
    assert np.median(corners[0]) < 100 and np.median(corners[1]) == 255


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_confusion_of_any_number_of_classes_is_a_small_picture(num_classes: int) -> None:
    counts_KK = np.random.default_rng(0).integers(0, 1000, (num_classes, num_classes))
    picture = draw_confusion(counts_KK, [f"class {label}" for label in range(num_classes)])
    assert len(picture.content) < 20_000


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_are_laid_out_one_row_a_class(channels: int) -> None:
    samples_KSCHW = np.zeros((2, 3, channels, 16, 24), dtype=np.uint8)
    samples_KSCHW[1, 2] = 255
    picture = draw_samples(samples_KSCHW)
    pixels = np.asarray(Image.open(io.BytesIO(picture.content)).convert("L"))
    assert pixels.shape == (picture.height, picture.width) == (32, 72)
    assert (pixels[16:, 48:] > 250).all() and (pixels > 250).sum() == 16 * 24
