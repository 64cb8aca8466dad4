"""The hypotheses H1 to H18: what is claimed, how it is judged, and what the cells of a store say."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from analysis.collect import Results
from analysis.hypotheses.axes import (
    judge_axis,
    judge_class_order,
    judge_dead_classes,
    judge_fill,
    judge_interaction,
)
from analysis.hypotheses.evidence import NOT_TESTED, Evidence, Finding
from analysis.hypotheses.methods import (
    judge_across_c,
    judge_contrasts,
    judge_datasets,
    judge_equivalence,
    judge_trend,
)
from analysis.hypotheses.training import judge_convergence, judge_generator_collapse, late_spread
from lt_rebalance.paper import PAPER_GENERATORS

LOGIT_METHODS = ("balanced_softmax", "logit_adjustment", "crt")


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A claim, and how it is judged."""

    name: str
    claim: str
    source: str
    """section of the paper, or "new\""""
    comparison: str
    family: str
    """how its p values are corrected"""
    test: str
    needs: str
    """what a store must hold for it"""
    judge: Callable[[Evidence], Iterable[Finding]]


def judge_hypotheses(results: Results, contrasts: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return one row for each hypothesis and setting in which it was tested, or one that says it was not.

    `contrasts` are those of accuracy, as `compare` returns them; they are computed where not given.

    Columns: `hypothesis`, `claim`, `source`, `test`, `where`, `verdict` (supported, contradicted, undecided,
    not tested), `n`, `evidence`.
    """
    evidence = Evidence(results, contrasts)
    rows = []
    for hypothesis in HYPOTHESES:
        missing = Finding(where="", verdict=NOT_TESTED, n=0, evidence=f"needs {hypothesis.needs}")
        for finding in list(hypothesis.judge(evidence)) or [missing]:
            rows.append(
                {
                    "hypothesis": hypothesis.name,
                    "claim": hypothesis.claim,
                    "source": hypothesis.source,
                    "comparison": hypothesis.comparison,
                    "test": f"{hypothesis.test}; {hypothesis.family}",
                    "where": finding.where,
                    "verdict": finding.verdict,
                    "n": finding.n,
                    "evidence": finding.evidence,
                }
            )
    return pd.DataFrame(rows)


_DECLARED = "Holm over the declared family of 24"
_PARTS = "every part must be significant; Holm over the parts against it"

HYPOTHESES = (
    Hypothesis(
        name="H1",
        claim="Oversampling beats every CGAN.",
        source="5.1",
        comparison="oversample - each CGAN, per C",
        family="intersection-union for the claim, Holm over the parts against it",
        test="exact sign-flip test, paired by seed",
        needs="oversample and a CGAN at the same C",
        judge=lambda evidence: judge_contrasts(evidence, "oversample", PAPER_GENERATORS, -1, corrected=False),
    ),
    Hypothesis(
        name="H2",
        claim="CGAN samples improve on undersampling.",
        source="5.1",
        comparison="each CGAN - undersample, per C",
        family=_DECLARED,
        test="exact sign-flip test, paired by seed",
        needs="undersample and a CGAN at the same C",
        judge=lambda evidence: judge_contrasts(evidence, "undersample", PAPER_GENERATORS, 1, corrected=True),
    ),
    Hypothesis(
        name="H3",
        claim="The set balanced by a CGAN beats the unbalanced one.",
        source="3",
        comparison="each CGAN - none, per C",
        family=_DECLARED,
        test="exact sign-flip test, paired by seed",
        needs="none and a CGAN at the same C",
        judge=lambda evidence: judge_contrasts(evidence, "none", PAPER_GENERATORS, 1, corrected=True),
    ),
    Hypothesis(
        name="H4",
        claim="Undersampling helps slightly.",
        source="1",
        comparison="undersample - none, per C",
        family="Benjamini-Hochberg over the exploratory contrasts",
        test="exact sign-flip test, paired by seed",
        needs="none and undersample at the same C",
        judge=lambda evidence: judge_contrasts(evidence, "none", ["undersample"], 1, corrected=True),
    ),
    Hypothesis(
        name="H5",
        claim="The SMALL and RELU generators are comparable, and both better than LEAKY.",
        source="5.2",
        comparison="SMALL and RELU within 1 point; each - LEAKY",
        family=_PARTS,
        test="TOST within 1 point; exact sign-flip tests",
        needs="small_mlp_cgan_leaky, mlp_cgan_relu and mlp_cgan_leaky at the same C",
        judge=lambda evidence: judge_equivalence(
            evidence, "small_mlp_cgan_leaky", "mlp_cgan_relu", "mlp_cgan_leaky", margin=0.01
        ),
    ),
    Hypothesis(
        name="H6",
        claim="A smaller generator overfits less, and so serves better.",
        source="5.2",
        comparison="accuracy over BIG, LEAKY, SMALL",
        family=_PARTS,
        test="Page's trend test over seeds",
        needs="big_mlp_cgan_leaky, mlp_cgan_leaky and small_mlp_cgan_leaky at the same C",
        judge=lambda evidence: judge_trend(
            evidence, ["big_mlp_cgan_leaky", "mlp_cgan_leaky", "small_mlp_cgan_leaky"]
        ),
    ),
    Hypothesis(
        name="H7",
        claim="Stronger imbalance (C = 1/2) lowers the losses.",
        source="5.3",
        comparison="loss at the strongest C - loss at the mildest, per method",
        family=_PARTS,
        test="exact sign-flip test, paired by seed",
        needs="a method at two Cs",
        judge=lambda evidence: judge_across_c(evidence, "loss", -1, "of loss"),
    ),
    Hypothesis(
        name="H8",
        claim="Stronger imbalance (C = 1/2) converges less stably.",
        source="5.3",
        comparison="log sd of test accuracy over the last 10 rounds, strongest C - mildest, per method",
        family=_PARTS,
        test="exact sign-flip test on logs, paired by seed",
        needs="a method at two Cs with at least 10 rounds",
        judge=lambda evidence: judge_across_c(evidence, late_spread(evidence), 1, "log sd"),
    ),
    Hypothesis(
        name="H9",
        claim="30 epochs suffice for convergence.",
        source="3.1",
        comparison="jumps of more than 5 points after epoch 15",
        family="none; one test a setting",
        test="exact binomial test against a rate of 5 %",
        needs="budgets of at least 30 epochs",
        judge=judge_convergence,
    ),
    Hypothesis(
        name="H10",
        claim="Double softmax causes dead classes.",
        source="new",
        comparison="share of runs with a dead class, double softmax against cross-entropy, per C and method",
        family="Holm over C x method",
        test="Fisher's exact test",
        needs="the same C and method under both losses",
        judge=judge_dead_classes,
    ),
    Hypothesis(
        name="H11",
        claim="Under cross-entropy the gaps between methods shrink or reverse.",
        source="new",
        comparison="(oversample - none) under double softmax minus the same under cross-entropy, per C",
        family=_PARTS,
        test="exact sign-flip test on differences of differences",
        needs="none and oversample at the same C under both losses",
        judge=judge_interaction,
    ),
    Hypothesis(
        name="H12",
        claim="Which class is in the tail confounds the result.",
        source="new",
        comparison="spread of (oversample - none) over permuted class orders against label order",
        family=_PARTS,
        test="Brown-Forsythe test",
        needs="none and oversample under the class orders label and permuted",
        judge=judge_class_order,
    ),
    Hypothesis(
        name="H13",
        claim="Collapse of the generator explains failure of the classifier.",
        source="new",
        comparison="gain in recall over none against the generator's diversity, over classes",
        family=_PARTS,
        test="sign-flip test over seeds on rank correlations",
        needs="none and a CGAN at the same C",
        judge=judge_generator_collapse,
    ),
    Hypothesis(
        name="H14",
        claim="Logit-level methods match or beat oversampling.",
        source="new",
        comparison=f"{', '.join(LOGIT_METHODS)} - oversample, per C",
        family="Benjamini-Hochberg over the exploratory contrasts",
        test="exact sign-flip test, paired by seed",
        needs=f"oversample and one of {', '.join(LOGIT_METHODS)} at the same C",
        judge=lambda evidence: judge_contrasts(evidence, "oversample", LOGIT_METHODS, 1, corrected=True),
    ),
    Hypothesis(
        name="H15",
        claim="A CGAN trained on the oversampled set serves better than one trained on the raw set.",
        source="3",
        comparison="CGAN training set oversampled - raw, all else equal",
        family=_PARTS,
        test="exact sign-flip test, paired by seed",
        needs="cells that differ in the CGAN's training set alone",
        judge=lambda evidence: judge_axis(evidence, "generator.training_method.name", "oversample", "none"),
    ),
    Hypothesis(
        name="H16",
        claim="More synthetic images are better.",
        source="new",
        comparison="accuracy over the share of the gap that is filled",
        family=_PARTS,
        test="Page's trend test over seeds",
        needs="cells that differ in method.fill_fraction alone, at three shares or more, none as 0",
        judge=judge_fill,
    ),
    Hypothesis(
        name="H17",
        claim="CGANs gain on natural data with many classes.",
        source="5.4",
        comparison="(CGAN - oversample) on GTSRB against Fashion-MNIST",
        family="every C must be significant; Holm over the Cs against it",
        test="Welch's t test",
        needs="oversample and a CGAN on the data sets gtsrb and fashion_mnist",
        judge=lambda evidence: judge_datasets(evidence, "gtsrb", "fashion_mnist", PAPER_GENERATORS),
    ),
    Hypothesis(
        name="H18",
        claim="The classifier's Adam beta1 of the paper's text, 0.99, serves better than 0.9 of its code.",
        source="new",
        comparison="beta1 0.99 - 0.9, all else equal",
        family=_PARTS,
        test="exact sign-flip test, paired by seed",
        needs="cells that differ in classifier.beta1 alone, at 0.9 and 0.99",
        judge=lambda evidence: judge_axis(evidence, "classifier.beta1", 0.99, 0.9),
    ),
)
