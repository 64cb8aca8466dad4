"""Tables of a study: one row a run, one row a cell, and the cells beside the paper's numbers."""

from collections.abc import Sequence

import pandas as pd

from lt_rebalance.ledger import Ledger
from lt_rebalance.paper import PAPER_DATASETS, TABLE_1
from lt_rebalance.plan import PlannedRun

SUMMARIZED_METRICS = ("accuracy", "macro_f1", "loss")
CELL_COLUMNS = ["protocol", "dataset", "data", "method"]


def runs_frame(ledger: Ledger) -> pd.DataFrame:
    """Return one row for each planned run: its cell, seed, state, metrics, counts, cost and key."""
    return pd.DataFrame([_run_row(run, ledger) for run in ledger.plan.runs])


def _run_row(run: PlannedRun, ledger: Ledger) -> dict[str, object]:
    cell = run.cell
    row: dict[str, object] = {
        "protocol": cell.protocol,
        "dataset": cell.data.dataset,
        "data": cell.data.label,
        "method": cell.method_label,
        "seed": run.seed,
        "subset_seed": run.stage.data_seed,
        "generator_seed": run.generator_seed,
        "state": ledger.state(run.key),
        "key": run.key,
    }
    if (record := ledger.records.get(run.key)) is not None:
        row |= record.metrics
        row |= {"num_steps": record.num_steps, "train_s": record.timing.train_s}
    return row


def cells_frame(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each cell, in the order of the plan.

    Columns: the cell; `planned` runs and the `n` complete ones that mean and standard deviation are over;
    `<metric>_mean` and `<metric>_sd` (with n - 1; absent below two runs); `collapsed`, the complete runs with
    at least one dead class; the paper's single numbers where it has such a row.
    """
    complete = runs[runs["state"] == "complete"].reindex(columns=_needed_columns(runs))
    grouped = complete.groupby(CELL_COLUMNS, sort=False)
    statistics = {"n": grouped.size()}
    for metric in SUMMARIZED_METRICS:
        statistics |= {f"{metric}_mean": grouped[metric].mean(), f"{metric}_sd": grouped[metric].std(ddof=1)}
    statistics["collapsed"] = (complete["num_dead_classes"] > 0).groupby(_keys(complete), sort=False).sum()
    planned = runs.groupby(CELL_COLUMNS, sort=False).size().rename("planned")
    cells = pd.DataFrame(planned).join(pd.DataFrame(statistics)).reset_index()
    counts = ["n", "collapsed"]
    cells[counts] = cells[counts].fillna(0).astype(int)
    paper = [
        TABLE_1.get((row.data, row.method)) if row.dataset in PAPER_DATASETS else None
        for row in cells.itertuples()
    ]
    for name in ("accuracy", "f1", "loss"):
        cells[f"paper_{name}"] = [None if row is None else getattr(row, name) for row in paper]
    return cells


def _needed_columns(runs: pd.DataFrame) -> Sequence[str]:
    wanted = [*SUMMARIZED_METRICS, "num_dead_classes"]
    return [*runs.columns, *(name for name in wanted if name not in runs.columns)]


def _keys(frame: pd.DataFrame) -> list[pd.Series]:
    return [frame[column] for column in CELL_COLUMNS]


def format_mean(mean: float, sd: float, n: int) -> str:
    """Return "0.812 ± 0.004", as much of it as n allows."""
    if n == 0:
        return "-"
    return f"{mean:.3f}" if n == 1 else f"{mean:.3f} ± {sd:.3f}"
