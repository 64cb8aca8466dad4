"""Figures F6 and F7: which classes are recognised, and what the others are taken for."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import SMALL, Drawn, describe_dataset, describe_n, make_figure, title_of
from analysis.naming import in_order
from analysis.sentences import describe_left_out, join
from lt_rebalance.ground.confusion import MAX_DETAILED, Confusion
from lt_rebalance.ground.imbalance import data_rank

MAX_WRITTEN = 20
"""classes up to which a matrix has room for numbers"""
SHOWN_FROM = 0.05
"""share from which a confusion is written out"""


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
            _say_recall(value),
            ha="center",
            va="center",
            fontsize=SMALL,
            color="white" if value < 0.5 else "black",
        )
    axes.set_yticks(range(len(methods)), methods)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    counts = classes.groupby("class")["class_count"]
    ends = zip(counts.min(), counts.max(), strict=True)
    above = axes.secondary_xaxis("top")
    above.set_xticks(range(len(names)), [str(low) if low == high else "varies" for low, high in ends])
    for side in (axes, above):
        side.tick_params(length=0)
        side.spines[:].set_visible(False)
    return axes


def _say_recall(value: float) -> str:
    """Tell a class that is never recognised from one that hardly is."""
    if value == 0:
        return "0"
    return f"{value:.2f}" if value >= 0.005 else "<.01"


def draw_recalls(classes: pd.DataFrame, all_runs: pd.DataFrame) -> Iterator[Drawn]:
    """F6 for each setting, one panel a C."""
    names = ["setting", "data", "method", "dataset"]
    classes = classes.astype(dict.fromkeys(names, "object"))
    num_classes = classes.groupby("setting", sort=False)["class"].transform("max") + 1
    classes = classes[num_classes <= MAX_DETAILED]
    for index, (setting, of_setting) in enumerate(classes.groupby("setting", sort=False), start=1):
        levels = sorted(dict.fromkeys(of_setting["data"]), key=data_rank)
        numbers = [of_setting.loc[of_setting["data"] == data, "method"].nunique() for data in levels]
        figure, rows = make_figure(
            len(levels),
            1,
            8,
            sum(0.3 * n + 1.3 for n in numbers),
            height_ratios=numbers,
        )
        for (axes,), data in zip(rows, levels, strict=True):
            plot_recalls(axes, of_setting[of_setting["data"] == data])
            axes.set_title(f"{title_of(data)}; above the columns: real training images", loc="left")
        runs = of_setting.groupby(["data", "method"])["key"].nunique()
        yield Drawn(
            name=f"f6-recalls-{index}",
            title=f"F6. Recall of each class: {setting}",
            caption=join(
                [
                    "Mean recall (share of the test images of a class) over complete runs "
                    f"({describe_n(runs)} "
                    "a row); no interval is drawn. A bare 0 is a class that the method never recognises, "
                    "<.01 "
                    "one that it hardly does. Real training images are those before rebalancing; they vary "
                    f"where the order of classes is drawn from the seed.",
                    describe_left_out(all_runs[all_runs["setting"] == setting]),
                    describe_dataset(of_setting),
                ]
            ),
            figure=figure,
        )


def plot_confusion(axes: Axes, confusions: Sequence[Confusion], names: Sequence[str]) -> Axes:
    """Draw the mean of confusion matrices, as shares of each true class."""
    totals = [np.maximum(confusion.true_K[:, None], 1) for confusion in confusions]
    matrices = [confusion.to_matrix() for confusion in confusions]
    shares = np.mean([matrix / total for matrix, total in zip(matrices, totals, strict=True)], axis=0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    has_room = len(names) <= MAX_WRITTEN
    for (i, j), value in np.ndenumerate(shares):
        if has_room and value >= SHOWN_FROM:
            text = f"{value:.2f}".removeprefix("0")
            colour = "white" if value > 0.6 else "black"
            axes.text(j, i, text, ha="center", va="center", fontsize=SMALL, color=colour)
    size = SMALL if has_room else 5
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted")
    return axes


def draw_confusions(
    runs: pd.DataFrame, confusions: Mapping[str, Confusion], class_names: Mapping[str, Sequence[str]]
) -> Iterator[Drawn]:
    """F7 for each setting and C in which runs collapse: collapsed beside healthy ones of the same methods."""
    complete = runs[runs["state"] == "complete"]
    number = 0
    for (setting, data, dataset), block in complete.groupby(["setting", "data", "dataset"], sort=False):
        is_collapsed = block["is_collapsed"].astype(bool)
        if not is_collapsed.any() or len(class_names[str(dataset)]) > MAX_DETAILED:
            continue
        # Other methods would differ from the collapsed runs by method as well.
        healthy = block[~is_collapsed & block["cell"].isin(block.loc[is_collapsed, "cell"])]
        kinds = {"collapsed": block[is_collapsed], "healthy": healthy}
        kinds = {kind: of_kind for kind, of_kind in kinds.items() if len(of_kind)}
        number += 1
        figure, rows = make_figure(1, len(kinds), 4.3 * len(kinds), 4.4)
        for axes, (kind, of_kind) in zip(rows[0], kinds.items(), strict=True):
            plot_confusion(axes, [confusions[key] for key in of_kind["key"]], class_names[str(dataset)])
            axes.set_title(f"{kind}, n = {len(of_kind)} runs")
        rows[0][0].set_ylabel("true class")
        yield Drawn(
            name=f"f7-confusion-{number}",
            title=f"F7. What collapsed runs say: {setting}, {title_of(str(data))}",
            caption=join(
                [
                    "Mean confusion matrices as shares of each true class, over the n = "
                    f"{is_collapsed.sum()} "
                    f"runs with a dead class and the n = {len(healthy)} healthy runs of the same methods "
                    f"({_count_collapsed(block)}); shares below {SHOWN_FROM} are not written, and no "
                    "interval is "
                    "drawn. An empty column is a class that is never predicted.",
                    describe_left_out(_block_of(runs, setting, data)),
                    describe_dataset(block),
                ]
            ),
            figure=figure,
        )


def _block_of(runs: pd.DataFrame, setting: object, data: object) -> pd.DataFrame:
    """Return all planned runs of a setting and C."""
    return runs[(runs["setting"] == setting) & (runs["data"] == data)]


def _count_collapsed(runs: pd.DataFrame) -> str:
    """Return how many runs of each method have collapsed, of those that ever do."""
    counts = runs["is_collapsed"].astype(int).groupby(runs["method"], sort=False).agg(["sum", "size"])
    some = counts[counts["sum"] > 0]
    return ", ".join(f"{method} {row['sum']} of {row['size']} collapsed" for method, row in some.iterrows())
