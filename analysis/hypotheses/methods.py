"""Judge claims on methods within a setting: contrasts, equivalence, trends, and changes along C."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.compare import complete_table, pair
from analysis.hypotheses.evidence import (
    Evidence,
    Finding,
    Part,
    conclude,
    missing_part,
    paired_part,
    trend_part,
)
from analysis.significance import tost_p


def judge_contrasts(
    evidence: Evidence, comparator: str, methods: Sequence[str], sign: int, *, corrected: bool
) -> Iterator[Finding]:
    """Judge that `methods` minus `comparator` has a sign at every C of a setting; accuracy.

    Args:
        corrected: take p values as the declared family corrects them, rather than as they are, which an
            intersection-union claim ("better than every") allows.
    """
    contrasts = evidence.contrasts
    for setting in evidence.settings:
        parts = []
        for data in evidence.claimed(setting):
            for method in methods:
                rows = _rows(contrasts, setting, data, method, comparator)
                if not rows:
                    parts.append(missing_part(f"C = {data}, {method} and {comparator}"))
                for row in rows:
                    p_value = row["sign_flip_p"]
                    if corrected:
                        p_value = row["bh_q"] if np.isnan(row["holm_p"]) else row["holm_p"]
                    names = (method, comparator) if sign > 0 else (comparator, method)
                    name = f"C = {data}, {' minus '.join(names)}"
                    effect = sign * row["mean_difference"]
                    parts.append(Part(name=name, effect=effect, p_value=p_value, n=int(row["n_pairs"])))
        yield from conclude(setting, parts, is_corrected=corrected)


def _rows(
    contrasts: pd.DataFrame, setting: str, data: str, method: str, comparator: str
) -> list[dict[str, float]]:
    if contrasts.empty:
        return []
    chosen = contrasts[
        (contrasts["setting"] == setting)
        & (contrasts["data"] == data)
        & (contrasts["method"] == method)
        & (contrasts["comparator"] == comparator)
    ]
    rows: list[dict[str, float]] = chosen.to_dict("records")
    return rows


def judge_equivalence(
    evidence: Evidence, first: str, second: str, both_above: str, margin: float
) -> Iterator[Finding]:
    """Judge that two methods are equivalent within a margin and both better than a third, at every C."""
    for setting in evidence.settings:
        parts = []
        for data in evidence.claimed(setting):
            ids = [evidence.cell(setting, data, method) for method in (first, second, both_above)]
            if None in ids:
                parts.append(missing_part(f"C = {data}, {first}, {second} and {both_above}"))
                continue
            cells = [str(each) for each in ids]
            differences = pair(evidence.runs, cells[0], cells[1], "accuracy")["difference"].to_numpy()
            equivalence_p = tost_p(differences, margin)
            room = margin - abs(float(differences.mean())) if len(differences) else np.nan
            # Beyond the margin the p value must speak of being beyond it.
            beyond_p = equivalence_p if room > 0 else _beyond_p(differences, margin)
            name = f"C = {data}, {first} and {second} within {100 * margin:g} points (room left)"
            parts.append(Part(name=name, effect=room, p_value=beyond_p, n=len(differences)))
            for method, cell in ((first, cells[0]), (second, cells[1])):
                above = pair(evidence.runs, cell, cells[2], "accuracy")["difference"]
                parts.append(paired_part(f"C = {data}, {method} minus {both_above}", above))
        yield from conclude(setting, parts)


def _beyond_p(differences: np.ndarray, margin: float) -> float:
    """p value of the mean difference being no further from 0 than the margin."""
    if len(differences) < 2 or np.ptp(differences) == 0:
        return np.nan
    return float(
        stats.ttest_1samp(np.abs(differences.mean()) + differences - differences.mean(), margin).pvalue
    )


def judge_trend(evidence: Evidence, methods: Sequence[str]) -> Iterator[Finding]:
    """Judge that accuracy rises along `methods` at every C; Page's test over seeds as blocks."""
    for setting in evidence.settings:
        parts = []
        for data in evidence.claimed(setting):
            ids = [evidence.cell(setting, data, method) for method in methods]
            if None in ids:
                parts.append(missing_part(f"C = {data}, {', '.join(methods)}"))
                continue
            table = complete_table(evidence.runs, [str(each) for each in ids], "accuracy")
            parts.append(trend_part(f"C = {data}", table))
        yield from conclude(setting, parts)


def judge_across_c(
    evidence: Evidence, values: Mapping[str, pd.Series] | str, sign: int, unit: str
) -> Iterator[Finding]:
    """Judge that a value changes from the mildest to the strongest C, for every method of a setting.

    Args:
        values: a column of the runs, or by cell a series of values by seed.
    """
    for setting in evidence.settings:
        parts = []
        levels = evidence.imbalanced(setting)
        if len(levels) < 2:
            continue
        mild, strong = levels[0], levels[-1]
        of_setting = evidence.cells[evidence.cells["setting"] == setting]
        for method in dict.fromkeys(of_setting["method"]):
            ids = [evidence.cell(setting, data, method) for data in (strong, mild)]
            if None in ids:
                continue
            first, second = (str(each) for each in ids)
            if isinstance(values, str):
                differences = pair(evidence.runs, first, second, values)["difference"]
            else:
                differences = (values[first] - values[second]).dropna()
            order = (strong, mild) if sign > 0 else (mild, strong)
            parts.append(paired_part(f"{method}, C = {' minus '.join(order)}", differences, sign))
        yield from conclude(setting, parts, unit)


def judge_datasets(
    evidence: Evidence, dataset: str, baseline: str, methods: Sequence[str]
) -> Iterator[Finding]:
    """Judge that `methods` gain more over oversampling on one data set than on another; Welch's t test.

    Settings that differ in the data set alone are matched by protocol, loss, budget and C. Gains are averaged
    over the methods of a seed; seeds of different data sets share nothing and are not paired.
    """
    keys = ["protocol", "loss_function", "budget", "data"]
    cells = evidence.cells[evidence.cells["data"] != "original"]
    parts: dict[str, list[Part]] = {}
    for names, same in cells.groupby(keys, sort=False):
        gains = [_gains(evidence, same[same["dataset"] == name], methods) for name in (dataset, baseline)]
        if min(map(len, gains)) > 1:
            test = stats.ttest_ind(*gains, equal_var=False)
            effect = float(gains[0].mean() - gains[1].mean())
            part = Part(
                name=f"C = {names[3]}", effect=effect, p_value=float(test.pvalue), n=min(map(len, gains))
            )
            parts.setdefault(", ".join(names[:3]), []).append(part)
    for where, found in parts.items():
        yield from conclude(where, found)


def _gains(evidence: Evidence, cells: pd.DataFrame, methods: Sequence[str]) -> pd.Series:
    by_method = cells.drop_duplicates("method").set_index("method")["cell"]
    if "oversample" not in by_method:
        return pd.Series(dtype=float)
    gains = [
        pair(evidence.runs, by_method[method], by_method["oversample"], "accuracy")["difference"]
        for method in methods
        if method in by_method
    ]
    return pd.concat(gains, axis=1).mean(axis=1) if gains else pd.Series(dtype=float)
