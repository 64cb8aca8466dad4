"""What all figures share: one colour and marker a method, sizes, and files that come out equal every time."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.naming import UNKNOWN_METHOD, in_order, method_rank

# Okabe and Ito's colours, which colour-blind readers tell apart.
_COLOURS = ("#595959", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
PAPER_COLOUR = "#000000"
COLLAPSED_COLOUR = "#B00020"
_DPI = 150
_STYLE: dict[Any, Any] = {  # Any: matplotlib types the names of its settings one by one
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "svg.hashsalt": "lt_rebalance",
    "svg.fonttype": "none",
}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure ready to be saved."""

    name: str
    """names its files"""
    title: str
    caption: str
    """what is shown, of how many, with which interval and unit"""
    figure: Figure = field(repr=False)


def make_figure(
    num_rows: int, num_columns: int, width: float, height: float, **options: Any
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure in the house style and its axes; sizes in inches."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(num_rows, num_columns, squeeze=False, **options)
    return figure, axes.tolist()


def colour_of(method: str, methods: Iterable[str]) -> str:
    """Return the colour of a method among those of a study."""
    return _COLOURS[_place(method, methods) % len(_COLOURS)]


def marker_of(method: str, methods: Iterable[str]) -> str:
    """Return the marker of a method among those of a study."""
    return _MARKERS[_place(method, methods) % len(_MARKERS)]


def _place(method: str, methods: Iterable[str]) -> int:
    """Give the paper's methods the same place in every figure, and others the places after them."""
    others = [each for each in in_order(methods) if method_rank(each) == method_rank(UNKNOWN_METHOD)]
    return method_rank(method) + (others.index(method) if method in others else 0)


def label_methods(axes: Axes, methods: Sequence[str]) -> None:
    """Put methods on the y axis, the first on top."""
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def to_svg(drawn: Drawn) -> bytes:
    """Return the figure as SVG, the same bytes for the same figure."""
    return _save(drawn, "svg", metadata={"Date": None})


def to_png(drawn: Drawn) -> bytes:
    """Return the figure as PNG, the same bytes for the same figure."""
    return _save(drawn, "png", metadata={"Software": None})


def _save(drawn: Drawn, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    with mpl.rc_context(_STYLE):
        drawn.figure.savefig(file, format=kind, dpi=_DPI, **options)
    return file.getvalue()
