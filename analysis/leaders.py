"""Find the leading method of each place, with its lead and joint intervals.

A place is a setting and its training data. All intervals hold jointly for all methods of a place, because the
same runs choose the leading method and evaluate it.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.leading import leading_of
from analysis.methods import REFERENCES
from analysis.naming import in_order, split
from analysis.ranking import rank_methods, simultaneous_intervals
from lt_rebalance.ground.metrics import is_higher_better


def leaders_frame(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each method of each place, the best first, and those without a run last.

    Columns: `BLOCK_COLUMNS`, `method`, `cell`; the leading `metric`; `n_expected`, `n`, `n_diverged`,
    `num_collapsed`; `mean` with `mean_low`, `mean_high` (`simultaneous_intervals`); `rank` with `rank_low`,
    `rank_high` (`rank_methods`); `num_ranked` methods of the place; and for each reference
    `minus_REFERENCE`, the mean difference from it over `minus_REFERENCE_n` pairs of one seed, with
    `minus_REFERENCE_low`, `minus_REFERENCE_high` (`simultaneous_intervals` over the differences of all
    methods from it). What cannot be estimated is nan.

    Args:
        runs: rows of `Results.runs`.
    """
    rows = []
    for place, block in split(runs):
        found = [place | row for row in _describe_place(block)]
        rows += sorted(found, key=lambda row: (np.isnan(row["rank"]), row["rank"]))
    return pd.DataFrame(rows)


def _describe_place(block: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Yield the row of each method of one place."""
    metric = leading_of(block)
    cells = block.drop_duplicates("method").set_index("method")["cell"]
    methods = in_order(block["method"])
    complete = block[block["state"] == "complete"]
    wide = complete.pivot(index="seed", columns="method", values=metric).reindex(columns=methods)
    values_SM = wide.to_numpy(dtype=np.float64)
    ranks = rank_methods(values_SM, is_higher_better=is_higher_better(metric))
    intervals = simultaneous_intervals(values_SM)
    differences = [_minus(values_SM, methods, reference) for reference in REFERENCES]
    for index, method in enumerate(methods):
        of_method, rank, values_S = block[block["method"] == method], ranks[index], values_SM[:, index]
        n = int((~np.isnan(values_S)).sum())
        row = {
            "method": method,
            "cell": cells[method],
            "metric": metric,
            "n_expected": len(of_method),
            "n": n,
            "n_diverged": int((of_method["state"] == "diverged").sum()),
            "num_collapsed": int(of_method["is_collapsed"].fillna(False).sum()),
            "mean": float(np.nanmean(values_S)) if n else np.nan,
            "mean_low": intervals[index].low,
            "mean_high": intervals[index].high,
            "rank": np.nan if rank is None else rank.value,
            "rank_low": np.nan if rank is None else rank.low,
            "rank_high": np.nan if rank is None else rank.high,
            "num_ranked": sum(each is not None for each in ranks),
        }
        yield row | {name: value for each in differences for name, value in each[index].items()}


def _minus(values_SM: NDArray[np.float64], methods: list[str], reference: str) -> list[dict[str, float]]:
    """Return the differences of all methods from a reference; nan for itself, and all nan without it."""
    name = f"minus_{reference}"
    differences_SM = np.full_like(values_SM, np.nan)
    if reference in methods:
        differences_SM = values_SM - values_SM[:, [methods.index(reference)]]
        differences_SM[:, methods.index(reference)] = np.nan
    numbers_M = (~np.isnan(differences_SM)).sum(axis=0)
    return [
        {
            name: float(np.nanmean(differences_SM[:, index])) if numbers_M[index] else np.nan,
            f"{name}_low": interval.low,
            f"{name}_high": interval.high,
            f"{name}_n": int(numbers_M[index]),
        }
        for index, interval in enumerate(simultaneous_intervals(differences_SM))
    ]
