"""Figures F6 and F7: recall of classes and confusion matrices."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.classes import confused_pairs, shown_recalls
from analysis.figures.style import (
    SMALL,
    Drawn,
    describe_dataset,
    describe_n,
    label_methods,
    make_figure,
    shorten,
    title_of,
)
from analysis.naming import in_order
from analysis.sentences import describe_left_out, describe_shown, join
from lt_rebalance.ground.confusion import MAX_SHOWN, Confusion
from lt_rebalance.ground.imbalance import data_rank
from lt_rebalance.ground.text import count

PAIR_COLOUR = "#08519C"
SHOWN_FROM = 0.05
"""smallest share that is printed"""


def plot_recalls(
    axes: Axes, classes: pd.DataFrame, methods: Sequence[str] | None = None, small: float = SMALL
) -> Axes:
    """Draw mean recall of each method and class, for one setting and C, with training counts above.

    Args:
        methods: the rows from the top; in the paper's order if None. small: points of the smallest text.
    """
    methods = in_order(classes["method"]) if methods is None else methods
    names = shorten(classes.drop_duplicates("class").sort_values("class")["class_name"].astype(str).tolist())
    table = classes.pivot_table(index="method", columns="class", values="recall", observed=True).loc[methods]
    axes.imshow(table.to_numpy(), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(table.to_numpy()):
        axes.text(
            j,
            i,
            _say_recall(value),
            ha="center",
            va="center",
            fontsize=small,
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


def fit_classes(classes: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of all classes; with too many classes, rows of groups and of the worst classes."""
    if classes["class"].max() < MAX_SHOWN:
        return classes
    return shown_recalls(classes).rename(columns={"place": "class", "shown": "class_name"})


def _say_recall(value: float) -> str:
    """Format a recall; 0 is exact, and a small recall is "<.01"."""
    if value == 0:
        return "0"
    return f"{value:.2f}" if value >= 0.005 else "<.01"


def draw_recalls(classes: pd.DataFrame, all_runs: pd.DataFrame) -> Iterator[Drawn]:
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
            height_ratios=numbers,
        )
        for (axes,), data in zip(rows, levels, strict=True):
            plot_recalls(axes, fit_classes(of_setting[of_setting["data"] == data]))
            axes.set_title(f"{title_of(data)}; above the columns: real training images", loc="left")
        runs = of_setting.groupby(["data", "method"])["key"].nunique()
        yield Drawn(
            name=f"f6-recalls-{index}",
            title=f"F6. Recall of each class: {setting}",
            caption=join(
                [
                    f"Mean recall of each class over complete runs ({describe_n(runs)} per row); no interval "
                    "is drawn. 0: never recognised; <.01: almost never. Real training images are those "
                    "before rebalancing; they vary where the order of classes is drawn from the seed.",
                    describe_shown(int(of_setting["class"].max()) + 1),
                    describe_left_out(all_runs[all_runs["setting"] == setting]),
                    describe_dataset(of_setting),
                ]
            ),
            figure=figure,
        )


def plot_confusion(axes: Axes, confusions: Sequence[Confusion], names: Sequence[str]) -> Axes:
    """Draw the mean of confusion matrices, as shares of each true class."""
    names = shorten(names)
    totals = [np.maximum(confusion.true_K[:, None], 1) for confusion in confusions]
    matrices = [confusion.to_matrix() for confusion in confusions]
    shares = np.mean([matrix / total for matrix, total in zip(matrices, totals, strict=True)], axis=0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(shares):
        if value >= SHOWN_FROM:
            text = f"{value:.2f}".removeprefix("0")
            colour = "white" if value > 0.6 else "black"
            axes.text(j, i, text, ha="center", va="center", fontsize=SMALL, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor", fontsize=SMALL)
    axes.set_yticks(range(len(names)), names, fontsize=SMALL)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted")
    return axes


def draw_confusions(
    runs: pd.DataFrame, confusions: Mapping[str, Confusion], class_names: Mapping[str, Sequence[str]]
) -> Iterator[Drawn]:
    """F7 for each setting and C in which runs collapse: collapsed beside healthy ones of the same methods.

    With too many classes for a matrix, the most confused pairs over all runs, collapsed or not.
    """
    complete = runs[runs["state"] == "complete"]
    number = 0
    for (setting, data, dataset), block in complete.groupby(["setting", "data", "dataset"], sort=False):
        is_collapsed = block["is_collapsed"].astype(bool)
        names = class_names[str(dataset)]
        if len(names) > MAX_SHOWN:
            number += 1
            left_out = describe_left_out(_block_of(runs, setting, data))
            pairs = confused_pairs([confusions[key] for key in block["key"]])
            yield _draw_pairs(f"f7-confusion-{number}", block, pairs, names, left_out)
            continue
        if not is_collapsed.any():
            continue
        # Other methods would differ from the collapsed runs by method as well.
        healthy = block[~is_collapsed & block["cell"].isin(block.loc[is_collapsed, "cell"])]
        kinds = {"collapsed": block[is_collapsed], "healthy": healthy}
        kinds = {kind: of_kind for kind, of_kind in kinds.items() if len(of_kind)}
        number += 1
        figure, rows = make_figure(1, len(kinds), 4.3 * len(kinds), 4.4)
        for axes, (kind, of_kind) in zip(rows[0], kinds.items(), strict=True):
            plot_confusion(axes, [confusions[key] for key in of_kind["key"]], names)
            axes.set_title(f"{kind}, n = {count(len(of_kind), 'run')}")
        rows[0][0].set_ylabel("true class")
        yield Drawn(
            name=f"f7-confusion-{number}",
            title=f"F7. Confusion matrices of collapsed runs: {setting}, {title_of(str(data))}",
            caption=join(
                [
                    f"Mean confusion matrices as shares of each true class, over n = "
                    f"{count(int(is_collapsed.sum()), 'run')} with a dead class and n = "
                    f"{count(len(healthy), 'healthy run')} of the same methods "
                    f"({_count_collapsed(block)}). Shares below {SHOWN_FROM} are not printed; no interval is "
                    f"drawn. In a column without numbers no share reaches {SHOWN_FROM}: the class is seldom "
                    "or never predicted.",
                    describe_left_out(_block_of(runs, setting, data)),
                    describe_dataset(block),
                ]
            ),
            figure=figure,
        )


def plot_pairs(axes: Axes, pairs: Sequence[tuple[int, int, float]], names: Sequence[str]) -> Axes:
    """Draw one bar per pair of classes, as `confused_pairs` returns them."""
    names = shorten(names)
    labels = [f"{names[true]}, taken for {names[predicted]}" for true, predicted, _ in pairs]
    axes.barh(range(len(pairs)), [share for *_, share in pairs], color=PAIR_COLOUR)
    for place, (*_, share) in enumerate(pairs):
        axes.text(share, place, f" {share:.2f}", va="center", fontsize=SMALL)
    label_methods(axes, labels)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the true class")
    return axes


def _draw_pairs(
    name: str,
    block: pd.DataFrame,
    pairs: Sequence[tuple[int, int, float]],
    names: Sequence[str],
    left_out: str,
) -> Drawn:
    figure, rows = make_figure(1, 1, 8, 1.2 + 0.28 * len(pairs))
    plot_pairs(rows[0][0], pairs, names)
    setting, data = block["setting"].iloc[0], block["data"].iloc[0]
    return Drawn(
        name=name,
        title=f"F7. Most confused pairs of classes: {setting}, {title_of(str(data))}",
        caption=join(
            [
                f"The {len(pairs)} pairs of {len(names):,} classes that are confused most, as the mean share "
                f"of the true class over n = {count(len(block), 'complete run')} of all methods, without "
                "interval. All other pairs are left out.",
                left_out,
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
