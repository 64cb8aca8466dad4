"""Compare cells with the reference cells that a study names, paired by seed."""

from typing import Any

import pandas as pd

from analysis.compare import count_pairs, decide, describe_difference, pair, runs_of
from analysis.leading import leading_of, require_metric
from analysis.significance import fisher_p, holm


def compare_with_references(
    runs: pd.DataFrame, comparisons: pd.DataFrame, metric: str | None = None
) -> pd.DataFrame:
    """Return one row for each comparison of `Results.comparisons`, in the leading metric by default.

    Over the runs that the study of the comparison plans, not those of other studies of the same cells.

    Columns: `study`, and the cell's `data`, `method` and `change`; `n_expected` planned pairs, `n_diverged`
    of them without a difference because a run of theirs diverged; `reference_mean` and `cell_mean` over the
    pairs; those of `describe_difference`, for cell minus reference; `cell_collapsed` of `cell_n` complete
    runs with a dead class and `cell_dead_classes`, their mean number, the same of the reference, and
    `fisher_p` between the two rates; `holm_p`, Holm's correction of the sign-flip test over all comparisons
    of the study; the `verdict` of `decide`.

    Raises:
        ValueError: no such metric in these runs.
    """
    if metric is not None:
        require_metric(metric, runs)
    rows = [
        _describe(of_study, each, metric or leading_of(of_study[of_study["cell"] == each["cell"]]))
        for _, asked in comparisons.groupby("study", sort=False)
        for of_study in [runs_of(runs, asked)]
        for each in asked.to_dict("records")
        if {each["cell"], each["reference"]} <= set(of_study["cell"])
    ]
    if not rows:
        return pd.DataFrame()
    frame = pd.DataFrame(rows)
    for _, same in frame.groupby("study", sort=False):
        frame.loc[same.index, "holm_p"] = holm(same["sign_flip_p"])
    frame["verdict"] = [decide(row, row["holm_p"], row["metric"]) for row in frame.to_dict("records")]
    return frame


def _describe(runs: pd.DataFrame, comparison: dict[str, str], metric: str) -> dict[str, Any]:
    of_cell = runs[runs["cell"] == comparison["cell"]]
    of_reference = runs[runs["cell"] == comparison["reference"]]
    paired = pair(runs, comparison["cell"], comparison["reference"], metric)
    (k, n), (k_reference, n_reference) = _count_collapsed(of_cell), _count_collapsed(of_reference)
    return {
        "study": comparison["study"],
        "data": of_cell["data"].iloc[0],
        "method": of_cell["method"].iloc[0],
        "change": comparison["change"],
        "cell": comparison["cell"],
        "reference": comparison["reference"],
        "metric": metric,
        **count_pairs(runs, comparison["cell"], comparison["reference"]),
        "reference_mean": paired["second"].mean(),
        "cell_mean": paired["first"].mean(),
        **describe_difference(paired, metric),
        "cell_collapsed": k,
        "cell_n": n,
        "cell_dead_classes": of_cell["num_dead_classes"].mean(),
        "reference_collapsed": k_reference,
        "reference_n": n_reference,
        "reference_dead_classes": of_reference["num_dead_classes"].mean(),
        "fisher_p": fisher_p(k, n, k_reference, n_reference),
    }


def _count_collapsed(runs: pd.DataFrame) -> tuple[int, int]:
    complete = runs[runs["state"] == "complete"]
    return int(complete["is_collapsed"].sum()), len(complete)
