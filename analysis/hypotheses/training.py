"""Judge claims on how training goes: convergence, its late spread, and generators that collapse."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from analysis.compare import ALPHA
from analysis.hypotheses.evidence import CONTRADICTED, UNDECIDED, Evidence, Finding, conclude, paired_part
from analysis.significance import binomial_p

LAST_ROUNDS = 10
JUMP = 0.05
JUMP_RATE = 0.05
PAPER_EPOCHS = 30


def late_spread(evidence: Evidence) -> dict[str, pd.Series]:
    """Return, by cell and seed, the log of the standard deviation of accuracy over the last ten rounds.

    Runs of fewer rounds, or without any change in them, have no value.
    """
    rounds = evidence.results.rounds
    last = rounds.groupby(["cell", "seed"], observed=True)["test_accuracy"].apply(
        lambda accuracy: accuracy.iloc[-LAST_ROUNDS:].std(ddof=1) if len(accuracy) >= LAST_ROUNDS else np.nan
    )
    logs = np.log(last.where(last > 0)).dropna()
    return {
        cell: logs.xs(cell, level="cell")
        if cell in logs.index.get_level_values("cell")
        else pd.Series(dtype=float)
        for cell in evidence.cells["cell"]
    }


def judge_convergence(evidence: Evidence) -> Iterator[Finding]:
    """Judge that 30 epochs suffice: at most 5 % of runs jump by 5 points in the second half."""
    cells = evidence.cells[evidence.cells["classifier.budget.epochs"].fillna(0) >= PAPER_EPOCHS]
    rounds = evidence.results.rounds
    for setting in dict.fromkeys(cells["setting"]):
        of_setting = rounds[(rounds["setting"] == setting) & (rounds["round"] <= PAPER_EPOCHS)]
        late = of_setting[of_setting["round"] >= PAPER_EPOCHS // 2]
        jumps = late.groupby("key", observed=True)["test_accuracy"].apply(lambda acc: acc.diff().max() > JUMP)
        k, n = int(jumps.sum()), len(jumps)
        if n == 0:
            continue
        refuting = binomial_p(k, n, JUMP_RATE, "greater")
        verdict = CONTRADICTED if refuting < ALPHA else UNDECIDED
        text = (
            f"{k} of {n} runs still rise by more than {100 * JUMP:g} points from one epoch to the next after "
            f"epoch {PAPER_EPOCHS // 2} (exact binomial against a rate of {JUMP_RATE:.0%}, "
            f"p = {refuting:.3g}); 30 epochs alone cannot show that they suffice"
        )
        yield Finding(where=setting, verdict=verdict, n=n, evidence=text)


def judge_generator_collapse(evidence: Evidence) -> Iterator[Finding]:
    """Judge that classes which the generator draws with more diversity gain more recall over none.

    For each generator, the rank correlation over the classes it fills; averaged over the architectures of a
    seed, whose generators share their streams; sign-flip test over seeds.
    """
    classes = evidence.results.classes
    if classes.empty:
        return
    keys = ["setting", "data", "seed", "class"]
    none = classes[classes["method"] == "none"].set_index(keys)["recall"]
    filled = classes[(classes["synthetic_count"] > 0) & classes["diversity"].notna()]
    filled = filled.join(none.rename("recall_none"), on=keys)
    filled = filled.assign(gain=filled["recall"] - filled["recall_none"]).dropna(subset=["gain"])
    per_generator = pd.DataFrame(
        [
            {"setting": setting, "data": data, "seed": seed, "correlation": _rank_correlation(same)}
            for (setting, data, seed, _), same in filled.groupby(
                ["setting", "data", "seed", "method"], observed=True, sort=False
            )
        ],
        columns=["setting", "data", "seed", "correlation"],
    ).dropna()
    for setting, of_setting in per_generator.groupby("setting", sort=False):
        parts = [
            paired_part(f"C = {data}", same.groupby("seed")["correlation"].mean())
            for data, same in of_setting.groupby("data", sort=False)
        ]
        yield from conclude(str(setting), parts, "mean rank correlation")


def _rank_correlation(frame: pd.DataFrame) -> float:
    if len(frame) < 3 or frame["gain"].nunique() < 2 or frame["diversity"].nunique() < 2:
        return np.nan
    return float(stats.spearmanr(frame["gain"], frame["diversity"]).statistic)
