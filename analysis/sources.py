"""Sources of variance between runs, for studies with separate seeds for subset, generator and classifier.

Shape suffixes: S subsets, G generators of each, C classifiers of each.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.leading import leading_of, require_metric
from analysis.naming import CELL_COLUMNS
from analysis.variance import nested_components

SOURCES = ("subset", "generator", "classifier", "residual")
_GENERATORS, _CLASSIFIERS = "generator_seed", "seed"


def sources_table(nested_runs: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """Return one row for each study and cell of `Results.nested_runs`, in the metric that leads by default.

    Columns: `study`; the cell; `n_expected` subsets and the `n_subsets` with all runs complete, which the
    other columns use; `num_generators` and `num_classifiers` of each; for each of `SOURCES` the standard
    deviation it makes alone, `<source>_sd`, in the metric's unit, with its 90 % bootstrap interval over
    subsets, `<source>_low` and `<source>_high`. What cannot be estimated is nan.

    Raises:
        ValueError: no such metric in these runs.
    """
    if metric is not None:
        require_metric(metric, nested_runs)
    rows = []
    keys = ["study", *CELL_COLUMNS]
    for names, runs in nested_runs.groupby(keys, sort=False, observed=True):
        of_cell = metric or leading_of(runs)
        values_SGC = _complete_subsets(runs, of_cell)
        components = nested_components(values_SGC)
        row = dict(zip(keys, names, strict=True)) | {
            "metric": of_cell,
            "n_expected": runs["subset_seed"].nunique(),
            "n_subsets": values_SGC.shape[0],
            "num_generators": values_SGC.shape[1],
            "num_classifiers": values_SGC.shape[2],
        }
        for source in SOURCES:
            component = getattr(components, source)
            low, high = component.interval
            row |= {f"{source}_sd": component.sd, f"{source}_low": low, f"{source}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def _complete_subsets(runs: pd.DataFrame, metric: str) -> NDArray[np.float64]:
    """Return `values_SGC` of the subsets that have every generator with every classifier."""
    tables = [
        of_subset.pivot(index=_GENERATORS, columns=_CLASSIFIERS, values=metric).to_numpy(dtype=np.float64)
        for _, of_subset in runs.groupby("subset_seed", sort=True)
    ]
    shape = max(table.shape for table in tables)
    complete = [table for table in tables if table.shape == shape and not np.isnan(table).any()]
    return np.stack(complete) if complete else np.empty((0, *shape))
