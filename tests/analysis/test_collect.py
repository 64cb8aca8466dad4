"""Collecting: every planned run is a row, and what is wrong is named and refused."""

import dataclasses
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.collect import Results, collect, read_results
from analysis.completeness import IncompleteError, describe_oddities
from analysis.reader import StoreReader, find_studies
from analysis.tables import build_tables, compute_frames, count_gaps
from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.records import Failure, Record
from lt_rebalance.studies.plan import Plan, describe_plan
from tests.analysis.synthetic import (
    PROVENANCE,
    Truth,
    collapse,
    confusion_of,
    invent_generator,
    invent_records,
    make_record,
    make_store,
    plan_study,
)
from tests.made_up import forge

SMALL = {"methods": ("none", "oversample"), "generators": (), "cs": ("1/2",), "num_seeds": 2}


def small_plan(**changes: object) -> Plan:
    return plan_study(**(SMALL | changes))  # type: ignore[arg-type]  # a test names its own changes


def npy_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def result_path(store: Store, key: str) -> Path:
    return Path(store.location) / "stages" / key / "result.json"


def test_collect_returns_one_row_for_each_cell_and_seed(grid_results: Results) -> None:
    runs = grid_results.runs
    assert len(runs) == 15 * 10
    assert not runs.duplicated(["cell", "seed"]).any()
    assert set(runs["state"]) == {"complete"}
    assert (runs.groupby("cell")["seed"].apply(list).map(lambda seeds: seeds == list(range(10)))).all()


def test_collect_puts_rows_into_the_order_of_the_paper(grid_results: Results) -> None:
    cells = grid_results.cells
    assert list(cells["data"]) == ["original"] + ["7/9"] * 7 + ["1/2"] * 7
    expected = ["none", "undersample", "oversample", "mlp_cgan_relu", "small_mlp_cgan_leaky"]
    assert list(cells["method"][1:6]) == expected


def test_collect_equals_the_records(tmp_path: Path) -> None:
    plan = small_plan()
    store = make_store(tmp_path / "store", plan)
    runs = collect(store.location).set_index("key")
    for run in plan.runs:
        record = store.read_record(run.key)
        assert record is not None
        row = runs.loc[run.key]
        assert row["seed"] == run.seed and row["method"] == run.cell.method_label
        assert {name: row[name] for name in record.metrics} == pytest.approx(dict(record.metrics))
        assert row["wall_s"] == record.timing.wall_s and row["device"] == PROVENANCE["device"]


def test_recall_by_rank_group_is_the_mean_over_its_classes(tmp_path: Path) -> None:
    plan = small_plan(num_seeds=1, methods=("none",))
    store = make_store(tmp_path / "store", plan)
    recall_K = np.array([0.9, 0.8, 0.7, 0.6, 0.6, 0.6, 0.6, 0.3, 0.2, 0.1])
    replace_record(store, make_record(plan.runs[0].stage, confusion_of(recall_K)))
    row = collect(store.location).iloc[0]
    assert [row[f"recall_{group}"] for group in ("head", "medium", "tail")] == pytest.approx([0.8, 0.6, 0.2])
    assert row["worst_class_recall"] == pytest.approx(0.1) and row["num_dead_classes"] == 0


def replace_record(store: Store, record: Record) -> None:
    result_path(store, record.key).write_bytes(record.to_json())


def test_collapsed_and_constant_runs_are_flagged(tmp_path: Path) -> None:
    plan = small_plan(methods=("none",), num_seeds=3)
    store = make_store(tmp_path / "store", plan)
    healthy = confusion_of(np.full(10, 0.8))
    constant = collapse(healthy, range(1, 10))
    for run, confusion in zip(plan.runs, (healthy, collapse(healthy, [9]), constant), strict=True):
        replace_record(store, make_record(run.stage, confusion))
    runs = collect(store.location)
    assert list(runs["is_collapsed"]) == [False, True, True]
    assert list(runs["is_constant"]) == [False, False, True]
    assert list(runs["num_dead_classes"]) == [0, 1, 9]
    assert list(runs["num_silent_classes"]) == [0, 1, 9]


def test_rounds_and_classes_are_long_frames_of_the_records(grid_results: Results) -> None:
    rounds, classes = grid_results.rounds, grid_results.classes
    assert len(rounds) == 150 * 12 and len(classes) == 150 * 10
    last = rounds[rounds["round"] == 12].merge(grid_results.runs[["key", "accuracy"]], on="key")
    assert last["test_accuracy"].to_numpy() == pytest.approx(last["accuracy"].to_numpy())
    shirt = classes[(classes["class"] == 6) & (classes["data"] == "1/2") & (classes["method"] == "none")]
    assert set(shirt["class_count"]) == {94} and set(shirt["rank_group"]) == {"medium"}
    assert set(shirt["class_name"]) == {"Shirt"} or shirt["class_name"].str.contains("hirt").all()


def test_classes_carry_the_quality_of_the_generator_they_used(grid_results: Results) -> None:
    generator_key = grid_results.runs["generator_key"].dropna().iloc[0]
    key = grid_results.runs.set_index("generator_key").loc[generator_key, "key"]
    of_run = grid_results.classes.set_index("key").loc[key, "diversity"]
    of_generator = grid_results.generator_classes.set_index("key").loc[generator_key, "diversity"]
    assert of_run.tolist() == of_generator.tolist()
    assert grid_results.classes.loc[grid_results.classes["method"] == "none", "diversity"].isna().all()


def test_a_removed_record_is_refused_and_named(tmp_path: Path) -> None:
    plan = small_plan()
    store = make_store(tmp_path / "store", plan)
    result_path(store, plan.runs[0].key).unlink()
    with pytest.raises(IncompleteError, match=r"1 of 4 planned runs .* sound 1/2 none seed 0 \(missing\)"):
        collect(store.location)


def test_a_removed_record_lowers_n_and_is_reported_where_gaps_are_allowed(tmp_path: Path) -> None:
    plan = small_plan()
    store = make_store(tmp_path / "store", plan)
    result_path(store, plan.runs[0].key).unlink()
    results = read_results(store.location, allow=["gaps"])
    assert len(results.runs) == 4 and (results.runs["state"] == "complete").sum() == 3
    assert "1 of 4 planned runs is missing: sound 1/2 none seed 0" in results.notes


def test_a_failed_generator_fails_the_runs_that_build_on_it(tmp_path: Path) -> None:
    plan = small_plan(methods=("cgan",), generators=("mlp_cgan_relu",))
    store = make_store(tmp_path / "store", plan)
    stage = plan.runs[0].stage
    generator_stage = stage.generator_stage
    assert generator_stage is not None
    for key in (plan.runs[0].key, generator_stage.key):
        result_path(store, key).unlink()
    failure = Failure(
        key=generator_stage.key,
        kind="generator",
        stage=generator_stage.to_dict(),
        error="ValueError: too few images",
        traceback="",
        provenance={},
    )
    store.mark_failed(failure)
    with pytest.raises(IncompleteError, match=r"seed 0 \(failed\)"):
        collect(store.location)
    row = collect(store.location, allow=["gaps"]).iloc[0]
    assert row["state"] == "failed" and "too few images" in row["reason"]
    (note,) = [each for each in read_results(store.location, allow=["gaps"]).notes if "runs failed" in each]
    assert note.endswith("seed 0 (its generator failed: ValueError: too few images)")


def test_a_run_that_is_not_applicable_is_an_outcome_with_its_reason(tmp_path: Path) -> None:
    plan = small_plan()
    store = make_store(tmp_path / "store", plan)
    result_path(store, plan.runs[1].key).unlink()
    failure = Failure(
        key=plan.runs[1].key,
        kind="classifier",
        stage=plan.runs[1].stage.to_dict(),
        error="NotApplicableError: 4 images are too few",
        traceback="",
        provenance={},
        cause="not applicable",
    )
    store.mark_failed(failure)
    results = read_results(store.location)
    assert list(results.runs["is_not_applicable"]).count(True) == 1
    (row,) = results.runs[results.runs["is_not_applicable"]].to_dict("records")
    assert (row["state"], row["reason"]) == ("failed", "4 images are too few")
    (note,) = [each for each in results.notes if "1 of 4 planned runs is not applicable" in each]
    assert note.endswith("(4 images are too few)")
    assert not any("runs failed" in each for each in results.notes)
    assert count_gaps(results.planned) == 0
    table = build_tables(results, compute_frames(results))["t6-completeness"]
    assert table.frame["num_not_applicable"].sum() == 1 and table.frame["failed"].sum() == 1
    assert "Of those that failed, 1 are not applicable." in table.meaning


def test_a_diverged_run_is_no_gap_but_lowers_n(tmp_path: Path) -> None:
    plan = small_plan()
    store = make_store(tmp_path / "store", plan)
    record = store.read_record(plan.runs[1].key)
    assert record is not None
    diverged = dataclasses.replace(record, state="diverged", metrics={}, confusion=(), artifacts={})
    replace_record(store, diverged)
    results = read_results(store.location)
    assert sorted(results.runs["state"]) == ["complete"] * 3 + ["diverged"]
    assert any("1 of 4 planned runs diverged" in note for note in results.notes)


@pytest.mark.parametrize("content", [b"", b"{", b'{"key": 1}', b"[1, 2]", b"\x80\x04."])
def test_a_damaged_record_is_named_and_left_where_it_is(tmp_path: Path, content: bytes) -> None:
    plan = small_plan()
    store = make_store(tmp_path / "store", plan)
    path = result_path(store, plan.runs[0].key)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=plan.runs[0].key):
        collect(store.location, allow=["gaps"])
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values["confusion"][0].__setitem__(0, "x"),
        lambda values: values.__setitem__("curves", [1]),
        lambda values: values["curves"][0].__setitem__("step", "x"),
        lambda values: values["rank_groups"].__setitem__("head", [99]),
        lambda values: values.__setitem__("class_counts", values["class_counts"][:5]),
        lambda values: values["timing"].__setitem__("wall_s", "x"),
        lambda values: values["metrics"].__setitem__("loss", "abc"),
    ],
)
def test_a_record_with_a_wrong_value_is_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    plan = small_plan()
    store = make_store(tmp_path / "store", plan)
    path = result_path(store, plan.runs[0].key)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(StoreError, match=f"stages/{plan.runs[0].key}/result.json .* run the sweep again"):
        read_results(store.location)


def test_other_files_among_the_studies_are_passed_over(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", small_plan())
    for name in (".DS_Store", "synthetic.json~", "evil.pkl", ".hidden.json"):
        (Path(store.location) / "studies" / name).write_bytes(b"garbage")
    assert read_results(store.location).studies == ("synthetic",)


def test_a_record_of_another_stage_is_refused(tmp_path: Path) -> None:
    plan = small_plan()
    store = make_store(tmp_path / "store", plan)
    record = store.read_record(plan.runs[1].key)
    assert record is not None
    path = result_path(store, plan.runs[0].key)
    path.write_bytes(forge(json.loads(record.to_json()) | {"key": plan.runs[0].key}))
    with pytest.raises(StoreError, match=f"{plan.runs[0].key}/result.json .* the record is foreign"):
        collect(store.location)


def test_a_record_whose_metrics_contradict_its_confusion_matrix_is_refused(tmp_path: Path) -> None:
    plan = small_plan()
    store = make_store(tmp_path / "store", plan)
    record = store.read_record(plan.runs[0].key)
    assert record is not None
    metrics = {**record.metrics, "accuracy": 0.99}
    path = result_path(store, record.key)
    path.write_bytes(forge(json.loads(record.to_json()) | {"metrics": metrics}))
    with pytest.raises(StoreError, match=r"accuracy must be .* by its confusion matrix, got 0\.99"):
        collect(store.location)


def write_again(store: Store, plan: Plan, name: str) -> None:
    """Plan the same cells under another name and make them."""
    version = plan.runs[0].stage.results_version
    store.write_study(dataclasses.replace(describe_plan(plan), name=name, results_version=version))
    for record in invent_records(store, plan, Truth(), rng_seed=1):
        store.commit(record)


def test_a_run_in_two_studies_is_one_row(tmp_path: Path) -> None:
    plan = small_plan()
    store = make_store(tmp_path / "store", plan)
    store.write_study(dataclasses.replace(describe_plan(plan), name="again"))
    assert len(collect(store.location)) == 4


def test_a_missing_run_is_named_with_its_studies_where_there_are_several(tmp_path: Path) -> None:
    plan = small_plan()
    store = make_store(tmp_path / "store", plan)
    result_path(store, plan.runs[0].key).unlink()
    store.write_study(dataclasses.replace(describe_plan(plan), name="again"))
    shorter = describe_plan(dataclasses.replace(plan, runs=plan.runs[1:]))
    store.write_study(dataclasses.replace(shorter, name="other"))
    names = " and ".join(sorted(["again", plan.study.name]))
    with pytest.raises(IncompleteError, match=rf"sound 1/2 none seed 0 of {names} \(missing\)"):
        collect(store.location)


def test_results_of_two_executions_are_duplicates_unless_allowed(tmp_path: Path) -> None:
    plan = small_plan()
    store = make_store(tmp_path / "store", plan)
    execution = dataclasses.replace(plan.execution, num_threads=2)
    runs = tuple(
        dataclasses.replace(run, stage=dataclasses.replace(run.stage, execution=execution))
        for run in plan.runs
    )
    write_again(store, dataclasses.replace(plan, execution=execution, runs=runs), "two_threads")
    with pytest.raises(IncompleteError, match=r"4 runs with several results .* sound 1/2 none seed 0"):
        collect(store.location)
    assert len(collect(store.location, studies=["two_threads"])) == 4
    both = read_results(store.location, allow=["duplicates"])
    assert len(both.runs) == 8
    assert list(dict.fromkeys(both.cells["setting"])) == [
        "sound, cross entropy, 18,000 steps, num_threads 1",
        "sound, cross entropy, 18,000 steps, num_threads 2",
    ]


def test_mixed_results_versions_are_refused_unless_allowed(tmp_path: Path) -> None:
    plan = small_plan()
    store = make_store(tmp_path / "store", plan)
    stages = [dataclasses.replace(run.stage, results_version=1) for run in plan.runs]
    older = dataclasses.replace(
        plan,
        runs=tuple(
            dataclasses.replace(run, stage=stage) for run, stage in zip(plan.runs, stages, strict=True)
        ),
    )
    write_again(store, older, "older")
    with pytest.raises(IncompleteError, match=r"different versions \(4 of version 1, 4 of version"):
        collect(store.location)
    for allow in (["versions"], ["versions", "duplicates"]):
        with pytest.raises(IncompleteError, match=r"4 runs with several results, of other .* counts once"):
            collect(store.location, allow=allow)
    assert len(collect(store.location, studies=["older"])) == 4


def test_results_on_other_images_of_one_name_are_told(tmp_path: Path) -> None:
    stores, names = find_studies(make_store(tmp_path / "store", small_plan()).location, ())
    reader = StoreReader(stores, {name: stores.load_study(name) for name in names})
    reader.read()
    said = "results on fashion_mnist come from 2 different sets of images, so differences between"
    assert not any(said in note for note in describe_oddities(reader))
    reader.rows[next(iter(reader.runs))]["dataset_identity"] = "f" * 64
    assert any(said in note for note in describe_oddities(reader))


def test_versions_of_different_cells_are_read_together_where_that_is_allowed(tmp_path: Path) -> None:
    plan, other = small_plan(), small_plan(cs=("7/9",))
    store = make_store(tmp_path / "store", plan)
    runs = tuple(
        dataclasses.replace(run, stage=dataclasses.replace(run.stage, results_version=1))
        for run in other.runs
    )
    write_again(store, dataclasses.replace(other, runs=runs), "older")
    assert len(collect(store.location, allow=["versions"])) == len(plan.runs) + len(runs)


def test_an_unknown_study_and_no_store_and_an_unknown_allowance_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", small_plan())
    with pytest.raises(StoreError, match="no study 'other'; known: synthetic"):
        collect(store.location, studies=["other"])
    with pytest.raises(StoreError, match="there is no store"):
        collect(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="unknown allowance 'all'; known: gaps, duplicates, versions"):
        collect(store.location, allow=["all"])


def test_a_store_without_a_study_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", small_plan())
    (Path(store.location) / "studies" / "synthetic.json").unlink()
    with pytest.raises(StoreError, match="no study has been started"):
        collect(store.location)


def test_a_damaged_study_is_named(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", small_plan())
    path = Path(store.location) / "studies" / "synthetic.json"
    path.write_text(json.dumps({"runs": []}))
    with pytest.raises(StoreError, match=r"studies/synthetic\.json is damaged: it must be an object"):
        collect(store.location)


def test_stages_of_no_study_are_counted_and_not_read(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", small_plan())
    foreign = Path(store.location) / "stages" / ("f" * 64)
    foreign.mkdir()
    (foreign / "result.json").write_bytes(b"garbage")
    results = read_results(store.location)
    assert "not read: 1 stage in the store of none of these studies" in results.notes


def test_a_crafted_pickle_is_never_opened(tmp_path: Path) -> None:
    plan = small_plan()
    store = make_store(tmp_path / "store", plan)
    planted = [
        Path(store.location) / "stages" / plan.runs[0].key / name
        for name in ("result.pkl", "predictions.npy")
    ]
    planted.append(Path(store.location) / "studies" / "evil.pkl")
    for path in planted[:2]:
        path.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    opened: list[str] = []
    is_watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if is_watching and event == "open":
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)
    read_results(store.location)
    is_watching = False
    assert any(name.endswith("result.json") for name in opened)
    assert not [name for name in opened if os.path.basename(name) in {path.name for path in planted}]


def test_samples_are_read_without_pickle_and_verified(tmp_path: Path) -> None:
    plan = small_plan(methods=("cgan",), generators=("mlp_cgan_relu",), num_seeds=1)
    store = make_store(tmp_path / "store", plan)
    results = read_results(store.location)
    key = results.generators["key"].iloc[0]
    samples = results.read_samples(key)
    assert samples is not None and samples.shape == (3, 10, 10, 1, 28, 28)
    record = store.read_record(key)
    assert record is not None
    path = Path(store.location) / "stages" / key / record.artifacts["samples"].file
    path.write_bytes(b"altered")
    with pytest.raises(StoreError, match="sha256"):
        results.read_samples(key)
    assert path.read_bytes() == b"altered"


@pytest.mark.parametrize("content", [b"cos\nsystem\n(S'touch pwned'\ntR.", b"", npy_bytes(np.zeros((3, 2)))])
def test_a_file_that_is_no_grid_is_refused_in_our_words(tmp_path: Path, content: bytes) -> None:
    plan = small_plan(methods=("cgan",), generators=("mlp_cgan_relu",), num_seeds=1)
    store = make_store(tmp_path / "store", plan)
    key = read_results(store.location).generators["key"].iloc[0]
    record = store.read_record(key)
    assert record is not None
    artifact = store.write_artifact(key, "samples", ".npy", content)
    replace_record(store, dataclasses.replace(record, artifacts={"samples": artifact}))
    with pytest.raises(StoreError, match=f"{artifact.file} cannot be used: .* move .* away") as caught:
        read_results(store.location).read_samples(key)
    assert "allow_pickle" not in str(caught.value)


def test_generators_are_rows_of_their_own(grid_results: Results) -> None:
    generators = grid_results.generators
    assert len(generators) == 2 * 4 * 10 and set(generators["state"]) == {"complete"}
    assert len(grid_results.generator_rounds) == 80 * 5
    collapsed = grid_results.generator_classes.query("diversity < 0.1").groupby("key", observed=True).size()
    counted = generators.set_index("key")["num_collapsed_classes"]
    assert (counted[counted > 0] == 1).all() and set(collapsed[collapsed > 0].index) == set(
        counted[counted > 0].index
    )


def test_the_order_of_files_changes_nothing(tmp_path: Path) -> None:
    plan = small_plan()
    first = collect(make_store(tmp_path / "a", plan).location)
    turned = dataclasses.replace(plan, runs=plan.runs[::-1])
    store = make_store(tmp_path / "b", plan)
    store.write_study(describe_plan(turned))
    second = collect(store.location)
    order = ["cell", "seed"]
    assert (
        first.sort_values(order)
        .reset_index(drop=True)
        .equals(second.sort_values(order).reset_index(drop=True))
    )


def test_invented_generators_have_a_grid_of_samples(tmp_path: Path) -> None:
    plan = small_plan(methods=("cgan",), generators=("mlp_cgan_relu",), num_seeds=1)
    store = make_store(tmp_path / "store", plan)
    stage = plan.runs[0].stage.generator_stage
    assert stage is not None
    assert "samples" in invent_generator(store, stage, np.random.default_rng(0)).artifacts
