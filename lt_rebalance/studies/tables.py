"""Tables of a study: one row a run, one row a cell, and the cells beside the paper's numbers."""

from collections.abc import Sequence

import pandas as pd

from lt_rebalance.ground.metrics import HEADLINE, shown_metrics
from lt_rebalance.ground.paper import explain_absence, find_departures, find_row, say_departures
from lt_rebalance.ground.plain import to_plain
from lt_rebalance.ground.statements import describe_diverged, describe_statistic
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import PlannedRun

SUMMARIZED_METRICS = shown_metrics(HEADLINE)
CELL_COLUMNS = ["protocol", "dataset", "data", "method"]
LEFT_OUT = ("diverged", "failed", "missing")
"""states of planned runs that are in no mean"""


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
        "paper_departure": say_departures(find_departures(to_plain(cell))),
        "seed": run.seed,
        "subset_seed": run.stage.data_seed,
        "generator_seed": run.generator_seed,
        "state": ledger.state(run.key),
        "key": run.key,
    }
    if (record := ledger.records.get(run.key)) is not None:
        row |= {name: value for name, value in record.all_metrics().items() if name not in row}
        row |= {"num_steps": record.num_steps, "train_s": record.timing.train_s}
    return row


def cells_frame(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each cell, in the order of the plan.

    Columns: the cell; `planned` runs and the `n` complete ones that mean and standard deviation are over, and
    how many have `diverged`, `failed` or are `missing`; `<metric>_mean` and `<metric>_sd` (with n - 1; absent
    below two runs); `collapsed`, the complete runs with at least one dead class; the paper's single numbers
    where they are of this very cell, and else in `paper_departure` why they are not; `note`, what the mean
    leaves out because of how it ended.
    """
    complete = runs[runs["state"] == "complete"].reindex(columns=_needed_columns(runs))
    grouped = complete.groupby(CELL_COLUMNS, sort=False)
    statistics = {"n": grouped.size()}
    statistics |= {
        state: (runs["state"] == state).groupby(_keys(runs), sort=False).sum() for state in LEFT_OUT
    }
    for metric in SUMMARIZED_METRICS:
        statistics |= {f"{metric}_mean": grouped[metric].mean(), f"{metric}_sd": grouped[metric].std(ddof=1)}
    statistics["collapsed"] = (complete["num_dead_classes"] > 0).groupby(_keys(complete), sort=False).sum()
    of_cells = runs.groupby(CELL_COLUMNS, sort=False)
    cells = pd.DataFrame({"planned": of_cells.size()}).join(pd.DataFrame(statistics))
    cells = cells.join(of_cells["paper_departure"].first()).reset_index()
    counts = ["n", *LEFT_OUT, "collapsed"]
    cells[counts] = cells[counts].fillna(0).astype(int)
    named = zip(cells["data"], cells["method"], cells["paper_departure"], strict=True)
    paper = [find_row(data, method, departure) for data, method, departure in named]
    for name in ("accuracy", "f1", "loss"):
        cells[f"paper_{name}"] = [None if row is None else getattr(row, name) for row in paper]
    cells["note"] = [describe_diverged(number) for number in cells["diverged"]]
    return cells[[*(name for name in cells.columns if name != "paper_departure"), "paper_departure"]]


def describe_cells(name: str, runs: pd.DataFrame, cells: pd.DataFrame) -> str:
    """Return the title of a table of cells: what its numbers are, of a study of this name."""
    apart = (runs["subset_seed"] != runs["seed"]) | runs["generator_seed"].fillna(runs["seed"]).ne(
        runs["seed"]
    )
    text = f"{name}: {describe_statistic(int(cells['n'].max()), has_shared_subsets=bool(apart.any()))}"
    return f"{text}, beside the paper's single runs" if cells["paper_accuracy"].notna().any() else text


def explain_cells(cells: pd.DataFrame) -> list[str]:
    """Return what is to be said below a table of cells: what it leaves out, and why."""
    sentences = [explain_absence(cells["paper_departure"])]
    if diverged := describe_diverged(int(cells["diverged"].sum()), "the means"):
        sentences.append(f"{diverged}.")
    return [sentence for sentence in sentences if sentence]


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
