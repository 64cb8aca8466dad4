"""A real TensorBoard server on the events of a small real store: what it serves is what the records hold."""

import contextlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lt_rebalance.monitoring.tensorboard.naming import EventRun, name_runs
from lt_rebalance.monitoring.tensorboard.writer import RunEvents
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.records import Record
from tests.tensorboard_server import Server, serve

GOLDEN = Path(__file__).parents[1] / "golden" / "store"
STUDY = "full_grid-quick"
ROOT = "fashion_mnist_mini/sound/C=1-2"
METHODS = ("none", "undersample", "oversample", "small_mlp_cgan_leaky")
ALL_STATUSES = ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_UNKNOWN", "STATUS_RUNNING"]


@dataclass(frozen=True, kw_only=True)
class Served:
    """A store, and a server on the events of its study."""

    store: Store
    records: Mapping[str, Record]
    """by run as TensorBoard names it"""
    server: Server


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a store to all tests that only look."""
    with serve_golden(tmp_path_factory.mktemp("served") / "store") as served:
        yield served


@pytest.fixture
def served_alone(tmp_path: Path) -> Iterator[Served]:
    """Serve a store to one test that writes into it."""
    with serve_golden(tmp_path / "store") as served:
        yield served


@contextlib.contextmanager
def serve_golden(root: Path) -> Iterator[Served]:
    """Twelve runs and three generators of the quick preset; one classifier has probability counts."""
    shutil.copytree(GOLDEN, root)
    store = open_store(str(root), None, create=False)
    assert store is not None
    study = store.load_study(STUDY)
    runs = name_runs(study)
    add_precision_recall(store, next(run.key for run in study.runs if run.generator_key))
    records = {key: record for key in runs if (record := store.read_record(key)) is not None}
    with serve(root) as server:
        served = Served(
            store=store,
            records={name_of(runs[key]): record for key, record in records.items()},
            server=server,
        )
        server.wait_for(lambda: len(server.get("runs")) == len(runs) + len(METHODS) + 1)
        yield served


def name_of(run: EventRun) -> str:
    return run.directory.removeprefix(f"events/{STUDY}/")


def add_precision_recall(store: Store, key: str) -> None:
    """Give a record counts as `metrics.precision_recall_counts` gives them."""
    counts_K2T = np.zeros((10, 2, 51), dtype=np.uint32)
    counts_K2T[:, 0] = np.linspace(200, 0, 51)
    counts_K2T[:, 1] = np.linspace(1800, 0, 51) ** 2 / 1800
    file = io.BytesIO()
    np.save(file, counts_K2T, allow_pickle=False)
    artifact = store.write_artifact(key, "precision_recall", ".npy", file.getvalue())
    path = f"stages/{key}/result.json"
    values = json.loads(store.files.read(path))
    values["artifacts"]["precision_recall"] = vars(artifact)
    store.files.replace(path, json.dumps(values).encode())


def float32(value: float) -> float:
    return float(np.float32(value))


def served_scalars(served: Served, run: str, tag: str) -> list[tuple[int, float]]:
    points = served.server.get("plugin/scalars/scalars", run=run, tag=tag)
    return [(step, value) for _, step, value in points]


def test_every_run_is_served_by_its_name(served: Served) -> None:
    expected = {
        f"{ROOT}/{method}/seed-{seed}"
        for method in (*METHODS, "generator-small_mlp_cgan_leaky")
        for seed in range(3)
    }
    means = {f"means/{method}" for method in METHODS}
    assert set(served.server.get("runs")) == expected | means | {"."}


def test_every_scalar_equals_the_record(served: Served) -> None:
    tags = served.server.get("plugin/scalars/tags")
    for run, record in served.records.items():
        names = {name for name in tags[run] if name.startswith(f"{record.kind}/")}
        assert len(names) == (9 if record.kind == "classifier" else 4)
        for name in names:
            column = name.partition("/")[2]
            expected = [(row["step"], float32(row[column])) for row in record.curves]
            assert served_scalars(served, run, name) == expected
        if record.kind == "classifier":
            recalls = [(row["step"], float32(row["test_recall_K"][6])) for row in record.curves]
            assert served_scalars(served, run, "recall/6 Shirt") == recalls
            assert served_scalars(served, run, "result/last_macro_f1") == [
                (record.num_steps, float32(record.metrics["macro_f1"]))
            ]
        else:
            diversity = record.quality_per_class["diversity"][6]
            assert diversity is not None
            assert served_scalars(served, run, "diversity/6 Shirt") == [
                (record.num_steps, float32(diversity))
            ]


def test_means_over_seeds_are_those_of_the_records(served: Served) -> None:
    repeats = [served.records[f"{ROOT}/oversample/seed-{seed}"] for seed in range(3)]
    tag = "means/fashion_mnist_mini/sound/C=1/2/test_macro_f1"
    rows = list(zip(*(record.curves for record in repeats), strict=True))
    found = [[row["test_macro_f1"] for row in of_round] for of_round in rows]
    for ending, summary in {"": np.mean, "/low": min, "/high": max}.items():
        points = served_scalars(served, "means/oversample", tag + ending)
        assert [step for step, _ in points] == [of_round[0]["step"] for of_round in rows]
        assert [value for _, value in points] == pytest.approx([summary(each) for each in found], rel=1e-6)


@pytest.mark.parametrize(
    ("method", "tag"), [("none", "confusion"), ("generator-small_mlp_cgan_leaky", "samples")]
)
def test_images_are_served_as_pictures(served: Served, method: str, tag: str) -> None:
    run = f"{ROOT}/{method}/seed-0"
    (image,) = served.server.get("plugin/images/images", run=run, tag=tag, sample="0")
    picture = Image.open(io.BytesIO(served.server.read(f"plugin/images/individualImage?{image['query']}&x")))
    assert picture.format == {"confusion": "PNG", "samples": "JPEG"}[tag] and min(picture.size) >= 280
    assert image["step"] == served.records[run].num_steps
    if tag == "samples":
        content = served.store.read_artifact(served.records[run], "samples")
        drawn_KSHW = np.load(io.BytesIO(content), allow_pickle=False)[0, :, :, 0]
        grid = drawn_KSHW.transpose(0, 2, 1, 3).reshape(280, 280)
        assert np.corrcoef(np.asarray(picture.convert("L")).ravel(), grid.ravel())[0, 1] > 0.9


def test_precision_recall_curves_are_served_where_the_record_has_them(served: Served) -> None:
    tags = served.server.get("plugin/pr_curves/tags")
    (run,) = [run for run, found in tags.items() if found]
    assert len(tags[run]) == 10
    tag = "precision_recall/2 Pullover"
    ((curve,),) = served.server.get("plugin/pr_curves/pr_curves", run=run, tag=tag).values()
    assert curve["step"] == served.records[run].num_steps
    assert curve["true_positives"][:2] == [200, 196] and curve["false_positives"][0] == 1800
    assert (curve["recall"][0], curve["precision"][0]) == (1.0, float32(0.1))


def test_layout_puts_methods_side_by_side(served: Served) -> None:
    categories = served.server.get("plugin/custom_scalars/layout")["category"]
    assert [each["title"] for each in categories] == [
        "Methods side by side: fashion_mnist_mini, sound, C=1/2",
        "All selected runs",
    ]
    charts = categories[0]["chart"]
    (expression,) = charts[0]["multiline"]["tag"]
    tags = served.server.get("plugin/scalars/tags")
    (band,) = charts[1]["margin"]["series"]
    for method in METHODS:
        found = served.server.get("plugin/custom_scalars/scalars", run=f"means/{method}", tag=expression)
        assert list(found["tag_to_events"]) == ["means/fashion_mnist_mini/sound/C=1/2/test_macro_f1"]
        assert set(band.values()) <= set(tags[f"means/{method}"])


# Hyperparameters


def fetch_groups(server: Server) -> dict[str, Any]:
    experiment = server.post("plugin/hparams/experiment", {"experimentName": ""})
    body = {
        "experimentName": "",
        "allowedStatuses": ALL_STATUSES,
        "colParams": [
            {"hparam": each["name"], "order": "ORDER_UNSPECIFIED"} for each in experiment["hparamInfos"]
        ]
        + [{"metric": each["name"], "order": "ORDER_UNSPECIFIED"} for each in experiment["metricInfos"]],
        "startIndex": 0,
        "sliceSize": 1000,
    }
    groups = server.post("plugin/hparams/session_groups", body)["sessionGroups"]
    return {group["name"]: group for group in groups}


def test_columns_are_the_union_of_the_axes_though_the_first_run_lacks_some(served: Served) -> None:
    experiment = served.server.post("plugin/hparams/experiment", {"experimentName": ""})
    columns = {each["name"]: each["domainDiscrete"] for each in experiment["hparamInfos"]}
    assert {"data.dataset", "protocol", "data.c", "method.name", "generator.architecture"} <= set(columns)
    assert columns["method.name"] == ["cgan", "none", "oversample", "undersample"]
    assert columns["generator.architecture"] == ["small_mlp_cgan_leaky"]
    first = fetch_groups(served.server)["none, C=1/2, sound, fashion_mnist_mini"]
    assert "generator.architecture" not in first["hparams"]
    metrics = {each["name"]["tag"] for each in experiment["metricInfos"]}
    assert {"result/last_macro_f1", "result/best_validation_macro_f1"} <= metrics


def test_cells_are_groups_of_their_seeds_with_the_mean_of_the_records(served: Served) -> None:
    groups = fetch_groups(served.server)
    assert len(groups) == 4
    for group in groups.values():
        assert [session["status"] for session in group["sessions"]] == ["STATUS_SUCCESS"] * 3
        repeats = [served.records[session["name"]] for session in group["sessions"]]
        (mean,) = [
            each["value"] for each in group["metricValues"] if each["name"]["tag"] == "result/last_accuracy"
        ]
        assert mean == pytest.approx(np.mean([record.metrics["accuracy"] for record in repeats]), rel=1e-6)
    hparams = groups["small_mlp_cgan_leaky, C=1/2, sound, fashion_mnist_mini"]["hparams"]
    assert hparams["generator.architecture"] == "small_mlp_cgan_leaky" and hparams["data.c"] == "1/2"


# A run that goes on while it is watched


@pytest.mark.slow
def test_run_that_is_resumed_under_a_running_server_has_every_step_once(served_alone: Served) -> None:
    served = served_alone
    rows = [{"step": 10 * index, "generator_loss": 1 / index} for index in range(1, 7)]
    run = EventRun(directory=f"events/{STUDY}/live", group="live", hparams={}, class_names=())
    tag = "generator/generator_loss"
    zombie = RunEvents(served.store, "generator", run)
    zombie.note_rounds(rows[:3], 6)
    served.server.wait_for(lambda: "live" in served.server.get("runs"))
    served.server.wait_for(lambda: len(served_scalars(served, "live", tag)) == 3)
    second = RunEvents(served.store, "generator", run)
    second.note_rounds(rows[:5], 6)
    served.server.wait_for(lambda: len(served_scalars(served, "live", tag)) == 5)
    # The first attempt, thought to be dead, writes two rounds again.
    zombie.note_rounds(rows[:5], 6)
    second.note_rounds(rows, 6)
    served.server.wait_for(lambda: len(served_scalars(served, "live", tag)) >= 6)
    assert served_scalars(served, "live", tag) == [
        (row["step"], float32(row["generator_loss"])) for row in rows
    ]
