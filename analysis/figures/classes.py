"""Figures F6 and F7: which classes are recognised, and what the others are taken for."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.figures.style import Drawn, make_figure
from analysis.naming import data_rank, in_order


def plot_recalls(axes: Axes, classes: pd.DataFrame) -> Axes:
    """Draw mean recall of each method and class, for one setting and C; training counts stand above."""
    methods = in_order(classes["method"])
    names = classes.drop_duplicates("class").sort_values("class")["class_name"].astype(str).tolist()
    table = classes.pivot_table(index="method", columns="class", values="recall", observed=True).loc[methods]
    axes.imshow(table.to_numpy(), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(table.to_numpy()):
        axes.text(
            j,
            i,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if value < 0.5 else "black",
        )
    axes.set_yticks(range(len(methods)), methods)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    counts = classes.groupby("class")["class_count"].median().astype(int)
    above = axes.secondary_xaxis("top")
    above.set_xticks(range(len(names)), [str(count) for count in counts])
    for side in (axes, above):
        side.tick_params(length=0)
        side.spines[:].set_visible(False)
    return axes


def draw_recalls(classes: pd.DataFrame) -> Iterator[Drawn]:
    """F6 for each setting, one panel a C."""
    names = ["setting", "data", "method", "dataset"]
    classes = classes.astype(dict.fromkeys(names, "object"))
    for index, (setting, of_setting) in enumerate(classes.groupby("setting", sort=False), start=1):
        levels = sorted(dict.fromkeys(of_setting["data"]), key=data_rank)
        numbers = [of_setting.loc[of_setting["data"] == data, "method"].nunique() for data in levels]
        figure, rows = make_figure(
            len(levels),
            1,
            8,
            sum(0.3 * n + 1.3 for n in numbers),
            height_ratios=[0.3 * n + 1 for n in numbers],
        )
        for (axes,), data in zip(rows, levels, strict=True):
            plot_recalls(axes, of_setting[of_setting["data"] == data])
            label = f"C = {data}" if data != "original" else "original set"
            axes.set_title(f"{label}; above the columns: real training images of the class", loc="left")
        runs = of_setting.groupby(["data", "method"])["key"].nunique()
        yield Drawn(
            name=f"f6-recalls-{index}",
            title=f"F6. Recall of each class: {setting}",
            caption=(
                f"Mean recall on the test set over complete runs (n = {runs.min()} to {runs.max()} a row). "
                "0.00 over all runs is a class that the method never recognises. Data set: "
                f"{', '.join(dict.fromkeys(of_setting['dataset']))}."
            ),
            figure=figure,
        )


def plot_confusion(axes: Axes, confusions: Sequence[NDArray[np.int64]], names: Sequence[str]) -> Axes:
    """Draw the mean of confusion matrices, as shares of each true class."""
    shares = np.mean([confusion / confusion.sum(axis=1, keepdims=True) for confusion in confusions], axis=0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(shares):
        if value >= 0.005:
            axes.text(
                j,
                i,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if value > 0.6 else "black",
            )
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    return axes


def draw_confusions(
    runs: pd.DataFrame, confusions: Mapping[str, NDArray[np.int64]], class_names: Mapping[str, Sequence[str]]
) -> Iterator[Drawn]:
    """F7 for each setting and C in which runs collapse: collapsed beside healthy."""
    complete = runs[runs["state"] == "complete"]
    number = 0
    for (setting, data, dataset), block in complete.groupby(["setting", "data", "dataset"], sort=False):
        is_collapsed = block["is_collapsed"].astype(bool)
        kinds = {"collapsed": block[is_collapsed], "healthy": block[~is_collapsed]}
        kinds = {kind: of_kind for kind, of_kind in kinds.items() if len(of_kind)}
        if "collapsed" not in kinds:
            continue
        number += 1
        figure, rows = make_figure(1, len(kinds), 4.6 * len(kinds), 4.7)
        for axes, (kind, of_kind) in zip(rows[0], kinds.items(), strict=True):
            plot_confusion(axes, [confusions[key] for key in of_kind["key"]], class_names[str(dataset)])
            axes.set_title(f"{kind}, n = {len(of_kind)} runs")
        rows[0][0].set_ylabel("true class")
        yield Drawn(
            name=f"f7-confusion-{number}",
            title=f"F7. What collapsed runs say: {setting}, C = {data}",
            caption=(
                "Mean confusion matrices in percent of each true class, over all methods; shares below "
                "0.5 % are left blank. An empty column is a class that is never predicted. Data set: "
                f"{dataset}."
            ),
            figure=figure,
        )
