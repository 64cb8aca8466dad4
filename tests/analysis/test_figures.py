"""Figures show what the tables hold: positions, counts and captions are read back from the axes."""

import dataclasses
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from analysis.collect import Results, read_results
from analysis.compare import compare, pair
from analysis.estimates import mean_interval
from analysis.figures import Drawn, draw_figures, to_png, to_svg
from analysis.figures.classes import plot_confusion, plot_recalls
from analysis.figures.generators import plot_grid
from analysis.figures.methods import plot_differences, plot_replicates, plot_wins
from analysis.figures.style import colour_of
from analysis.figures.training import MAX_COLLAPSED_LINES, plot_curves
from lt_rebalance.paper import TABLE_1
from tests.analysis.synthetic import Truth, make_store, plan_study


def blank_axes() -> Axes:
    return Figure().subplots()


def block_of(results: Results, data: str) -> pd.DataFrame:
    return results.runs[results.runs["data"] == data]


def offsets(axes: Axes, index: int) -> np.ndarray:
    scatters = [each for each in axes.collections if isinstance(each, PathCollection)]
    return np.asarray(scatters[index].get_offsets())


def test_replicates_are_drawn_at_their_accuracies(grid_results: Results) -> None:
    block = block_of(grid_results, "7/9")
    axes = plot_replicates(blank_axes(), block)
    none = block[block["method"] == "none"].sort_values("seed")
    assert offsets(axes, 0)[:, 0].tolist() == none["accuracy"].tolist()
    mean = none["accuracy"].mean()
    bar = axes.containers[0]
    assert bar[0].get_xdata()[0] == pytest.approx(mean)
    low, high = (cap.get_xdata()[0] for cap in bar[1])
    assert (low, high) == pytest.approx(tuple(mean_interval(none["accuracy"].to_numpy())))


def test_crosses_are_the_collapsed_runs(grid_results: Results) -> None:
    block = block_of(grid_results, "1/2")
    axes = plot_replicates(blank_axes(), block)
    none = block[block["method"] == "none"].sort_values("seed")
    is_collapsed = none["is_collapsed"].astype(bool)
    assert len(offsets(axes, 0)) == (~is_collapsed).sum()
    assert offsets(axes, 1)[:, 0].tolist() == none.loc[is_collapsed, "accuracy"].tolist()


def test_the_papers_number_is_marked_only_where_it_has_a_row(grid_results: Results) -> None:
    block = block_of(grid_results, "7/9")
    for dataset, is_marked in {"fashion_mnist": True, "mnist": False}.items():
        axes = plot_replicates(blank_axes(), block.assign(dataset=dataset))
        marks = [
            float(np.asarray(each.get_offsets())[0, 0])
            for each in axes.collections
            if isinstance(each, PathCollection) and len(each.get_facecolor()) == 0
        ]
        assert (TABLE_1["7/9", "oversample"].accuracy in marks) == is_marked


def test_pairs_are_joined_and_their_differences_shown_in_points(grid_results: Results) -> None:
    cells = grid_results.cells.set_index(["data", "method"])["cell"]
    paired = pair(grid_results.runs, cells["7/9", "none"], cells["7/9", "oversample"], "accuracy")
    lines, spread = blank_axes(), blank_axes()
    plot_differences(lines, spread, paired, ("oversample", "none"))
    assert len(lines.lines) == 10 + 1
    assert lines.lines[0].get_ydata() == pytest.approx([paired["second"].iloc[0], paired["first"].iloc[0]])
    assert offsets(spread, 0)[:, 1] == pytest.approx(np.sort(100 * paired["difference"]))
    assert spread.containers[0][0].get_ydata()[0] == pytest.approx(100 * paired["difference"].mean())


def test_wins_are_the_table_and_its_mirror(grid_results: Results) -> None:
    contrasts = compare(grid_results.runs).query("data == '7/9'")
    axes = plot_wins(blank_axes(), contrasts)
    shown = np.asarray(axes.images[0].get_array())
    row = contrasts.query("method == 'oversample' and comparator == 'none'").iloc[0]
    assert shown[2, 0] == row["better_share"] and shown[0, 2] == 1 - row["better_share"]
    assert len(axes.texts) == 7 * 6


def test_curves_show_the_median_and_collapsed_runs(grid_results: Results) -> None:
    rounds = grid_results.rounds.query("data == '1/2' and method == 'none'").astype({"key": "object"})
    runs = grid_results.runs.query("data == '1/2' and method == 'none'")
    collapsed = set(runs.loc[runs["is_collapsed"].astype(bool), "key"])
    axes = plot_curves(blank_axes(), rounds, collapsed, "black")
    medians = rounds.groupby("round")["test_accuracy"].median().to_numpy()
    assert axes.lines[0].get_ydata() == pytest.approx(medians)
    assert len(axes.lines) == 1 + min(len(collapsed), MAX_COLLAPSED_LINES)


def test_recalls_are_means_over_runs(grid_results: Results) -> None:
    classes = grid_results.classes.query("data == '1/2'").astype({"method": "object"})
    axes = plot_recalls(blank_axes(), classes)
    shown = np.asarray(axes.images[0].get_array())
    none = classes[(classes["method"] == "none") & (classes["class"] == 9)]["recall"]
    assert shown[0, 9] == pytest.approx(none.mean())
    counts = [text.get_text() for text in axes.child_axes[0].get_xticklabels()]
    assert counts[:3] + counts[-1:] == ["6000", "3000", "1500", "12"]


def test_confusion_matrices_are_averaged_as_shares_of_each_class() -> None:
    confusions = [np.array([[8, 2], [5, 5]]), np.array([[6, 4], [0, 20]])]
    axes = plot_confusion(blank_axes(), confusions, ["a", "b"])
    assert np.asarray(axes.images[0].get_array()).ravel() == pytest.approx([0.7, 0.3, 0.25, 0.75])
    assert [text.get_text() for text in axes.texts] == ["70", "30", "25", "75"]


def test_sheets_place_every_image_and_frame_collapsed_classes() -> None:
    images_KJCHW = np.arange(2 * 3 * 1 * 2 * 2, dtype=np.uint8).reshape(2, 3, 1, 2, 2)
    axes = plot_grid(blank_axes(), images_KJCHW, ["a", "b"], [False, True])
    mosaic = np.asarray(axes.images[0].get_array())
    assert mosaic.shape == (4, 6)
    assert (mosaic[2:4, 4:6] == images_KJCHW[1, 2, 0]).all()
    (frame,) = axes.patches
    assert frame.get_y() == 1.5 and frame.get_height() == 2


def test_a_method_has_the_same_colour_in_every_figure() -> None:
    assert colour_of("mlp_cgan_relu", ["mlp_cgan_relu"]) == colour_of(
        "mlp_cgan_relu", ["none", "mlp_cgan_relu"]
    )
    names = ["none", "undersample", "dccgan_leaky", "another"]
    assert len({colour_of(name, names) for name in names[:3]}) == 3


@pytest.fixture(scope="module")
def drawn(grid_results: Results) -> list[Drawn]:
    return list(draw_figures(grid_results, compare(grid_results.runs)))


def test_every_figure_of_a_whole_grid_is_drawn_and_says_what_it_shows(drawn: list[Drawn]) -> None:
    assert {each.name.partition("-")[0] for each in drawn} == {f"f{number}" for number in range(1, 9)}
    names = [each.name for each in drawn]
    assert len(set(names)) == len(names)
    captions = {each.name: each.caption for each in drawn}
    for name in ("f1-replicates-1", "f2-differences-1", "f3-wins-1", "f5-curves-1"):
        assert "n = " in captions[name]
    assert "95 % Student t interval" in captions["f1-replicates-1"]
    assert "fashion_mnist" in captions["f4-ranks-1"] and "not independent" in captions["f4-ranks-1"]


def test_figures_are_equal_on_a_second_run_and_leave_pyplot_alone(
    grid_results: Results, drawn: list[Drawn]
) -> None:
    again = next(draw_figures(grid_results, compare(grid_results.runs)))
    assert to_svg(again) == to_svg(drawn[0]) and to_png(again) == to_png(drawn[0])
    assert plt.get_fignums() == []


def test_one_seed_and_missing_runs_are_drawn(tmp_path: Path) -> None:
    plan = plan_study(num_seeds=2, cs=("1/2",))
    store = make_store(tmp_path, plan, Truth(collapse_rate=lambda run: 1.0))
    for run in plan.runs[7:]:
        (tmp_path / "stages" / run.key / "result.json").unlink()
    results = read_results(store.location, allow=["gaps"])
    names = {each.name for each in draw_figures(results, compare(results.runs))}
    assert {"f1-replicates-1", "f5-curves-1", "f6-recalls-1", "f7-confusion-1", "f8-samples-1"} <= names


def test_a_store_without_results_gives_no_more_than_empty_axes(tmp_path: Path) -> None:
    plan = plan_study(num_seeds=1, cs=("1/2",), methods=("none",), generators=())
    store = make_store(tmp_path, plan)
    (tmp_path / "stages" / plan.runs[0].key / "result.json").unlink()
    results = read_results(store.location, allow=["gaps"])
    names = [each.name for each in draw_figures(results, compare(results.runs))]
    assert names == ["f1-replicates-1"]


def test_settings_have_figures_of_their_own(grid_results: Results) -> None:
    runs = pd.concat([grid_results.runs, grid_results.runs.assign(setting="other")], ignore_index=True)
    results = dataclasses.replace(grid_results, runs=runs)
    names = [each.name for each in draw_figures(results, compare(runs))]
    assert {"f1-replicates-1", "f1-replicates-2", "f4-ranks-2"} <= set(names)
