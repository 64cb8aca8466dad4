"""Figures F10 and F11: the methods of a study by family, and their scores against device time."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes

from analysis.compare import MARGIN
from analysis.figures.style import (
    SMALL,
    Drawn,
    Options,
    describe_n,
    label_methods,
    make_figure,
    title_of,
    use_log_scale,
)
from analysis.methods import MATCHED, RANKED
from lt_rebalance.ground.metrics import METRICS

# Okabe and Ito's colours, and a marker each, which tell families apart without colour.
_LOOKS = (
    *(("#000000", "o"), ("#0072B2", "s"), ("#D55E00", "^"), ("#009E73", "D"), ("#CC79A7", "v")),
    *(("#E69F00", "<"), ("#56B4E9", ">"), ("#999933", "p"), ("#882255", "h"), ("#595959", "8")),
)
_ROW_HEIGHT = 0.24
_LABEL_HEIGHT = 0.17


def looks_of(frame: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Return colour and marker of each family of a frame, as `methods_frame` returns it."""
    families = sorted(set(frame["family"]))
    return {family: _LOOKS[index % len(_LOOKS)] for index, family in enumerate(families)}


def plot_ranking(axes: Axes, block: pd.DataFrame, looks: Mapping[str, tuple[str, str]]) -> Axes:
    """Draw the means of one setting and C with their intervals, family by family, and write ranks beside."""
    for row, method in enumerate(block.to_dict("records")):
        colour, marker = looks[method["family"]]
        look: Options = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.2, "capsize": 2}
        _draw_mean(axes, method["mean"], row, method, look, is_upright=False)
        text = "not applicable" if method["reason"] and not method["n"] else _say_rank(method)
        axes.text(1.01, row, text, transform=axes.get_yaxis_transform(), fontsize=SMALL, va="center")
    is_first = block["family"].ne(block["family"].shift())
    for row in [place for place, begins in enumerate(is_first) if begins and place]:
        axes.axhline(row - 0.5, color="0.85", linewidth=0.8)
    axes.text(1.01, 1, "rank", transform=axes.transAxes, fontsize=SMALL, va="bottom", color="0.3")
    names = [
        f"{family or 'family unknown'}:  {method}" if begins else str(method)
        for family, method, begins in zip(block["family"], block["method"], is_first, strict=True)
    ]
    label_methods(axes, names)
    axes.set_xlim(*_within_shares(*axes.get_xlim()))
    axes.set_xlabel(METRICS[RANKED].label)
    axes.grid(axis="x", color="0.9")
    return axes


def _within_shares(low: float, high: float) -> tuple[float, float]:
    """Return axis limits within the range of shares, even if an interval is longer."""
    return max(low, -0.02), min(high, 1.02)


def _draw_mean(
    axes: Axes, x: float, y: float, method: Mapping[str, float], look: Options, *, is_upright: bool
) -> None:
    """Draw a mean, with its interval where it has one."""
    if pd.isna(x) or pd.isna(y):
        return
    low, high = method["mean"] - method["mean_low"], method["mean_high"] - method["mean"]
    ends = None if pd.isna(low) else [[low], [high]]
    axes.errorbar(x, y, xerr=None if is_upright else ends, yerr=ends if is_upright else None, **look)


def _say_rank(method: Mapping[str, float]) -> str:
    if pd.isna(method["rank"]):
        return ""
    return f"{method['rank']:.0f} ({method['rank_low']:.0f} to {method['rank_high']:.0f})"


def plot_pareto(axes: Axes, block: pd.DataFrame, looks: Mapping[str, tuple[str, str]]) -> Axes:
    """Draw means of one setting and C against device time, the Pareto front, and the margin of `MATCHED`."""
    known = block[block["mean"].notna() & (block["device_s"] > 0)]
    use_log_scale(axes)
    matched = known[known["method"] == MATCHED]
    for mean in matched["mean"]:
        axes.axhspan(mean - MARGIN, mean + MARGIN, color="0.9", linewidth=0, gid="margin")
        axes.axhline(mean, color="0.6", linewidth=0.8)
    front = known[known["is_on_front"]].sort_values("device_s")
    axes.step(front["device_s"], front["mean"], where="post", color="0.3", linewidth=1, gid="front")
    for method in known.to_dict("records"):
        colour, marker = looks[method["family"]]
        look: Options = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 0.6, "zorder": 3}
        _draw_mean(axes, method["device_s"], method["mean"], method, look, is_upright=True)
    for family in [each for each in looks if each in set(known["family"])]:
        colour, marker = looks[family]
        label = family or "family unknown"
        axes.plot([], [], color=colour, marker=marker, linestyle="", markersize=5, label=label)
    axes.set_ylim(*_within_shares(*axes.get_ylim()))
    _label_points(axes, known.sort_values("mean", ascending=False))
    axes.set_xlabel("device time of a run and all that it builds on (s)")
    axes.set_ylabel(METRICS[RANKED].label)
    axes.legend(fontsize=SMALL, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4)
    return axes


def _label_points(axes: Axes, methods: pd.DataFrame) -> None:
    """Write the names of methods next to the axes, the best on top, each with a line to its point."""
    for place, method in enumerate(methods.to_dict("records")):
        height = 1 - (place + 0.5) / len(methods)
        axes.annotate(
            method["method"],
            (method["device_s"], method["mean"]),
            (1.04, height),
            textcoords="axes fraction",
            fontsize=SMALL,
            va="center",
            fontweight="bold" if method["is_on_front"] else "normal",
            arrowprops={"arrowstyle": "-", "color": "0.75", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2},
        )


def draw_ranking(frame: pd.DataFrame) -> Iterator[Drawn]:
    """F10 and F11 for each study, setting and C where methods are compared."""
    if frame.empty:
        return
    blocks = [block for _, block in frame.groupby(["setting", "data"], sort=False)]
    looks = looks_of(frame)
    for index, block in enumerate(blocks, start=1):
        figure, ((axes,),) = make_figure(1, 1, 8, 1.2 + _ROW_HEIGHT * len(block))
        plot_ranking(axes, block, looks)
        yield Drawn(
            name=f"f10-ranking-{index}",
            title=f"F10. Methods by family: {_name(block)}",
            caption=(
                f"Mean {METRICS[RANKED].label} over seeds ({_say_n(block)}); families are ordered by their "
                "best method. Bars: Student t intervals that hold jointly for all methods at 95 % "
                "(Bonferroni), from two differing runs on, clipped to 0 to 1. Right: ranks with joint 95 % "
                "intervals from tests of all pairs by seed; they can separate methods whose intervals of "
                f"means overlap. {_describe(block)}"
            ),
            figure=figure,
        )
    for index, block in enumerate(blocks, start=1):
        num_named = int((block["mean"].notna() & (block["device_s"] > 0)).sum())
        if num_named == 0:
            continue
        figure, ((axes,),) = make_figure(1, 1, 8.5, max(4.0, 1.6 + _LABEL_HEIGHT * num_named))
        plot_pareto(axes, block, looks)
        yield Drawn(
            name=f"f11-pareto-{index}",
            title=f"F11. {METRICS[RANKED].label[0].upper()}{METRICS[RANKED].label[1:]} against device time: "
            f"{_name(block)}",
            caption=(
                f"Means over seeds ({_say_n(block)}) with the intervals of F10. Device time is that of a run "
                "plus the generator or first training that it builds on, in full even where other runs use "
                "it too; hyperparameter search is not included. Dark steps and bold names: the Pareto "
                f"front, where no other method is as good in less time. Grey: within ±{100 * MARGIN:g} "
                f"points of {MATCHED}. Names are in the order of means. {_describe(block)}"
            ),
            figure=figure,
        )


def _name(block: pd.DataFrame) -> str:
    return f"{block['setting'].iloc[0]}, {title_of(block['data'].iloc[0])}"


def _describe(block: pd.DataFrame) -> str:
    left_out: Sequence[str] = [str(name) for name in block.loc[block["n"] == 0, "method"]]
    return f"Without a complete run: {', '.join(left_out)}." if left_out else ""


def _say_n(block: pd.DataFrame) -> str:
    return describe_n(block.loc[block["n"] > 0, "n"])
