"""T0: the ranked methods of each place, with intervals."""

import pandas as pd

from analysis.leading import name_leading
from analysis.tables.formats import (
    ABSENT,
    DATA_COLUMN,
    estimate,
    estimate_column,
    n_column,
    points,
    share,
    text_column,
)
from analysis.tables.table import Column, Row, Table, more
from lt_rebalance.ground.metrics import is_higher_better

_INTERVAL = "simultaneous 95% interval"


def leaders_table(leaders: pd.DataFrame) -> Table:
    """Return T0; `leaders` as `leaders_frame` returns them."""
    metric = name_leading(leaders)
    is_rising = all(map(is_higher_better, set(leaders["metric"]))) if len(leaders) else True
    return Table(
        name="t0-leaders",
        title=f"T0. Methods ranked by mean {metric}",
        frame=leaders,
        columns=(
            DATA_COLUMN,
            text_column("method", "method", is_row_head=True),
            Column(head=f"rank ({_INTERVAL})", text=_say_rank, value=lambda row: row["rank"]),
            estimate_column(
                f"mean {metric} ({_INTERVAL})",
                *("mean", "mean_low", "mean_high"),
                share,
                is_higher_better=is_rising,
            ),
            _difference_column("none", is_higher_better=is_rising),
            _difference_column("oversample", is_higher_better=is_rising),
            *more(
                n_column("n", "n_expected"),
                Column(
                    head="runs with a dead class",
                    text=lambda row: f"{row['num_collapsed']} of {row['n']}",
                    value=lambda row: row["num_collapsed"],
                    is_higher_better=False,
                ),
            ),
        ),
        meaning=(
            "Methods are in the order of their ranks within each training set. A method whose rank interval "
            "includes 1 may be the best. Ranks come from sign-flip tests. With few seeds these decide "
            "nothing, even if the interval of a difference excludes 0."
        ),
        notes=(
            "All intervals are 95% intervals that hold jointly for all methods of a training set, because "
            "the same runs choose the first method and evaluate it. Means and differences: Student's t with "
            "Bonferroni's correction. Differences are paired by seed. Ranks: all pairs of methods are "
            "tested jointly by flipping signs (exact up to 14 seeds); an interval excludes the ranks that "
            "these tests reject. Intervals of means are not clipped to 0 to 1.",
        ),
    )


def _say_rank(row: Row) -> str:
    if pd.isna(row["rank"]):
        return ABSENT
    return f"{row['rank']:.0f} ({row['rank_low']:.0f} to {row['rank_high']:.0f})"


def _difference_column(reference: str, *, is_higher_better: bool) -> Column:
    name = f"minus_{reference}"
    return Column(
        head=f"minus {reference}, in points ({_INTERVAL})",
        text=lambda row: (
            estimate(row[name], row[f"{name}_low"], row[f"{name}_high"], points)
            if row[f"{name}_n"]
            else ABSENT
        ),
        value=lambda row: row[name],
        is_higher_better=is_higher_better,
    )
