"""Figure F8: what generators draw, beside what is real and what they may have copied."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from analysis.aggregate import COLLAPSED_BELOW
from analysis.collect import Results
from analysis.figures.style import COLLAPSED_COLOUR, Drawn, colour_of, make_figure, marker_of
from analysis.naming import in_order

Sheet = NDArray[np.uint8]
"""(3, K, J, C, H, W): generated, nearest real, real"""
_GENERATED, _NEAREST, _REAL = range(3)


def plot_grid(axes: Axes, images_KJCHW: Sheet, row_labels: Sequence[str], flagged: Sequence[bool]) -> Axes:
    """Draw images, a class a row; flagged rows are framed."""
    num_classes, num_columns, channels, height, width = images_KJCHW.shape
    mosaic = images_KJCHW.transpose(0, 3, 1, 4, 2).reshape(
        num_classes * height, num_columns * width, channels
    )
    axes.imshow(mosaic.squeeze(), cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    axes.set_yticks(height * (np.arange(num_classes) + 0.5), row_labels, fontsize=7)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row in np.flatnonzero(flagged):
        corner = (-0.5, row * height - 0.5)
        axes.add_patch(
            Rectangle(
                corner, num_columns * width, height, fill=False, edgecolor=COLLAPSED_COLOUR, linewidth=1.8
            )
        )
    return axes


def draw_sheets(results: Results) -> Iterator[Drawn]:
    """F8 for each setting and C: the sheets of one seed, all architectures, beside real images."""
    complete = results.generators[results.generators["state"] == "complete"]
    number = 0
    for (setting, data, dataset), block in complete.groupby(["setting", "data", "dataset"], sort=False):
        seed = int(block["seed"].min())
        of_seed = block[block["seed"] == seed].set_index("method")
        sheets = {
            method: results.read_samples(of_seed.loc[method, "key"]) for method in in_order(of_seed.index)
        }
        found = {method: sheet for method, sheet in sheets.items() if sheet is not None}
        if not found:
            continue
        number += 1
        quality = results.generator_classes[results.generator_classes["key"].isin(of_seed["key"])]
        names = results.class_names[str(dataset)]
        yield Drawn(
            name=f"f8-samples-{number}",
            title=f"F8. Generated images: {setting}, C = {data}, seed {seed}",
            caption=(
                "Ten images of each class from the same noise for every generator, and real ones. Beside "
                "each row: diversity (generated over real spread), and how many different real images are "
                f"nearest to 200 samples. Framed: diversity below {COLLAPSED_BELOW}, the class has "
                f"collapsed. Seed {seed} of {block['seed'].nunique()}. Data set: {dataset}."
            ),
            figure=_sheet_figure(found, quality, names),
        )
        yield Drawn(
            name=f"f8-nearest-{number}",
            title=f"F8. Least diverse classes beside real images: {setting}, C = {data}, seed {seed}",
            caption=(
                "For each generator the class with the lowest diversity: generated above, below each "
                "image the real training image that is nearest to it (Euclidean distance of pixels). "
                "Equal pairs are copies; one image all along the row is a collapse."
            ),
            figure=_nearest_figure(found, quality, names),
        )


def _sheet_figure(sheets: Mapping[str, Sheet], quality: pd.DataFrame, names: Sequence[str]) -> Figure:
    num_columns = min(len(sheets) + 1, 3)
    num_rows = -(-(len(sheets) + 1) // num_columns)
    figure, rows = make_figure(num_rows, num_columns, 4.1 * num_columns, 3.5 * num_rows)
    panels = [axes for row in rows for axes in row]
    for axes, (method, sheet) in zip(panels, sheets.items(), strict=False):
        of_method = quality[quality["method"] == method].sort_values("class")
        diversity = of_method["diversity"].to_numpy(dtype=np.float64)
        labels = [
            f"{name}  {value:.2f} / {distinct:.0f}"
            for name, value, distinct in zip(names, diversity, of_method["distinct_nearest"], strict=True)
        ]
        plot_grid(axes, sheet[_GENERATED], labels, diversity < COLLAPSED_BELOW)
        axes.set_title(f"{method}: diversity / distinct", fontsize=9)
    real = next(iter(sheets.values()))[_REAL]
    plot_grid(panels[len(sheets)], real, names, [False] * len(names))
    panels[len(sheets)].set_title("real images", fontsize=9)
    for axes in panels[len(sheets) + 1 :]:
        axes.set_visible(False)
    return figure


def _nearest_figure(sheets: Mapping[str, Sheet], quality: pd.DataFrame, names: Sequence[str]) -> Figure:
    figure, rows = make_figure(len(sheets), 1, 7.5, 1.75 * len(sheets))
    for (axes,), (method, sheet) in zip(rows, sheets.items(), strict=True):
        of_method = quality[quality["method"] == method].sort_values("class")
        diversity = of_method["diversity"].to_numpy(dtype=np.float64)
        label = 0 if np.isnan(diversity).all() else int(np.nanargmin(diversity))
        pair = np.stack([sheet[_GENERATED][label], sheet[_NEAREST][label]])
        plot_grid(
            axes, pair, ["generated", "nearest real"], [bool(diversity[label] < COLLAPSED_BELOW), False]
        )
        axes.set_title(f"{method}: {names[label]}, diversity {diversity[label]:.2f}", fontsize=9, loc="left")
    return figure


def draw_diversity(results: Results) -> Iterator[Drawn]:
    """F8 for each setting: diversity of a class against its real training images."""
    classes = results.generator_classes.astype({"setting": "object", "method": "object"})
    for index, (setting, of_setting) in enumerate(classes.groupby("setting", sort=False), start=1):
        figure, ((axes,),) = make_figure(1, 1, 7.5, 4)
        methods = in_order(of_setting["method"])
        for method in methods:
            of_method = of_setting[of_setting["method"] == method]
            axes.scatter(
                of_method["class_count"],
                of_method["diversity"],
                s=16,
                color=colour_of(method, methods),
                marker=marker_of(method, methods),
                alpha=0.6,
                linewidths=0,
                label=method,
                rasterized=True,
            )
        axes.axhline(COLLAPSED_BELOW, color=COLLAPSED_COLOUR, linewidth=1, linestyle="--")
        axes.set_xscale("log")
        axes.set_xlabel("real training images of the class (log scale)")
        axes.set_ylabel("diversity, generated over real")
        axes.set_ylim(bottom=0)
        axes.grid(color="0.92")
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
        yield Drawn(
            name=f"f8-diversity-{index}",
            title=f"F8. Diversity of every class of every generator: {setting}",
            caption=(
                f"One mark a class and generator (n = {of_setting['key'].nunique()} generators). Below the "
                f"dashed line ({COLLAPSED_BELOW}) a class is drawn as nearly one image; 1 is as diverse as "
                "the real images."
            ),
            figure=figure,
        )
