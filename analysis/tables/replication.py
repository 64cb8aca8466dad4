"""T1: accuracy, F1 and loss of every cell with the paper's single numbers; and further metrics."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.aggregate import GROUP_RECALLS
from analysis.leading import ACCURACY, headline_of, leading_of
from analysis.naming import CELL_COLUMNS
from analysis.sentences import (
    UNCUT,
    describe_left_out,
    describe_papers_numbers,
    describe_reported_round,
    has_papers_numbers,
    join,
    listed,
)
from analysis.tables.formats import (
    ABSENT,
    DATA_COLUMN,
    METHOD_COLUMN,
    decimals,
    estimate_column,
    interval,
    n_column,
    number_column,
    per_setting,
    rate_column,
    share,
)
from analysis.tables.table import Column, Row, Table, more
from lt_rebalance.ground.metrics import FURTHER, METRICS, Metric, metric_names, shown_metrics
from lt_rebalance.ground.paper import MIN_COMPARED
from lt_rebalance.ground.text import count
from lt_rebalance.ground.values import LARGEST

PREDICTION_CONFIDENCE = 0.95
_FIRST_OF_FURTHER = ("recall_tail", "worst_class_recall", "ece")
"""metrics of T1c that a page shows by default"""
_COUNTS = ("subset", "n_expected", "n", "n_diverged")
_STATISTICS = (
    "mean",
    "mean_low",
    "mean_high",
    "sd",
    "sd_low",
    "sd_high",
    "prediction_low",
    "prediction_high",
    "paper",
    "z",
    "percentile",
    "is_inside",
)


def replication_tables(
    estimates: pd.DataFrame, collapse: pd.DataFrame, cells: pd.DataFrame, runs: pd.DataFrame
) -> list[Table]:
    """Return T1 over all runs and over the runs without a dead class.

    Args:
        estimates: as `aggregate` returns them. collapse: as `collapse_table` does.
        cells: of `Results`, with what was configured. runs: of `Results`.
    """
    shown = headline_of(runs)
    frame = _widen(estimates, shown).merge(
        collapse[["cell", "num_collapsed", "rate_low", "rate_high", "n"]].rename(columns={"n": "n_complete"}),
        on="cell",
    )
    every, healthy = (frame[frame["subset"] == subset] for subset in ("all", "healthy"))
    notes = _notes(cells, runs)
    by_setting = {str(setting): rows for setting, rows in runs.groupby("setting", sort=False)}
    meanings = {
        str(setting): join(
            [_meaning(rows, by_setting[str(setting)]), describe_left_out(by_setting[str(setting)])]
        )
        for setting, rows in every.groupby("setting", sort=False)
    }
    return [
        Table(
            name="t1-replication-all",
            title="T1a. Replication: all runs",
            frame=every,
            columns=_columns(every, shown),
            meaning=per_setting(meanings),
            notes=notes,
        ),
        Table(
            name="t1-replication-healthy",
            title="T1b. Replication: runs without a dead class (described, not tested)",
            frame=healthy,
            columns=_columns(every, shown),
            meaning=join([_healthy_meaning(healthy), describe_left_out(runs)]),
            notes=notes,
        ),
    ]


def _widen(estimates: pd.DataFrame, shown: Sequence[str]) -> pd.DataFrame:
    """Return one row per cell and subset, with columns such as accuracy_mean and loss_paper."""
    wide = estimates.loc[estimates["metric"] == "accuracy", [*CELL_COLUMNS, *_COUNTS]]
    for metric in shown:
        of_metric = estimates[estimates["metric"] == metric].set_index(["cell", "subset"])
        statistics = of_metric.reindex(columns=_STATISTICS).add_prefix(f"{metric}_")
        wide = wide.join(statistics, on=["cell", "subset"])
    return wide


def _columns(frame: pd.DataFrame, shown: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns of T1; the paper's only if its numbers apply to some of these cells."""
    first, *others = shown
    prediction = Column(
        head=f"95% prediction interval of {METRICS[first].label}",
        text=lambda row: interval(row[f"{first}_prediction_low"], row[f"{first}_prediction_high"], share),
        value=lambda row: row[f"{first}_prediction_low"],
    )
    columns = [DATA_COLUMN, METHOD_COLUMN, *more(n_column("n", "n_expected")), _mean_column(first)]
    if frame["accuracy_paper"].notna().any():
        papers = number_column("paper's accuracy", "accuracy_paper", share, is_optional=True)
        columns += [
            dataclasses.replace(papers, is_beside_paper=True),
            _beside_paper("paper inside", "accuracy_is_inside", _say_inside),
            *more(
                _beside_paper("z", "accuracy_z", _say_z),
                _beside_paper("our runs ≤ the paper's", "accuracy_percentile", _say_at_most),
                prediction,
            ),
        ]
    else:
        columns.append(prediction)
    columns += more(number_column(f"{METRICS[first].label}: sd", f"{first}_sd", share))
    for metric in others:
        sd = number_column(f"{METRICS[metric].label}: sd", f"{metric}_sd", share)
        columns += more(_mean_column(metric), sd)
    return (
        *columns,
        rate_column(
            "runs with a dead class (95% Clopper-Pearson interval)",
            "num_collapsed",
            "n_complete",
            "rate_low",
            "rate_high",
            is_higher_better=False,
        ),
    )


def _mean_column(metric: str) -> Column:
    names = (f"{metric}_mean", f"{metric}_mean_low", f"{metric}_mean_high")
    is_rising = METRICS[metric].is_higher_better
    head = f"{METRICS[metric].label}: mean (95% t interval)"
    return estimate_column(head, *names, share, is_higher_better=is_rising)


def _beside_paper(head: str, name: str, text: Any) -> Column:  # Any: from a row to its text
    return Column(
        head=head,
        text=lambda row: ABSENT if math.isnan(row["accuracy_paper"]) else text(row),
        value=lambda row: row[name],
        is_beside_paper=True,
    )


def _say_z(row: Row) -> str:
    return ABSENT if math.isnan(row["accuracy_z"]) else decimals(row["accuracy_z"], 1, "+")


def _say_at_most(row: Row) -> str:
    share_of_runs = row["accuracy_percentile"]
    return ABSENT if math.isnan(share_of_runs) else f"{round(share_of_runs * row['n'])} of {row['n']}"


def _say_inside(row: Row) -> str:
    is_inside = row["accuracy_is_inside"]
    if is_inside is None or pd.isna(is_inside):
        return ABSENT
    return "inside" if is_inside else "outside"


def _meaning(rows: pd.DataFrame, runs: pd.DataFrame) -> str:
    return join([describe_papers_numbers(runs), _describe_inside(rows[rows["accuracy_paper"].notna()])])


def _describe_inside(listed: pd.DataFrame) -> str:
    """Say in how many rows the paper's number is outside the prediction interval."""
    if listed.empty:
        return ""
    testable = listed[listed["accuracy_is_inside"].notna()]
    if testable.empty:
        return (
            f"The paper ran {count(len(listed), 'of these cells', 'of these cells')}. Its number is compared "
            f"with ours from {MIN_COMPARED} differing runs on, and no cell has that many."
        )
    outside = int((testable["accuracy_is_inside"] == False).sum())  # noqa: E712  # absent is neither
    chance = (1 - PREDICTION_CONFIDENCE) * len(testable)
    return (
        f"The paper's accuracy is outside the {PREDICTION_CONFIDENCE:.0%} prediction interval in {outside} "
        f"of {count(len(testable), 'row')}; about {chance:.2g} would be expected by chance."
    )


def _healthy_meaning(healthy: pd.DataFrame) -> str:
    left_out = int((healthy["n_complete"] - healthy["n"]).sum())
    if healthy["n_complete"].sum() == 0:
        return "No run is complete."
    if left_out == 0:
        return "No complete run has a dead class, so this table repeats T1a."
    return (
        f"T1a without the {count(left_out, 'run')} with a dead class. It describes training without "
        "collapse. It must not be used to compare methods: which runs remain depends on the outcome, and "
        "the pairing by seed is broken."
    )


def _notes(cells: pd.DataFrame, runs: pd.DataFrame) -> tuple[str, ...]:
    paper = (
        f" z, from {MIN_COMPARED} runs on: how many sd the paper's number is above our mean; next to it, how "
        "many of our runs do not exceed it. The paper reports one run per row. Inside means that one more "
        "run of ours could have given the paper's number, not that the number is right. The wider the "
        "interval, the weaker this evidence."
    )
    return (
        "Accuracy and macro F1 lie between 0 and 1 and are measured on the test images, "
        f"{describe_reported_round(cells)}. {_describe_leading(runs)}",
        "n of planned: complete runs out of those planned, one per seed. Mean with Student's t interval; sd "
        "with n − 1 (its chi-square interval is in the CSV file).",
        "The prediction interval, mean ± t · sd · √(1 + 1/n), covers one further run."
        + (paper if has_papers_numbers(runs) else ""),
        f"Collapsed runs: complete runs with at least one class of recall 0. {UNCUT}",
    )


def _describe_leading(runs: pd.DataFrame) -> str:
    """Explain the choice of the leading metric."""
    if leading_of(runs) == ACCURACY:
        return "On a balanced test set macro F1 equals weighted F1."
    by_dataset = runs.groupby("dataset", sort=False)
    unbalanced = [str(name) for name, rows in by_dataset if leading_of(rows) != ACCURACY]
    of_which = f" of {listed(unbalanced)}" if len(unbalanced) < by_dataset.ngroups else ""
    return (
        f"The test set{of_which} is unbalanced, so accuracy mostly reflects its large classes. Macro F1 and "
        "balanced accuracy, the mean recall over classes, come first."
    )


def further_metrics() -> dict[str, str]:
    """Return the labels of the metrics of T1c."""
    names = sorted(shown_metrics(FURTHER), key=metric_names().index)
    labels = {name: METRICS[name].label for name in names}
    of_confusions = {name: label for name, label in labels.items() if METRICS[name].of_confusion}
    return of_confusions | GROUP_RECALLS | labels


def _say_range(metric: Metric) -> str:
    if metric.high < LARGEST:
        return f"the {metric.label} ({metric.low:g} to {metric.high:g})"
    return f"the {metric.label} ({metric.low:g} or more)" if metric.low > -LARGEST else f"the {metric.label}"


def further_table(estimates: pd.DataFrame, leading: str = ACCURACY) -> Table:
    """Return medians, extremes, recalls by rank and calibration of all runs; the CSV holds all estimates."""
    every = estimates[estimates["subset"] == "all"]
    shown, label_of = every[every["metric"] == leading], METRICS[leading].label
    columns = [
        DATA_COLUMN,
        METHOD_COLUMN,
        *more(
            n_column("n", "n_expected"),
            number_column(f"{label_of}: median", "median", share),
            number_column(f"{label_of}: interquartile mean", "iqm", share),
        ),
        Column(
            head=f"{label_of}: lowest to highest",
            text=lambda row: interval(row["min"], row["max"], share),
            value=lambda row: row["min"],
        ),
        *more(
            Column(
                head=f"{label_of}: 95% BCa bootstrap interval of the mean",
                text=lambda row: interval(row["bootstrap_low"], row["bootstrap_high"], share),
                value=lambda row: row["bootstrap_low"],
            )
        ),
    ]
    for metric, label in further_metrics().items():
        of_metric = every[every["metric"] == metric]
        if not of_metric.empty:
            statistics = of_metric.set_index("cell")[["mean", "mean_low", "mean_high"]]
            shown = shown.join(statistics.add_prefix(f"{metric}_"), on="cell")
            names = (f"{metric}_mean", f"{metric}_mean_low", f"{metric}_mean_high")
            is_rising = METRICS[metric].is_higher_better if metric in METRICS else True
            head = f"{label}: mean (95% t interval)"
            column = _optional_estimate(head, *names, is_higher_better=is_rising)
            columns += [column] if metric in _FIRST_OF_FURTHER else more(column)
    registered = [METRICS[name] for name in shown_metrics(FURTHER)]
    falling = [metric.label for metric in registered if not metric.is_higher_better]
    others = [_say_range(metric) for metric in registered if (metric.low, metric.high) != (0, 1)]
    return Table(
        name="t1-further",
        title="T1c. Further metrics: all runs",
        frame=estimates,
        shown=shown,
        columns=tuple(columns),
        meaning=(
            f"A mean {label_of} hides losses in single classes; recall of the tail and of the worst class "
            f"shows them. Nothing here is tested. Lower is better for {listed(falling)}."
        ),
        notes=(
            f"All values lie between 0 and 1, except {listed(others)}. Probabilities are one softmax of the "
            "logits, whatever the loss. Head, medium and tail are groups of classes by their number of "
            "training images before rebalancing; a set with equal class sizes has none. Many-, medium- and "
            "few-shot are those of more than 100, 20 to 100 and fewer than 20 such images (Liu et al. 2019).",
            "The bootstrap interval needs three differing runs and is too narrow for few runs (it covers "
            f"about 84% instead of 95% at n = 5); quote the t interval of T1a. {UNCUT}",
        ),
    )


def _optional_estimate(head: str, name: str, low: str, high: str, *, is_higher_better: bool) -> Column:
    column = estimate_column(head, name, low, high, share)
    return Column(
        head=head,
        text=lambda row: ABSENT if math.isnan(row[name]) else column.text(row),
        value=column.value,
        is_higher_better=is_higher_better,
    )
