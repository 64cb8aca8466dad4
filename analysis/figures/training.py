"""Figure F5: how training goes."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import COLLAPSED_COLOUR, Drawn, colour_of, make_figure
from analysis.naming import data_rank, in_order

MAX_COLLAPSED_LINES = 20
"""collapsed runs of a method that are drawn as lines of their own"""


def plot_curves(axes: Axes, rounds: pd.DataFrame, collapsed_keys: set[str], colour: str) -> Axes:
    """Draw median and 10 to 90 % band of one cell's accuracy over steps, and its collapsed runs as lines."""
    table = rounds.pivot(index="round", columns="key", values="test_accuracy")
    steps = rounds.groupby("round")["step"].median().to_numpy()
    values = table.to_numpy(dtype=np.float64)
    low, median, high = np.nanquantile(values, [0.1, 0.5, 0.9], axis=1)
    axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(
        steps, median, color=colour, linewidth=1.5, marker="o" if len(steps) < 3 else None, markersize=3
    )
    drawn = sorted(collapsed_keys & set(table.columns))[:MAX_COLLAPSED_LINES]
    for key in drawn:
        axes.plot(
            steps, table[key].to_numpy(), color=COLLAPSED_COLOUR, linewidth=0.5, alpha=0.6, rasterized=True
        )
    axes.grid(color="0.92")
    return axes


def draw_curves(rounds: pd.DataFrame, runs: pd.DataFrame) -> Iterator[Drawn]:
    """F5 for each setting: a grid of methods by C."""
    collapsed = set(runs.loc[runs["is_collapsed"].fillna(False).astype(bool), "key"])
    names = ["setting", "data", "method", "key"]
    rounds = rounds.astype(dict.fromkeys(names, "object"))
    for index, (setting, of_setting) in enumerate(rounds.groupby("setting", sort=False), start=1):
        levels = sorted(dict.fromkeys(of_setting["data"]), key=data_rank)
        methods = in_order(of_setting["method"])
        figure, grid = make_figure(
            len(methods),
            len(levels),
            1.5 + 2.3 * len(levels),
            0.6 + 1.25 * len(methods),
            sharex=True,
            sharey=True,
        )
        for row, method in zip(grid, methods, strict=True):
            for axes, data in zip(row, levels, strict=True):
                cell = of_setting[(of_setting["data"] == data) & (of_setting["method"] == method)]
                if len(cell):
                    plot_curves(axes, cell, collapsed, colour_of(method, methods))
                else:
                    axes.set_visible(False)
            first = next(axes for axes in row if axes.get_visible())
            first.tick_params(labelleft=True)
            row[-1].annotate(
                method, (1.02, 0.5), xycoords="axes fraction", rotation=270, va="center", fontsize=8
            )
        for axes, data in zip(grid[0], levels, strict=True):
            axes.set_title(f"C = {data}" if data != "original" else "original set")
        figure.supxlabel("optimizer steps", fontsize=9)
        figure.supylabel("accuracy on the test set", fontsize=9)
        yield Drawn(
            name=f"f5-curves-{index}",
            title=f"F5. Learning curves: {setting}",
            caption=(
                "Median accuracy over runs after each round, band from the 10th to the 90th percentile. "
                f"Red lines: runs that end with a dead class, at most {MAX_COLLAPSED_LINES} a cell. n = "
                f"{of_setting['key'].nunique()} runs in all."
            ),
            figure=figure,
        )
