"""Figures F1 and F3: the result of every run, and how often one method beats another."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.aggregate import PAPER_METRICS, count_diverged, papers_row
from analysis.estimates import Interval
from analysis.figures.style import (
    COLLAPSED_COLOUR,
    MANY,
    PAPER_COLOUR,
    SMALL,
    Drawn,
    Options,
    colour_of,
    describe_dataset,
    describe_n,
    label_methods,
    make_figure,
    marker_of,
    say_mean,
    say_on_hover,
    title_of,
)
from analysis.leading import leading_of, name_leading
from analysis.naming import in_order
from analysis.ranking import simultaneous_intervals
from analysis.sentences import (
    describe_left_out,
    describe_pairs_left_out,
    has_papers_numbers,
    join,
)
from analysis.tables.formats import estimate, listed, share
from lt_rebalance.ground.imbalance import data_rank
from lt_rebalance.ground.metrics import METRICS, is_higher_better

_ROW_HEIGHT = 0.34
_MANY_ROWS = 12
_LOW_ROW_HEIGHT = 0.25
_HEAD_HEIGHT = 0.7


def plot_replicates(
    axes: Axes, runs: pd.DataFrame, methods: Sequence[str] | None = None, small: float = SMALL
) -> Axes:
    """Draw every complete run of one setting and C, mean and interval above, the paper's number open.

    Intervals hold jointly for all methods. The method with the best mean is on top. Methods without a run are
    left out, unless no method has one.

    Args:
        methods: the rows from the top, instead of that order. small: points of the smallest text.
    """
    complete, metric = runs[runs["state"] == "complete"], leading_of(runs)
    methods = _by_mean(runs, metric) if methods is None else methods
    wide = complete.pivot(index="seed", columns="method", values=metric).astype(np.float64)
    intervals = dict(zip(wide.columns, simultaneous_intervals(wide.to_numpy()), strict=True))
    heights = _seed_heights(runs["seed"])
    for row, method in enumerate(methods):
        of_method = complete[complete["method"] == method].sort_values("seed")
        _draw_runs(axes, of_method, method, row + 0.16 + of_method["seed"].map(heights))
        if len(of_method) > 1:
            _draw_mean(axes, of_method[metric], intervals[method], method, row - 0.2)
        if (paper := papers_row(runs[runs["method"] == method])) is not None:
            value = getattr(paper, PAPER_METRICS[metric])
            look: Options = {"facecolors": "none", "edgecolors": PAPER_COLOUR, "marker": "d", "zorder": 3}
            look["urls"] = [say_on_hover(f"{method}, the paper's run: {share(value)}")]
            axes.scatter([value], [row + 0.16], s=46, gid="paper", **look)
    label_methods(axes, methods)
    _write_counts(axes, runs, methods, small)
    axes.set_xlabel(METRICS[metric].label)
    axes.grid(axis="x", color="0.9")
    return axes


def _by_mean(runs: pd.DataFrame, metric: str) -> list[str]:
    """Return the methods that have a run, the best mean first; all of them where none has one."""
    means = runs.loc[runs["state"] == "complete"].groupby("method")[metric].mean()
    sign = -1 if is_higher_better(metric) else 1
    return sorted(in_order(means.index), key=lambda name: sign * means[name]) or in_order(runs["method"])


def _seed_heights(seeds: pd.Series) -> dict[int, float]:
    """Return the height of each seed within its row, the same in every row."""
    ordered = sorted(set(seeds))
    heights = 0.15 * np.linspace(-1, 1, len(ordered)) if len(ordered) > 1 else np.zeros(1)
    return dict(zip(ordered, heights.tolist(), strict=True))


def _draw_runs(axes: Axes, runs: pd.DataFrame, method: str, heights: pd.Series) -> None:
    """Draw healthy runs as marks of their method, and collapsed ones as crosses."""
    is_collapsed, size = runs["is_collapsed"].astype(bool), 14 if len(runs) > 1 else 30
    healthy, collapsed, metric = runs[~is_collapsed], runs[is_collapsed], leading_of(runs)
    told = [
        say_on_hover(f"{method}, seed {seed}: {share(value)}")
        for seed, value in zip(runs["seed"], runs[metric], strict=True)
    ]
    said, said_of_collapsed = (list(itertools.compress(told, of)) for of in (~is_collapsed, is_collapsed))
    shared: Options = {"rasterized": len(runs) > MANY, "zorder": 2}
    look: Options = {"color": colour_of(method), "marker": marker_of(method), "alpha": 0.7, "linewidths": 0}
    axes.scatter(healthy[metric], heights[~is_collapsed], s=size, gid="runs", urls=said, **look, **shared)
    cross: Options = {"color": COLLAPSED_COLOUR, "marker": "x"}
    cross["urls"] = [f"{text}, a class is never recognised" for text in said_of_collapsed]
    axes.scatter(collapsed[metric], heights[is_collapsed], s=22, gid="collapsed", **cross, **shared)


def _draw_mean(axes: Axes, values: pd.Series, ends: Interval, method: str, height: float) -> None:
    """Draw a mean with its interval."""
    mean, (low, high) = float(values.mean()), ends
    look: Options = {"color": colour_of(method), "marker": marker_of(method)}
    look |= {"markersize": 5, "linewidth": 1.5, "capsize": 3}
    drawn = axes.errorbar(mean, height, xerr=[[mean - low], [high - mean]], **look)
    say_mean(drawn, f"{method}: mean {estimate(mean, low, high, share)}, n = {len(values)}")


def _write_counts(axes: Axes, runs: pd.DataFrame, methods: Sequence[str], small: float) -> None:
    """Write the numbers of complete and of collapsed runs to the right of each row."""
    axes.text(1.01, 1, "n (×)", transform=axes.transAxes, fontsize=small, va="bottom", color="0.3")
    for row, method in enumerate(methods):
        of_method = runs[runs["method"] == method]
        complete = of_method[of_method["state"] == "complete"]
        n, planned = len(complete), len(of_method)
        text = f"{n if n == planned else f'{n} of {planned}'} ({int(complete['is_collapsed'].sum())})"
        if num_diverged := count_diverged(of_method):
            text += f", {num_diverged} diverged"
        axes.text(1.01, row, text, transform=axes.get_yaxis_transform(), fontsize=small, va="center")


def draw_replicates(runs: pd.DataFrame) -> Iterator[Drawn]:
    """F1 for each setting and C; those with one method, which compare nothing, come last."""
    blocks = [block for _, block in runs.groupby(["setting", "data"], sort=False)]
    blocks.sort(key=lambda block: block["method"].nunique() == 1)
    for index, block in enumerate(blocks, start=1):
        num_methods = len(_by_mean(block, leading_of(block)))
        height = _HEAD_HEIGHT + num_methods * (_ROW_HEIGHT if num_methods <= _MANY_ROWS else _LOW_ROW_HEIGHT)
        figure, ((axes,),) = make_figure(1, 1, 5.2, height)
        plot_replicates(axes, block)
        limit_to_shares(axes)
        axes.set_xlabel(f"{METRICS[leading_of(block)].label} on the test set (share)")
        setting, place = block["setting"].iloc[0], title_of(block["data"].iloc[0])
        yield Drawn(
            name=f"f1-replicates-{index}",
            title=f"F1. All runs: {place}, {setting}",
            caption=_replicates_caption(block, is_first=index == 1),
            figure=figure,
        )


def _replicates_caption(runs: pd.DataFrame, *, is_first: bool) -> str:
    """Return the caption of F1; only the first one explains the marks."""
    complete = runs[runs["state"] == "complete"]
    n = describe_n(complete.groupby("cell").size())
    marks = f"Every complete run ({n} per method); marks and intervals as in the first figure."
    diamonds = ""
    if is_first:
        marks = (
            f"Small marks: single runs ({n} per method); runs of one seed have the same height. Large marks: "
            "means with 95 % intervals that hold jointly for all methods, clipped to 0 to 1. Red crosses, "
            "counted in brackets: runs in which a class is never recognised."
        )
    if has_papers_numbers(runs):
        diamonds = "Open diamonds: the paper's single runs; compare them with single runs, not with means."
    without = [name for name in in_order(runs["method"]) if name not in set(complete["method"])]
    return join(
        [
            marks,
            diamonds,
            describe_left_out(runs),
            f"Without a complete run: {listed(without)}." if without else "",
            f"Data set: {runs['dataset'].iloc[0]}.",
        ]
    )


def limit_to_shares(axes: Axes) -> None:
    """Limit the axis to shares, even if an interval is longer."""
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -0.02), min(high, 1.02))


def plot_wins(axes: Axes, contrasts: pd.DataFrame) -> Axes:
    """Draw the share of seeds at which the row's method beats the column's, for one setting and C."""
    methods = in_order([*contrasts["method"], *contrasts["comparator"]])
    place = {method: index for index, method in enumerate(methods)}
    share = np.full((len(methods), len(methods)), np.nan)
    for row in contrasts.to_dict("records"):
        i, j = place[row["method"]], place[row["comparator"]]
        share[i, j], share[j, i] = row["better_share"], 1 - row["better_share"]
    # Limits beyond 0 and 1 leave out the dark ends, on which numbers cannot be read.
    axes.imshow(share, cmap="PuOr_r", vmin=-0.4, vmax=1.4)
    for (i, j), value in np.ndenumerate(share):
        if not np.isnan(value):
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=SMALL)
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
        methods = in_order([*of_setting["method"], *of_setting["comparator"]])
        side = 0.42 * len(methods)
        figure, rows = make_figure(len(levels), 1, 2.3 + side, len(levels) * (1.6 + side))
        for (axes,), data in zip(rows, levels, strict=True):
            plot_wins(axes, of_setting[of_setting["data"] == data])
            axes.set_title(title_of(data), loc="left")
        yield Drawn(
            name=f"f3-wins-{index}",
            title=f"F3. How often the row beats the column: {setting}",
            caption=join(
                [
                    f"Share of seeds at which the row's {name_leading(of_setting)} is higher than the "
                    f"column's; ties count half ({describe_n(of_setting['n_pairs'], 'pair')}). Orange: the "
                    "row is better more often; purple: less often. Nothing is tested and no interval is "
                    "drawn; T2 has a 95 % Clopper-Pearson interval for each share.",
                    describe_pairs_left_out(of_setting),
                    describe_dataset(of_setting),
                ]
            ),
            figure=figure,
        )
