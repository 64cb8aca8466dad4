"""Summaries of cells: hand-computed estimates, the paper's number, collapse, completeness."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.aggregate import aggregate, collapse_table, generator_table, is_saturated
from analysis.collect import Results, collect, read_results
from analysis.estimates import prediction_interval
from lt_rebalance.ground.paper import MIN_COMPARED, TABLE_1
from lt_rebalance.store import Store
from lt_rebalance.studies.plan import Plan, compile_study
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.study import Study
from tests.analysis.simulation import is_share_of
from tests.analysis.synthetic import collapse, confusion_of, make_record, make_store, plan_study


def write_accuracies(root: Path, accuracies: list[float], protocol: str = "sound") -> tuple[Store, Plan]:
    """Make a store of method none at C = 1/2 whose runs have these accuracies."""
    plan = plan_study(
        protocols=(protocol,), methods=("none",), generators=(), cs=("1/2",), num_seeds=len(accuracies)
    )
    store = make_store(root, plan)
    for run, accuracy in zip(plan.runs, accuracies, strict=True):
        record = make_record(run.stage, confusion_of(np.full(10, accuracy)))
        (root / "stages" / run.key / "result.json").write_bytes(record.to_json())
    return store, plan


def row_of(frame: pd.DataFrame, **values: object) -> pd.Series:
    for name, value in values.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_aggregate_equals_hand_computation(tmp_path: Path) -> None:
    store, _ = write_accuracies(tmp_path, [0.5, 0.6, 0.7, 0.8])
    row = row_of(aggregate(collect(store.location)), metric="accuracy", subset="all")
    sd = np.sqrt((0.15**2 + 0.05**2) * 2 / 3)
    t = stats.t.ppf(0.975, 3)
    assert (row["n"], row["n_expected"]) == (4, 4)
    assert row["mean"] == pytest.approx(0.65) and row["sd"] == pytest.approx(sd)
    assert row["mean_low"] == pytest.approx(0.65 - t * sd / 2)
    assert row["mean_high"] == pytest.approx(0.65 + t * sd / 2)
    assert row["prediction_high"] == pytest.approx(0.65 + t * sd * np.sqrt(1.25))
    assert row["sd_low"] == pytest.approx(sd * np.sqrt(3 / stats.chi2.ppf(0.975, 3)))
    assert [row[name] for name in ("median", "iqm", "min", "max")] == pytest.approx([0.65, 0.65, 0.5, 0.8])


# The paper's number


@pytest.mark.parametrize("n", [4, 5])
def test_where_the_papers_number_lies_is_said_from_five_runs_on(tmp_path: Path, n: int) -> None:
    values = np.array([0.5, 0.6, 0.7, 0.8, 0.4])[:n]
    store, _ = write_accuracies(tmp_path, values.tolist(), protocol="paper")
    row = row_of(aggregate(collect(store.location)), metric="accuracy", subset="all")
    assert row["paper"] == 0.476 and row["percentile"] == {4: 0, 5: 0.2}[n]
    if n < MIN_COMPARED:
        assert np.isnan(row["z"]) and pd.isna(row["is_inside"])
    else:
        assert row["z"] == pytest.approx((0.476 - values.mean()) / values.std(ddof=1))
        assert row["is_inside"] in (True, np.True_)


def test_nothing_is_said_of_the_papers_number_beside_runs_that_do_not_vary(tmp_path: Path) -> None:
    store, _ = write_accuracies(tmp_path, [0.5] * 6, protocol="paper")
    row = row_of(aggregate(collect(store.location)), metric="accuracy", subset="all")
    assert row["paper"] == 0.476 and np.isnan(row["z"]) and pd.isna(row["is_inside"])


def test_prediction_intervals_hold_a_run_of_the_same_procedure_at_their_rate() -> None:
    """The null of "outside": the paper's run is one more of ours. At each n from which it is said."""
    rng = np.random.default_rng(5)
    for n in (MIN_COMPARED, 10):
        sets = rng.normal(0.8, 0.01, size=(2000, n + 1))
        intervals = [prediction_interval(values[:-1]) for values in sets]
        outside = [not low <= x <= high for (low, high), x in zip(intervals, sets[:, -1], strict=True)]
        assert is_share_of(outside, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "dataset"), [("sound", "fashion_mnist"), ("paper", "fashion_mnist_mini"), ("paper", "mnist")]
)
def test_cells_that_the_paper_did_not_run_have_none_of_its_numbers(
    tmp_path: Path, protocol: str, dataset: str
) -> None:
    plan = plan_study(protocols=(protocol,), dataset=dataset, num_seeds=6)
    runs = collect(make_store(tmp_path, plan).location)
    assert runs["paper_departure"].ne("").all()
    assert aggregate(runs)[["paper", "z", "percentile", "is_inside"]].isna().all(axis=None)


@pytest.mark.slow
def test_every_row_of_the_paper_stands_beside_its_own_cell(tmp_path: Path) -> None:
    runs = collect(make_store(tmp_path, plan_study(protocols=("paper",), num_seeds=2)).location)
    table = aggregate(runs).query("subset == 'all'")
    for (data, method), paper in TABLE_1.items():
        of_cell = table[(table["data"] == data) & (table["method"] == method)].set_index("metric")["paper"]
        named = {"accuracy": paper.accuracy, "macro_f1": paper.f1, "weighted_f1": paper.f1}
        named |= {"loss": paper.loss}
        assert of_cell[list(named)].to_dict() == named
        assert of_cell.drop(list(named)).isna().all()


def test_the_papers_cell_keeps_its_number_beside_another_draw_of_its_method(tmp_path: Path) -> None:
    """Tables then tell the two apart by more than the method's name."""
    paper, sound = get_protocol("paper"), get_protocol("sound")
    cells = [
        make_cell(protocol, dataset="fashion_mnist", c="1/2", method="oversample", generator=None)
        for protocol in (paper, dataclasses.replace(paper, oversampling=sound.oversampling))
    ]
    cells[1] = dataclasses.replace(cells[1], protocol="paper+draw")
    plan = plan_study(num_seeds=1)
    plan = compile_study(Study(name="draws", cells=tuple(cells), seeds=(0, 1)), plan.execution)
    table = aggregate(collect(make_store(tmp_path, plan).location)).query("metric == 'accuracy'")
    papers = table[table["paper"].notna()]
    assert set(papers["protocol"]) == {"paper"} and set(papers["paper"]) == {0.812}


# Other summaries


def test_a_run_with_a_dead_class_is_not_among_the_healthy(tmp_path: Path) -> None:
    store, plan = write_accuracies(tmp_path, [0.5, 0.6, 0.7])
    dead = collapse(confusion_of(np.full(10, 0.5)), [9])
    record = make_record(plan.runs[0].stage, dead)
    (tmp_path / "stages" / plan.runs[0].key / "result.json").write_bytes(record.to_json())
    table = aggregate(collect(store.location))
    assert row_of(table, metric="accuracy", subset="all")["mean"] == pytest.approx(
        (np.trace(dead) / 10_000 + 0.6 + 0.7) / 3
    )
    healthy = row_of(table, metric="accuracy", subset="healthy")
    assert (healthy["n"], healthy["n_expected"]) == (2, 3) and healthy["mean"] == pytest.approx(0.65)


def test_a_removed_record_changes_n(tmp_path: Path) -> None:
    store, plan = write_accuracies(tmp_path, [0.5, 0.6, 0.7])
    (tmp_path / "stages" / plan.runs[2].key / "result.json").unlink()
    row = row_of(aggregate(collect(store.location, allow=["gaps"])), metric="accuracy", subset="all")
    assert (row["n"], row["n_expected"]) == (2, 3) and row["mean"] == pytest.approx(0.55)


@pytest.mark.parametrize("num_seeds", [0, 1])
def test_what_cannot_be_estimated_is_absent(tmp_path: Path, num_seeds: int) -> None:
    store, plan = write_accuracies(tmp_path, [0.5])
    if num_seeds == 0:
        (tmp_path / "stages" / plan.runs[0].key / "result.json").unlink()
    runs = collect(store.location, allow=["gaps"])
    row = row_of(aggregate(runs), metric="accuracy", subset="all")
    if num_seeds == 0:
        assert row["n"] == 0 and row["n_expected"] == 1 and np.isnan(row["mean"])
        return
    assert row["n"] == 1 and row["mean"] == 0.5 and np.isnan(row["sd"]) and np.isnan(row["mean_low"])
    assert pd.isna(row["is_inside"])


def test_accuracy_equals_balanced_accuracy_and_f1s_agree_on_a_balanced_test_set(
    grid_results: Results,
) -> None:
    runs = grid_results.runs
    assert runs["accuracy"].to_numpy() == pytest.approx(runs["balanced_accuracy"].to_numpy())
    assert runs["macro_f1"].to_numpy() == pytest.approx(runs["weighted_f1"].to_numpy())


def test_row_order_changes_nothing(grid_results: Results) -> None:
    shuffled = grid_results.runs.sample(frac=1, random_state=0)
    keys = ["cell", "metric", "subset"]
    tables = [
        aggregate(runs, ["accuracy"]).sort_values(keys).reset_index(drop=True)
        for runs in (grid_results.runs, shuffled)
    ]
    pd.testing.assert_frame_equal(*tables)


def test_the_two_replicates_of_the_paper_are_flagged_as_collapsed(tmp_path: Path) -> None:
    """C = 1/2, none: accuracy 0.476 printed in Table 1, 0.100 left out."""
    store, plan = write_accuracies(tmp_path, [0.8, 0.8], protocol="paper")
    half_KK = np.zeros((10, 10), dtype=np.int64)
    half_KK[:, 0] = 1000
    half_KK[range(5), range(5)], half_KK[range(1, 5), 0] = 952, 48
    half_KK[0] = [952, 48, *[0] * 8]
    constant_KK = collapse(confusion_of(np.full(10, 0.5)), range(1, 10))
    for run, confusion, loss in zip(plan.runs, (half_KK, constant_KK), (1.983, 2.361), strict=True):
        record = make_record(run.stage, confusion, loss=loss)
        (tmp_path / "stages" / run.key / "result.json").write_bytes(record.to_json())
    results = read_results(store.location)
    assert list(results.runs["accuracy"]) == pytest.approx([0.476, 0.100])
    row = collapse_table(results.runs, results.classes).iloc[0]
    assert (row["num_collapsed"], row["n"], row["num_constant"]) == (2, 2, 1)
    assert row["num_saturated"] == 2
    assert row["mean_dead_classes"] == pytest.approx((5 + 9) / 2)
    assert len(row["dead_classes"].split(", ")) == 9


def test_every_row_of_table_1_is_a_saturated_double_softmax() -> None:
    rows = pd.DataFrame([{"loss": row.loss, "accuracy": row.accuracy} for row in TABLE_1.values()])
    rows = pd.concat([rows, pd.DataFrame([{"loss": 2.361, "accuracy": 0.100}])])
    assert is_saturated(rows["loss"], rows["accuracy"]).all()
    assert not is_saturated(rows["loss"] + 0.01, rows["accuracy"]).any()


def test_saturated_double_softmax_costs_what_its_number_of_classes_says(grid_results: Results) -> None:
    """A wrong image of 43 classes costs log(e + 42) = 3.8004, a right one 2.8004."""
    loss, accuracy = pd.Series([3.8004 - 0.7, 2.4612 - 0.7]), pd.Series([0.7, 0.7])
    assert list(is_saturated(loss, accuracy, 43)) == [True, False]
    assert list(is_saturated(loss, accuracy)) == [False, True]
    double = {"loss_function": "double_softmax"}
    runs = grid_results.runs.assign(**double, loss=3.8004 - grid_results.runs["accuracy"])
    many = pd.concat([grid_results.classes.assign(**{"class": label}) for label in range(43)])
    assert (collapse_table(runs, many)["num_saturated"] == 10).all()
    assert (collapse_table(runs, grid_results.classes)["num_saturated"] == 0).all()


@pytest.mark.parametrize("num_classes", [10, 240, 1000])
def test_uniform_network_is_not_saturated(num_classes: int) -> None:
    uniform = pd.Series([math.log(num_classes)]), pd.Series([1 / num_classes])
    saturated = pd.Series([math.log(math.e + num_classes - 1) - 0.4]), pd.Series([0.4])
    assert not is_saturated(*uniform, num_classes).any() and is_saturated(*saturated, num_classes).all()


def test_collapse_table_counts_runs_and_classes(grid_results: Results) -> None:
    table = collapse_table(grid_results.runs, grid_results.classes)
    none = row_of(table, data="1/2", method="none")
    truth = grid_results.runs.query("data == '1/2' and method == 'none'")["is_collapsed"].sum()
    assert none["num_collapsed"] == truth and 0 < truth < 10
    low, high = stats.beta.ppf([0.025, 0.975], [truth, truth + 1], [10 - truth + 1, 10 - truth])
    assert (none["rate_low"], none["rate_high"]) == pytest.approx((low, high))
    assert none["dead_classes"].endswith(f" {truth}") and none["num_saturated"] == 0
    assert table["num_collapsed"].sum() == truth


def test_generator_table_counts_collapsed_generators(grid_results: Results) -> None:
    table = generator_table(grid_results.generators, grid_results.generator_classes)
    assert len(table) == 8 and (table["n"] == 10).all()
    other = grid_results.generators["protocol"].where(grid_results.generators["seed"] < 5, "another name")
    renamed = grid_results.generators.assign(protocol=other)
    assert len(generator_table(renamed, grid_results.generator_classes)) == 8
    counted = (grid_results.generators["num_collapsed_classes"] > 0).sum()
    assert table["num_collapsed"].sum() == counted and 0 < counted < 80
