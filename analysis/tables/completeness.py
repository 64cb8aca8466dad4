"""T6: states of the planned runs, and their code, libraries, devices and data."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.naming import CELL_COLUMNS
from analysis.reader import UNKNOWN_CODE
from analysis.sentences import join
from analysis.tables.formats import (
    DATA_COLUMN,
    METHOD_COLUMN,
    decimals,
    listed,
    number_column,
    text_column,
    whole,
)
from analysis.tables.table import Table, more
from lt_rebalance.ground.statements import describe_diverged
from lt_rebalance.ground.text import count

STATES = ("complete", "failed", "diverged", "missing")
PROVENANCE = {
    "results_version": "version of the results",
    "code_version": "lt_rebalance",
    "python_version": "Python",
    "numpy_version": "numpy",
    "ray_version": "Ray",
    "commit": "commit",
    "is_dirty": "with uncommitted changes",
    "torch_version": "torch",
    "device": "device",
    "device_type": "kind of device",
    "precision": "precision",
    "num_threads": "threads a run",
    "host": "host",
    "dataset_identity": "hash of the data",
}
_NAMED_OTHERS = (
    "code_version",
    "python_version",
    "numpy_version",
    "ray_version",
    "torch_version",
    "device",
    "host",
)
"""other provenance that results record"""
_S_PER_MIN = 60


def account(runs: pd.DataFrame) -> dict[str, int]:
    """Return how many runs are planned, and how many ended in each state; these add up."""
    counts = runs["state"].value_counts()
    return {"planned": len(runs)} | {state: int(counts.get(state, 0)) for state in STATES}


def count_gaps(runs: pd.DataFrame) -> int:
    """Return how many planned runs have no outcome; not applicable is an outcome."""
    return int((runs["state"].isin(["missing", "failed"]) & ~runs["is_not_applicable"]).sum())


def completeness_table(runs: pd.DataFrame, notes: tuple[str, ...]) -> Table:
    """Return T6 by cell; `notes` as `Results` has them."""
    rows = []
    for names, of_cell in runs.groupby(list(CELL_COLUMNS), sort=False, observed=True):
        finished = of_cell[of_cell["wall_s"].notna()]
        rows.append(
            dict(zip(CELL_COLUMNS, names, strict=True))
            | account(of_cell)
            | {
                "num_not_applicable": int(of_cell["is_not_applicable"].sum()),
                "num_retries": int(finished["num_errors"].sum()),
                "wall_min": finished["wall_s"].sum() / _S_PER_MIN,
                "train_min": finished["train_s"].sum() / _S_PER_MIN,
            }
        )
    frame = pd.DataFrame(rows)
    return Table(
        name="t6-completeness",
        title="T6a. Completeness",
        frame=frame,
        columns=(
            DATA_COLUMN,
            METHOD_COLUMN,
            *more(number_column("planned", "planned", whole)),
            *(number_column(name, name, whole) for name in STATES),
            *more(
                number_column("of failed, not applicable", "num_not_applicable", whole),
                number_column("retries", "num_retries", whole),
                number_column("wall time in min", "wall_min", lambda value: decimals(value, 1)),
                number_column("training time in min", "train_min", lambda value: decimals(value, 1)),
            ),
        ),
        meaning=_completeness_meaning(account(runs), count_gaps(runs), int(runs["is_not_applicable"].sum())),
        notes=(
            "planned = complete + failed + diverged + missing. Diverged: the loss was not finite, and there "
            "is no test result. Not applicable: the method cannot be applied to the training set, which is "
            "a result. Retries: earlier attempts of finished runs that ended in an error. Times are sums "
            "over finished runs, without their generators.",
            *(f"{note[0].upper()}{note[1:]}." for note in notes),
        ),
    )


def _completeness_meaning(counts: Mapping[str, int], num_gaps: int, num_not_applicable: int) -> str:
    planned = count(counts["planned"], "planned run")
    if counts["complete"] == counts["planned"]:
        return f"All {planned} are complete; nothing was left out."
    said = ", ".join(f"{counts[state]} {state}" for state in STATES)
    diverged = describe_diverged(counts["diverged"], "every mean")
    return join(
        [
            f"Of {planned}: {said}. Every n in this report counts complete runs only.",
            f"Of those that failed, {num_not_applicable} are not applicable." if num_not_applicable else "",
            "If runs are not missing by chance, estimates are biased." if num_gaps else "",
            f"{diverged}." if diverged else "",
        ]
    )


def provenance_table(runs: pd.DataFrame) -> Table:
    """Return the provenance of results: each value with the number of finished runs that have it."""
    finished = runs[runs["code_version"].notna()]
    said = pd.DataFrame({name: finished[name].map(_say) for name in PROVENANCE})
    rows = [
        {"name": label, "value": value, "num_runs": num_runs}
        for name, label in PROVENANCE.items()
        for value, num_runs in said[name].value_counts().sort_index().items()
    ]
    return Table(
        name="t6-provenance",
        title="T6b. Provenance",
        frame=pd.DataFrame(rows, columns=["name", "value", "num_runs"]),
        columns=(
            text_column("what", "name", is_row_head=True),
            text_column("value", "value", is_long=True),
            number_column("finished runs", "num_runs", whole),
        ),
        meaning=_provenance_meaning(finished, said) if len(finished) else "No run is finished yet.",
    )


def _provenance_meaning(finished: pd.DataFrame, said: pd.DataFrame) -> str:
    """Return what the values mean; `said` are those of `PROVENANCE`, as texts."""
    within = [name for name in said if (said[name].groupby(finished["cell"]).nunique() > 1).any()]
    between = [name for name in said if name not in within and said[name].nunique() > 1]
    identities = said["dataset_identity"].groupby(finished["dataset"]).nunique()
    if has_data_sets := "dataset_identity" in between and (identities == 1).all():
        between.remove(
            "dataset_identity"
        )  # every data set has its own, and no spread or difference holds two
    num_untold, num_dirty = int(said["commit"].eq(UNKNOWN_CODE).sum()), int(said["is_dirty"].eq("yes").sum())
    code = "" if num_untold else "code, "
    data = ", and those of one data set the same data" if has_data_sets else ""
    same = f"{code}libraries and device{data}" if has_data_sets else f"{code}libraries, device and data"
    unnamed = [name for name in _NAMED_OTHERS if said[name].eq(UNKNOWN_CODE).any()]
    return join(
        [
            f"Within a configuration, results differ in: {_labels(within)}. The effect of this is part of "
            "its spread."
            if within
            else "",
            f"Between configurations, results differ in: {_labels(between)}. The effect of this is "
            "confounded with their differences."
            if between
            else "",
            "" if within or between else f"All finished runs have the same {same}.",
            f"Some results do not record their {_labels(unnamed)}." if unnamed else "",
            f"{count(num_untold, 'result')} came from code whose commit and file hash are both unknown, so "
            "results of different code cannot be distinguished there."
            if num_untold
            else "",
            f"{count(num_dirty, 'result')} came from a checkout with uncommitted changes; whether they "
            "concern the package, the hash of its code shows."
            if num_dirty
            else "",
        ]
    )


def _labels(names: Sequence[str]) -> str:
    return listed([PROVENANCE[name] for name in names])


def _say(value: Any) -> str:  # Any: a value of a frame
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if pd.isna(value):
        return UNKNOWN_CODE
    return f"{value:g}" if isinstance(value, float) else str(value) or UNKNOWN_CODE
