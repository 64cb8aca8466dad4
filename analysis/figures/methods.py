"""Figures F1 to F4: what methods reach, how they differ seed by seed, which beats which."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import scikit_posthocs
from matplotlib.axes import Axes

from analysis.aggregate import paper_value
from analysis.compare import MARGIN, complete_table, pair
from analysis.estimates import mean_interval
from analysis.figures.style import (
    COLLAPSED_COLOUR,
    PAPER_COLOUR,
    Drawn,
    colour_of,
    label_methods,
    make_figure,
    marker_of,
)
from analysis.naming import data_rank, in_order

_ROW_HEIGHT = 0.36
_PANEL_HEIGHT = 1.1


def plot_replicates(axes: Axes, runs: pd.DataFrame) -> Axes:
    """Draw every complete run of one setting and C, mean and t interval beside, the paper's number open."""
    complete = runs[runs["state"] == "complete"]
    methods = in_order(runs["method"])
    for row, method in enumerate(methods):
        of_method = complete[complete["method"] == method].sort_values("seed")
        values = of_method["accuracy"].to_numpy(dtype=np.float64)
        is_collapsed = of_method["is_collapsed"].to_numpy(dtype=bool)
        colour, marker = colour_of(method, methods), marker_of(method, methods)
        offsets = (
            row + 0.18 + 0.14 * np.linspace(-1, 1, len(values)) if len(values) > 1 else np.array([row + 0.18])
        )
        offsets = offsets[: len(values)]
        healthy = ~is_collapsed
        axes.scatter(
            values[healthy], offsets[healthy], s=14, color=colour, marker=marker, alpha=0.7, linewidths=0
        )
        axes.scatter(values[is_collapsed], offsets[is_collapsed], s=22, color=COLLAPSED_COLOUR, marker="x")
        if len(values) > 1:
            low, high = mean_interval(values)
            axes.errorbar(
                values.mean(),
                row - 0.18,
                xerr=[[values.mean() - low], [high - values.mean()]],
                color=colour,
                marker=marker,
                markersize=5,
                capsize=3,
                linewidth=1.5,
            )
        first = runs[runs["method"] == method].iloc[0]
        paper = paper_value(first["dataset"], first["data"], method, first["loss_function"], "accuracy")
        if paper is not None:
            axes.scatter(
                [paper], [row - 0.18], s=46, facecolors="none", edgecolors=PAPER_COLOUR, marker="d", zorder=3
            )
    label_methods(axes, methods)
    axes.set_xlabel("accuracy")
    axes.grid(axis="x", color="0.9")
    return axes


def draw_replicates(runs: pd.DataFrame) -> Iterator[Drawn]:
    """F1 for each setting, one panel a C."""
    for index, (setting, of_setting) in enumerate(runs.groupby("setting", sort=False), start=1):
        levels = sorted(dict.fromkeys(of_setting["data"]), key=data_rank)
        numbers = [of_setting.loc[of_setting["data"] == data, "method"].nunique() for data in levels]
        height = sum(numbers) * _ROW_HEIGHT + len(levels) * _PANEL_HEIGHT
        figure, rows = make_figure(
            len(levels), 1, 7.5, height, sharex=True, height_ratios=[number + 1 for number in numbers]
        )
        for (axes,), data in zip(rows, levels, strict=True):
            plot_replicates(axes, of_setting[of_setting["data"] == data])
            axes.set_title(f"C = {data}" if data != "original" else "original set", loc="left")
            axes.set_xlabel("")
        rows[-1][0].set_xlabel("accuracy on the test set")
        yield Drawn(
            name=f"f1-replicates-{index}",
            title=f"F1. Every run: {setting}",
            caption=(
                f"One small mark a complete run ({_describe_n(of_setting)}), red crosses where a class is "
                "dead. Large marks: means with 95 % Student t intervals, where there are two runs. Open "
                f"diamonds: the paper's single runs. {_describe_dataset(of_setting)}."
            ),
            figure=figure,
        )


def _describe_n(runs: pd.DataFrame) -> str:
    counts = runs[runs["state"] == "complete"].groupby(["data", "method"]).size()
    if counts.empty:
        return "n = 0"
    low, high = counts.min(), counts.max()
    return f"n = {low} a cell" if low == high else f"n = {low} to {high} a cell"


def _describe_dataset(runs: pd.DataFrame) -> str:
    return f"Data set: {', '.join(dict.fromkeys(runs['dataset']))}"


def plot_differences(lines: Axes, spread: Axes, paired: pd.DataFrame, names: tuple[str, str]) -> None:
    """Draw pairs as lines, and beside them their differences in points with mean, t interval and the ROPE.

    Args:
        names: of the comparator and of the method.
    """
    for first, second in zip(paired["second"], paired["first"], strict=True):
        lines.plot([0, 1], [first, second], color="0.6", linewidth=0.8, marker="o", markersize=3)
    lines.plot([0, 1], [paired["second"].mean(), paired["first"].mean()], color="black", linewidth=2)
    lines.set_xticks([0, 1], [names[0], "method"])
    lines.set_title(f"{names[1]}", loc="left")
    lines.set_xlim(-0.4, 1.4)
    lines.set_ylabel("accuracy")
    differences = 100 * paired["difference"].to_numpy(dtype=np.float64)
    spread.axhspan(-100 * MARGIN, 100 * MARGIN, color="0.9", linewidth=0)
    spread.axhline(0, color="0.5", linewidth=0.8)
    offsets = (
        np.linspace(-0.12, 0.12, len(differences)) if len(differences) > 1 else np.zeros(len(differences))
    )
    spread.scatter(offsets, np.sort(differences), s=12, color="0.35")
    if len(differences) > 1:
        low, high = mean_interval(differences)
        mean = differences.mean()
        spread.errorbar(0.4, mean, yerr=[[mean - low], [high - mean]], color="black", marker="o", capsize=3)
    spread.set_xlim(-0.35, 0.65)
    spread.set_xticks([])
    spread.set_ylabel("difference, points")


def draw_differences(runs: pd.DataFrame, comparator: str = "oversample") -> Iterator[Drawn]:
    """F2 for each setting and C: every method against one comparator."""
    number = 0
    for (setting, data), block in runs.groupby(["setting", "data"], sort=False):
        cells = block.drop_duplicates("method").set_index("method")["cell"]
        others = [method for method in in_order(block["method"]) if method != comparator]
        if comparator not in cells or not others:
            continue
        pairs = {method: pair(block, cells[method], cells[comparator], "accuracy") for method in others}
        pairs = {method: paired for method, paired in pairs.items() if len(paired)}
        if not pairs:
            continue
        number += 1
        num_rows = math.ceil(len(pairs) / 2)
        figure, rows = make_figure(num_rows, 4, 9, 2.4 * num_rows, width_ratios=[1.5, 1, 1.5, 1])
        flat = [axes for row in rows for axes in row]
        for place, (method, paired) in enumerate(pairs.items()):
            plot_differences(flat[2 * place], flat[2 * place + 1], paired, (comparator, method))
        for axes in flat[2 * len(pairs) :]:
            axes.set_visible(False)
        sizes = sorted({len(paired) for paired in pairs.values()})
        yield Drawn(
            name=f"f2-differences-{number}",
            title=f"F2. Seed by seed against {comparator}: {setting}, C = {data}",
            caption=(
                "Left of each pair of panels: accuracies of the same seed joined by a line (n = "
                f"{' or '.join(map(str, sizes))} pairs), the mean in black. Right: differences in points, "
                f"their mean with a 95 % Student t interval; grey: ±{100 * MARGIN:g} points, practically "
                f"equivalent. {_describe_dataset(block)}."
            ),
            figure=figure,
        )


def plot_wins(axes: Axes, contrasts: pd.DataFrame) -> Axes:
    """Draw the share of seeds at which the row's method beats the column's, for one setting and C."""
    methods = in_order([*contrasts["method"], *contrasts["comparator"]])
    place = {method: index for index, method in enumerate(methods)}
    share = np.full((len(methods), len(methods)), np.nan)
    for row in contrasts.to_dict("records"):
        i, j = place[row["method"]], place[row["comparator"]]
        share[i, j], share[j, i] = row["better_share"], 1 - row["better_share"]
    axes.imshow(share, cmap="PuOr_r", vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(share):
        if not np.isnan(value):
            colour = "white" if abs(value - 0.5) > 0.38 else "black"
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
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
        figure, rows = make_figure(1, len(levels), 1.2 + 4.3 * len(levels), 4.6)
        for axes, data in zip(rows[0], levels, strict=True):
            plot_wins(axes, of_setting[of_setting["data"] == data])
            axes.set_title(f"C = {data}", loc="left")
        sizes = sorted(set(of_setting["n_pairs"]))
        yield Drawn(
            name=f"f3-wins-{index}",
            title=f"F3. How often the row beats the column: {setting}",
            caption=(
                f"Share of seeds at which the row's accuracy is higher, ties half; n = "
                f"{' or '.join(map(str, sizes))} pairs. From 0.75 on a difference is usually worth telling. "
                f"{_describe_dataset(of_setting)}. Described, not tested."
            ),
            figure=figure,
        )


def draw_ranks(runs: pd.DataFrame) -> Iterator[Drawn]:
    """F4 for each setting: mean ranks over C and seed, joined where Wilcoxon and Holm find no difference."""
    for index, (setting, of_setting) in enumerate(runs.groupby("setting", sort=False), start=1):
        table = _rank_table(of_setting)
        if len(table) < 2 or len(table.columns) < 3:
            continue
        ranks = table.rank(axis=1, ascending=False).mean()
        p_values = scikit_posthocs.posthoc_wilcoxon(
            table.melt(var_name="method", value_name="accuracy"),
            val_col="accuracy",
            group_col="method",
            p_adjust="holm",
            zero_method="zsplit",
        )
        figure, ((axes,),) = make_figure(1, 1, 8, 1.2 + 0.22 * len(ranks))
        scikit_posthocs.critical_difference_diagram(
            ranks,
            p_values,
            ax=axes,
            label_fmt_left="{label} ({rank:.2f})  ",
            label_fmt_right="  {label} ({rank:.2f})",
            color_palette={method: colour_of(method, table.columns) for method in ranks.index},
            text_h_margin=0.02,
        )
        yield Drawn(
            name=f"f4-ranks-{index}",
            title=f"F4. Mean ranks: {setting}",
            caption=(
                f"Mean rank of accuracy over {len(table)} blocks (C by seed), 1 is best. A bar joins "
                "methods that pairwise Wilcoxon tests with Holm's correction do not tell apart at 0.05. "
                "Blocks of one data set are not independent data sets: the diagram speaks of this data "
                f"set alone. {_describe_dataset(of_setting)}."
            ),
            figure=figure,
        )


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
