"""What all figures share: one colour and marker per method, sizes, and reproducible files."""

import io
import re
import warnings
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter

from lt_rebalance.ground.imbalance import say_data
from lt_rebalance.ground.text import count

# Okabe and Ito's colours, which colour-blind readers can distinguish. No marker is a cross (collapsed run) or
# an open diamond (the paper).
_LOOKS = {
    "none": ("#595959", "o"),
    "undersample": ("#0072B2", "s"),
    "oversample": ("#D55E00", "^"),
    "mlp_cgan_relu": ("#009E73", "D"),
    "small_mlp_cgan_leaky": ("#CC79A7", "v"),
    "mlp_cgan_leaky": ("#E69F00", "<"),
    "big_mlp_cgan_leaky": ("#56B4E9", ">"),
    "dccgan_leaky": ("#000000", "p"),
}
_FURTHER_COLOURS = ("#332288", "#44AA99", "#999933", "#661100", "#882255")
_FURTHER_MARKERS = ("h", "8", "H", "d", "*")
PAPER_COLOUR = "#000000"
COLLAPSED_COLOUR = "#B00020"
_DPI = 150
SMALL = 8.0
"""points of the smallest text"""
MANY = 300
"""number of marks above which they are drawn as one bitmap, so that files stay small"""
_HOVER = "hover:"
"""prefix of a text stored as a link, the only attribute that matplotlib keeps for a mark"""
_LINK = rb'<a xlink:href="hover:([^"]*)" target="_blank">'
Options = dict[str, Any]  # Any: keyword arguments of matplotlib
_STYLE: dict[Any, Any] = {  # Any: matplotlib types the names of its settings one by one
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.parse_math": False,
    "svg.hashsalt": "lt_rebalance",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}
LONGEST_NAME = 20
"""characters of a name of a class that a figure shows"""
_FONT = "DejaVu Sans"
_CANVASES = {"png": FigureCanvasAgg, "svg": FigureCanvasSVG, "pdf": FigureCanvasPdf}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure ready to be saved."""

    name: str
    """of its files"""
    title: str
    caption: str
    """what is shown, with n, interval and unit"""
    figure: Figure = field(repr=False)


def make_figure(
    num_rows: int, num_columns: int, width: float, height: float, style: Options | None = None, **options: Any
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure in the house style and its axes; sizes in inches; `style` are further settings."""
    with mpl.rc_context(_STYLE | (style or {})):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(num_rows, num_columns, squeeze=False, **options)
    return figure, axes.tolist()


def colour_of(method: str) -> str:
    """Return the colour of a method, equal in all figures."""
    return _look(method)[0]


def marker_of(method: str) -> str:
    """Return the marker of a method, equal in all figures."""
    return _look(method)[1]


def _look(method: str) -> tuple[str, str]:
    """Return colour and marker; for unlisted methods they are derived from the name."""
    row, column = divmod(zlib.crc32(method.encode()), len(_FURTHER_COLOURS))
    further = _FURTHER_COLOURS[column], _FURTHER_MARKERS[row % len(_FURTHER_MARKERS)]
    return _LOOKS.get(method, further)


def title_of(data: str) -> str:
    """Return the title of a panel."""
    return say_data(data).removeprefix("the ")


def describe_n(counts: Iterable[float], noun: str = "") -> str:
    """Return "n = 10", or "n = 8 to 10" where counts differ; with a noun, "n = 1 run"."""
    values = sorted({int(each) for each in counts}) or [0]
    fewest = "" if len(values) == 1 else f"{values[0]:,} to "
    return f"n = {fewest}{count(values[-1], noun) if noun else f'{values[-1]:,}'}"


def describe_dataset(frame: pd.DataFrame) -> str:
    """Return the end of a caption: the data sets of a frame."""
    return f"Data set: {', '.join(dict.fromkeys(frame['dataset']))}."


def shorten(names: Sequence[str]) -> list[str]:
    """Return names of classes for a figure, long ones cut; where they would be equal, with positions."""
    cut = [_cut(name) for name in names]
    return [
        short if short == name or cut.count(short) == 1 else _cut(name, f"… {position}")
        for position, (name, short) in enumerate(zip(names, cut, strict=True))
    ]


def _cut(name: str, end: str = "…") -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - len(end)].rstrip() + end


def describe_missing_letters(names: Iterable[str]) -> str:
    """Say which letters of names are boxes in figures; empty if none are."""
    known = get_font(findfont(_FONT)).get_charmap()
    missing = dict.fromkeys(letter for name in names for letter in name if ord(letter) not in known)
    if not missing:
        return ""
    return f"figures have boxes for letters that their font lacks: {' '.join(missing)}; tables have the names"


def use_log_scale(axes: Axes) -> None:
    """Give the x axis a log scale whose labels are numbers; matplotlib's own are formulas."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(LogFormatter())
    axes.xaxis.set_minor_formatter(LogFormatter())


def label_methods(axes: Axes, methods: Sequence[str]) -> None:
    """Put methods on the y axis, the first on top."""
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def say_on_hover(text: str) -> str:
    """Return the argument of `set_url` or `set_urls` that shows a text when a mark is pointed at."""
    return _HOVER + text


def say_mean(drawn: ErrorbarContainer, text: str) -> None:
    """Show a text when a mean or its interval is pointed at."""
    line, _, bars = drawn
    if line is not None:
        line.set_url(say_on_hover(text))
    for each in bars:
        each.set_urls([say_on_hover(text)])


def to_svg(drawn: Drawn) -> bytes:
    """Return the figure as SVG, reproducible in its bytes, with the texts of `say_on_hover` as titles."""
    svg = _save(drawn, "svg", metadata={"Date": None})
    svg = re.sub(_LINK, rb'<g class="mark"><title>\1</title>', svg)
    return svg.replace(b"</a>", b"</g>")


def to_png(drawn: Drawn) -> bytes:
    """Return the figure as PNG, reproducible in its bytes."""
    return _save(drawn, "png", metadata={"Software": None})


def to_pdf(drawn: Drawn) -> bytes:
    """Return the figure as PDF, the same bytes for the same figure, with TrueType fonts in it."""
    return _save(drawn, "pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})


def _save(drawn: Drawn, kind: str, **options: Any) -> bytes:
    """Print a figure whose layout is done; `savefig` would draw it again for the layout.

    Names are shown as they are: "$" begins no formula; of letters that are boxes, `describe_missing_letters`.
    """
    file, figure = io.BytesIO(), drawn.figure
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        for text in figure.findobj(Text):
            text.set_parse_math(False)
        _settle(figure)
        figure.set_dpi(_DPI)
        canvas = _CANVASES[kind](figure)
        getattr(canvas, f"print_{kind}")(file, **options)
    return file.getvalue()


def _settle(figure: Figure) -> None:
    """Compute the layout of a figure, and round the positions of its axes.

    The layout solver may differ in the last bits between calls, and names of clip paths in an SVG are hashes
    of all bits.
    """
    if not isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        return
    # Axes that keep their aspect move within the first layout: their labels may be cut off.
    for _ in range(2 if any(axes.get_aspect() != "auto" for axes in figure.axes) else 1):
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position(tuple(round(each, 6) for each in axes.get_position(original=True).bounds))
