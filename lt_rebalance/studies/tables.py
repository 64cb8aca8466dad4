"""Tables of a study: one row per run, one row per cell, and the cells beside the paper's numbers."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import pandas as pd

from lt_rebalance.data.at_hand import is_own_name, say_dataset
from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.ground.imbalance import is_balanced
from lt_rebalance.ground.metrics import headline_metrics
from lt_rebalance.ground.paper import explain_absence, find_departures, find_row, say_departures
from lt_rebalance.ground.plain import to_plain
from lt_rebalance.ground.statements import describe_diverged, describe_statistic
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import PlannedRun
from lt_rebalance.studies.study import Cell

CELL_COLUMNS = ["protocol", "dataset", "data", "method"]
_OWN_COLUMNS = {*CELL_COLUMNS, "paper_departure", "seed", "subset_seed", "generator_seed", "state", "key"}
LEFT_OUT = ("diverged", "failed", "missing")
"""states of planned runs that means exclude"""


def summarized_metrics(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Return the metrics of a table of cells, the leading one first; a single unbalanced test set decides."""
    datasets = {cell.data.dataset for cell in cells}
    balanced = all(is_balanced(get_dataset_spec(name).test_counts_K) for name in datasets)
    return headline_metrics(is_test_balanced=balanced)


def runs_frame(ledger: Ledger) -> pd.DataFrame:
    """Return one row for each planned run: its cell, seed, state, metrics, counts, cost and key."""
    columns = {cell: _cell_columns(cell) for cell in ledger.plan.study.cells}
    return pd.DataFrame([columns[run.cell] | _run_columns(run, ledger) for run in ledger.plan.runs])


def _cell_columns(cell: Cell) -> dict[str, object]:
    return {
        "protocol": cell.protocol,
        "dataset": cell.data.dataset,
        "data": cell.data.label,
        "method": cell.method_label,
        "paper_departure": say_departures(find_departures(to_plain(cell))),
    }


def _run_columns(run: PlannedRun, ledger: Ledger) -> dict[str, object]:
    row: dict[str, object] = {
        "seed": run.seed,
        "subset_seed": run.stage.data_seed,
        "generator_seed": run.generator_seed,
        "state": ledger.state(run.key),
        "key": run.key,
    }
    if (record := ledger.records.get(run.key)) is not None:
        row |= {name: value for name, value in record.all_metrics().items() if name not in _OWN_COLUMNS}
        row |= {"num_steps": record.num_steps, "train_s": record.timing.train_s}
    return row


def cells_frame(
    runs: pd.DataFrame, metrics: Sequence[str] = headline_metrics(is_test_balanced=True)
) -> pd.DataFrame:
    """Return one row for each cell, in the order of the plan; `metrics` as `summarized_metrics` returns them.

    Columns: the cell; `planned` runs, the `n` complete ones, the basis of mean and standard deviation, and
    how many have `diverged`, `failed` or are `missing`; `<metric>_mean` and `<metric>_sd` (with n - 1; absent
    below two runs); `collapsed`, the complete runs with at least one dead class; the paper's single numbers
    if they belong to this cell, else the reason in `paper_departure`; `note`, which diverged runs the mean
    excludes.
    """
    complete = runs[runs["state"] == "complete"].reindex(columns=_needed_columns(runs, metrics))
    grouped = complete.groupby(CELL_COLUMNS, sort=False)
    statistics = {"n": grouped.size()}
    statistics |= {
        state: (runs["state"] == state).groupby(_keys(runs), sort=False).sum() for state in LEFT_OUT
    }
    for metric in metrics:
        statistics |= {f"{metric}_mean": grouped[metric].mean(), f"{metric}_sd": grouped[metric].std(ddof=1)}
    statistics["collapsed"] = (complete["num_dead_classes"] > 0).groupby(_keys(complete), sort=False).sum()
    of_cells = runs.groupby(CELL_COLUMNS, sort=False)
    cells = pd.DataFrame({"planned": of_cells.size()}).join(pd.DataFrame(statistics))
    cells = cells.join(of_cells["paper_departure"].first()).reset_index()
    counts = ["n", *LEFT_OUT, "collapsed"]
    cells[counts] = cells[counts].fillna(0).astype(int)
    return _beside_the_paper(cells)


def _beside_the_paper(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells with the paper's numbers and a note on each."""
    named = zip(cells["data"], cells["method"], cells["paper_departure"], strict=True)
    paper = [find_row(data, method, departure) for data, method, departure in named]
    for name in ("accuracy", "f1", "loss"):
        cells[f"paper_{name}"] = [None if row is None else getattr(row, name) for row in paper]
    cells["note"] = [describe_diverged(number) for number in cells["diverged"]]
    return cells[[*(name for name in cells.columns if name != "paper_departure"), "paper_departure"]]


class CellTally:
    """The table of `cells_frame`, updated as runs end."""

    def __init__(self, ledger: Ledger) -> None:
        """Count the runs in the ledger."""
        self._ledger = ledger
        cells = ledger.plan.study.cells
        self._columns = [_cell_columns(cell) for cell in cells]
        self._states = [Counter[str]() for _ in cells]
        self._metrics = summarized_metrics(cells)
        self._moments = [{name: Moments() for name in self._metrics} for _ in cells]
        self._collapsed = [0 for _ in cells]
        self._state_of: dict[str, str] = {}
        self._cells_of: dict[str, list[int]] = {}
        places = {cell: place for place, cell in enumerate(cells)}
        for run in ledger.plan.runs:
            self._cells_of.setdefault(run.key, []).append(places[run.cell])
        self.has_shared_subsets = any(
            run.stage.subset_seed is not None or run.generator_seed not in (None, run.seed)
            for run in ledger.plan.runs
        )
        self.update(self._cells_of)

    def update(self, keys: Iterable[str]) -> None:
        """Look up stages again, whose state may have changed; counted results stay."""
        for key in keys:
            for cell in self._cells_of.get(key, ()):
                self._move(key, cell)
            if key in self._cells_of:
                self._state_of[key] = self._ledger.state(key)

    def _move(self, key: str, cell: int) -> None:
        before, state = self._state_of.get(key), self._ledger.state(key)
        if state == before:
            return
        states = self._states[cell]
        states[state] += 1
        if before is not None:
            states[before] -= 1
        if state == "complete":
            metrics = self._ledger.records[key].all_metrics()
            for name, moments in self._moments[cell].items():
                moments.add(metrics.get(name, math.nan))
            self._collapsed[cell] += metrics.get("num_dead_classes", 0) > 0

    def frame(self) -> pd.DataFrame:
        """Return the same as `cells_frame` over all runs, within rounding."""
        rows = [self._row(cell) for cell, states in enumerate(self._states) if states.total()]
        return _beside_the_paper(pd.DataFrame(rows))

    def _row(self, cell: int) -> dict[str, object]:
        states, moments = self._states[cell], self._moments[cell]
        row = {name: self._columns[cell][name] for name in CELL_COLUMNS}
        row |= {"planned": states.total(), "n": states["complete"]}
        row |= {state: states[state] for state in LEFT_OUT}
        for name in self._metrics:
            row |= {f"{name}_mean": moments[name].mean, f"{name}_sd": moments[name].sd}
        return row | {
            "collapsed": self._collapsed[cell],
            "paper_departure": self._columns[cell]["paper_departure"],
        }


class Moments:
    """Mean and standard deviation of a stream of values, by Welford's recurrence (1962)."""

    def __init__(self) -> None:
        self._number = 0
        self._mean = 0.0
        self._squares = 0.0
        """sum of squared distances from the mean"""

    def add(self, value: float) -> None:
        """Add a value; NaN is ignored."""
        if math.isnan(value):
            return
        self._number += 1
        distance = value - self._mean
        self._mean += distance / self._number
        self._squares += distance * (value - self._mean)

    @property
    def mean(self) -> float:
        """NaN without values."""
        return self._mean if self._number else math.nan

    @property
    def sd(self) -> float:
        """With n - 1; NaN for fewer than two values."""
        return math.sqrt(self._squares / (self._number - 1)) if self._number > 1 else math.nan


def describe_cells(name: str, runs: pd.DataFrame, cells: pd.DataFrame) -> str:
    """Return the title of a table of cells: the kind of its numbers, and the study."""
    apart = (runs["subset_seed"] != runs["seed"]) | runs["generator_seed"].fillna(runs["seed"]).ne(
        runs["seed"]
    )
    return describe_means(name, cells, has_shared_subsets=bool(apart.any()))


def describe_means(name: str, cells: pd.DataFrame, *, has_shared_subsets: bool) -> str:
    """Return the same title, if it is known whether runs share their subsets."""
    own = [say_dataset(each) for each in dict.fromkeys(cells["dataset"]) if is_own_name(each)]
    name = f"{name}, {', '.join(own)}" if own else name
    text = f"{name}: {describe_statistic(int(cells['n'].max()), has_shared_subsets=has_shared_subsets)}"
    return f"{text}, beside the paper's single runs" if cells["paper_accuracy"].notna().any() else text


def with_titles(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose column `dataset` names users' sets as reports do: title, then identity."""
    return frame.assign(
        dataset=[say_dataset(name) if is_own_name(name) else name for name in frame["dataset"]]
    )


def explain_cells(cells: pd.DataFrame) -> list[str]:
    """Return the notes below a table of cells: what it leaves out, and why."""
    sentences = [explain_absence(cells["paper_departure"])]
    if diverged := describe_diverged(int(cells["diverged"].sum()), "the means"):
        sentences.append(f"{diverged}.")
    return [sentence for sentence in sentences if sentence]


def _needed_columns(runs: pd.DataFrame, metrics: Sequence[str]) -> Sequence[str]:
    wanted = [*metrics, "num_dead_classes"]
    return [*runs.columns, *(name for name in wanted if name not in runs.columns)]


def _keys(frame: pd.DataFrame) -> list[pd.Series]:
    return [frame[column] for column in CELL_COLUMNS]


def format_mean(mean: float, sd: float, n: int) -> str:
    """Return "0.812 ± 0.004", with the parts that n allows."""
    if n == 0:
        return "-"
    return f"{mean:.3f}" if n == 1 else f"{mean:.3f} ± {sd:.3f}"
