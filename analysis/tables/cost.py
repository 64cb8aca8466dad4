"""T6c and T6d: device time of the study, by cell, and by method and kind of stage."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.naming import CELL_COLUMNS, method_rank
from analysis.tables.formats import DATA_COLUMN, METHOD_COLUMN, decimals, number_column, text_column
from analysis.tables.table import Column, Table
from lt_rebalance.ground.statements import NUM_MORE
from lt_rebalance.ground.text import count, format_duration

_S_PER_MIN = 60
_ROUNDING = 1e-9
_FINISHED = ("complete", "diverged")
_NOTES = (
    "Device time is time on a GPU or, without one, on a CPU core, from the first read to the commit. "
    "Trainings that share a device split its time evenly; finished runs that share a generator split its "
    "cost evenly, and so do those that share a first training, unless a run of none has trained it as well: "
    "then it is charged to none. Records without device time count with their wall time.",
)


def split_costs(runs: pd.DataFrame, generator_costs: Mapping[str, float]) -> pd.DataFrame:
    """Return the cell of each run with the device seconds `classifier_s`, and `generator_s` as its share."""
    costs = runs[list(CELL_COLUMNS)].copy()
    costs["classifier_s"] = runs["device_s"].fillna(0.0)
    costs["generator_s"] = runs["key"].map(generator_costs).astype(np.float64).fillna(0.0)
    return costs


def _say_saved(runs: pd.DataFrame, costs: pd.DataFrame) -> str:
    """Return the saving from shared generators and first trainings."""
    alone = runs["whole_s"].sum()
    spent = costs.loc[runs["whole_s"].notna(), ["classifier_s", "generator_s"]].to_numpy().sum()
    if alone <= spent * (1 + _ROUNDING):
        return ""
    return (
        f" Without shared generators and first trainings it would be {format_duration(alone)}: sharing "
        f"saved {format_duration(alone - spent)}."
    )


def describe_cost(runs: pd.DataFrame, generator_costs: Mapping[str, float]) -> str:
    """Say what all runs took, and what `NUM_MORE` further seeds of each cell would take at its median."""
    costs = split_costs(runs, generator_costs)
    costs["total_s"] = costs["classifier_s"] + costs["generator_s"]
    known = costs[runs["state"].isin(_FINISHED)]
    if not known["total_s"].sum() > 0:
        return ""
    more_s = NUM_MORE * known.groupby("cell", observed=True)["total_s"].median().sum()
    num_known = known["cell"].nunique()
    each = "each configuration"
    if num_known < costs["cell"].nunique():
        each = f"the {count(num_known, 'configuration')} with a finished run"
    return (
        f"All runs took {format_duration(known['total_s'].sum())} of device time, on a GPU or else a CPU "
        f"core. {NUM_MORE} more seeds of {each} would take about {format_duration(more_s)}, at its median "
        "run."
    )


def cost_tables(runs: pd.DataFrame, generator_costs: Mapping[str, float]) -> tuple[Table, Table]:
    """Return the cost of each cell, and that of each method with the total."""
    costs = split_costs(runs, generator_costs)
    by_cell = _sum(costs, list(CELL_COLUMNS))
    by_method = _sum(costs, ["method"]).sort_values("method", key=lambda names: names.map(method_rank))
    total = by_method.drop(columns="method").sum()
    by_method = pd.concat([by_method, pd.DataFrame([{"method": "all together", **total}])], ignore_index=True)
    whole, classifiers, generating = (
        format_duration(_S_PER_MIN * total[name]) for name in ("total_min", "classifier_min", "generator_min")
    )
    meaning = (
        f"All finished stages together took {whole} of device time: classifiers {classifiers}, generators "
        f"{generating}.{_say_saved(runs, costs)} {describe_cost(runs, generator_costs)}"
    ).strip()
    return (
        Table(
            name="t6-cost",
            title="T6c. Device time by cell",
            frame=by_cell,
            columns=(DATA_COLUMN, METHOD_COLUMN, *_columns()),
            meaning=meaning,
            notes=_NOTES,
        ),
        Table(
            name="t6-cost-methods",
            title="T6d. Device time by method and kind of stage",
            frame=by_method,
            columns=(text_column("method", "method", is_row_head=True), *_columns()),
            meaning=meaning,
            notes=_NOTES,
        ),
    )


def _sum(costs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    sums = costs.groupby(by, sort=False, observed=True)[["classifier_s", "generator_s"]].sum() / _S_PER_MIN
    sums.columns = pd.Index(["classifier_min", "generator_min"])
    sums["total_min"] = sums["classifier_min"] + sums["generator_min"]
    return sums.reset_index()


def _columns() -> tuple[Column, ...]:
    heads = {
        "classifier_min": "classifiers, min",
        "generator_min": "generators, min",
        "total_min": "in all, min",
    }
    return tuple(number_column(head, name, lambda value: decimals(value, 2)) for name, head in heads.items())
