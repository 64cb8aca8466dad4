"""Figure F4: mean ranks of methods, and groups without a significant difference."""

import itertools
import math
from collections.abc import Iterator, Sequence

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
from analysis.leading import leading_of
from analysis.naming import compared_data, in_order
from analysis.power import fewest_seeds
from analysis.significance import holm, wilcoxon_p
from analysis.tables.formats import listed
from lt_rebalance.ground.imbalance import is_c, say_data
from lt_rebalance.ground.metrics import METRICS, is_higher_better


def draw_ranks(runs: pd.DataFrame) -> Iterator[Drawn]:
    """F4 for each setting: mean ranks over seeds, joined where Wilcoxon and Holm find no difference.

    Not drawn if there are too few seeds for any pair to be significant at Holm's first step.
    """
    for index, (setting, of_setting) in enumerate(runs.groupby("setting", sort=False), start=1):
        table = rank_table(of_setting)
        if len(table) < fewest_blocks(len(table.columns)):
            continue
        ranks = mean_ranks(table, leading_of(of_setting))
        figure, ((axes,),) = make_figure(1, 1, 8, 1.4 + 0.24 * len(ranks))
        metric = METRICS[leading_of(of_setting)].label
        plot_ranks(axes, ranks, rank_p_values(table), metric)
        yield Drawn(
            name=f"f4-ranks-{index}",
            title=f"F4. Mean ranks: {setting}",
            caption=(
                f"Mean rank of {metric} over n = {len(table)} blocks, which are seeds; 1 is best. "
                f"{_describe_blocks(of_setting, table)}A bar joins the methods with a dot on "
                "it: pairwise Wilcoxon tests with Holm's correction over all pairs find no difference "
                f"between them at {ALPHA}. No interval is drawn. Seeds of one data set are not independent "
                f"data sets: the diagram applies to this data set only. {describe_dataset(of_setting)}"
            ),
            figure=figure,
        )


def _describe_blocks(runs: pd.DataFrame, table: pd.DataFrame) -> str:
    """Describe what a block of `rank_table` averages, and which seeds are left out."""
    data = compared_data(runs)
    said = f"Each value is a seed's mean over {_list_data(data)}. " if len(data) > 1 else ""
    among = runs[runs["data"].isin(data) & runs["method"].isin(table.columns)]
    left_out = among[~among["seed"].isin(table.index)]
    num_seeds, num_left_out = among["seed"].nunique(), left_out["seed"].nunique()
    num_ended = left_out.loc[left_out["state"] != "complete", "seed"].nunique()
    for number, reason in (
        (num_ended, "some of their runs are missing, failed or diverged; divergence depends on the outcome"),
        (num_left_out - num_ended, "not every method was planned at them"),
    ):
        if number:
            said += f"Left out: {number} of {num_seeds} seeds, because {reason}. "
    return said


def _list_data(data: Sequence[str]) -> str:
    """Return "C = 7/9 and 1/2", or every name in full where they are not all a C."""
    if all(map(is_c, data)):
        return f"C = {listed(list(data))}"
    return listed([say_data(each) for each in data])


def fewest_blocks(num_methods: int) -> float:
    """Return the seeds below which no pair of methods can differ at `ALPHA`; infinite without a pair."""
    num_pairs = math.comb(num_methods, 2)
    return fewest_seeds(family_size=num_pairs) if num_pairs else math.inf


def plot_ranks(axes: Axes, ranks: pd.Series, p_values: pd.DataFrame, metric: str = "accuracy") -> Axes:
    """Draw a critical-difference diagram of mean ranks, reproducible in its bytes."""
    ranks = ranks.sort_values()
    methods = list(ranks.index)
    # Methods are numbers to this function, because it draws sets in their order: that of names differs
    # between processes.
    numbers = range(len(methods))
    drawn = scikit_posthocs.critical_difference_diagram(
        pd.Series(ranks.to_numpy(), index=numbers),
        p_values.loc[methods, methods].set_axis(numbers, axis=0).set_axis(numbers, axis=1),
        alpha=ALPHA,
        ax=axes,
        label_fmt_left="{label}",
        label_fmt_right="{label}",
        label_props={"fontsize": 9},
        crossbar_props={"marker": "o", "markersize": 5},
        color_palette={number: colour_of(methods[number]) for number in numbers},
        text_h_margin=0.02,
    )
    for label in drawn["labels"]:
        number = int(label.get_text())
        label.set_text(f"  {methods[number]} ({ranks.iloc[number]:.2f})  ")
        label.set_color("black")
    axes.set_xlabel(f"mean rank of {metric}, 1 is best")
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


def mean_ranks(table: pd.DataFrame, metric: str) -> pd.Series:
    """Return the mean rank of each column of a table of a metric, as of `rank_table`, 1 for the best."""
    return table.rank(axis=1, ascending=not is_higher_better(metric)).mean()


def rank_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the leading metric with seeds as rows and the methods that every imbalanced set has as columns.

    Each is the mean over Cs: the runs of one seed share its streams and are one block, not one for each C.
    A method that is not applicable at any seed of a set is not one that this has.
    Only seeds at which all of them are complete.
    """
    among = runs[runs["data"].isin(compared_data(runs))]
    served = among[~among.groupby("cell")["is_not_applicable"].transform("all")]
    cells = served.drop_duplicates(["data", "method"])
    found = [dict(zip(of["method"], of["cell"], strict=True)) for _, of in cells.groupby("data", sort=False)]
    if not found or len(found) < among["data"].nunique():
        return pd.DataFrame()
    methods = in_order(set.intersection(*map(set, found)))
    ranked = [of_data[method] for of_data in found for method in methods]
    table = complete_table(served, ranked, leading_of(among))
    summed = sum(table[[of_data[method] for method in methods]].to_numpy() for of_data in found)
    return pd.DataFrame(summed / len(found), index=table.index, columns=pd.Index(methods, name="method"))
