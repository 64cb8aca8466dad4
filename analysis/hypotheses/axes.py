"""Judge claims on one choice, by cells that differ in nothing else: loss, class order, any configuration."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.compare import ALPHA, complete_table, pair
from analysis.hypotheses.evidence import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    Evidence,
    Finding,
    Part,
    conclude,
    paired_part,
    trend_part,
)
from analysis.significance import brown_forsythe_p, fisher_p, holm

DOUBLE_SOFTMAX, CROSS_ENTROPY = "double_softmax", "cross_entropy"


def loss_pairs(evidence: Evidence) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield (where, C, method, cell under double softmax, cell under cross-entropy).

    Cells that differ in nothing but the loss are matched; where there are none, protocols `paper` and `sound`
    are, which differ in more, and `where` says so.
    """
    groups = evidence.matched("classifier.loss")
    by_id = evidence.cells.set_index("cell")
    found = False
    for _, pairs in groups:
        cells = dict(pairs)
        if DOUBLE_SOFTMAX in cells and CROSS_ENTROPY in cells:
            found = True
            row = by_id.loc[cells[DOUBLE_SOFTMAX]]
            where = f"{row['dataset']}, {row['budget']}, cells that differ in the loss alone"
            yield where, row["data"], row["method"], cells[DOUBLE_SOFTMAX], cells[CROSS_ENTROPY]
    if found:
        return
    frame = evidence.cells[evidence.cells["protocol"].isin(["paper", "sound"])]
    for (dataset, data, method), same in frame.groupby(["dataset", "data", "method"], sort=False):
        by_loss = same.drop_duplicates("loss_function").set_index("loss_function")["cell"]
        if DOUBLE_SOFTMAX in by_loss and CROSS_ENTROPY in by_loss:
            where = f"{dataset}, protocols paper and sound, which differ in more than the loss"
            yield where, data, method, by_loss[DOUBLE_SOFTMAX], by_loss[CROSS_ENTROPY]


def judge_dead_classes(evidence: Evidence) -> Iterator[Finding]:
    """Judge that double softmax collapses more runs than cross-entropy, in some cell and nowhere fewer."""
    counts: dict[str, list[tuple[Part, str]]] = {}
    for where, data, method, double, single in loss_pairs(evidence):
        (k, n), (k_single, n_single) = _collapsed(evidence.runs, double), _collapsed(evidence.runs, single)
        if not (n and n_single):
            continue
        part = Part(
            name=f"C = {data}, {method}",
            effect=k / n - k_single / n_single,
            p_value=fisher_p(k, n, k_single, n_single),
            n=min(n, n_single),
        )
        text = f"{part.name}: {k}/{n} against {k_single}/{n_single} collapsed, p = {part.p_value:.3g}"
        counts.setdefault(where, []).append((part, text))
    for where, found in counts.items():
        parts = [part for part, _ in found]
        adjusted = holm([part.p_value for part in parts])
        more = any(part.effect > 0 and p < ALPHA for part, p in zip(parts, adjusted, strict=True))
        fewer = any(part.effect < 0 and p < ALPHA for part, p in zip(parts, adjusted, strict=True))
        verdict = SUPPORTED if more and not fewer else CONTRADICTED if fewer else UNDECIDED
        evidence_text = "; ".join(text for _, text in found) + " (Fisher, Holm over these)"
        yield Finding(where=where, verdict=verdict, n=min(part.n for part in parts), evidence=evidence_text)


def _collapsed(runs: pd.DataFrame, cell: str) -> tuple[int, int]:
    complete = runs[(runs["cell"] == cell) & (runs["state"] == "complete")]
    return int(complete["is_collapsed"].sum()), len(complete)


def judge_interaction(evidence: Evidence) -> Iterator[Finding]:
    """Judge that oversampling leads none by less under cross-entropy: a difference of differences."""
    cells: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    for where, data, method, double, single in loss_pairs(evidence):
        cells.setdefault((where, data), {})[method] = (double, single)
    parts: dict[str, list[Part]] = {}
    for (where, data), by_method in cells.items():
        if {"none", "oversample"} <= set(by_method):
            gaps = [
                pair(evidence.runs, oversample, none, "accuracy")["difference"]
                for oversample, none in zip(by_method["oversample"], by_method["none"], strict=True)
            ]
            name = f"C = {data}, lead of oversample under double softmax minus under cross-entropy"
            parts.setdefault(where, []).append(paired_part(name, (gaps[0] - gaps[1]).dropna()))
    for where, found in parts.items():
        yield from conclude(where, found)


def judge_class_order(evidence: Evidence) -> Iterator[Finding]:
    """Judge that oversampling's lead over none varies more over permuted class orders than under one."""
    by_id = evidence.cells.set_index("cell")
    cells: dict[str, dict[tuple[str, str], str]] = {}
    for _, pairs in evidence.matched("data.class_order"):
        row = by_id.loc[pairs[0][1]]
        where = f"{row['dataset']}, {row['protocol']}, {row['budget']}, C = {row['data']}"
        for order, cell in pairs:
            cells.setdefault(where, {})[row["method"], str(order)] = cell
    for where, of_block in cells.items():
        permuted, label = (
            _lead_of_oversampling(evidence, of_block, order) for order in ("permuted", "label")
        )
        n = min(len(permuted), len(label))
        if n > 1:
            part = Part(
                name="log ratio of spreads",
                effect=float(np.log(permuted.std(ddof=1) / label.std(ddof=1))),
                p_value=brown_forsythe_p(permuted, label),
                n=n,
            )
            yield from conclude(where, [part], "(log sd permuted / label order)")


def _lead_of_oversampling(evidence: Evidence, cells: dict[tuple[str, str], str], order: str) -> pd.Series:
    if ("oversample", order) not in cells or ("none", order) not in cells:
        return pd.Series(dtype=float)
    return pair(evidence.runs, cells["oversample", order], cells["none", order], "accuracy")["difference"]


def judge_axis(
    evidence: Evidence, column: str, high: object, low: object, metric: str = "accuracy"
) -> Iterator[Finding]:
    """Judge that cells with one value of a configuration column do better than matched cells with another."""
    parts: dict[str, list[Part]] = {}
    by_id = evidence.cells.set_index("cell")
    for _, pairs in evidence.matched(column):
        cells = dict(pairs)
        if high in cells and low in cells:
            row = by_id.loc[cells[high]]
            differences = pair(evidence.runs, cells[high], cells[low], metric)["difference"]
            name = f"C = {row['data']}, {row['method']}, {high} minus {low}"
            parts.setdefault(f"{row['protocol']}, {row['budget']}", []).append(paired_part(name, differences))
    for where, found in parts.items():
        yield from conclude(where, found)


def judge_dose(evidence: Evidence, column: str) -> Iterator[Finding]:
    """Judge that accuracy rises with a numeric configuration column, over matched cells; Page's test."""
    parts: dict[str, list[Part]] = {}
    by_id = evidence.cells.set_index("cell")
    for _, pairs in evidence.matched(column):
        if len(pairs) > 2:
            cells = [cell for _, cell in sorted(pairs, key=lambda each: float(str(each[0])))]
            row = by_id.loc[cells[0]]
            part = trend_part(
                f"C = {row['data']}, {row['method']}", complete_table(evidence.runs, cells, "accuracy")
            )
            parts.setdefault(f"{row['protocol']}, {row['budget']}", []).append(part)
    for where, found in parts.items():
        yield from conclude(where, found)
