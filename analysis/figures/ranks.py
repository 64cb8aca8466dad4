"""Figure F4: mean ranks of methods, and which of them cannot be told apart."""

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
import scikit_posthocs
from matplotlib.axes import Axes

from analysis.compare import ALPHA, complete_table
from analysis.figures.style import (
    Drawn,
    colour_of,
    describe_dataset,
    make_figure,
)
from analysis.naming import in_order
from analysis.significance import holm, wilcoxon_p

MIN_BLOCKS = 6
"""blocks below which no pair of methods can differ at 0.05"""


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
                "methods that have a dot on it: no two of these are told apart by pairwise Wilcoxon "
                f"tests with Holm's correction over all pairs at {ALPHA}; no interval is drawn. Blocks of "
                "one data set are not independent data sets: the diagram speaks of this data set alone. "
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
