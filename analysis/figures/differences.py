"""Figure F2: paired differences of methods from one of them, by seed."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from analysis.compare import MARGIN, pair
from analysis.estimates import mean_interval
from analysis.figures.style import (
    COLLAPSED_COLOUR,
    MANY,
    Drawn,
    Options,
    describe_dataset,
    describe_n,
    make_figure,
    title_of,
)
from analysis.leading import leading_of
from analysis.naming import in_order
from analysis.sentences import describe_left_out, join
from lt_rebalance.ground.metrics import METRICS

COMPARATORS = ("oversample", "none")


def plot_differences(
    lines: Axes, spread: Axes, paired: pd.DataFrame, names: tuple[str, str], metric: str = "accuracy"
) -> None:
    """Draw pairs as lines, and next to them their differences in points with mean, t interval and the ROPE.

    Args:
        paired: as `pair_runs` returns it. names: of the comparator and of the method.
        metric: what the pairs are of.
    """
    _draw_pairs(lines, paired)
    lines.set_xticks([0, 1], [names[0], "method"])
    lines.set_title(f"{names[1]}", loc="left")
    lines.set_xlim(-0.4, 1.4)
    lines.set_ylabel(f"{METRICS[metric].label} (share)")
    _draw_spread(spread, paired)
    spread.set_xlim(-0.35, 0.65)
    spread.set_xticks([])
    spread.set_ylabel("difference (points)")


def _draw_spread(axes: Axes, paired: pd.DataFrame) -> None:
    """Draw differences in rising order, their mean and t interval, and the region of equivalence."""
    ordered = paired.sort_values("difference", kind="stable")
    differences = 100 * ordered["difference"].to_numpy(dtype=np.float64)
    is_collapsed = ordered["is_collapsed"].to_numpy(dtype=bool)
    places = np.linspace(-0.12, 0.12, len(differences)) if len(differences) > 1 else np.zeros(1)
    axes.axhspan(-100 * MARGIN, 100 * MARGIN, color="0.88", linewidth=0)
    axes.axhline(0, color="0.5", linewidth=0.8)
    dots: Options = {"s": 12, "color": "0.35", "gid": "pairs"}
    crosses: Options = {"s": 22, "color": COLLAPSED_COLOUR, "marker": "x", "gid": "collapsed"}
    for chosen, look in ((~is_collapsed, dots), (is_collapsed, crosses)):
        axes.scatter(places[chosen], differences[chosen], rasterized=len(places) > MANY, **look)
    if len(differences) > 1:
        low, high = mean_interval(differences)
        mean = differences.mean()
        axes.errorbar(0.4, mean, yerr=[[mean - low], [high - mean]], color="black", marker="o", capsize=3)


def _draw_pairs(axes: Axes, paired: pd.DataFrame) -> None:
    """Join the two runs of each seed, red where one has collapsed, and the means of two seeds or more."""
    ends = paired[["second", "first"]].to_numpy(dtype=np.float64)
    is_collapsed = paired["is_collapsed"].to_numpy(dtype=bool)
    for chosen, colour in ((ends[~is_collapsed], "0.6"), (ends[is_collapsed], COLLAPSED_COLOUR)):
        segments = [np.column_stack([[0, 1], each]) for each in chosen]
        look: Options = {"color": colour, "rasterized": len(ends) > MANY}
        axes.add_collection(LineCollection(segments, linewidths=0.8, alpha=0.7, **look))
        axes.scatter(np.tile([0, 1], len(chosen)), chosen.ravel(), s=8, linewidths=0, **look)
    if len(ends) > 1:
        axes.plot([0, 1], ends.mean(axis=0), color="black", linewidth=2)


def pair_runs(runs: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Return `pair` of two cells in the leading metric, with `is_collapsed` if one of the runs has."""
    paired = pair(runs, first, second, leading_of(runs[runs["cell"] == first]))
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
        label = METRICS[leading_of(block)].label
        yield Drawn(
            name=f"f2-differences-{number}",
            title=f"F2. Paired differences from {comparator}: {setting}, {title_of(str(data))}",
            caption=join(
                [
                    f"Left of each pair of panels: {label} of both methods, joined by a line for each seed "
                    f"({describe_n(map(len, pairs.values()), 'pair')}); black: the means. Right: method "
                    f"minus {comparator} in points of 0.01; black: mean with 95 % Student t interval, from "
                    f"two pairs on; grey: ±{100 * MARGIN:g} points, practically equivalent. Red lines and "
                    "crosses: pairs in which a run has a dead class.",
                    describe_left_out(block, "every pair"),
                    describe_dataset(block),
                ]
            ),
            figure=_pairs_figure(pairs, comparator, leading_of(block)),
        )


def _pairs_figure(pairs: Mapping[str, pd.DataFrame], comparator: str, metric: str) -> Figure:
    """Return two pairs of panels per row; panels of a kind share an axis, so that methods can be compared."""
    num_rows = math.ceil(len(pairs) / 2)
    figure, rows = make_figure(num_rows, 4, 8.5, 2.2 * num_rows, width_ratios=[1.4, 1, 1.4, 1])
    flat = [axes for row in rows for axes in row]
    for place, (method, paired) in enumerate(pairs.items()):
        for kind in (0, 1):
            if place:
                flat[2 * place + kind].sharey(flat[kind])
        plot_differences(flat[2 * place], flat[2 * place + 1], paired, (comparator, method), metric)
    for axes in flat[2 * len(pairs) :]:
        axes.set_visible(False)
    return figure
