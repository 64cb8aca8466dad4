"""Rank methods across data sets; each data set is one block, whatever its Cs and seeds.

Shape suffixes: D data sets, M methods.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.estimates import TOLERANCE
from analysis.methods import RANKED
from analysis.naming import compared_data, in_order, without_told
from analysis.ranking import rank_methods
from analysis.significance import FLIP_SEED
from lt_rebalance.ground.metrics import is_higher_better

NUM_PERMUTATIONS = 9_999
FEWEST = 5
"""with fewer data sets, ranks are described and not tested"""


def datasets_frame(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per method for each protocol, loss and budget with at least two data sets.

    The value of a method on a data set is its mean of `RANKED` over seeds, averaged over the Cs or profiles
    of the data set: runs of one seed, or of one data set at several Cs, are not separate blocks. Methods that
    are not complete on some of the data are left out, and counted. Columns: `setting`; `method`;
    `num_datasets`, `datasets`; `num_left_out`; `mean`, over data sets; `mean_rank`, of the ranks within each
    data set; `rank` by the mean with `rank_low` and `rank_high`, which hold for all methods together at 95 %
    (`rank_methods`, data sets as blocks); `friedman_p`, the same in every row, absent below `FEWEST`.
    """
    frames = []
    shared = [runs["protocol"].map(without_told), "loss_function", "budget"]
    for names, of_setting in runs.groupby(shared, sort=False, observed=True):
        if of_setting["dataset"].nunique() > 1:
            frames.append(_rank(", ".join(str(name).replace("_", " ") for name in names), of_setting))
    frames = [frame for frame in frames if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _rank(setting: str, runs: pd.DataFrame) -> pd.DataFrame:
    asked = in_order(runs["method"])
    table = pd.DataFrame(
        {
            str(dataset): _mean_values(of_dataset)
            for dataset, of_dataset in runs.groupby("dataset", sort=False)
        }
    ).T.reindex(columns=asked)
    values = table.dropna(axis="columns")
    if values.shape[1] < 2:
        return pd.DataFrame()
    values_DM: NDArray[np.float64] = values.to_numpy(dtype=np.float64)
    is_up = is_higher_better(RANKED)
    ranks_DM = values.rank(axis=1, ascending=not is_up).to_numpy(dtype=np.float64)
    rows = [
        {
            "setting": setting,
            "method": method,
            "num_datasets": len(values),
            "datasets": ", ".join(values.index),
            "num_left_out": len(asked) - values.shape[1],
            "mean": values[method].mean(),
            "mean_rank": mean_rank,
            "rank": rank.value,
            "rank_low": rank.low,
            "rank_high": rank.high,
            "friedman_p": friedman_p(ranks_DM) if len(values) >= FEWEST else np.nan,
        }
        for method, mean_rank, rank in zip(
            values, ranks_DM.mean(axis=0), rank_methods(values_DM, is_higher_better=is_up), strict=True
        )
        if rank is not None
    ]
    return pd.DataFrame(rows).sort_values("rank", kind="stable")


def _mean_values(runs: pd.DataFrame) -> pd.Series:
    """Return the mean of each method on one data set; nan where some of its runs are not complete."""
    compared = runs[runs["data"].isin(compared_data(runs))]
    values = compared[RANKED].where(compared["state"] == "complete")
    by_cell = values.groupby([compared["method"], compared["setting"], compared["data"]], observed=True)
    means = by_cell.apply(lambda of_cell: of_cell.mean() if of_cell.notna().all() else np.nan)
    wide = means.unstack(["setting", "data"])
    return wide.mean(axis=1, skipna=False).rename(None)


def friedman_p(ranks_DM: NDArray[np.float64]) -> float:
    """Return the p value of Friedman's test that all methods are equal, by permutation within data sets.

    Monte Carlo with `NUM_PERMUTATIONS` fixed draws and the + 1 correction: the usual chi-square approximation
    is poor for few data sets. It assumes that the values of a data set are exchangeable.
    """
    rng = np.random.default_rng(FLIP_SEED)
    rows = np.broadcast_to(ranks_DM, (NUM_PERMUTATIONS, *ranks_DM.shape))
    hits = _spread(rng.permuted(rows, axis=2)) >= _spread(ranks_DM) - TOLERANCE
    return float((hits.sum() + 1) / (NUM_PERMUTATIONS + 1))


def _spread(ranks_DM: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the spread of the mean ranks of methods; any leading axes."""
    means_M = ranks_DM.mean(axis=-2)
    spread: NDArray[np.float64] = np.square(means_M - means_M.mean(axis=-1, keepdims=True)).sum(axis=-1)
    return spread
