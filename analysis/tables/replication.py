"""T1: accuracy, F1 and loss of every cell beside the paper's single numbers; and further metrics."""

import math
from typing import Any

import pandas as pd

from analysis.aggregate import PAPER_LOSS
from analysis.naming import CELL_COLUMNS
from analysis.tables.formats import (
    ABSENT,
    DATA_COLUMN,
    METHOD_COLUMN,
    NOT_ESTIMABLE,
    count,
    decimals,
    estimate_column,
    interval,
    n_column,
    number_column,
    per_setting,
    percent,
    rate_column,
    share,
)
from analysis.tables.table import Column, Row, Table

REPLICATED_METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1", "loss": "loss"}
FURTHER_METRICS = {
    "worst_class_recall": "worst-class recall",
    "recall_head": "recall of head",
    "recall_medium": "recall of medium",
    "recall_tail": "recall of tail",
    "nll": "negative log likelihood",
    "brier": "Brier score",
    "ece": "expected calibration error",
}
PREDICTION_CONFIDENCE = 0.95
PAPER_BUDGET = "30 epochs"
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


def replication_tables(estimates: pd.DataFrame, collapse: pd.DataFrame) -> list[Table]:
    """Return T1 over all runs and over the runs without a dead class.

    Args:
        estimates: as `aggregate` returns them. collapse: as `collapse_table` does.
    """
    frame = _widen(estimates).merge(
        collapse[["cell", "num_collapsed", "rate_low", "rate_high", "n"]].rename(columns={"n": "n_complete"}),
        on="cell",
    )
    every, healthy = (frame[frame["subset"] == subset] for subset in ("all", "healthy"))
    return [
        Table(
            name="t1-replication-all",
            title="T1a. Replication: all runs",
            frame=every,
            columns=_columns(),
            meaning=per_setting({str(s): _meaning(rows) for s, rows in every.groupby("setting", sort=False)}),
            notes=_NOTES,
        ),
        Table(
            name="t1-replication-healthy",
            title="T1b. Replication: runs without a dead class, described, not tested",
            frame=healthy,
            columns=_columns(),
            meaning=_healthy_meaning(healthy),
            notes=_NOTES,
        ),
    ]


def _widen(estimates: pd.DataFrame) -> pd.DataFrame:
    """Return one row a cell and subset, with columns such as accuracy_mean and loss_paper."""
    wide = estimates.loc[estimates["metric"] == "accuracy", [*CELL_COLUMNS, "subset", "n_expected", "n"]]
    for metric in REPLICATED_METRICS:
        of_metric = estimates[estimates["metric"] == metric].set_index(["cell", "subset"])
        statistics = of_metric.reindex(columns=_STATISTICS).add_prefix(f"{metric}_")
        wide = wide.join(statistics, on=["cell", "subset"])
    return wide


def _columns() -> tuple[Column, ...]:
    columns = [DATA_COLUMN, METHOD_COLUMN, n_column("n", "n_expected")]
    for metric, label in REPLICATED_METRICS.items():
        names = (f"{metric}_mean", f"{metric}_mean_low", f"{metric}_mean_high")
        columns += [
            estimate_column(f"{label}: mean (95% t interval)", *names, share),
            number_column(f"{label}: sd", f"{metric}_sd", share),
        ]
    return (
        *columns,
        number_column("paper's accuracy", "accuracy_paper", share, is_optional=True),
        _beside_paper("z", "accuracy_z", lambda row: decimals(row["accuracy_z"], 1, "+")),
        _beside_paper("percentile", "accuracy_percentile", lambda row: percent(row["accuracy_percentile"])),
        Column(
            head="95% prediction interval of accuracy",
            text=lambda row: interval(row["accuracy_prediction_low"], row["accuracy_prediction_high"], share),
            value=lambda row: row["accuracy_prediction_low"],
        ),
        _beside_paper("paper inside", "accuracy_is_inside", _say_inside),
        rate_column(
            "collapsed runs (95% Clopper-Pearson interval)",
            "num_collapsed",
            "n_complete",
            "rate_low",
            "rate_high",
        ),
    )


def _beside_paper(head: str, name: str, text: Any) -> Column:  # Any: from a row to its text
    return Column(
        head=head,
        text=lambda row: ABSENT if math.isnan(row["accuracy_paper"]) else text(row),
        value=lambda row: row[name],
    )


def _say_inside(row: Row) -> str:
    if math.isnan(row["accuracy_prediction_low"]):
        return NOT_ESTIMABLE
    return "inside" if row["accuracy_is_inside"] else "outside"


def _meaning(rows: pd.DataFrame) -> str:
    listed = rows[rows["accuracy_paper"].notna()]
    if listed.empty:
        return "The paper has no such rows; the table describes our runs alone."
    testable = listed[listed["accuracy_prediction_low"].notna()]
    if testable.empty:
        return (
            f"The paper has {count(len(listed), 'such row')}, but a prediction interval takes two complete "
            "runs, so nothing can be said of them yet."
        )
    outside = int((testable["accuracy_is_inside"] == False).sum())  # noqa: E712  # absent is neither
    chance = (1 - PREDICTION_CONFIDENCE) * len(testable)
    text = (
        f"The paper's accuracy lies outside the {PREDICTION_CONFIDENCE:.0%} prediction interval in {outside} "
        f"of {count(len(testable), 'row')}; chance alone would put about {chance:.2g} there. Inside means "
        "that one more run of ours could well have given the paper's number, not that the number is right; "
        "the wider the interval, the less that says."
    )
    return text if _is_papers_own(rows) else f"{text} {_OTHER_SETTING}"


_OTHER_SETTING = (
    f"This setting is not the paper's own ({PAPER_LOSS.replace('_', ' ')}, {PAPER_BUDGET}, full "
    "Fashion-MNIST), so a difference may come from the setting alone."
)


def _is_papers_own(rows: pd.DataFrame) -> bool:
    first = rows.iloc[0]
    found = (first["dataset"], first["loss_function"], first["budget"])
    return found == ("fashion_mnist", PAPER_LOSS, PAPER_BUDGET)


def _healthy_meaning(healthy: pd.DataFrame) -> str:
    left_out = int((healthy["n_complete"] - healthy["n"]).sum())
    if left_out == 0:
        return "No complete run has a dead class, so this table repeats T1a."
    return (
        f"T1a without the {count(left_out, 'run')} that never recognised at least one class. It describes "
        "how training goes when it goes well. It must not be used to compare methods: which runs are left "
        "depends on the outcome, and the pairing by seed is broken."
    )


_NOTES = (
    "Accuracy and macro F1 are shares between 0 and 1 of the data set's test images, after the last round. "
    "On a balanced test set macro F1 equals the paper's weighted F1.",
    "n of planned: complete runs used, one a seed, of those planned. Mean with Student's t interval; sd with "
    "n − 1 (its chi-square interval is in the CSV file).",
    "The prediction interval, mean ± t · sd · √(1 + 1/n), is to hold one further run. z: how many sd the "
    "paper's number lies above our mean; percentile: share of our runs at most as large. The paper gives "
    "one run a row, and its losses, which come from a double softmax, stand beside no other loss.",
    "Collapsed: at least one class of recall 0, of all complete runs of the cell. Intervals are not cut at "
    "0 and 1; one that reaches beyond says that n is too small for it.",
)


def further_table(estimates: pd.DataFrame) -> Table:
    """Return medians, extremes, recalls by rank and calibration of all runs; the CSV holds all estimates."""
    every = estimates[estimates["subset"] == "all"]
    shown = every[every["metric"] == "accuracy"]
    columns = [
        DATA_COLUMN,
        METHOD_COLUMN,
        n_column("n", "n_expected"),
        number_column("accuracy: median", "median", share),
        number_column("accuracy: interquartile mean", "iqm", share),
        Column(
            head="accuracy: lowest to highest",
            text=lambda row: interval(row["min"], row["max"], share),
            value=lambda row: row["min"],
        ),
        Column(
            head="accuracy: 95% BCa bootstrap interval of the mean",
            text=lambda row: interval(row["bootstrap_low"], row["bootstrap_high"], share),
            value=lambda row: row["bootstrap_low"],
        ),
    ]
    for metric, label in FURTHER_METRICS.items():
        of_metric = every[every["metric"] == metric]
        if not of_metric.empty:
            statistics = of_metric.set_index("cell")[["mean", "mean_low", "mean_high"]]
            shown = shown.join(statistics.add_prefix(f"{metric}_"), on="cell")
            names = (f"{metric}_mean", f"{metric}_mean_low", f"{metric}_mean_high")
            columns.append(_optional_estimate(f"{label}: mean (95% t interval)", *names))
    return Table(
        name="t1-further",
        title="T1c. Further metrics: all runs",
        frame=estimates,
        shown=shown,
        columns=tuple(columns),
        meaning=(
            "A mean accuracy hides which classes pay for it: recall of the tail and of the worst class show "
            "it. Nothing here is tested. For likelihood, Brier score and calibration error, lower is better."
        ),
        notes=(
            "All are shares between 0 and 1, but for the likelihood (nats) and the Brier score (0 to 2). "
            "Probabilities are one softmax of the logits, whatever the loss. Head, medium and tail are "
            "classes by their number of training images before rebalancing; the original set has none.",
            "The bootstrap interval needs three runs that differ and is too narrow for few (about 84% "
            "instead of 95% at n = 5); the t interval of T1a is the one to quote.",
        ),
    )


def _optional_estimate(head: str, name: str, low: str, high: str) -> Column:
    column = estimate_column(head, name, low, high, share)
    return Column(
        head=head,
        text=lambda row: ABSENT if math.isnan(row[name]) else column.text(row),
        value=column.value,
    )
