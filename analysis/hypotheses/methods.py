"""Judge claims on methods within a setting: leads, equivalence, trends, and changes along C."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.hypotheses.directed import FloatArray, Test, equivalence, lead, rising_trend
from analysis.hypotheses.evidence import Evidence, Finding, Part, conclude, declared_family
from analysis.power import smallest_exact_p
from analysis.significance import least_welch_p, welch_p
from lt_rebalance.ground.imbalance import ORIGINAL, is_c, say_data, scale_of


def judge_leads(
    evidence: Evidence,
    leaders: Sequence[str],
    others: Sequence[str],
    test: Test = lead,
    label: str = "minus",
    places: Callable[[Evidence, str], list[str]] = Evidence.claimed,
) -> Iterator[Finding]:
    """Judge that every leader has more accuracy than every other method, at every C of a setting.

    Unit: seed, at which both are paired. Test: sign-flip test on differences, or `test`. Correction:
    none for support, as every part must hold; Holm over the parts against it.

    Args:
        places: the Cs that the claim is about: those of the paper and of the setting, or the latter alone.
    """
    for setting in evidence.settings:
        parts = [
            evidence.part(
                f"{say_data(data)}, {leader} {label} {other}",
                [evidence.cell(setting, data, leader), evidence.cell(setting, data, other)],
                test,
            )
            for data in places(evidence, setting)
            for leader in leaders
            for other in others
        ]
        yield from conclude(setting, parts)


def judge_declared(evidence: Evidence, hypothesis: str, comparator: str) -> Iterator[Finding]:
    """Judge that every method of a hypothesis' declared family has more accuracy than a comparator of it.

    Unit: seed, at which both are paired. Test: sign-flip test on differences. Correction: Holm over the
    whole family, for support and against it, so that n has to reach ALPHA at its first step. Cs that the
    family does not name are exploratory and decide nothing.
    """
    family = declared_family(hypothesis)
    for setting in evidence.settings:
        contrasts = evidence.declared_parts(family, setting)
        parts = [part for (_, _, other), part in contrasts.items() if other == comparator]
        yield from conclude(
            setting, parts, least_p=lambda n: family.size * smallest_exact_p(n), is_corrected=True
        )


def judge_equivalence(
    evidence: Evidence, first: str, second: str, both_above: str, margin: float
) -> Iterator[Finding]:
    """Judge that two methods are equivalent within a margin and both better than a third, at every C.

    Unit: seed, at which all are paired. Test: sign-flip tests, against both ends of the margin and on
    differences. Correction: none for support, as every part must hold; Holm over the parts against it. Each
    architecture has one generator per seed, so seeds are also the replicates of generators.
    """
    for setting in evidence.settings:
        parts = []
        for data in evidence.claimed(setting):
            one, other, third = (evidence.cell(setting, data, name) for name in (first, second, both_above))
            width = f"{100 * margin:g} point{'' if margin == 0.01 else 's'}"
            name = f"{say_data(data)}, {first} and {second} within {width} (room left)"
            parts.append(evidence.part(name, [one, other], equivalence(margin)))
            parts += [
                evidence.part(f"{say_data(data)}, {name} minus {both_above}", [cell, third])
                for name, cell in ((first, one), (second, other))
            ]
        yield from conclude(setting, parts)


def judge_trend(evidence: Evidence, methods: Sequence[str]) -> Iterator[Finding]:
    """Judge that accuracy rises along `methods` at every C.

    Unit: seed, at which all are paired. Test: sign-flip test on the slope of each seed. Correction:
    none for support, as every part must hold; Holm over the parts against it.
    """
    test = rising_trend(range(len(methods)))
    for setting in evidence.settings:
        parts = [
            evidence.part(
                f"{say_data(data)}, slope over {', '.join(methods)}",
                [evidence.cell(setting, data, method) for method in methods],
                test,
            )
            for data in evidence.claimed(setting)
        ]
        yield from conclude(setting, parts)


def judge_across_c(
    evidence: Evidence,
    values: pd.DataFrame,
    unit: str,
    *,
    rises: bool,
    lost_because: str = "diverged",
) -> Iterator[Finding]:
    """Judge that a value rises, or falls, from the mildest to the strongest C, for every method of a setting.

    Each profile is a scale of its own, as the Cs are; the original set has no place on any.

    Unit: seed, whose runs at both Cs are a pair. Test: sign-flip test on differences. Correction: none
    for support, as every part must hold; Holm over the parts against it.

    Args:
        values: seeds as rows, cells as columns. lost_because: why seeds are lost that have no finite value.
    """
    for setting in evidence.settings:
        scales: dict[str, list[str]] = {}
        for data in evidence.imbalanced(setting):
            if data != ORIGINAL:
                scales.setdefault(scale_of(data), []).append(data)
        for scale, levels in scales.items():
            if len(levels) < 2:
                continue
            ends = (levels[-1], levels[0]) if rises else (levels[0], levels[-1])
            parts = [
                evidence.part(
                    f"{method}, {_say_ends(ends)}",
                    [evidence.cell(setting, data, method) for data in ends],
                    values=values,
                    lost_because=lost_because,
                )
                for method in evidence.methods(setting)
                if any(evidence.cell(setting, data, method) for data in ends)
            ]
            yield from conclude(setting if len(scales) == 1 else f"{setting}, {scale}", parts, unit)


def _say_ends(ends: tuple[str, str]) -> str:
    return f"C = {' minus '.join(ends)}" if is_c(ends[0]) else " minus ".join(ends)


def judge_datasets(
    evidence: Evidence, dataset: str, baseline: str, methods: Sequence[str]
) -> Iterator[Finding]:
    """Judge that `methods` gain more over oversampling on one data set than on another, at every C.

    Unit: seed; what methods gain is averaged within a seed first. Seeds of different data sets share nothing
    and are not paired. Test: Welch's t test. Correction: none for support, as every part must hold; Holm over
    the parts against it. Cells are matched that differ in the data set alone.
    """
    by_block: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    for pair in evidence.matched_pairs("data.dataset", dataset, baseline):
        if pair.data in evidence.unbalanced:
            by_block.setdefault((pair.where, pair.data), {})[pair.method] = (pair.first, pair.second)
    parts: dict[str, list[Part]] = {}
    for (where, data), cells in by_block.items():
        names = ["oversample", *(method for method in methods if method in cells)]
        if "oversample" in cells and len(names) > 1:
            sides = [[cells[name][side] for name in names] for side in (0, 1)]
            part = _gain_part(evidence, f"{say_data(data)}, mean lead of {', '.join(names[1:])}", *sides)
            parts.setdefault(where, []).append(part)
    for where, found in parts.items():
        yield from conclude(where, found, least_p=least_welch_p)


def _gain_part(evidence: Evidence, name: str, first: Sequence[str], second: Sequence[str]) -> Part:
    sides = [evidence.replicates(cells) for cells in (first, second)]
    gains = [_mean_gain(side.values_SM) for side in sides]
    n = min(map(len, gains))
    return Part(
        name=name,
        effect=float(gains[0].mean() - gains[1].mean()) if n else np.nan,
        p_value=welch_p(*gains),
        least_p=least_welch_p(n),
        n=n,
        num_planned=min(side.num_planned for side in sides),
        num_lost=sum(side.num_lost for side in sides),
        cells=(*first, *second),
    )


def _mean_gain(values_SM: FloatArray) -> FloatArray:
    """Return by how much the mean of all cells but the first exceeds the first."""
    gains: FloatArray = values_SM[:, 1:].mean(axis=1) - values_SM[:, 0]
    return gains
