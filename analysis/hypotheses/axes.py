"""Judge claims on one choice (loss, class order, any configuration) by cells that differ in nothing else."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.hypotheses.directed import rising_trend, shrinking_gap, wider_spread
from analysis.hypotheses.evidence import Evidence, Finding, MatchedPair, Part, conclude
from analysis.naming import cell_with_method, without_told
from analysis.significance import fisher_p, least_fisher_p
from lt_rebalance.ground.imbalance import say_data

DOUBLE_SOFTMAX, CROSS_ENTROPY = "double_softmax", "cross_entropy"
FILL = "method.fill_fraction"
"""absent where it is 1"""


def loss_pairs(evidence: Evidence) -> dict[tuple[str, bool], list[MatchedPair]]:
    """Return pairs of cells under double softmax and cross-entropy, by place and by whether more differs.

    If no cells differ only in the loss, the protocols `paper` and `sound` are compared, setting by setting.
    They differ in more than the loss, so they cannot show its effect.
    """
    pairs = evidence.matched_pairs("classifier.loss", DOUBLE_SOFTMAX, CROSS_ENTROPY)
    is_confounded = not pairs
    if is_confounded:
        frame = evidence.cells[evidence.cells["protocol"].map(without_told).isin(["paper", "sound"])]
        for _, same in frame.groupby(["dataset", "data", "method"], sort=False):
            of_loss = {name: list(cells["cell"]) for name, cells in same.groupby("loss_function")}
            pairs += [
                evidence.pair_of(double, single)
                for double in of_loss.get(DOUBLE_SOFTMAX, ())
                for single in of_loss.get(CROSS_ENTROPY, ())
            ]
    difference = "which differ in more than the loss" if is_confounded else "which differ in the loss alone"
    found: dict[tuple[str, bool], list[MatchedPair]] = {}
    for pair in pairs:
        dataset = evidence.by_id[pair.first]["dataset"]
        found.setdefault((f"{dataset}: {pair.where}, {difference}", is_confounded), []).append(pair)
    return found


def judge_dead_classes(evidence: Evidence) -> Iterator[Finding]:
    """Judge that double softmax collapses more runs than cross-entropy, in some cell and nowhere fewer.

    Unit: run, one per seed in each cell; seeds that both losses share make the test conservative. Test:
    Fisher's exact test. Correction: Holm over C x method, for support and against it.
    """
    for (where, is_confounded), pairs in loss_pairs(evidence).items():
        parts = [_rate_part(evidence, pair) for pair in pairs]
        yield from conclude(
            where, parts, least_p=least_fisher_p, is_of_some=True, is_confounded=is_confounded
        )


def _rate_part(evidence: Evidence, pair: MatchedPair) -> Part:
    sides = [
        evidence.replicates([cell], evidence.metric("is_collapsed")) for cell in (pair.first, pair.second)
    ]
    (k, n), (k_other, n_other) = ((int(side.values_SM.sum()), len(side.values_SM)) for side in sides)
    return Part(
        name=f"{say_data(pair.data)}, {pair.method}",
        effect=k / n - k_other / n_other if n and n_other else np.nan,
        p_value=fisher_p(k, n, k_other, n_other),
        least_p=least_fisher_p(n, n_other),
        n=min(n, n_other),
        num_planned=min(side.num_planned for side in sides),
        num_lost=sum(side.num_lost for side in sides),
        finding=f"{k}/{n} against {k_other}/{n_other} collapsed",
        cells=(pair.first, pair.second),
    )


def judge_interaction(evidence: Evidence) -> Iterator[Finding]:
    """Judge that the gap between oversampling and none shrinks or reverses under cross-entropy, at every C.

    Unit: seed, at which all four cells are paired. Test: sign-flip test on differences of differences,
    in the direction of the gap under double softmax, which has to be significant itself. Correction: none for
    support, as every part must hold; Holm over the parts against it.
    """
    for (where, is_confounded), pairs in loss_pairs(evidence).items():
        parts = [
            evidence.part(
                f"{say_data(data)}, gap of oversample and none under double softmax minus under "
                "cross-entropy",
                _both_leads(by_method),
                shrinking_gap,
            )
            for data, by_method in _by_data(pairs).items()
            if {"none", "oversample"} <= set(by_method)
        ]
        yield from conclude(where, parts, is_confounded=is_confounded)


def _by_data(pairs: list[MatchedPair]) -> dict[str, dict[str, MatchedPair]]:
    by_data: dict[str, dict[str, MatchedPair]] = {}
    for pair in pairs:
        by_data.setdefault(pair.data, {})[pair.method] = pair
    return by_data


def _both_leads(by_method: dict[str, MatchedPair]) -> list[str]:
    """Return oversample and none of the first side, then of the second."""
    oversample, none = by_method["oversample"], by_method["none"]
    return [oversample.first, none.first, oversample.second, none.second]


def _by_where(pairs: list[MatchedPair]) -> dict[str, list[MatchedPair]]:
    by_where: dict[str, list[MatchedPair]] = {}
    for pair in pairs:
        by_where.setdefault(pair.where, []).append(pair)
    return by_where


def judge_class_order(evidence: Evidence) -> Iterator[Finding]:
    """Judge that oversampling's lead over none varies more over permuted class orders than under one.

    Unit: seed, at which all four cells are paired. Test: sign-flip test on deviations from the median.
    Correction: none for support, as every part must hold; Holm over the parts against it.
    """
    for where, pairs in _by_where(evidence.matched_pairs("data.class_order", "permuted", "label")).items():
        parts = [
            evidence.part(
                f"{say_data(data)}, deviation of the lead of oversample over none, permuted minus label "
                "order",
                _both_leads(by_method),
                wider_spread,
            )
            for data, by_method in _by_data(pairs).items()
            if {"none", "oversample"} <= set(by_method)
        ]
        yield from conclude(where, parts)


def judge_axis(evidence: Evidence, column: str, high: object, low: object) -> Iterator[Finding]:
    """Judge that cells with one value of a configuration column do better than matched cells with another.

    Unit: seed, at which both are paired. Test: sign-flip test on differences of accuracy. Correction:
    none for support, as every C and method must hold; Holm over the parts against it.
    """
    for where, pairs in _by_where(evidence.matched_pairs(column, high, low)).items():
        parts = [
            evidence.part(
                f"{say_data(pair.data)}, {pair.method}, {high} minus {low}", [pair.first, pair.second]
            )
            for pair in pairs
        ]
        yield from conclude(where, parts)


def judge_fill(evidence: Evidence) -> Iterator[Finding]:
    """Judge that accuracy rises with the share of the gap that synthetic images fill, at every C.

    Over cells that differ in the share alone, and method none, which is a share of 0.

    Unit: seed, at which all shares are paired. Test: sign-flip test on the slope of each seed.
    Correction: none for support, as every C and generator must hold; Holm over the parts against it.
    """
    parts: dict[str, list[Part]] = {}
    for _, pairs in evidence.matched(FILL):
        by_share = {1.0 if pd.isna(share) else float(str(share)): cell for share, cell in pairs}
        largest = by_share[max(by_share)]
        none = cell_with_method(evidence.cells, largest, "none")
        if none is not None:
            by_share.setdefault(0.0, none)
        if len(by_share) > 2:
            names = evidence.by_id[largest]
            shares = sorted(by_share)
            listed = ", ".join(f"{share:g}" for share in shares)
            name = f"{say_data(names['data'])}, {names['method']}, slope over shares {listed}"
            part = evidence.part(name, [by_share[share] for share in shares], rising_trend(shares))
            parts.setdefault(names["setting"], []).append(part)
    for where, found in parts.items():
        yield from conclude(where, found)
