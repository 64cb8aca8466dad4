"""Figures show what the tables hold: positions, counts and captions are read back from the axes."""

import dataclasses
import html
import itertools
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import stats

from analysis.collect import Results, read_results
from analysis.compare import compare
from analysis.figures import Drawn, draw_figures, to_png, to_svg
from analysis.figures.classes import draw_confusions, draw_recalls, plot_confusion, plot_recalls
from analysis.figures.differences import draw_differences, pair_runs, plot_differences
from analysis.figures.generators import (
    GAP,
    draw_grids,
    grid_figure,
    nearest_figure,
    plot_diversity,
    plot_grid,
    read_grids,
)
from analysis.figures.methods import draw_replicates, plot_replicates, plot_wins
from analysis.figures.ranks import draw_ranks, fewest_blocks, plot_ranks, rank_p_values, rank_table
from analysis.figures.style import (
    LONGEST_NAME,
    colour_of,
    describe_missing_letters,
    describe_n,
    make_figure,
    marker_of,
    shorten,
    to_pdf,
    use_log_scale,
)
from analysis.figures.training import MAX_COLLAPSED_LINES, draw_curves, place_after_first, plot_curves
from lt_rebalance.ground.confusion import Confusion
from lt_rebalance.ground.paper import TABLE_1
from tests.analysis.conftest import ACCURACY
from tests.analysis.simulation import is_share_at_most
from tests.analysis.synthetic import Truth, make_store, plan_study


def blank_axes() -> Axes:
    return Figure().subplots()


def block_of(results: Results, data: str) -> pd.DataFrame:
    return results.runs[results.runs["data"] == data]


def marks(axes: Axes, name: str) -> list[np.ndarray]:
    """Return the places of all marks of a kind, one array (marks, 2) for each time they were drawn."""
    drawn = [each for each in axes.collections if isinstance(each, PathCollection) and each.get_gid() == name]
    return [np.asarray(each.get_offsets()) for each in drawn]


def cross_counts(axes: Axes) -> list[int]:
    return [len(places) for places in marks(axes, "collapsed")]


def test_replicates_are_drawn_at_their_accuracies(grid_results: Results) -> None:
    block = block_of(grid_results, "7/9")
    axes = plot_replicates(blank_axes(), block)
    best_first = block.groupby("method")["accuracy"].mean().sort_values(ascending=False).index
    assert [label.get_text() for label in axes.get_yticklabels()] == list(best_first)
    for row, method in enumerate(best_first):
        values = block[block["method"] == method].sort_values("seed")["accuracy"]
        assert marks(axes, "runs")[row][:, 0].tolist() == values.tolist()
        bar = axes.containers[row]
        assert bar[0].get_xdata()[0] == pytest.approx(values.mean())
        # 95 % for all seven methods together, after Bonferroni
        half = stats.t.ppf(1 - 0.025 / 7, 9) * values.std(ddof=1) / np.sqrt(10)
        low, high = (cap.get_xdata()[0] for cap in bar[1])
        assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half))


def test_a_seed_stands_at_the_same_height_in_every_row_also_where_others_are_missing(
    grid_results: Results,
) -> None:
    block = block_of(grid_results, "7/9").copy()
    block.loc[(block["method"] == "none") & (block["seed"] == 0), "state"] = "missing"
    axes = plot_replicates(blank_axes(), block)
    row = [label.get_text() for label in axes.get_yticklabels()].index("none")
    none, below = marks(axes, "runs")[row : row + 2]
    assert len(none) == 9 and none[:, 1] + 1 == pytest.approx(below[1:, 1])


def test_crosses_are_the_collapsed_runs_and_are_counted_beside_their_row(grid_results: Results) -> None:
    block = block_of(grid_results, "1/2").copy()
    none = block[block["method"] == "none"].sort_values("seed")
    is_collapsed = none["is_collapsed"].astype(bool)
    assert 0 < is_collapsed.sum() < 10
    block.loc[none.index[~is_collapsed][0], "state"] = "failed"
    axes = plot_replicates(blank_axes(), block)
    row = [label.get_text() for label in axes.get_yticklabels()].index("none")
    assert cross_counts(axes) == [is_collapsed.sum() * (index == row) for index in range(7)]
    assert marks(axes, "collapsed")[row][:, 0].tolist() == none.loc[is_collapsed, "accuracy"].tolist()
    assert len(marks(axes, "runs")[row]) == (~is_collapsed).sum() - 1
    texts = [text.get_text() for text in axes.texts]
    assert texts[0] == "n (×)" and set(texts[1:]) == {f"9 of 10 ({is_collapsed.sum()})", "10 (0)"}
    assert texts[1 + row] == f"9 of 10 ({is_collapsed.sum()})"


def test_marks_say_what_they_are_when_pointed_at(grid_results: Results) -> None:
    block = block_of(grid_results, "1/2")
    block = block[block["seed"].isin([0, 1])].assign(accuracy=0.75)
    block = block.assign(accuracy=block["accuracy"].where(block["seed"] == 0, 0.85))
    (drawn,) = draw_replicates(block[block["method"].isin(["oversample"])])
    titles = re.findall(r"<title>(.*?)</title>", to_svg(drawn).decode())
    # t(.975, 1) = 12.706; 12.706 * 0.1 / 2
    assert {"oversample, seed 0: 0.750", "oversample, seed 1: 0.850"} <= set(titles)
    assert "oversample: mean 0.800 (0.165 to 1.435), n = 2" in titles
    assert "hover:" not in to_svg(drawn).decode()


def test_methods_without_a_run_are_named_below_the_figure(grid_results: Results) -> None:
    block = block_of(grid_results, "7/9").copy()
    block.loc[block["method"] == "none", "state"] = "missing"
    (drawn,) = draw_replicates(block)
    labels = [label.get_text() for label in drawn.figure.axes[0].get_yticklabels()]
    assert "none" not in labels and len(labels) == 6
    assert drawn.caption.endswith("Without a complete run: none. Data set: fashion_mnist.")


def test_the_papers_number_is_marked_only_beside_its_own_cells(grid_results: Results) -> None:
    block = block_of(grid_results, "7/9")
    assert marks(plot_replicates(blank_axes(), block), "paper") == []
    block = block.assign(paper_departure="")
    papers = marks(plot_replicates(blank_axes(), block), "paper")
    assert sorted(places[0, 0] for places in papers) == sorted(
        row.accuracy for (data, _), row in TABLE_1.items() if data == "7/9"
    )


def test_no_interval_is_drawn_of_one_run(grid_results: Results) -> None:
    axes = plot_replicates(blank_axes(), block_of(grid_results, "7/9").query("seed == 3"))
    assert list(axes.containers) == [] and len(marks(axes, "runs")) == 7


def test_pairs_are_joined_and_their_differences_shown_in_points(grid_results: Results) -> None:
    cells = grid_results.cells.set_index(["data", "method"])["cell"]
    paired = pair_runs(grid_results.runs, cells["1/2", "none"], cells["1/2", "oversample"])
    none = block_of(grid_results, "1/2").query("method == 'none'").set_index("seed")
    assert paired["is_collapsed"].tolist() == none["is_collapsed"].tolist()
    lines, spread = blank_axes(), blank_axes()
    plot_differences(lines, spread, paired, ("oversample", "none"))
    healthy, collapsed = (each for each in lines.collections if isinstance(each, LineCollection))
    first = paired[~paired["is_collapsed"]].iloc[0]
    assert healthy.get_segments()[0][:, 1] == pytest.approx([first["second"], first["first"]])
    assert len(collapsed.get_segments()) == none["is_collapsed"].sum()
    differences = 100 * (paired["first"] - paired["second"])
    shown = np.concatenate([*marks(spread, "pairs"), *marks(spread, "collapsed")])[:, 1]
    assert np.sort(shown) == pytest.approx(np.sort(differences))
    assert cross_counts(spread) == [none["is_collapsed"].sum()]
    bar = spread.containers[0]
    half = stats.t.ppf(0.975, 9) * differences.std(ddof=1) / np.sqrt(10)
    assert bar[0].get_ydata()[0] == pytest.approx(differences.mean())
    assert bar[1][1].get_ydata()[0] == pytest.approx(differences.mean() + half)
    band = spread.patches[0].get_bbox()
    assert (band.y0, band.y1) == pytest.approx((-0.5, 0.5))


def test_differences_are_against_none_where_oversample_was_not_run(grid_results: Results) -> None:
    runs = grid_results.runs.query("method != 'oversample'")
    assert {each.title.partition(":")[0] for each in draw_differences(runs)} == {
        "F2. Paired differences from none"
    }


def test_wins_are_the_table_and_its_mirror(grid_results: Results) -> None:
    contrasts = compare(grid_results.runs).query("data == '7/9'")
    axes = plot_wins(blank_axes(), contrasts)
    shown = np.asarray(axes.images[0].get_array())
    row = contrasts.query("method == 'oversample' and comparator == 'none'").iloc[0]
    assert shown[2, 0] == row["better_share"] and shown[0, 2] == 1 - row["better_share"]
    assert len(axes.texts) == 7 * 6


def test_ranks_join_methods_that_wilcoxon_and_holm_do_not_tell_apart() -> None:
    blocks = np.arange(8) / 100
    table = pd.DataFrame({"none": blocks, "oversample": blocks + 0.5, "undersample": blocks[::-1]})
    p_values = rank_p_values(table)
    against_none = stats.wilcoxon(table["oversample"] - table["none"], method="exact").pvalue
    assert p_values.loc["oversample", "none"] == pytest.approx(3 * against_none)
    assert p_values.loc["undersample", "none"] == p_values.loc["none", "undersample"] == 1
    axes = plot_ranks(blank_axes(), pd.Series({"none": 2.5, "oversample": 1.0, "undersample": 2.5}), p_values)
    bars = [line for line in axes.lines if line.get_marker() == "o"]
    assert [sorted(bar.get_xdata()) for bar in bars] == [[2.5, 2.5]]
    assert {text.get_text().strip() for text in axes.texts} >= {"oversample (1.00)"}


def test_equal_methods_are_not_told_apart() -> None:
    table = pd.DataFrame({"none": np.arange(8.0), "oversample": np.arange(8.0)})
    assert (rank_p_values(table) == 1).all().all()


def test_ranks_are_not_drawn_of_too_few_blocks(grid_results: Results) -> None:
    """Seven methods make 21 pairs, which 9 seeds cannot tell apart; three make 3, which 7 can."""
    assert fewest_blocks(7) == 10 and fewest_blocks(3) == 7 and fewest_blocks(2) == 6
    assert list(draw_ranks(grid_results.runs.query("seed < 9"))) == []
    three = grid_results.runs.query("method in ['none', 'undersample', 'oversample']")
    assert list(draw_ranks(three.query("seed < 6"))) == []
    assert len(list(draw_ranks(three.query("seed < 7")))) == 1


def test_ranks_take_seeds_as_blocks_and_average_their_cs(grid_results: Results) -> None:
    table = rank_table(grid_results.runs)
    assert list(table.index) == list(range(10)) and len(table.columns) == 7
    of_none = grid_results.runs.query("method == 'none' and seed == 4 and data != 'original'")
    assert len(of_none) == 2 and table.loc[4, "none"] == pytest.approx(of_none["accuracy"].mean())


def test_ranks_say_which_seeds_are_left_out(grid_results: Results) -> None:
    runs = grid_results.runs.query("method in ['none', 'undersample', 'oversample']").copy()
    runs.loc[runs.index[(runs["seed"] == 3) & (runs["data"] == "1/2")][:1], "state"] = "diverged"
    (drawn,) = draw_ranks(runs)
    assert "n = 9 blocks" in drawn.caption and "Left out: 1 of 10 seeds" in drawn.caption
    (drawn,) = draw_ranks(runs[runs["state"] == "complete"].query("seed != 3"))
    assert "eft out" not in drawn.caption


def test_ranks_blame_no_run_for_a_seed_that_was_not_planned(grid_results: Results) -> None:
    runs = grid_results.runs.query("method in ['none', 'undersample', 'oversample']")
    later = runs["seed"] > 7
    (drawn,) = draw_ranks(runs[~(later & (runs["method"] == "undersample"))])
    assert "Left out: 2 of 10 seeds, because not every method was planned at them." in drawn.caption
    ended = runs[~(later & (runs["method"] == "undersample"))].copy()
    ended.loc[ended.index[ended["seed"] == 3][-1:], "state"] = "diverged"
    (drawn,) = draw_ranks(ended)
    assert "Left out: 1 of 10 seeds, because some of their runs are missing, failed or div" in drawn.caption
    assert "Left out: 2 of 10 seeds, because not every method was planned at them." in drawn.caption
    # A method that some C lacks is in no rank, and takes no seed from those that are.
    some_c = runs[~((runs["method"] == "undersample") & (later | (runs["data"] == "7/9")))]
    assert len(rank_table(some_c)) == 10 and "undersample" not in rank_table(some_c)


@pytest.mark.slow
def test_ranks_keep_the_family_wise_error_where_the_cs_of_a_seed_share_its_luck(
    grid_results: Results,
) -> None:
    """Nine Cs and four methods of equal merit; what a method has of a seed is the same at every C."""
    rng = np.random.default_rng(31)
    num_seeds, num_cs, names = 10, 9, ["none", "undersample", "oversample", "balanced_softmax"]
    index = pd.MultiIndex.from_product(
        [range(num_seeds), range(num_cs), names], names=["seed", "data", "method"]
    )
    frame = index.to_frame(index=False).assign(state="complete", is_not_applicable=False)
    frame["data"] = "C" + frame["data"].astype(str)
    frame["cell"] = frame["data"] + frame["method"]
    is_found = []
    for _ in range(300):
        luck = rng.normal(0, 0.01, (num_seeds, 1, len(names))) + rng.normal(0, 0.02, (num_seeds, 1, 1))
        noise = rng.normal(0, 0.004, (num_seeds, num_cs, len(names)))
        runs = frame.assign(accuracy=(0.8 + luck + noise).ravel())
        is_found.append(bool((rank_p_values(rank_table(runs)) < 0.05).to_numpy().any()))
    assert is_share_at_most(is_found, 0.05)
    better = frame["method"].eq("oversample") * 0.05
    assert (
        (rank_p_values(rank_table(runs.assign(accuracy=runs["accuracy"] + better))) < 0.05).to_numpy().any()
    )


@pytest.mark.parametrize("unit", ["step", "epoch"])
def test_curves_show_the_median_and_collapsed_runs(grid_results: Results, unit: str) -> None:
    rounds = grid_results.rounds.query("data == '1/2' and method == 'none'").astype({"key": "object"})
    runs = grid_results.runs.query("data == '1/2' and method == 'none'")
    collapsed = set(runs.loc[runs["is_collapsed"].astype(bool), "key"])
    axes = plot_curves(blank_axes(), rounds, collapsed, "black", unit)
    of_round = rounds.groupby("round")["test_accuracy"]
    assert axes.lines[0].get_ydata() == pytest.approx(of_round.median().to_numpy())
    assert axes.lines[0].get_xdata()[-1] == {"step": 7200, "epoch": 12}[unit]
    assert len(axes.lines) == 1 + len(collapsed) > 1


def test_the_band_of_curves_goes_from_the_10_to_the_90_percent_quantile() -> None:
    runs = [{"key": f"{tenth}", "round": 1, "step": 50, "test_accuracy": tenth / 10} for tenth in range(11)]
    rounds = pd.concat([pd.DataFrame(runs), pd.DataFrame(runs).assign(round=2, step=100)])
    axes = plot_curves(blank_axes(), rounds, set(), "black")
    corners = axes.collections[0].get_paths()[0].vertices
    assert sorted(set(corners[:, 1].round(9))) == [0.1, 0.9] and sorted(set(corners[:, 0])) == [50, 100]


def test_lines_of_collapsed_runs_are_capped(grid_results: Results) -> None:
    one = grid_results.rounds.query("data == '1/2' and method == 'none' and seed == 0")
    keys = [f"{number:03}" for number in range(MAX_COLLAPSED_LINES + 7)]
    rounds = pd.concat([one.assign(key=key) for key in keys])
    assert len(plot_curves(blank_axes(), rounds, set(keys), "black").lines) == 1 + MAX_COLLAPSED_LINES


def test_curves_run_over_epochs_where_budgets_are_epochs(grid_results: Results) -> None:
    labels = [
        next(
            draw_curves(grid_results.rounds.assign(budget=budget), grid_results.runs, {})
        ).figure.get_supxlabel()
        for budget in ("30 epochs", "1 epoch", "18,000 steps")
    ]
    assert labels == ["epoch", "epoch", "step"]


def test_trainings_that_follow_a_first_one_begin_at_its_end() -> None:
    """A second training of two rounds, a method that changes the trained network, and a training alone."""
    rounds = pd.DataFrame(
        {
            "key": ["second", "second", "after", "alone", "alone"],
            "round": [1, 2, 1, 1, 2],
            "step": [100, 200, 0, 100, 200],
        }
    )
    placed = place_after_first(rounds, {"second": (4, 400), "after": (4, 400)})
    assert placed["round"].tolist() == [5, 6, 4, 1, 2]
    assert placed["step"].tolist() == [500, 600, 400, 100, 200]
    pd.testing.assert_frame_equal(place_after_first(rounds, {}), rounds)


def test_curves_after_a_first_training_say_so_and_a_single_round_is_a_dot(grid_results: Results) -> None:
    rounds = grid_results.rounds.query("data == '1/2' and method == 'none' and round == 1").assign(step=0)
    runs = grid_results.runs.query("data == '1/2' and method == 'none'")
    first = dict.fromkeys(runs["key"], (12, 7200))
    (drawn,) = draw_curves(rounds, runs, first)
    assert "begins where its first training ended" in drawn.caption
    (axes,) = drawn.figure.axes
    num_collapsed = int(runs["is_collapsed"].sum())
    assert len(axes.lines) == 1 + num_collapsed > 1
    assert {(line.get_marker(), *line.get_xdata()) for line in axes.lines} == {("o", 7200)}
    (drawn,) = draw_curves(rounds, runs, {})
    assert "first training" not in drawn.caption


FORMULAS = ("$x^2$", "$1$ and $2$", r"$\frac{", "5 $", r"a\$b$", "$_$", "%", "{", "_", "&")


@pytest.mark.parametrize("save", [to_svg, to_png, to_pdf])
def test_names_of_classes_are_no_formulas(grid_results: Results, save: Callable[[Drawn], bytes]) -> None:
    classes = grid_results.classes.query("data == '1/2' and seed == 0").copy()
    classes["class_name"] = [FORMULAS[label] for label in classes["class"]]
    (drawn,) = draw_recalls(classes, grid_results.runs)
    file = save(drawn)
    if save is to_svg:
        texts = re.findall("<text[^>]*>([^<]*)</text>", file.decode())
        assert set(FORMULAS) <= {html.unescape(text) for text in texts}


def test_labels_of_log_axes_are_numbers() -> None:
    figure, ((axes,),) = make_figure(1, 1, 4, 3)
    axes.plot([2, 5000], [0, 1])
    use_log_scale(axes)
    svg = to_svg(Drawn(name="", title="", caption="", figure=figure)).decode()
    assert {"10", "100", "1000"} <= set(re.findall("<text[^>]*>([^<]*)</text>", svg)) and "$" not in svg


def test_long_names_are_cut_and_stay_different() -> None:
    names = ["melanoma", "actinic keratoses and intraepithelial carcinoma", "x" * 21, "x" * 22, "y" * 20]
    shown = shorten(names)
    assert shown == ["melanoma", "actinic keratoses a…", "x" * 17 + "… 2", "x" * 17 + "… 3", "y" * 20]
    assert max(map(len, shown)) == LONGEST_NAME


@pytest.mark.filterwarnings("error")
def test_figures_of_long_and_of_foreign_names_are_whole_and_without_a_warning(grid_results: Results) -> None:
    names = [f"{label} actinic keratoses and intraepithelial carcinoma 猫" for label in range(9)] + ["猫"]
    results = dataclasses.replace(grid_results, class_names=dict.fromkeys(grid_results.class_names, names))
    classes = grid_results.classes.assign(
        class_name=[names[label] for label in grid_results.classes["class"]]
    )
    drawn = [
        next(draw_recalls(classes, results.runs)),
        next(draw_confusions(results.runs, results.confusions, results.class_names)),
        *itertools.islice(draw_grids(results), 2),
    ]
    for each in drawn:
        to_png(each)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")
            box = each.figure.get_tightbbox()
        assert box.x0 >= 0 and box.x1 <= each.figure.get_figwidth(), each.name


def test_letters_that_figures_cannot_show_are_named_once() -> None:
    assert describe_missing_letters(["Ünïcode", "дом", "…"]) == ""
    said = describe_missing_letters(["猫犬", "猫"])
    assert said == "figures have boxes for letters that their font lacks: 猫 犬; tables have the names"


def test_counts_in_captions_have_the_form_of_their_noun() -> None:
    assert describe_n([1, 1], "run") == "n = 1 run" and describe_n([], "pair") == "n = 0 pairs"
    assert describe_n([1, 1000], "run") == "n = 1 to 1,000 runs" and describe_n([10]) == "n = 10"


def test_recalls_are_means_over_runs(grid_results: Results) -> None:
    classes = grid_results.classes.query("data == '1/2'").astype({"method": "object"})
    axes = plot_recalls(blank_axes(), classes)
    shown = np.asarray(axes.images[0].get_array())
    none = classes[(classes["method"] == "none") & (classes["class"] == 9)]["recall"]
    assert shown[0, 9] == pytest.approx(none.mean())
    counts = [text.get_text() for text in axes.child_axes[0].get_xticklabels()]
    assert counts[:3] + counts[-1:] == ["6000", "3000", "1500", "12"]


def test_counts_that_depend_on_the_seed_are_not_averaged(grid_results: Results) -> None:
    classes = grid_results.classes.query("data == '1/2'").astype({"method": "object"})
    first = classes["class"].eq(9) & classes["seed"].eq(0)
    axes = plot_recalls(blank_axes(), classes.assign(class_count=classes["class_count"].where(~first, 3000)))
    counts = [text.get_text() for text in axes.child_axes[0].get_xticklabels()]
    assert counts[-2:] == ["24", "varies"]


def test_confusion_matrices_are_averaged_as_shares_of_each_class() -> None:
    matrices = [np.array([[8, 2], [5, 5]]), np.array([[6, 4], [0, 20]])]
    confusions = [Confusion.of_matrix(confusion_KK) for confusion_KK in matrices]
    axes = plot_confusion(blank_axes(), confusions, ["a", "b"])
    assert np.asarray(axes.images[0].get_array()).ravel() == pytest.approx([0.7, 0.3, 0.25, 0.75])
    assert [text.get_text() for text in axes.texts] == [".70", ".30", ".25", ".75"]


def test_collapsed_runs_are_set_beside_healthy_ones_of_the_same_methods(grid_results: Results) -> None:
    none = block_of(grid_results, "1/2").query("method == 'none'")
    num_collapsed = int(none["is_collapsed"].sum())
    (drawn,) = draw_confusions(grid_results.runs, grid_results.confusions, grid_results.class_names)
    assert [axes.get_title() for axes in drawn.figure.axes] == [
        f"collapsed, n = {num_collapsed} runs",
        f"healthy, n = {10 - num_collapsed} runs",
    ]
    shares = np.asarray(drawn.figure.axes[0].images[0].get_array())
    keys = none.loc[none["is_collapsed"], "key"]
    mean = np.mean([grid_results.confusions[key].to_matrix() for key in keys], axis=0)
    assert shares == pytest.approx(mean / 1000)
    assert f"none {num_collapsed} of 10 collapsed" in drawn.caption


def test_grids_place_every_image_with_gaps_and_frame_collapsed_classes() -> None:
    images_KJCHW = np.arange(1, 25, dtype=np.uint8).reshape(2, 3, 1, 2, 2)
    axes = plot_grid(blank_axes(), images_KJCHW, ["a", "b"], [False, True])
    mosaic = np.asarray(axes.images[0].get_array())
    side = 2 + GAP
    assert mosaic.shape == (2 * side, 3 * side)
    assert (mosaic[side : side + 2, 2 * side : 2 * side + 2] == images_KJCHW[1, 2, 0]).all()
    assert np.count_nonzero(mosaic) == 24
    (frame,) = axes.patches
    assert frame.get_y() == side - 0.5 - GAP and frame.get_height() == side + GAP


def test_grids_are_those_of_the_lowest_complete_seed_of_each_architecture(
    grid_results: Results,
) -> None:
    generators = grid_results.generators.query("data == '1/2'").copy()
    generators.loc[generators["method"].eq("mlp_cgan_leaky") & generators["seed"].lt(3), "state"] = "failed"
    grids = read_grids(grid_results, generators)
    assert {method: grid.seed for method, grid in grids.items()} == {
        "mlp_cgan_relu": 0,
        "small_mlp_cgan_leaky": 0,
        "mlp_cgan_leaky": 3,
        "big_mlp_cgan_leaky": 0,
    }


def test_a_collapse_at_any_seed_is_among_the_least_diverse_grids(grid_results: Results) -> None:
    generators = grid_results.generators.query("data == '1/2' and method == 'mlp_cgan_relu'")
    collapsed = generators.query("seed == 3")["key"].item()
    classes = grid_results.generator_classes.copy()
    classes.loc[classes["key"].eq(collapsed) & classes["class"].eq(5), "diversity"] = 0.01
    results = dataclasses.replace(grid_results, generator_classes=classes)
    (grid,) = read_grids(results, generators, is_least_diverse=True).values()
    assert (grid.seed, grid.least_diverse) == (3, 5)


def test_grids_say_the_quality_of_each_class_and_frame_those_that_collapsed(
    grid_results: Results,
) -> None:
    (grid,) = read_grids(grid_results, grid_results.generators.query("seed == 1").head(1)).values()
    diversity = [0.5, 0.0996, np.nan, 0.101, *[0.9] * 6]
    quality = grid.quality.assign(diversity=diversity, distinct_nearest=range(10))
    grids = {"mlp_cgan_relu": dataclasses.replace(grid, quality=quality)}
    names = [f"class {label}" for label in range(10)]
    real, generated = grid_figure(grids, names).axes
    labels = [text.get_text() for text in generated.get_yticklabels()]
    assert labels[:4] == ["class 0  0.500 / 0", "class 1  0.100 / 1", "class 2  – / 2", "class 3  0.101 / 3"]
    assert len(generated.patches) == 1 and list(real.patches) == []
    (nearest,) = nearest_figure(grids, names).axes
    assert nearest.get_title(loc="left") == "mlp_cgan_relu, seed 1: class 1, diversity 0.100"
    assert (np.asarray(nearest.images[0].get_array())[:28, :28] == grid.images_3KJCHW[0, 1, 0, 0]).all()


def test_diversity_is_drawn_for_every_class_and_generator(grid_results: Results) -> None:
    classes = grid_results.generator_classes.query("data == '1/2'").astype({"method": "object"})
    axes = plot_diversity(blank_axes(), classes)
    drawn = [np.asarray(each.get_offsets()) for each in axes.collections]
    assert [len(places) for places in drawn] == [100] * 4
    assert np.sort(np.concatenate(drawn)[:, 1]) == pytest.approx(np.sort(classes["diversity"]))
    relu = classes[(classes["method"] == "mlp_cgan_relu") & (classes["class_count"] == 6000)]
    assert axes.lines[0].get_ydata()[-1] == pytest.approx(relu["diversity"].median())


def test_methods_are_told_apart_by_colour_and_marker() -> None:
    known = [*ACCURACY, "dccgan_leaky"]
    assert len({colour_of(method) for method in known}) == len({marker_of(method) for method in known}) == 8
    assert not {"x", "+", "d"} & {marker_of(method) for method in [*known, "another", "balanced_softmax"]}


@pytest.fixture(scope="module")
def drawn(grid_results: Results) -> list[Drawn]:
    return list(draw_figures(grid_results, compare(grid_results.runs), pd.DataFrame()))


def test_every_figure_of_a_whole_grid_is_drawn_and_says_what_it_shows(drawn: list[Drawn]) -> None:
    assert {each.name.partition("-")[0] for each in drawn} == {f"f{number}" for number in range(1, 9)}
    names = [each.name for each in drawn]
    assert len(set(names)) == len(names)
    captions = {each.name: each.caption for each in drawn}
    for each in drawn:
        assert "n = " in each.caption and "interval" in each.caption
        assert "Data set: fashion_mnist" in each.caption
        assert "sound" in each.title + each.caption
    assert "(n = 10 per method)" in captions["f1-replicates-1"]
    assert "95 % intervals that hold jointly for all methods" in captions["f1-replicates-1"]
    assert "(n = 10 pairs)" in captions["f2-differences-1"]
    assert (
        "n = 10 blocks, which are seeds" in captions["f4-ranks-1"]
        and "not independent" in captions["f4-ranks-1"]
    )


def test_no_text_is_smaller_than_eight_points(drawn: list[Drawn]) -> None:
    for each in drawn:
        sizes = [text.get_fontsize() for text in each.figure.findobj(Text) if text.get_text()]
        assert min(sizes) >= 8, each.name


@pytest.mark.slow
def test_figures_are_equal_on_a_second_run_and_leave_pyplot_alone(
    grid_results: Results, drawn: list[Drawn]
) -> None:
    again = {
        each.name: each for each in draw_figures(grid_results, compare(grid_results.runs), pd.DataFrame())
    }
    for each in drawn:
        if each.name.startswith(("f1", "f4", "f5", "f7", "f8-nearest")):
            assert to_svg(again[each.name]) == to_svg(each), each.name
    assert to_png(again["f1-replicates-1"]) == to_png(drawn[0])
    assert b"<dc:date>" not in to_svg(drawn[0])
    assert plt.get_fignums() == [] and plt.rcParams["svg.hashsalt"] is None


@pytest.mark.slow
def test_one_seed_and_missing_runs_are_drawn(tmp_path: Path) -> None:
    plan = plan_study(num_seeds=2, cs=("1/2",))
    store = make_store(tmp_path, plan, Truth(collapse_rate=lambda run: 1.0))
    for run in plan.runs[7:]:
        (tmp_path / "stages" / run.key / "result.json").unlink()
    results = read_results(store.location, allow=["gaps"])
    names = {each.name for each in draw_figures(results, compare(results.runs), pd.DataFrame())}
    assert {"f1-replicates-1", "f5-curves-1", "f6-recalls-1", "f7-confusion-1", "f8-samples-1"} <= names


def test_a_store_without_results_gives_no_more_than_empty_axes(tmp_path: Path) -> None:
    plan = plan_study(num_seeds=1, cs=("1/2",), methods=("none",), generators=())
    store = make_store(tmp_path, plan)
    (tmp_path / "stages" / plan.runs[0].key / "result.json").unlink()
    results = read_results(store.location, allow=["gaps"])
    names = [each.name for each in draw_figures(results, compare(results.runs), pd.DataFrame())]
    assert names == ["f1-replicates-1"]


@pytest.mark.slow
def test_settings_have_figures_of_their_own(grid_results: Results) -> None:
    runs = pd.concat([grid_results.runs, grid_results.runs.assign(setting="other")], ignore_index=True)
    results = dataclasses.replace(grid_results, runs=runs)
    names = [each.name for each in draw_figures(results, compare(runs), pd.DataFrame())]
    assert {"f1-replicates-1", "f1-replicates-2", "f4-ranks-2"} <= set(names)
