"""The three figures of a manuscript: every run, differences from a reference, recall of each class."""

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.collect import Results
from analysis.compare import MARGIN
from analysis.figures.ablations import plot_changes
from analysis.figures.classes import fit_classes, plot_recalls
from analysis.figures.differences import COMPARATORS, pair_runs
from analysis.figures.methods import limit_to_shares, plot_replicates
from analysis.figures.style import Drawn, describe_n, make_figure, title_of
from analysis.manuscript.choice import MOST_PANELS, Choice
from analysis.sentences import has_papers_numbers
from lt_rebalance.ground.imbalance import say_data
from lt_rebalance.ground.metrics import METRICS

_SMALL = 6.0
_ROW_HEIGHT = 0.16
_CHARACTER_INCHES = 0.05
"""of a name beside its row"""
_CELL_INCHES = 0.19
"""of a recall that can be read"""
_STYLE: dict[Any, Any] = {  # Any: as in analysis.figures.style
    "font.family": ["STIXGeneral", "DejaVu Sans"],  # the second has more letters
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "lines.linewidth": 0.8,
    "lines.markersize": 3,
    "lines.markeredgewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}
"""the letters of Times, as in `paper.tex`, in sizes that are printed as they are"""


def draw_figures(
    results: Results, choice: Choice, column_inches: float, text_inches: float
) -> Iterator[Drawn]:
    """Yield the figures that have something to show; widths are those of a column and of the text."""
    with mpl.rc_context(_STYLE):
        for drawn in (
            _draw_main(choice, column_inches, text_inches),
            _draw_differences(choice, column_inches, text_inches),
            _draw_classes(results, choice, column_inches, text_inches),
        ):
            if drawn is not None:
                _make_vectors(drawn)
                yield drawn


def _panels(num_rows: int, data: tuple[str, ...], widths: tuple[float, float]) -> tuple[Drawn, list[Axes]]:
    """Return a figure with a panel for each training set, side by side with their rows in common."""
    column, text = widths
    figure, (axes,) = make_figure(
        1,
        len(data),
        column if len(data) == 1 else text,
        0.65 + _ROW_HEIGHT * num_rows,
        style=_STYLE,
        sharey=True,
    )
    for each, name in zip(axes, data, strict=True):
        each.set_title(title_of(name), loc="left")
    return Drawn(name="", title="", caption="", figure=figure), axes


def _draw_main(choice: Choice, column: float, text: float) -> Drawn | None:
    """Draw every run and every mean."""
    data = choice.compared[-MOST_PANELS:]
    methods = [name for name in choice.methods if choice.has(name, data)]
    drawn, panels = _panels(len(methods), data, (column, text))
    for axes, name in zip(panels, data, strict=True):
        plot_replicates(axes, choice.runs[choice.runs["data"] == name], methods, _SMALL)
        limit_to_shares(axes)
    label = METRICS[choice.metric].label
    complete = choice.runs[(choice.runs["state"] == "complete") & choice.runs["data"].isin(data)]
    diamonds = "Open diamonds: single runs of the original paper. " if has_papers_numbers(complete) else ""
    return Drawn(
        name="figure1-main",
        title=f"{label[0].upper()}{label[1:]} on the test set of every run",
        caption=(
            f"Small marks: single runs ({describe_n(complete.groupby('cell').size())} per method). Large "
            "marks: means with 95 % t intervals that hold for all methods of a training set together "
            "(Bonferroni), cut at 0 and 1. Crosses, counted in brackets: runs in which a class is never "
            f"recognised. {diamonds}Setting: {choice.setting}; data set {choice.dataset}."
        ),
        figure=drawn.figure,
    )


def _draw_differences(choice: Choice, column: float, text: float) -> Drawn | None:
    """Draw the differences from oversample, or where that was not run from none, seed by seed."""
    reference = next((name for name in COMPARATORS if name in choice.methods), None)
    if reference is None:
        return None
    by_data = {data: _pair_all(choice, data, reference) for data in choice.compared[-MOST_PANELS:]}
    data = tuple(name for name, pairs in by_data.items() if pairs)
    methods = [name for name in choice.methods if any(name in by_data[each] for each in data)]
    if not data:
        return None
    drawn, panels = _panels(len(methods), data, (column, text))
    label = METRICS[choice.metric].label
    for axes, name in zip(panels, data, strict=True):
        empty = pd.DataFrame({"difference": [], "is_collapsed": []})
        plot_changes(axes, [(method, by_data[name].get(method, empty)) for method in methods], label)
        axes.set_xlabel(f"minus {reference} (points of {label})")
    counts = [len(pairs) for each in by_data.values() for pairs in each.values()]
    return Drawn(
        name="figure2-differences",
        title=f"Differences from {reference} in {label}",
        caption=(
            f"Small marks: differences of two runs of one seed ({describe_n(counts, 'pair')} per method), in "
            "points of 0.01; crosses: pairs in which a run never recognises a class. Large marks: means with "
            f"95 % t intervals. Grey: ±{100 * MARGIN:g} points, practically equivalent. Setting: "
            f"{choice.setting}; data set {choice.dataset}."
        ),
        figure=drawn.figure,
    )


def _pair_all(choice: Choice, data: str, reference: str) -> dict[str, pd.DataFrame]:
    """Return the pairs of each method with a reference, where there are any."""
    block = choice.runs[choice.runs["data"] == data]
    cells = block.drop_duplicates("method").set_index("method")["cell"]
    if reference not in cells:
        return {}
    others = [name for name in choice.methods if name in cells and name != reference]
    pairs = {name: pair_runs(block, cells[name], cells[reference]) for name in others}
    return {name: paired for name, paired in pairs.items() if len(paired)}


def _draw_classes(results: Results, choice: Choice, column: float, text: float) -> Drawn | None:
    """Draw the recall of each class at the strongest imbalance."""
    data = choice.compared[-1]
    classes = choice.select(results.classes)
    classes = classes[classes["data"] == data]
    if classes.empty:
        return None
    names = ["setting", "data", "method", "dataset"]
    shown = fit_classes(classes.astype(dict.fromkeys(names, "object")))
    methods = [name for name in choice.methods if name in set(shown["method"])]
    taken = _CHARACTER_INCHES * max(map(len, methods)) + _CELL_INCHES * shown["class"].nunique()
    width = column if taken <= column else text
    figure, ((axes,),) = make_figure(1, 1, width, 0.95 + _ROW_HEIGHT * len(methods), style=_STYLE)
    plot_recalls(axes, shown, methods, _SMALL)
    num_runs = classes.groupby("method", observed=True)["key"].nunique()
    return Drawn(
        name="figure3-classes",
        title=f"Recall of each class at {say_data(data)}",
        caption=(
            f"Mean over complete runs ({describe_n(num_runs)} per method), without an interval. Above the "
            "columns: real training images of the class. A bare 0: never recognised. Setting: "
            f"{choice.setting}; data set {choice.dataset}."
        ),
        figure=figure,
    )


def _make_vectors(drawn: Drawn) -> None:
    """Replace what would be a bitmap, so that the figure is sharp at any size."""
    for axes in drawn.figure.axes:
        for image in list(axes.images):
            values = np.asarray(image.get_array())
            low, high = image.get_clim()
            limits = axes.get_xlim(), axes.get_ylim()
            edges = [np.arange(size + 1) - 0.5 for size in values.shape]
            axes.pcolormesh(edges[1], edges[0], values, cmap=image.get_cmap(), vmin=low, vmax=high, zorder=0)
            axes.set(xlim=limits[0], ylim=limits[1])
            image.remove()
    for artist in drawn.figure.findobj(lambda artist: bool(artist.get_rasterized())):
        artist.set_rasterized(False)
