"""How a tuned configuration does beside the untuned one on seeds that the search has not seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.estimates import Interval, mean_interval, sample_sd
from lt_rebalance.records import Record
from lt_rebalance.store import Store, StoreError, open_store


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """A metric of the tuned configuration minus that of the untuned one, seed by seed."""

    metric: str
    seeds: tuple[int, ...]
    """those at which both are complete"""
    untuned: tuple[float, ...]
    tuned: tuple[float, ...]

    @property
    def differences(self) -> tuple[float, ...]:
        """Tuned minus untuned, one value a seed."""
        return tuple(tuned - untuned for tuned, untuned in zip(self.tuned, self.untuned, strict=True))

    @property
    def interval(self) -> Interval:
        """Student's t interval of the mean difference, at 95 %."""
        return mean_interval(self.differences)

    @property
    def verdict(self) -> str:
        """What the interval says; "not decided" where it holds 0 or cannot be had."""
        if self.interval.low > 0:
            return "better"
        return "worse" if self.interval.high < 0 else "not decided"

    def __str__(self) -> str:
        if not self.seeds:
            return f"{self.metric}: no seed at which both are complete"
        return (
            f"{self.metric}: untuned {_mean_sd(self.untuned)}, tuned {_mean_sd(self.tuned)}; difference "
            f"{np.mean(self.differences):+.4f}, 95 % t interval [{self.interval.low:+.4f}, "
            f"{self.interval.high:+.4f}], n={len(self.seeds)} pairs: {self.verdict}"
        )


def read_confirmation(store: Store, study: str) -> list[PairedDifference]:
    """Return the differences between tuned and untuned cell of a confirmation, by metric.

    There is none where the untuned configuration was chosen, which then stands alone.

    Raises:
        StoreError: no such study, or a damaged record.
    """
    cells = _read_cells(store, study)
    if len(cells) == 1:
        return []
    untuned, tuned = cells
    seeds = sorted(set(untuned) & set(tuned))
    return [
        PairedDifference(
            metric=metric,
            seeds=tuple(seeds),
            untuned=tuple(measure(untuned[seed]) for seed in seeds),
            tuned=tuple(measure(tuned[seed]) for seed in seeds),
        )
        for metric, measure in CONFIRMED.items()
    ]


def describe_confirmation(location: str, study: str) -> Sequence[str]:
    """Return a line a metric on the study that confirms a search; errors as `read_confirmation`."""
    store = open_store(location, None, create=False, is_read_only=True)
    if store is None:
        raise StoreError(f"{location}: there is no store")
    lines = [str(difference) for difference in read_confirmation(store, study)]
    return lines or _describe_untuned(_read_cells(store, study)[0])


def _read_cells(store: Store, study: str) -> list[dict[int, Record]]:
    """Return the complete records of every cell of a study, by seed."""
    plan = store.load_study(study)
    cells: list[dict[int, Record]] = [{} for _ in plan["cells"]]
    for run in plan["runs"]:
        record = store.read_record(run["key"])
        if record is not None and record.state == "complete":
            cells[run["cell"]][run["seed"]] = record
    return cells


def _describe_untuned(records: Mapping[int, Record]) -> list[str]:
    lines = ["nothing that was tried is better than the untuned configuration, which therefore stands alone"]
    for metric, measure in CONFIRMED.items() if records else ():
        values = [measure(record) for record in records.values()]
        interval = mean_interval(values)
        lines.append(
            f"{metric}: untuned {_mean_sd(values)}, n={len(values)}, "
            f"95 % t interval [{interval.low:.4f}, {interval.high:.4f}]"
        )
    return lines


def _mean_sd(values: Sequence[float]) -> str:
    return f"{np.mean(values):.4f} ± {sample_sd(values):.4f}"


def _validation_macro_f1(record: Record) -> float:
    """Return the value of the round that is reported."""
    curve = [float(row["validation_macro_f1"]) for row in record.curves]
    is_best = record.stage["classifier"]["selection"] == "best_validation"
    return max(curve) if is_best else curve[-1]


CONFIRMED: Mapping[str, Callable[[Record], float]] = {
    "test macro F1": lambda record: record.metrics["macro_f1"],
    "test accuracy": lambda record: record.metrics["accuracy"],
    "validation macro F1": _validation_macro_f1,
}
