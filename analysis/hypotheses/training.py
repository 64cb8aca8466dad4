"""Judge claims on training: convergence, late spread, and collapse of generators."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd

from analysis.estimates import sample_sd
from analysis.hypotheses.directed import FloatArray
from analysis.hypotheses.evidence import Evidence, Finding, Part, conclude
from analysis.significance import association, binomial_p, least_association_p
from lt_rebalance.ground.imbalance import say_data

LAST_ROUNDS = 10
JUMP = 0.05
JUMP_RATE = 0.05
PAPER_EPOCHS = 30
FLAT = "diverged or did not change at all"


def late_spread(evidence: Evidence) -> pd.DataFrame:
    """Return the log of the standard deviation of accuracy over the last ten rounds, by seed and cell.

    Runs of fewer rounds have no value. A run that does not change, such as one that predicts one class for
    all images, has an infinite value.
    """
    spread = _by_run(
        evidence.results.rounds,
        lambda accuracy: sample_sd(accuracy[-LAST_ROUNDS:]) if len(accuracy) >= LAST_ROUNDS else np.nan,
    )
    with np.errstate(divide="ignore"):
        return np.log(spread)


def _by_run(rounds: pd.DataFrame, of_curve: Callable[[FloatArray], float]) -> pd.DataFrame:
    """Return a number for each run's curve of test accuracy, with seeds as rows and cells as columns."""
    found = rounds.groupby(["cell", "seed"], observed=True)["test_accuracy"].apply(
        lambda accuracy: of_curve(accuracy.to_numpy(dtype=np.float64))
    )
    return found.unstack("cell").rename(columns=str).astype(np.float64)


def judge_convergence(evidence: Evidence) -> Iterator[Finding]:
    """Judge that 30 epochs suffice: at most 5 % of a cell's runs jump by 5 points in the second half.

    A jump is a rise above the best accuracy so far, from one epoch to the next.

    Unit: run, one per seed, of one cell; cells are not pooled, as they share seeds and differ. Test: exact
    binomial test against a rate of 5 %, one-sided, as 30 epochs alone can refute the claim and cannot show
    it. Correction: Holm over the cells.
    """
    rounds = evidence.results.rounds
    long = evidence.cells[evidence.cells["classifier.budget.epochs"].fillna(0) >= PAPER_EPOCHS]
    jumps = _by_run(
        rounds[rounds["cell"].isin(long["cell"]) & (rounds["round"] <= PAPER_EPOCHS)], _jumps_late
    )
    for setting, cells in long.groupby("setting", sort=False):
        parts = [_jump_part(evidence, cell, jumps) for cell in cells["cell"]]
        yield from conclude(str(setting), parts, least_p=_least_jump_p, is_only_refuted=True)


def _least_jump_p(n: int) -> float:
    """Return the p value of n runs that all jump."""
    return binomial_p(n, n, JUMP_RATE, "greater")


def _jumps_late(accuracy: FloatArray) -> float:
    if len(accuracy) <= PAPER_EPOCHS // 2:
        return np.nan
    rises = accuracy[1:] - np.maximum.accumulate(accuracy)[:-1]
    return float((rises[PAPER_EPOCHS // 2 - 1 :] > JUMP).any())


def _jump_part(evidence: Evidence, cell: str, jumps: pd.DataFrame) -> Part:
    found = evidence.replicates([cell], jumps)
    k, n = int(found.values_SM.sum()), len(found.values_SM)
    names = evidence.by_id[cell]
    return Part(
        name=f"{say_data(names['data'])}, {names['method']}",
        effect=JUMP_RATE - k / n if n else np.nan,
        p_value=binomial_p(k, n, JUMP_RATE, "greater"),
        least_p=_least_jump_p(n),
        n=n,
        num_planned=found.num_planned,
        num_lost=found.num_lost,
        finding=f"{k}/{n} jump",
        cells=(cell,),
    )


def judge_generator_collapse(evidence: Evidence) -> Iterator[Finding]:
    """Judge that a class gains more recall over method none if its generated images are more diverse.

    Generators of different seeds are compared within one class of one architecture, because rare classes have
    less diversity and also gain most. Differences between classes and architectures have no effect.

    Unit: seed. Test: permutation of seeds on the rank correlation of a class, averaged over classes and
    architectures. Correction: none for support, as every C must hold; Holm over the parts against it.
    """
    classes = evidence.results.classes
    for setting in evidence.settings:
        parts, widths = [], []
        for data in evidence.imbalanced(setting):
            none = evidence.cell(setting, data, "none")
            cells = _filled_cells(classes, setting, data)
            if none is not None and cells:
                part, num_columns = _diversity_part(evidence, say_data(data), none, cells)
                parts.append(part)
                widths.append(num_columns)
        unit = "mean rank correlation within a class"
        least_p = partial(least_association_p, num_columns=min(widths, default=0))
        yield from conclude(setting, parts, unit, least_p=least_p)


def _filled_cells(classes: pd.DataFrame, setting: str, data: str) -> list[str]:
    """Return the cells of a setting and C whose classes are filled by a generator of known diversity."""
    is_filled = (classes["synthetic_count"] > 0) & classes["diversity"].notna()
    of_block = classes[(classes["setting"] == setting) & (classes["data"] == data) & is_filled]
    return [str(cell) for cell in dict.fromkeys(of_block["cell"])]


def _diversity_part(evidence: Evidence, name: str, none: str, cells: Sequence[str]) -> tuple[Part, int]:
    """Return the part of a C, and how many classes of generators it correlates."""
    found = evidence.replicates([none, *cells])
    gains_SF, diversities_SF = _gains_and_diversities(evidence.results.classes, none, cells, found.seeds)
    if gains_SF.shape[1] == 0:
        return Part(name=name), 2
    correlation, p_value = association(diversities_SF, gains_SF)
    part = Part(
        name=name,
        effect=correlation,
        p_value=p_value,
        least_p=least_association_p(len(gains_SF), gains_SF.shape[1]),
        n=len(gains_SF),
        num_planned=found.num_planned,
        num_lost=found.num_lost,
        cells=(none, *cells),
    )
    return part, gains_SF.shape[1]


def _gains_and_diversities(
    classes: pd.DataFrame, none: str, cells: Sequence[str], seeds: Sequence[int]
) -> tuple[FloatArray, FloatArray]:
    """Return gains in recall over none, and diversities: one row per seed, one column per class of a cell.

    Only classes that have equal numbers of images and are filled at all seeds, as with one class order.
    """
    chosen = classes[classes["seed"].isin(seeds) & classes["cell"].isin([none, *cells])]
    recall, diversity, class_count, synthetic_count = (
        chosen.pivot(index="seed", columns=["cell", "class"], values=measure)
        for measure in ("recall", "diversity", "class_count", "synthetic_count")
    )
    of_none = recall[none]
    gains, diversities = [], []
    for cell in cells:
        filled = synthetic_count[cell].gt(0).all()
        alike = class_count[cell].nunique(dropna=False) == 1
        known = diversity[cell].notna().all() & recall[cell].notna().all()
        labels = [label for label in filled.index[filled & alike & known] if label in of_none]
        gains.append((recall[cell] - of_none)[labels].to_numpy(dtype=np.float64))
        diversities.append(diversity[cell][labels].to_numpy(dtype=np.float64))
    return np.concatenate(gains, axis=1), np.concatenate(diversities, axis=1)
