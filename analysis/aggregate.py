"""Summarise cells over seeds: estimates with intervals, the paper's number, collapse rates."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.estimates import (
    bootstrap_interval,
    interquartile_mean,
    mean_interval,
    prediction_interval,
    rate_interval,
    sd_interval,
    share_at_most,
    z_score,
)
from analysis.leading import require_metric
from analysis.naming import BLOCK_COLUMNS, CELL_COLUMNS, split
from lt_rebalance.ground.imbalance import COUNT_GROUPS, RANK_GROUPS
from lt_rebalance.ground.metrics import COLLAPSED_BELOW, HEADLINE, METRICS, shown_metrics
from lt_rebalance.ground.paper import MIN_COMPARED, PaperRow, find_row

GROUP_RECALLS = {
    f"recall_{group}": f"recall of {label}" for group, label in {**RANK_GROUPS, **COUNT_GROUPS}.items()
}
"""labels of metrics over groups of classes, which are not in `METRICS`"""
SUBSETS = ("all", "healthy")
"""all complete runs, which tests use; and runs without a dead class, described but never tested"""
HEADLINE_METRICS = shown_metrics(HEADLINE)
"""metrics that have rows even if no run is complete yet"""
BOOTSTRAPPED_METRICS = ("accuracy", "macro_f1")
PAPER_METRICS = {"accuracy": "accuracy", "weighted_f1": "f1", "macro_f1": "f1", "loss": "loss"}
PAPER_LOSS = "double_softmax"
SATURATION_TOLERANCE = 0.03
"""divided by the number of classes, as what a uniform network is away from saturation"""
MAX_NAMED = 20
"""largest number of classes named in a table cell"""
_BOOTSTRAP_SEED = 0


def aggregate(runs: pd.DataFrame, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """Return one row for each cell, metric and subset of runs.

    Columns: the cell; `metric`, `subset` (of `SUBSETS`); `n_expected` planned and `n` used; `mean`, `sd` (n -
    1); `mean_low`, `mean_high` (Student t); `bootstrap_low`, `bootstrap_high` (BCa, for
    `BOOTSTRAPPED_METRICS` of all runs); `sd_low`, `sd_high` (chi-square); `prediction_low`,
    `prediction_high`, for one further run; `median`, `iqm`, `min`, `max`; `n_diverged`, planned runs excluded
    because they diverged; and if the paper ran this cell: `paper`, its number, `percentile`, the share of our
    runs that do not exceed it, and from `MIN_COMPARED` runs on its `z` and whether it `is_inside` the
    prediction interval. All intervals are at 95 %. What cannot be estimated is absent (NaN). Other metrics
    than `HEADLINE_METRICS` are left out where no run has them.

    Args:
        metrics: all, and the recalls of groups of classes, unless given.

    Raises:
        ValueError: metrics are given, and one is none of these.
    """
    for metric in metrics or ():
        if metric not in GROUP_RECALLS:
            require_metric(metric)
    metrics = (*METRICS, *GROUP_RECALLS) if metrics is None else metrics
    rows = []
    for names, of_cell in runs.groupby(list(CELL_COLUMNS), sort=False, observed=True):
        complete = of_cell[of_cell["state"] == "complete"]
        cell = dict(zip(CELL_COLUMNS, names, strict=True))
        paper = papers_row(of_cell)
        num_diverged = count_diverged(of_cell)
        for subset in SUBSETS:
            used = complete if subset == "all" else complete[~complete["is_collapsed"].astype(bool)]
            for metric in metrics:
                if metric in runs and (metric in HEADLINE_METRICS or runs[metric].notna().any()):
                    values = used[metric].dropna().to_numpy(dtype=np.float64)
                    row = {**cell, "metric": metric, "subset": subset, "n_expected": len(of_cell)}
                    has_bootstrap = subset == "all" and metric in BOOTSTRAPPED_METRICS
                    row |= _summary(values, has_bootstrap=has_bootstrap) | {"n_diverged": num_diverged}
                    row |= _beside(paper, metric, values)
                    rows.append(row)
    return pd.DataFrame(rows)


def _summary(values: np.ndarray, *, has_bootstrap: bool) -> dict[str, float]:
    n = len(values)
    summary: dict[str, float] = {
        "n": n,
        "mean": float(values.mean()) if n else np.nan,
        "sd": float(values.std(ddof=1)) if n > 1 else np.nan,
        "median": float(np.median(values)) if n else np.nan,
        "iqm": interquartile_mean(values),
        "min": float(values.min()) if n else np.nan,
        "max": float(values.max()) if n else np.nan,
    }
    intervals = {
        "mean": mean_interval(values),
        "sd": sd_interval(values),
        "prediction": prediction_interval(values),
    }
    if has_bootstrap:
        intervals["bootstrap"] = bootstrap_interval(values, seed=_BOOTSTRAP_SEED)
    for name, interval in intervals.items():
        summary |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return summary


def papers_row(runs_of_cell: pd.DataFrame) -> PaperRow | None:
    """Return the paper's row for what these runs ran, or None; for one cell."""
    first = runs_of_cell.iloc[0]
    name = str(first["method"]).partition(", ")[0]  # what follows tells it from others of that name
    return find_row(str(first["data"]), name, str(first["paper_departure"]))


def count_diverged(runs: pd.DataFrame) -> int:
    """Return how many planned runs have no result because their loss was not finite."""
    return int((runs["state"] == "diverged").sum())


def _beside(row: PaperRow | None, metric: str, values: np.ndarray) -> dict[str, object]:
    """Return the paper's single number of a metric and its place among our runs; nan if it has none."""
    if row is None or metric not in PAPER_METRICS:
        return {"paper": np.nan, "z": np.nan, "percentile": np.nan, "is_inside": None}
    paper = float(getattr(row, PAPER_METRICS[metric]))
    low, high = prediction_interval(values)
    is_compared = len(values) >= MIN_COMPARED and not np.isnan(low)
    return {
        "paper": paper,
        "z": z_score(paper, values) if is_compared else np.nan,
        "percentile": share_at_most(values, paper),
        "is_inside": bool(low <= paper <= high) if is_compared else None,
    }


def collapse_table(runs: pd.DataFrame, classes: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each cell: how often classes are dead.

    Columns: the cell; `n_expected`, `n_diverged`, `n`; `num_collapsed` runs with at least one class of recall
    0, as `collapse_rate` with its Clopper-Pearson 95 % interval `rate_low`, `rate_high`; `mean_dead_classes`;
    `num_constant` runs that predict one class for all images; `num_saturated` runs of a double softmax whose
    loss and accuracy sum to that loss's ceiling (`is_saturated`); `dead_classes`, their names with counts.
    """
    rows = []
    for names, of_cell in runs.groupby(list(CELL_COLUMNS), sort=False, observed=True):
        complete = of_cell[of_cell["state"] == "complete"]
        cell = dict(zip(CELL_COLUMNS, names, strict=True))
        of_runs = classes[classes["cell"] == cell["cell"]]
        saturated = is_saturated(complete["loss"], complete["accuracy"], of_runs["class"].nunique()) & (
            cell["loss_function"] == PAPER_LOSS
        )
        rows.append(
            cell
            | {"n_expected": len(of_cell), "n_diverged": count_diverged(of_cell)}
            | _rate(int(complete["is_collapsed"].sum()), len(complete))
            | {
                "mean_dead_classes": complete["num_dead_classes"].mean(),
                "num_constant": int(complete["is_constant"].sum()),
                "num_saturated": int(saturated.sum()),
                "dead_classes": _count_classes(of_runs[of_runs["recall"] == 0]),
            }
        )
    return pd.DataFrame(rows)


def _rate(num_collapsed: int, n: int) -> dict[str, float]:
    interval = rate_interval(num_collapsed, n)
    return {
        "n": n,
        "num_collapsed": num_collapsed,
        "collapse_rate": num_collapsed / n if n else np.nan,
        "rate_low": interval.low,
        "rate_high": interval.high,
    }


def _count_classes(classes: pd.DataFrame) -> str:
    counts = classes.groupby("class_name", observed=True, sort=False).size()
    named = ", ".join(f"{name} {count}" for name, count in counts.iloc[:MAX_NAMED].items())
    return f"{named} and {len(counts) - MAX_NAMED:,} more classes" if len(counts) > MAX_NAMED else named


def saturation_sum(num_classes: int) -> float:
    """Return what a saturated double softmax costs where it is wrong: log(e + K - 1).

    To four digits for ten classes, and one more for each ten times as many, because the tolerance is finer.
    The softmax of a one-hot vector over K classes costs that, and 1 less where it is right.
    """
    return round(math.log(math.e + num_classes - 1), max(4, 2 + len(str(num_classes))))


def is_saturated(loss: pd.Series, accuracy: pd.Series, num_classes: int = 10) -> pd.Series:
    """Whether a double softmax has saturated: loss = 2.4612 - accuracy, so the loss adds no information.

    That is the `saturation_sum` of ten classes.
    """
    return (loss + accuracy - saturation_sum(num_classes)).abs() * num_classes <= SATURATION_TOLERANCE


def generator_table(generators: pd.DataFrame, generator_classes: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each kind of generator: how often it produces one image for a whole class.

    Columns: `BLOCK_COLUMNS`, method; `n_expected`, `n_diverged`, `n`; `num_collapsed` generators with at
    least one class of diversity below `COLLAPSED_BELOW`, with rate and Clopper-Pearson interval as in
    `collapse_table`; `mean_diversity` over classes and generators, `collapsed_classes` with counts, and
    `mean_distinct_nearest`, over classes, of 200 samples each.
    """
    rows = []
    for names, of_kind in split(generators, (*BLOCK_COLUMNS, "method")):
        complete = of_kind[of_kind["state"] == "complete"]
        classes = generator_classes[generator_classes["key"].isin(complete["key"])]
        rows.append(
            names
            | {"n_expected": len(of_kind), "n_diverged": count_diverged(of_kind)}
            | _rate(int((complete["num_collapsed_classes"] > 0).sum()), len(complete))
            | {
                "mean_diversity": classes["diversity"].mean(),
                "mean_distinct_nearest": classes["distinct_nearest"].mean(),
                "collapsed_classes": _count_classes(classes[classes["diversity"] < COLLAPSED_BELOW]),
            }
        )
    return pd.DataFrame(rows)
