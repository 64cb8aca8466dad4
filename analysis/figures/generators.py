"""Figure F8: generated images, with real images and the nearest training images.

Shape suffixes: K classes, J images of a class, C H W image.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from analysis.classes import sampled_classes
from analysis.collect import Results
from analysis.figures.style import (
    COLLAPSED_COLOUR,
    MANY,
    SMALL,
    Drawn,
    Options,
    colour_of,
    describe_dataset,
    describe_n,
    make_figure,
    marker_of,
    shorten,
    title_of,
    use_log_scale,
)
from analysis.naming import in_order
from lt_rebalance.ground.confusion import MAX_SHOWN
from lt_rebalance.ground.imbalance import data_rank
from lt_rebalance.ground.metrics import COLLAPSED_BELOW

Images = NDArray[np.uint8]
Flags = Sequence[bool] | NDArray[np.bool_]
GAP = 2
"""white pixels between images"""
MAX_TICKS = 12
"""largest number of class counts with one tick each"""
_GENERATED, _NEAREST, _REAL = range(3)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The sample grid of one generator."""

    images_3KJCHW: Images
    """generated, nearest real, real"""
    seed: int
    quality: pd.DataFrame
    """one row per class"""

    def take(self, labels: Sequence[int]) -> "Grid":
        """Return the grid of some of the classes."""
        images_3KJCHW = self.images_3KJCHW[:, list(labels)]
        return Grid(images_3KJCHW=images_3KJCHW, seed=self.seed, quality=self.quality.iloc[list(labels)])

    @property
    def diversity_K(self) -> NDArray[np.float64]:
        """Generated over real spread; nan where it cannot be estimated."""
        diversity_K: NDArray[np.float64] = self.quality["diversity"].to_numpy(dtype=np.float64)
        return diversity_K

    @property
    def least_diverse(self) -> int:
        """The class of lowest diversity, 0 where none can be estimated."""
        return int(np.argmin(np.nan_to_num(self.diversity_K, nan=np.inf)))


def plot_grid(axes: Axes, images_KJCHW: Images, row_labels: Sequence[str], flagged: Flags) -> Axes:
    """Draw images, a class a row, with a gap below and to the right of each; flagged rows are framed."""
    num_classes, num_columns, channels, height, width = images_KJCHW.shape
    blank = 0 if channels == 1 else 255  # both white: grey images are drawn as ink on paper
    gaps = [(0, 0), (0, 0), (0, 0), (0, GAP), (0, GAP)]
    padded_KJCHW = np.pad(images_KJCHW, gaps, constant_values=blank)
    height, width = height + GAP, width + GAP
    mosaic = padded_KJCHW.transpose(0, 3, 1, 4, 2).reshape(
        num_classes * height, num_columns * width, channels
    )
    axes.imshow(mosaic.squeeze(), cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    centres = height * (np.arange(num_classes) + 0.5) - (GAP + 1) / 2
    axes.set_yticks(centres, row_labels, fontsize=SMALL)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row in np.flatnonzero(flagged):
        corner = (-0.5 - GAP, row * height - 0.5 - GAP)
        size = num_columns * width + GAP, height + GAP
        look: Options = {"fill": False, "edgecolor": COLLAPSED_COLOUR, "linewidth": 1.8, "clip_on": False}
        axes.add_patch(Rectangle(corner, *size, **look))
    return axes


def read_grids(
    results: Results, generators: pd.DataFrame, *, is_least_diverse: bool = False
) -> dict[str, Grid]:
    """Return by architecture the sample grid of its lowest complete seed that has one.

    Args:
        is_least_diverse: take the seed with the class of lowest diversity instead.
    """
    complete = generators[generators["state"] == "complete"].sort_values("seed", kind="stable")
    if is_least_diverse:
        lowest = results.generator_classes.groupby("key", observed=True)["diversity"].min()
        order = complete["key"].astype(object).map(lowest).sort_values(kind="stable").index
        complete = complete.loc[order]
    grids: dict[str, Grid] = {}
    for method in in_order(complete["method"]):
        for row in complete[complete["method"] == method].itertuples():
            images = results.read_samples(str(row.key))
            if images is not None:
                classes = results.generator_classes
                quality = classes[classes["key"] == row.key].sort_values("class")
                grids[method] = Grid(images_3KJCHW=images, seed=int(row.seed), quality=quality)
                break
    return grids


def draw_grids(results: Results) -> Iterator[Drawn]:
    """F8 for each setting and C: a sample grid of every architecture, and real images."""
    number = 0
    for (setting, data, dataset), block in results.generators.groupby(
        ["setting", "data", "dataset"], sort=False
    ):
        names = results.class_names[str(dataset)]
        grids = read_grids(results, block)
        if not grids:
            continue
        number += 1
        which = f"n = 1 per architecture, at the lowest complete seed: {_name_seeds(grids)}; no interval"
        yield Drawn(
            name=f"f8-samples-{number}",
            title=f"F8. Generated images: {setting}, {title_of(str(data))}",
            caption=(
                f"Ten generated images per class, from the same noise for every generator ({which}), and "
                "real images with the number of real training images. Next to each generated row: diversity "
                "(spread of generated over real images, no unit), and the number of distinct real images "
                f"nearest to 200 samples. Framed: diversity below {COLLAPSED_BELOW}, the class has "
                f"collapsed. {_say_sampled(len(names))}{describe_dataset(block)}"
            ),
            figure=grid_figure(grids, names),
        )
        grids = read_grids(results, block, is_least_diverse=True)
        yield Drawn(
            name=f"f8-nearest-{number}",
            title=f"F8. Least diverse classes beside real images: {setting}, {title_of(str(data))}",
            caption=(
                "The class with the lowest diversity of each architecture, at any seed "
                f"(n = 1 each: {_name_seeds(grids)}; no interval). Above: generated images; below each: the "
                "nearest real training image (Euclidean distance of pixels). Equal pairs are copies. One "
                f"image along the whole row is a collapse. {describe_dataset(block)}"
            ),
            figure=nearest_figure(grids, names),
        )


def _name_seeds(grids: Mapping[str, Grid]) -> str:
    return ", ".join(f"{method} seed {grid.seed}" for method, grid in grids.items())


def grid_figure(grids: Mapping[str, Grid], names: Sequence[str]) -> Figure:
    """Return a panel of real images and one of each architecture, two a row."""
    first = next(iter(grids.values()))
    chosen = sampled_classes(first.quality["class_count"].tolist())
    names = shorten([names[label] for label in chosen])
    grids = {method: grid.take(chosen) for method, grid in grids.items()}
    num_rows = -(-(len(grids) + 1) // 2)
    figure, rows = make_figure(num_rows, 2, 9.2, max(3.0, 0.3 * len(names)) * num_rows)
    panels = [axes for row in rows for axes in row]
    first = next(iter(grids.values()))
    counts = zip(names, first.quality["class_count"], strict=True)
    labels = [f"{name}  {count:,}" for name, count in counts]
    plot_grid(panels[0], first.images_3KJCHW[_REAL], labels, [False] * len(names))
    panels[0].set_title("real images: number", fontsize=9)
    for axes, (method, grid) in zip(panels[1:], grids.items(), strict=False):
        quality = zip(names, grid.diversity_K, grid.quality["distinct_nearest"], strict=True)
        labels = [f"{name}  {_number(value)} / {distinct:.0f}" for name, value, distinct in quality]
        plot_grid(axes, grid.images_3KJCHW[_GENERATED], labels, grid.diversity_K < COLLAPSED_BELOW)
        axes.set_title(f"{method}: diversity / distinct", fontsize=9)
    for axes in panels[len(grids) + 1 :]:
        axes.set_visible(False)
    return figure


def _say_sampled(num_classes: int) -> str:
    """Say which classes are shown if there are too many for all."""
    if num_classes <= MAX_SHOWN:
        return ""
    half = MAX_SHOWN // 2
    ends = f"the {half} with most and the {half} with fewest training images"
    return f"Of {num_classes:,} classes, {ends} are shown. "


def nearest_figure(grids: Mapping[str, Grid], names: Sequence[str]) -> Figure:
    """Return for each architecture its least diverse class, with the nearest real images below."""
    figure, rows = make_figure(len(grids), 1, 6.5, 1.6 * len(grids))
    for (axes,), (method, grid) in zip(rows, grids.items(), strict=True):
        label = grid.least_diverse
        diversity = grid.diversity_K[label]
        pair = grid.images_3KJCHW[[_GENERATED, _NEAREST], label]
        plot_grid(axes, pair, ["generated", "nearest real"], [bool(diversity < COLLAPSED_BELOW), False])
        title = f"{method}, seed {grid.seed}: {shorten(names)[label]}, diversity {_number(diversity)}"
        axes.set_title(title, fontsize=9, loc="left")
    return figure


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def plot_diversity(axes: Axes, classes: pd.DataFrame) -> Axes:
    """Draw diversity over training images for one setting and C, architectures a little apart."""
    methods = in_order(classes["method"])
    span = max(1.0, float(np.ptp(np.log10(classes["class_count"]))))
    for method, shift in zip(methods, np.linspace(-0.02, 0.02, len(methods)), strict=True):
        of_method = classes[(classes["method"] == method) & classes["diversity"].notna()]
        aside = 10 ** (shift * span)
        colour, marker = colour_of(method), marker_of(method)
        look: Options = {"color": colour, "marker": marker, "alpha": 0.6, "linewidths": 0}
        raster = len(of_method) > MANY
        places = of_method["class_count"] * aside
        axes.scatter(places, of_method["diversity"], s=14, label=method, rasterized=raster, **look)
        medians = of_method.groupby("class_count")["diversity"].median()
        axes.plot(medians.index * aside, medians, color=colour, linewidth=1.2)
    axes.axhline(COLLAPSED_BELOW, color=COLLAPSED_COLOUR, linewidth=1, linestyle="--")
    use_log_scale(axes)
    counts = sorted(set(classes["class_count"]))
    if len(counts) <= MAX_TICKS:
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("diversity (generated over real)")
    axes.set_ylim(bottom=0)
    axes.grid(color="0.92")
    return axes


def draw_diversity(results: Results) -> Iterator[Drawn]:
    """F8 for each setting, one panel a C: diversity of a class against its real training images."""
    names = ["setting", "dataset", "data", "method", "key"]
    classes = results.generator_classes.astype(dict.fromkeys(names, "object"))
    for index, (setting, of_setting) in enumerate(classes.groupby("setting", sort=False), start=1):
        levels = sorted(dict.fromkeys(of_setting["data"]), key=data_rank)
        figure, rows = make_figure(len(levels), 1, 6.5, 0.8 + 2.5 * len(levels))
        for (axes,), data in zip(rows, levels, strict=True):
            plot_diversity(axes, of_setting[of_setting["data"] == data])
            axes.set_title(title_of(data), loc="left")
        axes.set_xlabel("real training images of the class (log scale)")
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL)
        per_kind = of_setting.groupby(["data", "method"])["key"].nunique()
        yield Drawn(
            name=f"f8-diversity-{index}",
            title=f"F8. Diversity of every class of every generator: {setting}",
            caption=(
                f"Each mark is one class of one generator ({describe_n(per_kind, 'generator')} per "
                "architecture); architectures are slightly offset. Lines join medians; no interval is "
                f"drawn. Below the dashed line ({COLLAPSED_BELOW}) a class is nearly one image; 1 is as "
                f"diverse as the real images. {describe_dataset(of_setting)}"
            ),
            figure=figure,
        )
