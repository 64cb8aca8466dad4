"""Draw every figure of a report. Plotting functions take a table, draw on Axes and access no files."""

from collections.abc import Iterator

import pandas as pd

from analysis.collect import Results
from analysis.drawing import own_settings  # before all that imports matplotlib
from analysis.figures.ablations import draw_changes
from analysis.figures.classes import draw_confusions, draw_recalls
from analysis.figures.differences import draw_differences
from analysis.figures.generators import draw_diversity, draw_grids
from analysis.figures.methods import draw_replicates, draw_wins
from analysis.figures.ranking import draw_ranking
from analysis.figures.ranks import draw_ranks
from analysis.figures.searches import draw_search
from analysis.figures.style import Drawn, to_png, to_svg
from analysis.figures.training import draw_curves

__all__ = ["Drawn", "draw_figures", "draw_search", "own_settings", "to_png", "to_svg"]


def draw_figures(results: Results, contrasts: pd.DataFrame, methods: pd.DataFrame) -> Iterator[Drawn]:
    """Yield those of the figures F1 to F11 for which there are results.

    Args:
        contrasts: of the leading metric, as `analysis.compare.compare` returns them.
        methods: as `analysis.methods.methods_frame` returns them.
    """
    yield from draw_replicates(results.runs)
    yield from draw_differences(results.runs)
    yield from draw_wins(contrasts)
    yield from draw_ranks(results.runs)
    yield from draw_curves(results.rounds, results.runs, results.first_trainings)
    yield from draw_recalls(results.classes, results.runs)
    yield from draw_confusions(results.runs, results.confusions, results.class_names)
    yield from draw_grids(results)
    yield from draw_diversity(results)
    yield from draw_changes(results.runs, results.comparisons)
    yield from draw_ranking(methods)
