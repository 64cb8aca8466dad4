"""Checks of the tables: means by hand, the paper's numbers beside them, and those numbers themselves."""

import math
from pathlib import Path

import pandas as pd
import pytest

from lt_rebalance.ground.paper import NO_ROW, TABLE_1
from lt_rebalance.store import open_store
from lt_rebalance.store.records import Failure
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import compile_study
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from lt_rebalance.studies.tables import cells_frame, describe_cells, explain_cells, format_mean, runs_frame
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import torch_version
from sweeps import full_grid
from tests.made_up import make_up

EXECUTION = Execution(device="cpu", precision="float32", num_threads=1, torch_version=torch_version())


def make_run(
    data: str,
    method: str,
    seed: int,
    state: str = "complete",
    *,
    departure: str = "",
    **metrics: float,
) -> dict[str, object]:
    """Return a row of the runs' table."""
    return {
        "protocol": "paper",
        "dataset": "fashion_mnist",
        "data": data,
        "method": method,
        "paper_departure": departure,
        "seed": seed,
        "subset_seed": seed,
        "generator_seed": None,
        "state": state,
        "key": f"{data} {method} {seed}",
        **metrics,
    }


# Two cells at three seeds: one run is missing in the first, one has diverged in the second.
RUNS = pd.DataFrame(
    [
        make_run("7/9", "none", 0, accuracy=0.80, macro_f1=0.70, loss=1.6, num_dead_classes=0),
        make_run(
            "1/3", "none", 0, departure=NO_ROW, accuracy=0.50, macro_f1=0.40, loss=2.0, num_dead_classes=1
        ),
        make_run("7/9", "none", 1, accuracy=0.84, macro_f1=0.76, loss=1.4, num_dead_classes=2),
        make_run("1/3", "none", 1, "diverged", departure=NO_ROW),
        make_run("7/9", "none", 2, "missing"),
        make_run(
            "1/3", "none", 2, departure=NO_ROW, accuracy=0.30, macro_f1=0.20, loss=2.4, num_dead_classes=4
        ),
    ]
)

# One row per cell


def test_cells_frame_counts_planned_and_complete_runs() -> None:
    cells = cells_frame(RUNS)
    assert cells["data"].tolist() == ["7/9", "1/3"]
    assert cells["planned"].tolist() == [3, 3]
    assert cells["n"].tolist() == [2, 2]


def test_cells_frame_takes_mean_and_sample_deviation_of_complete_runs() -> None:
    cells = cells_frame(RUNS)
    assert cells["accuracy_mean"].tolist() == pytest.approx([0.82, 0.40])
    assert cells["macro_f1_mean"].tolist() == pytest.approx([0.73, 0.30])
    assert cells["loss_mean"].tolist() == pytest.approx([1.5, 2.2])
    # Of two values with n - 1: their distance over the square root of 2.
    assert cells["accuracy_sd"].tolist() == pytest.approx([0.04 / math.sqrt(2), 0.20 / math.sqrt(2)])
    assert cells["macro_f1_sd"].tolist() == pytest.approx([0.06 / math.sqrt(2), 0.20 / math.sqrt(2)])
    assert cells["loss_sd"].tolist() == pytest.approx([0.2 / math.sqrt(2), 0.4 / math.sqrt(2)])


def test_cells_frame_counts_complete_runs_with_a_dead_class_as_collapsed() -> None:
    assert cells_frame(RUNS)["collapsed"].tolist() == [1, 2]


def test_cells_frame_has_the_papers_numbers_only_for_the_papers_cells() -> None:
    cells = cells_frame(RUNS)
    first, second = (row for _, row in cells[["paper_loss", "paper_accuracy", "paper_f1"]].iterrows())
    assert first.tolist() == [1.571, 0.890, 0.884]
    assert second.isna().all()


def test_cells_frame_of_a_cell_that_the_paper_did_not_run_has_none_of_its_numbers_and_says_why() -> None:
    metrics = {"accuracy": 0.9, "macro_f1": 0.9, "loss": 1.6, "num_dead_classes": 0}
    runs = pd.DataFrame([make_run("7/9", "none", 0, departure="data set, budget", **metrics)])
    cells = cells_frame(runs)
    columns = ["paper_loss", "paper_accuracy", "paper_f1"]
    assert cells[columns].isna().all(axis=None)
    assert explain_cells(cells) == [
        "The paper's numbers are shown for none of these cells: its runs differ in data set, budget."
    ]


def test_diverged_runs_are_counted_and_said_beside_the_mean_that_leaves_them_out() -> None:
    cells = cells_frame(RUNS)
    assert cells[["diverged", "missing", "failed"]].to_numpy().tolist() == [[0, 1, 0], [1, 0, 0]]
    said = "1 diverged, left out of the mean: their absence depends on the outcome"
    assert cells["note"].tolist() == ["", said]
    assert explain_cells(cells)[-1] == said.replace("the mean", "the means") + "."
    assert len(explain_cells(cells_frame(RUNS[RUNS["state"] == "complete"]))) == 1


def test_title_of_the_cells_says_what_their_numbers_are() -> None:
    cells = cells_frame(RUNS)
    title = describe_cells("mine", RUNS, cells)
    assert title == "mine: mean ± standard deviation over seeds, beside the paper's single runs"
    none_of_the_papers = cells_frame(RUNS.assign(paper_departure="loss"))
    assert describe_cells("mine", RUNS, none_of_the_papers) == "mine: mean ± standard deviation over seeds"
    single = RUNS[RUNS["seed"] == 0]
    assert describe_cells("mine", single, cells_frame(single)).startswith("mine: single runs")
    nothing = RUNS.assign(state="missing")
    assert describe_cells("mine", nothing, cells_frame(nothing)).startswith("mine: no run is complete")
    apart = RUNS.assign(subset_seed=0)
    assert "over runs, of which several share a subset" in describe_cells("mine", apart, cells)


def test_cells_frame_of_one_complete_run_has_no_deviation() -> None:
    cells = cells_frame(RUNS[:2])
    assert cells["n"].tolist() == [1, 1]
    assert cells["accuracy_mean"].tolist() == [0.80, 0.50]
    assert cells["accuracy_sd"].isna().all()


@pytest.mark.parametrize("state", ["missing", "failed", "diverged"])
def test_cells_frame_without_a_complete_run_has_counts_and_no_numbers(state: str) -> None:
    cells = cells_frame(pd.DataFrame([make_run("7/9", "none", seed, state) for seed in range(2)]))
    assert cells[["planned", "n", "collapsed"]].values.tolist() == [[2, 0, 0]]
    for metric in ("accuracy", "macro_f1", "loss"):
        assert cells[[f"{metric}_mean", f"{metric}_sd"]].isna().all(axis=None)
    assert cells["paper_accuracy"].tolist() == [0.890]


def test_cells_frame_with_a_cell_without_a_complete_run_keeps_it_and_the_rest() -> None:
    runs = pd.concat([pd.DataFrame([make_run("1/2", "none", 0, "failed")]), RUNS])
    cells = cells_frame(runs)
    assert cells["data"].tolist() == ["1/2", "7/9", "1/3"]
    assert cells["n"].tolist() == [0, 2, 2]
    assert cells["planned"].tolist() == [1, 3, 3]
    assert cells["collapsed"].tolist() == [0, 1, 2]
    assert math.isnan(cells["accuracy_mean"][0])
    assert cells["accuracy_mean"].tolist()[1:] == pytest.approx([0.82, 0.40])


def test_cells_frame_keeps_the_order_of_the_plan() -> None:
    names = [("original", "none"), ("7/9", "none"), ("7/9", "cgan"), ("1/2", "undersample"), ("1/2", "b")]
    runs = pd.DataFrame(
        [
            # The first cells complete last.
            make_run(data, method, seed, accuracy=0.5)
            if place > 2
            else make_run(data, method, seed, "failed")
            for seed in range(2)
            for place, (data, method) in enumerate(names)
        ]
    )
    cells = cells_frame(runs)
    assert list(zip(cells["data"], cells["method"], strict=True)) == names


# One row per run


def test_runs_frame_has_a_row_for_every_planned_run_and_numbers_where_there_is_a_record(
    tmp_path: Path,
) -> None:
    protocol = get_protocol("paper")
    cells = tuple(
        make_cell(protocol, dataset="fashion_mnist", c=c, method=method, generator=generator)
        for c, method, generator in [(None, "none", None), ("1/2", "cgan", "mlp_cgan_relu")]
    )
    plan = compile_study(Study(name="test", cells=cells, seeds=(0, 1)), EXECUTION)
    store = open_store(str(tmp_path / "results"), RESULTS_VERSION, create=True)
    assert store is not None
    first, second, third, fourth = (run.stage for run in plan.runs)
    store.commit(make_up(first, hits=90))
    store.commit(make_up(second, "diverged"))
    store.mark_failed(
        Failure(key=third.key, kind=third.kind, stage={}, error="no", traceback="", provenance={})
    )
    runs = runs_frame(Ledger(plan, store))
    assert runs["data"].tolist() == ["original", "1/2"] * 2
    assert runs["method"].tolist() == ["none", "mlp_cgan_relu"] * 2
    assert runs["seed"].tolist() == [0, 0, 1, 1]
    assert runs["state"].tolist() == ["complete", "diverged", "failed", "missing"]
    assert runs["key"].tolist() == [first.key, second.key, third.key, fourth.key]
    assert set(runs["protocol"]) == {"paper"}
    assert set(runs["dataset"]) == {"fashion_mnist"}
    assert runs["accuracy"].tolist()[0] == 0.9
    assert runs["accuracy"].isna().tolist() == [False, True, True, True]
    assert runs["num_steps"].tolist()[:2] == [3000, 3000]
    assert runs["train_s"].isna().tolist() == [False, False, True, True]


# Numbers as text


@pytest.mark.parametrize(
    ("mean", "sd", "n", "expected"),
    [
        (math.nan, math.nan, 0, "-"),
        (0.8124, math.nan, 1, "0.812"),
        (0.8124, 0.0041, 3, "0.812 ± 0.004"),
        (1.5, 0.0, 2, "1.500 ± 0.000"),
    ],
)
def test_format_mean_shows_as_much_as_n_allows(mean: float, sd: float, n: int, expected: str) -> None:
    assert format_mean(mean, sd, n) == expected


# The paper's table


def test_table_1_has_exactly_the_cells_of_the_paper_preset() -> None:
    study = full_grid.build_study(full_grid.make_grid_parser().parse_args(["--preset", "paper"]))
    assert len(TABLE_1) == 15
    assert list(TABLE_1) == [(cell.data.label, cell.method_label) for cell in study.cells]


@pytest.mark.parametrize(
    ("data", "method", "loss", "accuracy", "f1"),
    [
        ("original", "none", 1.540, 0.921, 0.921),
        ("7/9", "mlp_cgan_leaky", 1.670, 0.791, 0.751),
        ("1/2", "none", 1.983, 0.476, 0.342),
        ("1/2", "oversample", 1.648, 0.812, 0.799),
    ],
)
def test_table_1_holds_the_published_numbers(
    data: str, method: str, loss: float, accuracy: float, f1: float
) -> None:
    row = TABLE_1[data, method]
    assert (row.loss, row.accuracy, row.f1) == (loss, accuracy, f1)


@pytest.mark.parametrize("cell", TABLE_1)
def test_table_1_losses_fit_the_accuracies_of_a_saturated_double_softmax(cell: tuple[str, str]) -> None:
    # A wrong and sure answer costs log(e + 9), a right one 1 less.
    row = TABLE_1[cell]
    assert row.loss == pytest.approx(math.log(math.e + 9) - row.accuracy, abs=0.0025)
    assert row.f1 <= row.accuracy
