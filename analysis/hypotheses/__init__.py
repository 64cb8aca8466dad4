"""The hypotheses H1 to H18: their claims, tests and verdicts on the cells of a store."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from analysis.collect import Results
from analysis.compare import MARGIN
from analysis.hypotheses.axes import (
    judge_axis,
    judge_class_order,
    judge_dead_classes,
    judge_fill,
    judge_interaction,
)
from analysis.hypotheses.directed import non_inferiority
from analysis.hypotheses.evidence import NOT_TESTED, Evidence, Finding
from analysis.hypotheses.methods import (
    judge_across_c,
    judge_datasets,
    judge_declared,
    judge_equivalence,
    judge_leads,
    judge_trend,
)
from analysis.hypotheses.training import FLAT, judge_convergence, judge_generator_collapse, late_spread
from lt_rebalance.ground.paper import PAPER_GENERATORS

INTERIM = "interim"
"""registration of a verdict on which nothing can rest yet"""
LOGIT_METHODS = ("balanced_softmax", "logit_adjustment", "crt")


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A claim and its test."""

    name: str
    claim: str
    source: str
    """section of the paper, or "new\""""
    comparison: str
    """what is compared; a positive value supports the claim, fixed beforehand"""
    family: str
    """correction of its p values"""
    test: str
    unit: str = "seed"
    """unit of replication, which n counts"""
    limits: str
    """confounders in the design, or limits of what a verdict applies to"""
    needs: str
    """what a store must contain for it"""
    judge: Callable[[Evidence], Iterable[Finding]]


def judge_hypotheses(results: Results) -> pd.DataFrame:
    """Return one row for each hypothesis and setting in which it was tested, or one that says it was not.

    Columns: `hypothesis`, `claim`, `source`, `comparison`, `test`, `where`, `verdict` (supported,
    contradicted, undecided, not tested), `n`, `evidence`, `limits`; and if a study registered anything,
    `registration`. It is "registered" if a study that has some of the row's cells registered the hypothesis,
    and every run of these cells is one that a study with a registered plan names; "interim" if such a study
    has fewer complete seeds than its stopping rule asks for; otherwise "exploratory".
    """
    evidence = Evidence(results)
    rows = []
    for hypothesis in HYPOTHESES:
        needs = f"needs {hypothesis.needs}"
        missing = Finding(where="", verdict=NOT_TESTED, n=0, evidence=needs)
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
                    "evidence": (f"{needs}: " if finding.is_without_values else "") + finding.evidence,
                    "limits": hypothesis.limits,
                }
                | _registration(results, hypothesis.name, finding)
            )
    return pd.DataFrame(rows)


def _registration(results: Results, hypothesis: str, finding: Finding) -> dict[str, str]:
    if not any(results.confirmatory.values()):
        return {}
    planned = {study: results.study_keys[study] for study, names in results.confirmatory.items() if names}
    registering = {
        study
        for study, of_study in planned.items()
        if hypothesis in results.confirmatory[study]
        and (not finding.cells or finding.cells & of_study.keys())
    }
    if registering and finding.cells:
        named = {key for of_study in planned.values() for keys in of_study.values() for key in keys}
        if not set(results.runs.loc[results.runs["cell"].isin(finding.cells), "key"]) <= named:
            registering = set()
    if not registering:
        return {"registration": "exploratory"}
    return {"registration": INTERIM if registering & results.interim else "registered"}


_DECLARED = "Holm over the declared family of 24"
_PARTS = "every part must be significant; Holm over the parts against it"
_PAIRED = "sign-flip test in accuracy, paired by seed"
_STEPS = "in a budget of epochs, a smaller training set has fewer steps"
_GENERATORS = "each seed has one generator, so generator, subset and initial weights vary together"

HYPOTHESES = (
    Hypothesis(
        name="H1",
        claim="Oversampling beats every CGAN.",
        source="5.1",
        comparison="oversample minus each CGAN, at each C",
        family="intersection-union for the claim, Holm over the parts against it",
        test=_PAIRED,
        limits=_GENERATORS,
        needs="oversample and a CGAN at the same C",
        judge=lambda evidence: judge_leads(evidence, ["oversample"], PAPER_GENERATORS),
    ),
    Hypothesis(
        name="H2",
        claim="CGAN samples improve on undersampling.",
        source="5.1",
        comparison="each CGAN minus undersample, at each C",
        family=_DECLARED,
        test=_PAIRED,
        limits=_STEPS,
        needs="undersample and a CGAN at the same C",
        judge=lambda evidence: judge_declared(evidence, "H2", "undersample"),
    ),
    Hypothesis(
        name="H3",
        claim="The set balanced by a CGAN beats the unbalanced one.",
        source="3",
        comparison="each CGAN minus none, at each C",
        family=_DECLARED,
        test=_PAIRED,
        limits=_STEPS,
        needs="none and a CGAN at the same C",
        judge=lambda evidence: judge_declared(evidence, "H3", "none"),
    ),
    Hypothesis(
        name="H4",
        claim="Undersampling helps.",
        source="1",
        comparison="undersample minus none, at each C",
        family=_PARTS,
        test=_PAIRED,
        limits=f'the paper says "slightly", which is not tested; {_STEPS}',
        needs="none and undersample at the same C",
        judge=lambda evidence: judge_leads(evidence, ["undersample"], ["none"]),
    ),
    Hypothesis(
        name="H5",
        claim="The SMALL and RELU generators are comparable, and both better than LEAKY.",
        source="5.2",
        comparison="SMALL and RELU within 1 point; each minus LEAKY",
        family=_PARTS,
        test="sign-flip tests in accuracy, paired by seed, of both ends of ±1 point and of differences",
        limits=_GENERATORS,
        needs="small_mlp_cgan_leaky, mlp_cgan_relu and mlp_cgan_leaky at the same C",
        judge=lambda evidence: judge_equivalence(
            evidence, "small_mlp_cgan_leaky", "mlp_cgan_relu", "mlp_cgan_leaky", margin=0.01
        ),
    ),
    Hypothesis(
        name="H6",
        claim="A smaller generator gives a better classifier.",
        source="5.2",
        comparison="slope of accuracy over BIG, LEAKY, SMALL",
        family=_PARTS,
        test="sign-flip test on the slope of each seed, in accuracy",
        limits=f"the paper's reason, less overfitting, is not tested; {_GENERATORS}",
        needs="big_mlp_cgan_leaky, mlp_cgan_leaky and small_mlp_cgan_leaky at the same C",
        judge=lambda evidence: judge_trend(
            evidence, ["big_mlp_cgan_leaky", "mlp_cgan_leaky", "small_mlp_cgan_leaky"]
        ),
    ),
    Hypothesis(
        name="H7",
        claim="Stronger imbalance (C = 1/2) lowers the losses.",
        source="5.3",
        comparison="loss at the mildest C minus loss at the strongest, per method",
        family=_PARTS,
        test="sign-flip test in loss, paired by seed",
        limits=f"both Cs of a seed have different subsets; {_STEPS}",
        needs="a method at two Cs",
        judge=lambda evidence: judge_across_c(evidence, evidence.metric("loss"), "of loss", rises=False),
    ),
    Hypothesis(
        name="H8",
        claim="Stronger imbalance (C = 1/2) converges less stably.",
        source="5.3",
        comparison="log sd of test accuracy over the last 10 rounds, strongest C minus mildest, per method",
        family=_PARTS,
        test="sign-flip test on logs, paired by seed",
        limits="in a budget of epochs, a round of a smaller training set has fewer steps",
        needs="a method at two Cs with at least 10 rounds",
        judge=lambda evidence: judge_across_c(
            evidence, late_spread(evidence), "log sd", rises=True, lost_because=FLAT
        ),
    ),
    Hypothesis(
        name="H9",
        claim="30 epochs suffice for convergence.",
        source="3.1",
        comparison="5 % minus share of runs that jump by more than 5 points after epoch 15, per cell",
        family="Holm over the cells of a setting",
        test="exact binomial test against a rate of 5 %, one-sided",
        unit="run of one cell",
        limits="can refute the claim but not support it, which takes longer budgets",
        needs="budgets of at least 30 epochs",
        judge=judge_convergence,
    ),
    Hypothesis(
        name="H10",
        claim="Double softmax causes dead classes.",
        source="new",
        comparison="share of runs with a dead class, double softmax minus cross-entropy, "
        "at each C, per method",
        family="Holm over C x method; some part must be significant and none the other way",
        test="Fisher's exact test",
        unit="run of one cell",
        limits="no verdict from cells that differ in more than the loss",
        needs="the same C and method under both losses",
        judge=judge_dead_classes,
    ),
    Hypothesis(
        name="H11",
        claim="Under cross-entropy the gap between oversampling and none shrinks or reverses.",
        source="new",
        comparison="gap under double softmax, in its direction there minus the same gap under cross-entropy, "
        "at each C",
        family=_PARTS,
        test="sign-flip tests in accuracy, paired by seed, of the gap and of its change",
        limits="no verdict from cells that differ in more than the loss",
        needs="none and oversample at the same C under both losses",
        judge=judge_interaction,
    ),
    Hypothesis(
        name="H12",
        claim="Which class is in the tail confounds the result.",
        source="new",
        comparison="deviation of (oversample minus none) from its median, permuted class orders minus "
        "label order",
        family=_PARTS,
        test="sign-flip test on deviations in accuracy, paired by seed",
        limits="each seed has one permutation, so permutation, subset and initial weights vary together",
        needs="none and oversample under the class orders label and permuted",
        judge=judge_class_order,
    ),
    Hypothesis(
        name="H13",
        claim="Collapse of the generator explains failure of the classifier.",
        source="new",
        comparison="gain in recall over none against the generator's diversity, within a class",
        family=_PARTS,
        test="permutation of seeds on the mean rank correlation within a class of an architecture",
        limits="anything else that makes the generator of one seed worse is confounded with it",
        needs="none and a CGAN at the same C, with classes in one order",
        judge=judge_generator_collapse,
    ),
    Hypothesis(
        name="H14",
        claim="Logit-level methods match or beat oversampling.",
        source="new",
        comparison=f"{', '.join(LOGIT_METHODS)} minus oversample, at each C, plus {100 * MARGIN:g} points",
        family=_PARTS,
        test=f"{_PAIRED}, of falling short by less than {100 * MARGIN:g} points",
        limits=_STEPS,
        needs=f"oversample and one of {', '.join(LOGIT_METHODS)} at the same C",
        judge=lambda evidence: judge_leads(
            evidence,
            LOGIT_METHODS,
            ["oversample"],
            non_inferiority(MARGIN),
            f"+ {100 * MARGIN:g} points minus",
            Evidence.imbalanced,
        ),
    ),
    Hypothesis(
        name="H14b",
        claim="Logit-level methods beat oversampling.",
        source="new",
        comparison=f"{', '.join(LOGIT_METHODS)} minus oversample, at each C",
        family=f"{_PARTS}; read once H14 is supported, in which order both hold at one level",
        test=_PAIRED,
        limits=_STEPS,
        needs=f"oversample and one of {', '.join(LOGIT_METHODS)} at the same C",
        judge=lambda evidence: judge_leads(
            evidence, LOGIT_METHODS, ["oversample"], places=Evidence.imbalanced
        ),
    ),
    Hypothesis(
        name="H15",
        claim="A CGAN trained on the oversampled set gives a better classifier than one trained on the raw "
        "set.",
        source="3",
        comparison="CGAN training set oversampled minus raw, all else equal",
        family=_PARTS,
        test=_PAIRED,
        limits=f"in a budget of epochs, a CGAN on the raw set has fewer steps; {_GENERATORS}",
        needs="cells that differ in the CGAN's training set alone",
        judge=lambda evidence: judge_axis(evidence, "generator.training_method.name", "oversample", "none"),
    ),
    Hypothesis(
        name="H16",
        claim="More synthetic images are better.",
        source="new",
        comparison="slope of accuracy over the share of the gap that is filled",
        family=_PARTS,
        test="sign-flip test on the slope of each seed, in accuracy",
        limits=f"shares above 0 of a seed have one generator; {_STEPS}",
        needs="cells that differ in method.fill_fraction alone, at three shares or more, none as 0",
        judge=judge_fill,
    ),
    Hypothesis(
        name="H17",
        claim="CGANs gain more on GTSRB (natural, many classes) than on Fashion-MNIST, over oversampling.",
        source="5.4",
        comparison="(mean of CGANs minus oversample) on GTSRB minus the same on Fashion-MNIST, at each C",
        family="every C must be significant; Holm over the Cs against it",
        test="Welch's t test in accuracy",
        limits="two data sets differ in many ways, so no single cause can be named",
        needs="oversample and a CGAN on the data sets gtsrb and fashion_mnist",
        judge=lambda evidence: judge_datasets(evidence, "gtsrb", "fashion_mnist", PAPER_GENERATORS),
    ),
    Hypothesis(
        name="H18",
        claim="The classifier's Adam beta1 of the paper's text, 0.99, gives better results than 0.9 of its "
        "code.",
        source="new",
        comparison="beta1 0.99 minus 0.9, all else equal",
        family=_PARTS,
        test=_PAIRED,
        limits="applies to the classifier's beta1 only; the CGAN has its own",
        needs="cells that differ in classifier.beta1 alone, at 0.9 and 0.99",
        judge=lambda evidence: judge_axis(evidence, "classifier.beta1", 0.99, 0.9),
    ),
)
