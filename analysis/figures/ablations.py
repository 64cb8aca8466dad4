"""Figure F9: differences between changed and reference cells, by seed."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.compare import MARGIN, runs_of
from analysis.estimates import mean_interval
from analysis.figures.differences import pair_runs
from analysis.figures.style import (
    COLLAPSED_COLOUR,
    MANY,
    Drawn,
    Options,
    describe_n,
    label_methods,
    make_figure,
    title_of,
)
from analysis.leading import leading_of, name_metrics
from analysis.sentences import describe_left_out, join


def plot_changes(axes: Axes, pairs: Sequence[tuple[str, pd.DataFrame]], metric: str = "accuracy") -> Axes:
    """Draw the differences of every pair in points, one row a change, with mean, t interval and the ROPE.

    Args:
        pairs: labels, of which several may be equal, with what `pair_runs` returns. metric: as a label.
    """
    axes.axvspan(-100 * MARGIN, 100 * MARGIN, color="0.88", linewidth=0)
    axes.axvline(0, color="0.5", linewidth=0.8)
    dots: Options = {"s": 10, "color": "0.45", "gid": "pairs"}
    crosses: Options = {"s": 20, "color": COLLAPSED_COLOUR, "marker": "x", "gid": "collapsed"}
    for row, (_, paired) in enumerate(pairs):
        ordered = paired.sort_values("difference", kind="stable")
        differences = 100 * ordered["difference"].to_numpy(dtype=np.float64)
        is_collapsed = ordered["is_collapsed"].to_numpy(dtype=bool)
        for chosen, look in ((~is_collapsed, dots), (is_collapsed, crosses)):
            heights = np.full(chosen.sum(), row + 0.22)
            axes.scatter(differences[chosen], heights, rasterized=len(paired) > MANY, **look)
        if len(differences) > 1:
            low, high = mean_interval(differences)
            mean = differences.mean()
            axes.errorbar(mean, row, xerr=[[mean - low], [high - mean]], color="black", marker="o", capsize=3)
    label_methods(axes, [label for label, _ in pairs])
    axes.set_xlabel(f"changed minus reference (points of {metric})")
    return axes


def _label_pairs(
    runs: pd.DataFrame, named: pd.DataFrame, comparisons: pd.DataFrame
) -> list[tuple[str, pd.DataFrame]]:
    """Return the comparisons that have a pair, with labels that name the setting where there are several."""
    has_settings = named.loc[comparisons["reference"], "setting"].nunique() > 1
    pairs = []
    for row in comparisons.to_dict("records"):
        cell, reference = named.loc[row["cell"]], named.loc[row["reference"]]
        place = f"{title_of(cell['data'])}, {cell['method']}"
        place += f"\nof {reference['setting']}" if has_settings else ""
        label = f"{place}\n" + row["change"].replace("+", "\n+ ")
        pairs.append((label, pair_runs(runs, row["cell"], row["reference"])))
    return [(label, paired) for label, paired in pairs if len(paired)]


def draw_changes(runs: pd.DataFrame, comparisons: pd.DataFrame) -> Iterator[Drawn]:
    """F9 for each study that compares cells with references."""
    named = runs.drop_duplicates("cell").set_index("cell")
    number = 0
    for study, rows in comparisons.groupby("study", sort=False):
        of_study = runs_of(runs, rows)
        pairs = _label_pairs(of_study, named, rows)
        if not pairs:
            continue
        number += 1
        height = 0.9 + sum(0.25 + 0.17 * (label.count("\n") + 1) for label, _ in pairs)
        figure, ((axes,),) = make_figure(1, 1, 8.5, height)
        leading = {leading_of(of_study[of_study["cell"] == cell]): None for cell in rows["cell"]}
        plot_changes(axes, pairs, name_metrics(leading))
        yield Drawn(
            name=f"f9-changes-{number}",
            title=f"F9. Changes to reference configurations: {study}",
            caption=join(
                [
                    f"Changed minus reference configuration in {name_metrics(leading)}, by seed "
                    f"({describe_n((len(paired) for _, paired in pairs), 'pair')} per row), in points of "
                    f"0.01. Black: mean with 95 % Student t interval, from two pairs on. Grey: "
                    f"±{100 * MARGIN:g} points, practically equivalent. Red crosses: pairs in which a run "
                    "has a dead class.",
                    describe_left_out(
                        of_study[of_study["cell"].isin([*rows["cell"], *rows["reference"]])], "every pair"
                    ),
                    f"Data set: {', '.join(dict.fromkeys(named.loc[rows['cell'], 'dataset']))}.",
                ]
            ),
            figure=figure,
        )
