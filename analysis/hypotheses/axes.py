"""Judge claims on one choice, by cells that differ in nothing else: loss, class order, any configuration."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

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
from analysis.naming import cell_with_method
from analysis.significance import brown_forsythe_p, fisher_p, holm

DOUBLE_SOFTMAX, CROSS_ENTROPY = "double_softmax", "cross_entropy"
FILL = "method.fill_fraction"
"""absent where it is 1"""


@dataclass(frozen=True, kw_only=True)
class LossPair:
    """The same C and method under both losses."""

    where: str
    data: str
    method: str
    double: str
    """cell under double softmax"""
    single: str
    """cell under cross-entropy"""
    is_confounded: bool
    """whether the cells differ in more than the loss"""


def loss_pairs(evidence: Evidence) -> list[LossPair]:
    """Return cells that differ in nothing but the loss.

    Where there are none, the protocols `paper` and `sound` stand in, setting by setting. They differ in more,
    so that no cause can be told from them.
    """
    by_id = evidence.cells.set_index("cell")
    pairs = [
        (cells[DOUBLE_SOFTMAX], cells[CROSS_ENTROPY], False)
        for cells in (dict(matched) for _, matched in evidence.matched("classifier.loss"))
        if DOUBLE_SOFTMAX in cells and CROSS_ENTROPY in cells
    ]
    if not pairs:
        frame = evidence.cells[evidence.cells["protocol"].isin(["paper", "sound"])]
        for _, same in frame.groupby(["dataset", "data", "method"], sort=False):
            of_loss = {name: cells["cell"] for name, cells in same.groupby("loss_function")}
            for double in of_loss.get(DOUBLE_SOFTMAX, ()):
                pairs += [(double, single, True) for single in of_loss.get(CROSS_ENTROPY, ())]
    return [_describe_pair(by_id, *pair) for pair in pairs]


def _describe_pair(by_id: pd.DataFrame, double: str, single: str, is_confounded: bool) -> LossPair:
    first, second = by_id.loc[double], by_id.loc[single]
    where = f"{first['dataset']}: {first['setting']} against {second['setting']}, "
    where += "which differ in more than the loss" if is_confounded else "which differ in the loss alone"
    return LossPair(
        where=where,
        data=first["data"],
        method=first["method"],
        double=double,
        single=single,
        is_confounded=is_confounded,
    )


def _without_cause(findings: Iterable[Finding], is_confounded: bool) -> Iterator[Finding]:
    """Take back support for a claim about the loss where cells differ in more than the loss."""
    for finding in findings:
        if is_confounded and finding.verdict == SUPPORTED:
            evidence = f"{finding.evidence}; in favour, but the loss is not the only difference"
            finding = replace(finding, verdict=UNDECIDED, evidence=evidence)
        yield finding


def judge_dead_classes(evidence: Evidence) -> Iterator[Finding]:
    """Judge that double softmax collapses more runs than cross-entropy, in some cell and nowhere fewer."""
    by_where: dict[tuple[str, bool], list[tuple[Part, str]]] = {}
    for pair_ in loss_pairs(evidence):
        (k, n), (k_single, n_single) = (
            _collapsed(evidence.runs, cell) for cell in (pair_.double, pair_.single)
        )
        if n and n_single:
            part = Part(
                name=f"C = {pair_.data}, {pair_.method}",
                effect=k / n - k_single / n_single,
                p_value=fisher_p(k, n, k_single, n_single),
                n=min(n, n_single),
            )
            text = f"{part.name}: {k}/{n} against {k_single}/{n_single} collapsed"
            by_where.setdefault((pair_.where, pair_.is_confounded), []).append((part, text))
    for (where, is_confounded), found in by_where.items():
        yield from _without_cause([_judge_rates(where, found)], is_confounded)


def _judge_rates(where: str, found: list[tuple[Part, str]]) -> Finding:
    parts = [part for part, _ in found]
    adjusted = holm([part.p_value for part in parts])
    more = any(part.effect > 0 and p < ALPHA for part, p in zip(parts, adjusted, strict=True))
    fewer = any(part.effect < 0 and p < ALPHA for part, p in zip(parts, adjusted, strict=True))
    verdict = SUPPORTED if more and not fewer else CONTRADICTED if fewer else UNDECIDED
    texts = [
        f"{text}, Fisher p = {part.p_value:.3g}, with Holm {p:.3g}"
        for (part, text), p in zip(found, adjusted, strict=True)
    ]
    return Finding(where=where, verdict=verdict, n=min(part.n for part in parts), evidence="; ".join(texts))


def _collapsed(runs: pd.DataFrame, cell: str) -> tuple[int, int]:
    complete = runs[(runs["cell"] == cell) & (runs["state"] == "complete")]
    return int(complete["is_collapsed"].sum()), len(complete)


def judge_interaction(evidence: Evidence) -> Iterator[Finding]:
    """Judge that oversampling leads none by less under cross-entropy: a difference of differences."""
    cells: dict[tuple[str, bool, str], dict[str, LossPair]] = {}
    for found in loss_pairs(evidence):
        cells.setdefault((found.where, found.is_confounded, found.data), {})[found.method] = found
    parts: dict[tuple[str, bool], list[Part]] = {}
    for (where, is_confounded, data), by_method in cells.items():
        if {"none", "oversample"} <= set(by_method):
            oversample, none = by_method["oversample"], by_method["none"]
            gaps = [
                pair(evidence.runs, first, second, "accuracy")["difference"]
                for first, second in ((oversample.double, none.double), (oversample.single, none.single))
            ]
            name = f"C = {data}, lead of oversample under double softmax minus under cross-entropy"
            parts.setdefault((where, is_confounded), []).append(
                paired_part(name, (gaps[0] - gaps[1]).dropna())
            )
    for (where, is_confounded), of_pair in parts.items():
        yield from _without_cause(conclude(where, of_pair), is_confounded)


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
            row = by_id.loc[pairs[0][1]]
            differences = pair(evidence.runs, cells[high], cells[low], metric)["difference"]
            name = f"C = {row['data']}, {row['method']}, {high} minus {low}"
            parts.setdefault(f"{row['protocol']}, {row['budget']}", []).append(paired_part(name, differences))
    for where, found in parts.items():
        yield from conclude(where, found)


def judge_fill(evidence: Evidence) -> Iterator[Finding]:
    """Judge that accuracy rises with the share of the gap that synthetic images fill; Page's test.

    Over cells that differ in the share alone, and method none beside them, which is a share of 0.
    """
    parts: dict[str, list[Part]] = {}
    for _, pairs in evidence.matched(FILL):
        by_share = {1.0 if pd.isna(share) else float(str(share)): cell for share, cell in pairs}
        row = evidence.cells.set_index("cell").loc[by_share[max(by_share)]]
        none = cell_with_method(evidence.cells, by_share[max(by_share)], "none")
        if none is not None:
            by_share.setdefault(0.0, none)
        if len(by_share) > 2:
            cells = [by_share[share] for share in sorted(by_share)]
            table = complete_table(evidence.runs, cells, "accuracy")
            shares = ", ".join(f"{share:g}" for share in sorted(by_share))
            part = trend_part(f"C = {row['data']}, {row['method']}, shares {shares}", table)
            parts.setdefault(f"{row['protocol']}, {row['budget']}", []).append(part)
    for where, found in parts.items():
        yield from conclude(where, found)
