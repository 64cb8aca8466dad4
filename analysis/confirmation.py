"""Compare a tuned configuration with the untuned one, on seeds that the search has not used."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.compare import ALPHA, MIN_PAIRS, decide, describe_difference
from analysis.estimates import Interval, mean_interval, sample_sd
from analysis.significance import MAX_EXACT, say_p, sign_flip_p
from lt_rebalance.ground.metrics import METRICS, SELECTION_METRIC, reported_round
from lt_rebalance.ground.statements import count_used, describe_diverged
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.store.records import Record

DECISIVE = f"test {METRICS[SELECTION_METRIC].label}"
"""the metric that decides the verdict on a search"""


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """A metric of the tuned configuration minus that of the untuned one, seed by seed."""

    metric: str
    seeds: tuple[int, ...]
    """those at which both are complete"""
    untuned: tuple[float, ...]
    tuned: tuple[float, ...]
    num_planned: int
    """pairs of seeds"""
    num_diverged: int
    """planned pairs without a difference because a run of theirs diverged"""

    @property
    def differences(self) -> tuple[float, ...]:
        """Tuned minus untuned, one value per seed."""
        return tuple(tuned - untuned for tuned, untuned in zip(self.tuned, self.untuned, strict=True))

    @property
    def interval(self) -> Interval:
        """Student's t interval of the mean difference, at 95 %."""
        return mean_interval(self.differences)

    @property
    def decides(self) -> bool:
        """Whether this metric decides the verdict on the search."""
        return self.metric == DECISIVE

    @property
    def p_value(self) -> float:
        """The p value of the sign-flip test; nan for a metric that is shown and not tested."""
        return sign_flip_p(self.differences) if self.decides else math.nan

    @property
    def verdict(self) -> str:
        """The verdict of `decide` for the metric that decides; empty for others."""
        if not self.decides:
            return ""
        columns = {"first": self.tuned, "second": self.untuned, "difference": self.differences}
        paired = pd.DataFrame(columns, dtype=np.float64)
        return decide(describe_difference(paired, SELECTION_METRIC), self.p_value, SELECTION_METRIC)

    def __str__(self) -> str:
        n = f"n={count_used(len(self.seeds), self.num_planned, self.num_diverged)} pairs"
        if not self.seeds:
            return f"{self.metric}: no seed at which both are complete, {n}"
        said = (
            f"{self.verdict} ({_say_test(self.p_value, len(self.seeds))})"
            if self.decides
            else "shown, not tested"
        )
        return (
            f"{self.metric}: untuned {_mean_sd(self.untuned)}, tuned {_mean_sd(self.tuned)}; difference "
            f"{np.mean(self.differences):+.4f}, 95 % t interval {_say_interval(self.interval, '+')}, {n}: "
            f"{said}"
        )


def _say_test(p_value: float, num_pairs: int) -> str:
    exact = "exact " if num_pairs <= MAX_EXACT else ""
    return f"{exact}sign-flip test, p = {say_p(p_value, 'g')}"


def _say_interval(interval: Interval, sign: str = "") -> str:
    if math.isnan(interval.low):
        return "not estimable"
    return f"[{interval.low:{sign}.4f}, {interval.high:{sign}.4f}]"


def read_confirmation(store: Store, study: str) -> list[PairedDifference]:
    """Return the differences between tuned and untuned cell of a confirmation, by metric.

    Empty if the search chose the untuned configuration, which is then the only one.

    Raises:
        StoreError: no such study, or a damaged record.
    """
    cells = _read_cells(store, study)
    if len(cells) == 1:
        return []
    untuned, tuned = ({seed: each for seed, each in cell.items() if each is not None} for cell in cells)
    planned = sorted(set(cells[0]) & set(cells[1]))
    complete = [
        seed
        for seed in planned
        if seed in untuned and seed in tuned and untuned[seed].state == tuned[seed].state == "complete"
    ]
    diverged = [
        seed
        for seed in planned
        if "diverged" in {of_cell[seed].state for of_cell in (untuned, tuned) if seed in of_cell}
    ]
    return [
        PairedDifference(
            metric=metric,
            seeds=tuple(complete),
            untuned=tuple(measure(untuned[seed]) for seed in complete),
            tuned=tuple(measure(tuned[seed]) for seed in complete),
            num_planned=len(planned),
            num_diverged=len(diverged),
        )
        for metric, measure in CONFIRMED.items()
    ]


def describe_confirmation(location: str, study: str) -> Sequence[str]:
    """Return one line per metric on the study that confirms a search; errors as `read_confirmation`."""
    store = open_store(location, None, create=False, is_read_only=True)
    if store is None:
        raise StoreError(f"{location}: there is no store")
    differences = read_confirmation(store, study)
    if not differences:
        return _describe_untuned(_read_cells(store, study)[0])
    lines = [str(difference) for difference in differences]
    (decisive,) = (difference for difference in differences if difference.decides)
    if len(decisive.seeds) < MIN_PAIRS:
        lines.append(
            f"fewer than {MIN_PAIRS} pairs give no verdict, because the exact sign-flip test cannot reach "
            f"{ALPHA:g}; give the confirmation more seeds"
        )
    if diverged := describe_diverged(decisive.num_diverged, "the differences"):
        lines.append(f"of {decisive.num_planned} planned pairs, {diverged}")
    return lines


def _read_cells(store: Store, study: str) -> list[dict[int, Record | None]]:
    """Return the records of every cell of a study by seed, None for a planned run that has none."""
    plan = store.load_study(study)
    cells: list[dict[int, Record | None]] = [{} for _ in plan.cells]
    for run in plan.runs:
        cells[run.cell][run.seed] = store.read_record(run.key, plan)
    return cells


def _describe_untuned(records: Mapping[int, Record | None]) -> list[str]:
    lines = ["no complete trial had a better mean than the untuned configuration, so nothing is compared"]
    known = [record for record in records.values() if record is not None]
    complete = [record for record in known if record.state == "complete"]
    num_diverged = sum(record.state == "diverged" for record in known)
    for metric, measure in CONFIRMED.items() if complete else ():
        values = [measure(record) for record in complete]
        lines.append(
            f"{metric}: untuned {_mean_sd(values)}, n={count_used(len(values), len(records), num_diverged)}, "
            f"95 % t interval {_say_interval(mean_interval(values))}"
        )
    if diverged := describe_diverged(num_diverged):
        lines.append(f"of {len(records)} planned runs, {diverged}")
    return lines


def _mean_sd(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.4f}"
    return f"{mean} ± {sample_sd(values):.4f}" if len(values) > 1 else mean


def _on_validation(record: Record) -> float:
    """Return the value of the round that is reported."""
    reported = reported_round(record.curves, str(record.stage["classifier"]["selection"]))
    return float(record.curves[reported][f"validation_{SELECTION_METRIC}"])


CONFIRMED: Mapping[str, Callable[[Record], float]] = {
    DECISIVE: lambda record: record.metrics[SELECTION_METRIC],
    "test accuracy": lambda record: record.metrics["accuracy"],
    f"validation {METRICS[SELECTION_METRIC].label}": _on_validation,
}
