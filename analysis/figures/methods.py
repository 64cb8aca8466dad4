"""Figures F1 to F4: what methods reach, how they differ seed by seed, which beats which."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import scikit_posthocs
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.aggregate import paper_value
from analysis.compare import ALPHA, MARGIN, complete_table, pair
from analysis.estimates import mean_interval
from analysis.figures.style import (
    COLLAPSED_COLOUR,
    MANY,
    PAPER_COLOUR,
    SMALL,
    Drawn,
    colour_of,
    describe_dataset,
    describe_n,
    label_methods,
    make_figure,
    marker_of,
    title_of,
)
from analysis.naming import data_rank, in_order
from analysis.significance import holm, wilcoxon_p

COMPARATORS = ("oversample", "none")
MIN_BLOCKS = 6
"""blocks below which no pair of methods can differ at 0.05"""
_ROW_HEIGHT = 0.4
_PANEL_HEIGHT = 0.5


def plot_replicates(axes: Axes, runs: pd.DataFrame) -> Axes:
    """Draw every complete run of one setting and C, mean and t interval above, the paper's number open."""
    complete = runs[runs["state"] == "complete"]
    methods = in_order(runs["method"])
    heights = _seed_heights(runs["seed"])
    for row, method in enumerate(methods):
        of_method = complete[complete["method"] == method].sort_values("seed")
        _draw_runs(axes, of_method, method, row + 0.16 + of_method["seed"].map(heights))
        _draw_mean(axes, of_method["accuracy"].to_numpy(dtype=np.float64), method, row - 0.2)
        first = runs[runs["method"] == method].iloc[0]
        paper = paper_value(first["dataset"], first["data"], method, first["loss_function"], "accuracy")
        if paper is not None:
            look = {"facecolors": "none", "edgecolors": PAPER_COLOUR, "marker": "d", "zorder": 3}
            axes.scatter([paper], [row + 0.16], s=46, gid="paper", **look)
    label_methods(axes, methods)
    _write_counts(axes, runs, methods)
    axes.set_xlabel("accuracy")
    axes.grid(axis="x", color="0.9")
    return axes


def _seed_heights(seeds: pd.Series) -> dict[int, float]:
    """Return where within its row each seed stands, the same in every row."""
    ordered = sorted(set(seeds))
    heights = 0.15 * np.linspace(-1, 1, len(ordered)) if len(ordered) > 1 else np.zeros(1)
    return dict(zip(ordered, heights.tolist(), strict=True))


def _draw_runs(axes: Axes, runs: pd.DataFrame, method: str, heights: pd.Series) -> None:
    """Draw healthy runs as marks of their method, and collapsed ones as crosses."""
    is_collapsed = runs["is_collapsed"].astype(bool)
    healthy, collapsed = runs[~is_collapsed], runs[is_collapsed]
    shared = {"rasterized": len(runs) > MANY, "zorder": 2}
    look = {"color": colour_of(method), "marker": marker_of(method), "alpha": 0.7, "linewidths": 0}
    axes.scatter(healthy["accuracy"], heights[~is_collapsed], s=14, gid="runs", **look, **shared)
    cross = {"color": COLLAPSED_COLOUR, "marker": "x"}
    axes.scatter(collapsed["accuracy"], heights[is_collapsed], s=22, gid="collapsed", **cross, **shared)


def _draw_mean(axes: Axes, values: NDArray[np.float64], method: str, height: float) -> None:
    """Draw mean and t interval, where there are two values."""
    if len(values) > 1:
        low, high = mean_interval(values)
        mean = values.mean()
        look = {"color": colour_of(method), "marker": marker_of(method), "markersize": 5, "linewidth": 1.5}
        axes.errorbar(mean, height, xerr=[[mean - low], [high - mean]], capsize=3, **look)


def _write_counts(axes: Axes, runs: pd.DataFrame, methods: Sequence[str]) -> None:
    """Write to the right of each row how many of its runs are complete, and how many of these collapsed."""
    axes.text(1.01, 1, "n (×)", transform=axes.transAxes, fontsize=SMALL, va="bottom", color="0.3")
    for row, method in enumerate(methods):
        of_method = runs[runs["method"] == method]
        complete = of_method[of_method["state"] == "complete"]
        n, planned = len(complete), len(of_method)
        text = f"{n if n == planned else f'{n} of {planned}'} ({int(complete['is_collapsed'].sum())})"
        axes.text(1.01, row, text, transform=axes.get_yaxis_transform(), fontsize=SMALL, va="center")


def draw_replicates(runs: pd.DataFrame) -> Iterator[Drawn]:
    """F1 for each setting, one panel a C."""
    for index, (setting, of_setting) in enumerate(runs.groupby("setting", sort=False), start=1):
        levels = sorted(dict.fromkeys(of_setting["data"]), key=data_rank)
        numbers = [of_setting.loc[of_setting["data"] == data, "method"].nunique() for data in levels]
        height = sum(numbers) * _ROW_HEIGHT + len(levels) * _PANEL_HEIGHT
        figure, rows = make_figure(len(levels), 1, 6.5, height, sharex=True, height_ratios=numbers)
        for (axes,), data in zip(rows, levels, strict=True):
            plot_replicates(axes, of_setting[of_setting["data"] == data])
            axes.set_title(title_of(data), loc="left")
            axes.set_xlabel("")
        _limit_to_shares(rows[-1][0])
        rows[-1][0].set_xlabel("accuracy on the test set (share)")
        complete = of_setting[of_setting["state"] == "complete"]
        yield Drawn(
            name=f"f1-replicates-{index}",
            title=f"F1. Every run: {setting}",
            caption=(
                "One small mark a complete run, marks of one seed at the same height within their rows "
                f"({describe_n(complete.groupby('cell').size())} a cell; in brackets those collapsed). Red "
                "crosses: runs in which a class is dead. Large marks: means over all runs with 95 % Student t "
                "intervals, where there are two runs, cut where they leave 0 to 1. Open diamonds: the paper's "
                "single runs, to be compared with single runs and not with means. "
                f"{describe_dataset(of_setting)}"
            ),
            figure=figure,
        )


def _limit_to_shares(axes: Axes) -> None:
    """Show no values that a share cannot have, however long an interval is."""
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -0.02), min(high, 1.02))


def plot_differences(lines: Axes, spread: Axes, paired: pd.DataFrame, names: tuple[str, str]) -> None:
    """Draw pairs as lines, and beside them their differences in points with mean, t interval and the ROPE.

    Args:
        paired: as `pair_runs` returns it. names: of the comparator and of the method.
    """
    _draw_pairs(lines, paired)
    lines.set_xticks([0, 1], [names[0], "method"])
    lines.set_title(f"{names[1]}", loc="left")
    lines.set_xlim(-0.4, 1.4)
    lines.set_ylabel("accuracy (share)")
    ordered = paired.sort_values("difference", kind="stable")
    differences = 100 * ordered["difference"].to_numpy(dtype=np.float64)
    is_collapsed = ordered["is_collapsed"].to_numpy(dtype=bool)
    spread.axhspan(-100 * MARGIN, 100 * MARGIN, color="0.88", linewidth=0)
    spread.axhline(0, color="0.5", linewidth=0.8)
    places = np.linspace(-0.12, 0.12, len(differences)) if len(differences) > 1 else np.zeros(1)
    spread.scatter(places[~is_collapsed], differences[~is_collapsed], s=12, color="0.35", gid="pairs")
    crosses = {"color": COLLAPSED_COLOUR, "marker": "x", "gid": "collapsed"}
    spread.scatter(places[is_collapsed], differences[is_collapsed], s=22, **crosses)
    if len(differences) > 1:
        low, high = mean_interval(differences)
        mean = differences.mean()
        spread.errorbar(0.4, mean, yerr=[[mean - low], [high - mean]], color="black", marker="o", capsize=3)
    spread.set_xlim(-0.35, 0.65)
    spread.set_xticks([])
    spread.set_ylabel("difference (points)")


def _draw_pairs(axes: Axes, paired: pd.DataFrame) -> None:
    """Join the two runs of each seed, red where one has collapsed, and the means in black."""
    ends = paired[["second", "first"]].to_numpy(dtype=np.float64)
    is_collapsed = paired["is_collapsed"].to_numpy(dtype=bool)
    for chosen, colour in ((ends[~is_collapsed], "0.6"), (ends[is_collapsed], COLLAPSED_COLOUR)):
        segments = [np.column_stack([[0, 1], pair_of_ends]) for pair_of_ends in chosen]
        shared = {"linewidths": 0.8, "alpha": 0.7, "rasterized": len(ends) > MANY, "gid": "pairs"}
        axes.add_collection(LineCollection(segments, colors=colour, **shared))
        axes.scatter(np.tile([0, 1], len(chosen)), chosen.ravel(), s=8, color=colour, linewidths=0)
    axes.plot([0, 1], ends.mean(axis=0), color="black", linewidth=2)


def pair_runs(runs: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Return what `pair` returns of the accuracies of two cells, and whether one of the runs has collapsed."""
    paired = pair(runs, first, second, "accuracy")
    collapsed = runs[runs["cell"].isin([first, second]) & runs["is_collapsed"].fillna(False).astype(bool)]
    return paired.assign(is_collapsed=paired.index.isin(collapsed["seed"]))


def draw_differences(runs: pd.DataFrame) -> Iterator[Drawn]:
    """F2 for each setting and C: every method against oversample, or where that was not run against none."""
    number = 0
    for (setting, data), block in runs.groupby(["setting", "data"], sort=False):
        cells = block.drop_duplicates("method").set_index("method")["cell"]
        comparator = next((name for name in COMPARATORS if name in cells), None)
        if comparator is None:
            continue
        others = [method for method in in_order(block["method"]) if method != comparator]
        pairs = {method: pair_runs(block, cells[method], cells[comparator]) for method in others}
        pairs = {method: paired for method, paired in pairs.items() if len(paired)}
        if not pairs:
            continue
        number += 1
        yield Drawn(
            name=f"f2-differences-{number}",
            title=f"F2. Seed by seed against {comparator}: {setting}, {title_of(str(data))}",
            caption=(
                "Left of each pair of panels: accuracies of the same seed joined by a line "
                f"({describe_n(map(len, pairs.values()))} pairs), their mean in black. Right: method minus "
                f"{comparator} in points, a hundredth of accuracy each, and the mean with its 95 % Student t "
                f"interval, where there are two pairs; grey: ±{100 * MARGIN:g} points, practically equivalent. "
                f"Red, and crosses: pairs in which a run has a dead class. {describe_dataset(block)}"
            ),
            figure=_pairs_figure(pairs, comparator),
        )


def _pairs_figure(pairs: Mapping[str, pd.DataFrame], comparator: str) -> Figure:
    """Return two pairs of panels a row; all of a kind share their axis, so that methods can be compared."""
    num_rows = math.ceil(len(pairs) / 2)
    figure, rows = make_figure(num_rows, 4, 8.5, 2.2 * num_rows, width_ratios=[1.4, 1, 1.4, 1])
    flat = [axes for row in rows for axes in row]
    for place, (method, paired) in enumerate(pairs.items()):
        for kind in (0, 1):
            if place:
                flat[2 * place + kind].sharey(flat[kind])
        plot_differences(flat[2 * place], flat[2 * place + 1], paired, (comparator, method))
    for axes in flat[2 * len(pairs) :]:
        axes.set_visible(False)
    return figure


def plot_wins(axes: Axes, contrasts: pd.DataFrame) -> Axes:
    """Draw the share of seeds at which the row's method beats the column's, for one setting and C."""
    methods = in_order([*contrasts["method"], *contrasts["comparator"]])
    place = {method: index for index, method in enumerate(methods)}
    share = np.full((len(methods), len(methods)), np.nan)
    for row in contrasts.to_dict("records"):
        i, j = place[row["method"]], place[row["comparator"]]
        share[i, j], share[j, i] = row["better_share"], 1 - row["better_share"]
    # Limits beyond 0 and 1 leave out the dark ends, on which numbers cannot be read.
    axes.imshow(share, cmap="PuOr_r", vmin=-0.4, vmax=1.4)
    for (i, j), value in np.ndenumerate(share):
        if not np.isnan(value):
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=SMALL)
    axes.set_xticks(range(len(methods)), methods, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(methods)), methods)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return axes


def draw_wins(contrasts: pd.DataFrame) -> Iterator[Drawn]:
    """F3 for each setting, one panel a C."""
    if contrasts.empty:
        return
    for index, (setting, of_setting) in enumerate(contrasts.groupby("setting", sort=False), start=1):
        levels = sorted(dict.fromkeys(of_setting["data"]), key=data_rank)
        methods = in_order([*of_setting["method"], *of_setting["comparator"]])
        side = 0.42 * len(methods)
        figure, rows = make_figure(len(levels), 1, 1.8 + side, len(levels) * (1.6 + side))
        for (axes,), data in zip(rows, levels, strict=True):
            plot_wins(axes, of_setting[of_setting["data"] == data])
            axes.set_title(title_of(data), loc="left")
        yield Drawn(
            name=f"f3-wins-{index}",
            title=f"F3. How often the row beats the column: {setting}",
            caption=(
                "Share of seeds at which the row's accuracy is higher than the column's, ties half; "
                f"{describe_n(of_setting['n_pairs'])} pairs. Orange: the row wins more often; purple: less "
                "often. Described, not tested; no interval is drawn, the table of differences has one for each "
                f"share (95 %, Clopper-Pearson). {describe_dataset(of_setting)}"
            ),
            figure=figure,
        )


def draw_ranks(runs: pd.DataFrame) -> Iterator[Drawn]:
    """F4 for each setting: mean ranks over C and seed, joined where Wilcoxon and Holm find no difference."""
    for index, (setting, of_setting) in enumerate(runs.groupby("setting", sort=False), start=1):
        table = _rank_table(of_setting)
        if len(table) < MIN_BLOCKS or len(table.columns) < 2:
            continue
        ranks = table.rank(axis=1, ascending=False).mean()
        figure, ((axes,),) = make_figure(1, 1, 8, 1.4 + 0.24 * len(ranks))
        plot_ranks(axes, ranks, rank_p_values(table))
        yield Drawn(
            name=f"f4-ranks-{index}",
            title=f"F4. Mean ranks: {setting}",
            caption=(
                f"Mean rank of accuracy over n = {len(table)} blocks (C by seed), 1 is best. A bar joins the "
                "methods that have a dot on it: no two of these are told apart by pairwise exact Wilcoxon "
                f"tests with Holm's correction over all pairs at {ALPHA}; no interval is drawn. Blocks of one "
                "data set are not independent data sets: the diagram speaks of this data set alone. "
                f"{describe_dataset(of_setting)}"
            ),
            figure=figure,
        )


def plot_ranks(axes: Axes, ranks: pd.Series, p_values: pd.DataFrame) -> Axes:
    """Draw a critical-difference diagram of mean ranks."""
    drawn = scikit_posthocs.critical_difference_diagram(
        ranks,
        p_values,
        alpha=ALPHA,
        ax=axes,
        label_fmt_left="{label} ({rank:.2f})  ",
        label_fmt_right="  {label} ({rank:.2f})",
        label_props={"fontsize": 9},
        crossbar_props={"marker": "o", "markersize": 5},
        color_palette={method: colour_of(method) for method in ranks.index},
        text_h_margin=0.02,
    )
    for label in drawn["labels"]:
        label.set_color("black")
    axes.set_xlabel("mean rank of accuracy, 1 is best")
    axes.xaxis.set_label_position("top")
    return axes


def rank_p_values(table: pd.DataFrame) -> pd.DataFrame:
    """Return Holm-corrected Wilcoxon p values of all pairs of columns; 1 for columns that are equal."""
    names = list(table.columns)
    pairs = list(itertools.combinations(range(len(names)), 2))
    raw = [wilcoxon_p((table[names[i]] - table[names[j]]).to_numpy()) for i, j in pairs]
    matrix = np.ones((len(names), len(names)))
    for (i, j), p_value in zip(pairs, holm(np.nan_to_num(raw, nan=1.0)), strict=True):
        matrix[i, j] = matrix[j, i] = p_value
    return pd.DataFrame(matrix, index=names, columns=names)


def _rank_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return accuracies, C and seed as rows, for the methods of the imbalanced sets that have them all."""
    blocks = []
    for data, block in runs[runs["data"] != "original"].groupby("data", sort=False):
        cells = block.drop_duplicates("method").set_index("method")["cell"]
        table = complete_table(block, list(cells), "accuracy")
        table.columns = list(cells.index)
        blocks.append(table.assign(data=data).set_index("data", append=True))
    if not blocks:
        return pd.DataFrame()
    joined = pd.concat(blocks, join="inner").dropna()
    return joined[in_order(joined.columns)]
