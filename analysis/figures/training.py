"""Figure F5: learning curves."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import (
    COLLAPSED_COLOUR,
    Drawn,
    Options,
    colour_of,
    describe_dataset,
    describe_n,
    make_figure,
    title_of,
)
from analysis.leading import leading_of
from analysis.naming import in_order
from analysis.sentences import describe_left_out, join
from lt_rebalance.ground.imbalance import data_rank
from lt_rebalance.ground.metrics import METRICS

MAX_COLLAPSED_LINES = 20
"""largest number of collapsed runs drawn as single lines"""

_FIRST = (
    "A second training begins where its first training ended; a method that changes a trained network is a "
    "dot there."
)


def plot_curves(
    axes: Axes,
    rounds: pd.DataFrame,
    collapsed_keys: set[str],
    colour: str,
    unit: str = "step",
    metric: str = "accuracy",
) -> Axes:
    """Draw median and 10 to 90 % band of a metric of one cell, and its collapsed runs as lines.

    Args:
        unit: of the x axis, "step" or "epoch".
    """
    table = rounds.pivot(index="round", columns="key", values=f"test_{metric}")
    places = (
        table.index.to_numpy() if unit == "epoch" else rounds.groupby("round")["step"].median().to_numpy()
    )
    values = table.to_numpy(dtype=np.float64)
    low, median, high = np.nanquantile(values, [0.1, 0.5, 0.9], axis=1)
    axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
    few: Options = {"marker": "o", "markersize": 3} if len(places) < 3 else {}  # one point has no line
    axes.plot(places, median, color=colour, linewidth=1.5, **few)
    drawn = sorted(collapsed_keys & set(table.columns))[:MAX_COLLAPSED_LINES]
    for key in drawn:
        look: Options = {"color": COLLAPSED_COLOUR, "linewidth": 0.5, "alpha": 0.6, "rasterized": True}
        axes.plot(places, table[key].to_numpy(), **look, **few)
    axes.grid(color="0.92")
    return axes


def place_after_first(rounds: pd.DataFrame, first_trainings: Mapping[str, tuple[int, int]]) -> pd.DataFrame:
    """Return rounds and steps counted from the beginning of the first training that a run starts from.

    A method that acts on a trained network, in no step of its own, is at the end of that training.

    Args:
        rounds: with keys as objects. first_trainings: as of `Results`.
    """
    num_rounds, num_steps = (
        rounds["key"].map({key: of[place] for key, of in first_trainings.items()}).fillna(0).astype(int)
        for place in (0, 1)
    )
    own = rounds["round"].where((rounds["step"] > 0) | (num_rounds == 0), 0)
    return rounds.assign(round=num_rounds + own, step=num_steps + rounds["step"])


def draw_curves(
    rounds: pd.DataFrame, runs: pd.DataFrame, first_trainings: Mapping[str, tuple[int, int]]
) -> Iterator[Drawn]:
    """F5 for each setting: a grid of methods by C; `first_trainings` of `Results`."""
    complete = runs[runs["state"] == "complete"]
    collapsed = set(complete.loc[complete["is_collapsed"].astype(bool), "key"])
    names = ["setting", "dataset", "data", "method", "budget", "key"]
    rounds = rounds.astype(dict.fromkeys(names, "object"))
    rounds = place_after_first(rounds[rounds["key"].isin(complete["key"])], first_trainings)
    for index, (setting, of_setting) in enumerate(rounds.groupby("setting", sort=False), start=1):
        metric = leading_of(runs[runs["setting"] == setting])
        per_cell = of_setting.groupby(["data", "method"])["key"].nunique()
        yield Drawn(
            name=f"f5-curves-{index}",
            title=f"F5. Learning curves: {setting}",
            caption=join(
                [
                    f"Median {METRICS[metric].label} over runs after each round "
                    f"({describe_n(per_cell, 'run')} per panel). Band: 10th to 90th percentile of runs, "
                    "not a confidence interval. Red lines: runs that end with a dead class, at most "
                    f"{MAX_COLLAPSED_LINES} per panel.",
                    _FIRST if of_setting["key"].isin(list(first_trainings)).any() else "",
                    describe_left_out(runs[runs["setting"] == setting], "every curve"),
                    describe_dataset(of_setting),
                ]
            ),
            figure=_curves_figure(of_setting, collapsed, metric),
        )


def _curves_figure(rounds: pd.DataFrame, collapsed: set[str], metric: str) -> Figure:
    """Return one row per method and one column per C."""
    levels = sorted(dict.fromkeys(rounds["data"]), key=data_rank)
    methods = in_order(rounds["method"])
    # At equal epochs, the numbers of steps of methods differ by factors of up to several hundred.
    unit = "epoch" if str(rounds["budget"].iloc[0]).endswith(("epoch", "epochs")) else "step"
    size = 2.3 + 1.9 * len(levels), 0.8 + 1.1 * len(methods)
    figure, grid = make_figure(len(methods), len(levels), *size, sharex=True, sharey=True)
    for row, method in zip(grid, methods, strict=True):
        for axes, data in zip(row, levels, strict=True):
            cell = rounds[(rounds["data"] == data) & (rounds["method"] == method)]
            axes.set_visible(len(cell) > 0)
            if len(cell):
                plot_curves(axes, cell, collapsed, colour_of(method), unit, metric)
        place: Options = {"xycoords": "axes fraction", "va": "center", "fontsize": 8.5}
        shown = [axes for axes in row if axes.get_visible()]
        shown[0].tick_params(labelleft=True)
        shown[-1].annotate(method, (1.04, 0.5), **place)
    for column, data in zip(zip(*grid, strict=True), levels, strict=True):
        shown = [axes for axes in column if axes.get_visible()]
        shown[0].set_title(title_of(data))
        shown[-1].tick_params(labelbottom=True)
    figure.supxlabel(unit, fontsize=9)
    figure.supylabel(f"{METRICS[metric].label} on the test set (share)", fontsize=9)
    return figure
