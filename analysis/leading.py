"""The leading metric (accuracy, or macro F1 on an unbalanced test set) and its name in tables and figures.

`runs` are rows of `Results.runs`, whose column `leading_metric` is the same for all runs on a data set.
"""

from collections.abc import Iterable

import pandas as pd

from lt_rebalance.ground.metrics import METRICS, headline_metrics, leading_metric

ACCURACY = leading_metric(is_test_balanced=True)
LEADING = "leading_metric"
"""name of the column"""


def leading_of(runs: pd.DataFrame) -> str:
    """Return the leading metric for a comparison of these runs: macro F1 if it leads for any of them."""
    found = set(runs[LEADING].dropna()) if LEADING in runs else set()
    others = sorted(found - {ACCURACY})
    return str(others[0]) if others else ACCURACY


def headline_of(runs: pd.DataFrame) -> tuple[str, ...]:
    """Return the metrics of a table of these runs, the leading one first."""
    return headline_metrics(is_test_balanced=leading_of(runs) == ACCURACY)


def require_metric(metric: str, runs: pd.DataFrame | None = None) -> None:
    """Raise a ValueError unless a metric is one of these runs, or where none are given, one of `METRICS`.

    Recalls of groups of classes are metrics of the runs that have them.
    """
    names = METRICS if runs is None else runs.columns
    known = [str(name) for name in names if name in METRICS or str(name).startswith("recall_")]
    if metric not in known:
        raise ValueError(f"unknown metric {metric!r}; known: {', '.join(known)}")


def name_metrics(metrics: Iterable[str]) -> str:
    """Return the name of metrics in a title: "accuracy", or "accuracy and macro F1"."""
    metrics = tuple(metrics)
    for metric in metrics:
        require_metric(metric)
    names = dict.fromkeys(METRICS[metric].label for metric in metrics)
    return " and ".join(names) or METRICS[ACCURACY].label


def name_leading(frame: pd.DataFrame) -> str:
    """Return the same for a frame with a column `metric`, which an empty one may lack."""
    return name_metrics(frame.get("metric", []))
