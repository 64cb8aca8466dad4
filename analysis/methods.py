"""Rank the methods of a study, compare them with its references, and relate them to their cost.

A study compares methods where it names pairs of cells of one setting and C whose reference has one of
`REFERENCES`. The pairs are recorded before there are results, as are the tests and corrections:

- Each metric of `TESTED` is a family of its own: all such pairs of the study, after Holm.
- As H14, to match or beat oversampling, but in `RANKED` and for every method (`STANDINGS`): non-inferiority
  within `MARGIN` and superiority, each with Holm's correction over the methods of a C. A method can beat only
  if it also matches: for one method a fixed sequence (Maurer, Hothorn and Lehmacher 1995), for several not.
  There any "matches" or "beats" is false with a probability of 5 % at most, 2.5 % for the upper side of each
  test. That leaves out "falls short", with which it can be more.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.compare import (
    ALPHA,
    MARGIN,
    MIN_PAIRS,
    complete_table,
    count_pairs,
    decide,
    describe_difference,
    pair,
    runs_of,
    spread_out,
)
from analysis.naming import in_order, name_alone
from analysis.ranking import rank_methods, simultaneous_intervals
from analysis.significance import holm, sign_flip_p
from lt_rebalance.ground.metrics import SELECTION_METRIC, is_higher_better

REFERENCES = ("none", "oversample")
MATCHED = "oversample"
"""the method that others are to match or beat"""
RANKED = SELECTION_METRIC
TESTED = (RANKED, "recall_tail", "worst_class_recall", "accuracy")
"""metrics in which differences from references are tested"""
DIFFERENCES = "R2"
"""table of these differences, by which a study can register them as confirmatory"""
STANDINGS = ("beats", "matches", "falls short", "undecided")
_TESTED_COLUMNS = (
    *("n_expected", "n_diverged", "n_pairs", "mean_difference", "difference_low", "difference_high"),
    *("sign_flip_p", "holm_p", "verdict"),
)


def methods_frame(
    runs: pd.DataFrame, cells: pd.DataFrame, comparisons: pd.DataFrame, tunings: pd.DataFrame
) -> pd.DataFrame:
    """Return one row for each method of each study, setting and C where methods are compared.

    Over the runs that this study plans, not those of other studies of the same cells; methods have the names
    that they have in this study alone, tuned or not.

    Rows of a C are ordered by family, the family with the best method first, and by rank within. Columns:
    `study`, `setting` (the study, and where it has several its setting), `data`, `family`, `method`, `cell`;
    `n_expected`, `n`, `n_diverged`, `num_collapsed`, `num_not_applicable` with the `reason`; `mean` of
    `RANKED`, with `mean_low` and `mean_high`, Student t intervals that hold for all methods of the C at 95 %
    together (Bonferroni); `rank` with `rank_low`, `rank_high` as `rank_methods`; means of the others of
    `TESTED`; `device_s`, mean device time of a run with all of what it builds on, and `device_ratio` of it to
    that of none; `is_on_front`, on the Pareto front of mean and device time; for every metric and reference,
    prefixed with `METRIC_minus_REFERENCE_`, the values of `describe_difference` and Holm's correction, and
    `family_size`, the differences of a metric that are corrected together; and of the pairs with `MATCHED`,
    `superiority_p`, `non_inferiority_p`, after Holm, and the `standing`; `num_trials` of `num_trial_seeds`,
    the budget of the search that tuned the method, and what was `chosen` and `untuned`, in words.

    Args:
        runs: rows of `Results.runs`; cells, comparisons and tunings, those of `Results`.
    """
    frames = []
    for _, asked in comparisons.groupby("study", sort=False):
        of_study = runs_of(runs, asked)
        of_cells = cells[cells["cell"].isin(of_study["cell"])]
        names = name_alone(of_cells).set_axis(of_cells["cell"])
        of_study, of_cells = (each.assign(method=each["cell"].map(names)) for each in (of_study, of_cells))
        frames.append(_describe_study(of_study, of_cells, asked))
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        return pd.DataFrame()
    frame = pd.concat(frames, ignore_index=True)
    _add_tunings(frame, tunings)
    num_settings = frame.groupby("study")["setting"].transform("nunique")
    frame["setting"] = frame["study"] + (": " + frame["setting"]).where(num_settings > 1, "")
    return frame


def _describe_study(runs: pd.DataFrame, cells: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one study, from the runs and the comparisons that it plans."""
    blocks = [
        _describe_block(study, setting, data, runs[runs["cell"].isin(ids)], cells)
        for study, setting, data, ids in _find_blocks(cells, comparisons)
    ]
    if not blocks:
        return pd.DataFrame()
    frame = pd.concat(blocks, ignore_index=True)
    _compare(frame, runs, comparisons)
    _match(frame, runs)
    return frame


def _find_blocks(
    cells: pd.DataFrame, comparisons: pd.DataFrame
) -> Iterator[tuple[str, str, str, Sequence[str]]]:
    """Yield study, setting, C and the cells of each place where methods are compared."""
    named = cells.set_index("cell")
    found: dict[tuple[str, str, str], list[str]] = {}
    for each in comparisons.to_dict("records"):
        if each["cell"] not in named.index or each["reference"] not in named.index:
            continue
        cell, reference = named.loc[each["cell"]], named.loc[each["reference"]]
        places = [(str(row["setting"]), str(row["data"])) for row in (cell, reference)]
        if places[0] == places[1] and reference["method"] in REFERENCES:
            found.setdefault((each["study"], *places[0]), []).extend([each["reference"], each["cell"]])
    for (study, setting, data), ids in found.items():
        yield study, setting, data, list(dict.fromkeys(ids))


def _describe_block(
    study: str, setting: str, data: str, runs: pd.DataFrame, cells: pd.DataFrame
) -> pd.DataFrame:
    ids = runs.drop_duplicates("method").set_index("method")["cell"]
    methods = in_order(ids.index)
    complete = runs[runs["state"] == "complete"]
    families = cells.set_index("cell")["family"]
    tables = {metric: spread_out(complete, list(ids[methods]), metric) for metric in TESTED if metric in runs}
    ranked_SM = tables[RANKED].to_numpy()
    ranks = rank_methods(ranked_SM, is_higher_better=is_higher_better(RANKED))
    rows = []
    for method, rank, (low, high) in zip(methods, ranks, simultaneous_intervals(ranked_SM), strict=True):
        of_cell = runs[runs["cell"] == ids[method]]
        values = tables[RANKED][ids[method]].dropna().to_numpy()
        place: dict[str, Any] = {"study": study, "setting": setting, "data": data}
        place |= {"family": families[ids[method]], "method": method, "cell": ids[method]}
        rows.append(
            place
            | {
                "n_expected": len(of_cell),
                "n": len(values),
                "n_diverged": int((of_cell["state"] == "diverged").sum()),
                "num_collapsed": int((of_cell["is_collapsed"].fillna(False)).sum()),
                "num_not_applicable": int(of_cell["is_not_applicable"].sum()),
                "reason": _say_reason(of_cell),
                "mean": values.mean() if len(values) else np.nan,
                "mean_low": low,
                "mean_high": high,
                "rank": np.nan if rank is None else rank.value,
                "rank_low": np.nan if rank is None else rank.low,
                "rank_high": np.nan if rank is None else rank.high,
            }
            | {metric: table[ids[method]].mean() for metric, table in tables.items() if metric != RANKED}
            | {"device_s": of_cell.loc[of_cell["state"] == "complete", "whole_s"].mean()}
        )
    frame = pd.DataFrame(rows)
    of_none = frame.loc[frame["method"] == "none", "device_s"]
    frame["device_ratio"] = frame["device_s"] / (of_none.iloc[0] if len(of_none) else np.nan)
    frame["is_on_front"] = _find_front(frame)
    return _in_families(frame)


def _say_reason(runs: pd.DataFrame) -> str:
    reasons = dict.fromkeys(runs.loc[runs["is_not_applicable"], "reason"])
    return "; ".join(str(reason) for reason in reasons)


def _find_front(frame: pd.DataFrame) -> list[bool]:
    """Return which rows are on the Pareto front of device time and mean."""
    costs, means = frame["device_s"].to_numpy(), frame["mean"].to_numpy()
    is_better_MM = (costs[np.newaxis] <= costs[:, np.newaxis]) & (means[np.newaxis] >= means[:, np.newaxis])
    is_better_MM &= (costs[np.newaxis] < costs[:, np.newaxis]) | (means[np.newaxis] > means[:, np.newaxis])
    is_known = ~(np.isnan(costs) | np.isnan(means))
    front: list[bool] = (is_known & ~is_better_MM.any(axis=1)).tolist()
    return front


def _in_families(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows by family, the best-ranked family first, and by rank within; unranked rows last."""
    best = frame.groupby("family")["rank"].transform("min")
    order = frame.assign(best=best).sort_values(["best", "family", "rank"], kind="stable")
    return frame.loc[order.index].reset_index(drop=True)


def _compare(frame: pd.DataFrame, runs: pd.DataFrame, comparisons: pd.DataFrame) -> None:
    """Add the differences from the references that the study names, corrected over the whole study."""
    asked = set(comparisons[["cell", "reference"]].itertuples(index=False, name=None))
    for metric in (metric for metric in TESTED if metric in runs):
        found: dict[tuple[int, str], dict[str, Any]] = {}
        for _, block in frame.groupby(["setting", "data"], sort=False):
            ids = block.set_index("method")["cell"]
            for reference in (name for name in REFERENCES if name in ids):
                for index, row in block.iterrows():
                    if (row["cell"], ids[reference]) in asked:
                        found[int(str(index)), reference] = count_pairs(
                            runs, row["cell"], ids[reference]
                        ) | describe_difference(pair(runs, row["cell"], ids[reference], metric), metric)
        differences = pd.DataFrame(list(found.values()))
        differences["holm_p"] = holm(differences["sign_flip_p"])
        frame["family_size"] = float(len(differences))
        differences["verdict"] = [
            decide(each, each["holm_p"], metric) for each in differences.to_dict("records")
        ]
        for reference in REFERENCES:
            rows = [index for (index, name) in found if name == reference]
            places = [place for place, (_, name) in enumerate(found) if name == reference]
            for column in _TESTED_COLUMNS:
                name = name_difference(metric, reference, column)
                frame.loc[rows, name] = differences.loc[places, column].to_numpy()


def name_difference(metric: str, reference: str, column: str) -> str:
    """Return the column of a difference of a metric from a reference."""
    return f"{metric}_minus_{reference}_{column}"


def _match(frame: pd.DataFrame, runs: pd.DataFrame) -> None:
    """Add the standing of each method relative to `MATCHED`."""
    frame["superiority_p"] = frame["non_inferiority_p"] = np.nan
    frame["standing"] = ""
    for _, block in frame.groupby(["setting", "data"], sort=False):
        cell = block.loc[block["method"] == MATCHED, "cell"]
        others = block[block["method"] != MATCHED]
        if cell.empty or others.empty:
            continue
        leads = [
            complete_table(runs, [other, cell.iloc[0]], RANKED).to_numpy() @ np.array([1.0, -1.0])
            for other in others["cell"]
        ]
        superiority_p = holm([sign_flip_p(lead) for lead in leads])
        non_inferiority_p = holm([sign_flip_p(lead + MARGIN) for lead in leads])
        frame.loc[others.index, "superiority_p"] = superiority_p
        frame.loc[others.index, "non_inferiority_p"] = non_inferiority_p
        frame.loc[others.index, "standing"] = [
            _stand(*each) for each in zip(leads, superiority_p, non_inferiority_p, strict=True)
        ]


def _add_tunings(frame: pd.DataFrame, tunings: pd.DataFrame) -> None:
    """Add the tuned hyperparameters of each method."""
    of_cell = tunings.set_index("cell")
    known = frame["cell"].isin(of_cell.index)
    for column, name in {"num_trials": "num_trials", "num_trial_seeds": "num_seeds"}.items():
        frame[column] = frame["cell"].map(of_cell[name]).astype(np.float64)
    frame["chosen"] = frame["untuned"] = ""
    for index in frame.index[known]:
        tuning = of_cell.loc[frame.loc[index, "cell"]]
        values = dict(tuning["values"])
        untuned = {name: tuning["untuned"].get(name, value) for name, value in values.items()}
        frame.loc[index, "chosen"], frame.loc[index, "untuned"] = _say_values(values), _say_values(untuned)


def _say_values(values: dict[str, Any]) -> str:
    """Return hyperparameters by their short names; those of a generator keep its prefix."""
    return ", ".join(
        f"{name.removeprefix('method.options.').removeprefix('classifier.').removeprefix('budget.')}="
        + (f"{value:.5g}" if isinstance(value, float) else str(value))
        for name, value in values.items()
    )


def _stand(lead: np.ndarray, superiority_p: float, non_inferiority_p: float) -> str:
    """Return which of `STANDINGS` leads over `MATCHED` have, from p values of two-sided tests."""
    if len(lead) < MIN_PAIRS or not non_inferiority_p < ALPHA:
        return "undecided"
    if lead.mean() + MARGIN < 0:
        return "falls short"
    return "beats" if superiority_p < ALPHA and lead.mean() > 0 else "matches"
