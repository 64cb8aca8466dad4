"""What a report says in sentences: every number in them is computed."""

from importlib import metadata

import pandas as pd

from analysis.collect import Results
from analysis.compare import ALPHA, EXPLORATORY
from analysis.estimates import accuracy_sd
from analysis.power import smallest_exact_p
from analysis.tables import Frames, account, count_verdicts
from analysis.tables.formats import count, listed, percent, spread

ANALYSIS_PACKAGES = ("numpy", "pandas", "scipy", "statsmodels", "scikit-posthocs", "matplotlib")


def describe_findings(results: Results, frames: Frames) -> list[str]:
    """Return what a hurried reader should know."""
    counts, planned = account(results.runs), account(results.planned)
    n = frames.collapse["n"]
    fewest_most = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
    collapsed = int(frames.collapse["num_collapsed"].sum())
    sentences = [
        f"{planned['complete']:,} of {count(planned['planned'], 'planned run')} are complete: "
        f"{count(len(results.cells), 'cell')} with {fewest_most} complete runs each.",
    ]
    if others := planned["planned"] - counts["planned"]:
        sentences.append(
            f"{count(others, 'of these')} share a subset with another run of their cell; they stand in T4b "
            "alone, and everything else is about the rest."
        )
    if counts["complete"]:
        sentences.append(
            f"{collapsed:,} of {count(counts['complete'], 'complete run')} "
            f"({percent(collapsed / counts['complete'])}) never recognise at least one class."
        )
    verdicts = count_verdicts(frames.judged)
    said = listed([f"{number} {verdict}" for verdict, number in verdicts.items()])
    return [
        *sentences,
        *_describe_contrasts(frames.contrasts),
        f"Of {count(sum(verdicts.values()), 'verdict')} on {frames.judged['hypothesis'].nunique()} "
        f"hypotheses: {said}.",
    ]


def describe_design(results: Results) -> dict[str, str]:
    """Return, by setting, what was compared and at how many seeds."""
    num_seeds = results.runs.groupby("cell")["seed"].nunique()
    design = {}
    for setting, cells in results.cells.groupby("setting", sort=False):
        seeds = num_seeds[cells["cell"]]
        planned = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
        data = [each if each == "original" else f"C = {each}" for each in dict.fromkeys(cells["data"])]
        design[str(setting)] = (
            f"data set {cells['dataset'].iloc[0]}; {listed(data)}; "
            f"{count(cells['method'].nunique(), 'method')}; {planned} seeds planned a cell."
        )
    return design


def _describe_contrasts(contrasts: pd.DataFrame) -> list[str]:
    if contrasts.empty:
        return []
    is_declared = contrasts["family"] != EXPLORATORY
    is_decided = contrasts["verdict"].isin(["better", "worse"])
    sentences = [
        f"Of {count(int(is_declared.sum()), 'declared difference')} in accuracy, "
        f"{(is_declared & is_decided).sum()} stand after Holm's correction at {ALPHA:g}; of "
        f"{count(int((~is_declared).sum()), 'exploratory one')}, {(~is_declared & is_decided).sum()} after "
        "Benjamini-Hochberg's."
    ]
    num_pairs = int(contrasts["n_pairs"].max())
    if num_pairs and smallest_exact_p(num_pairs) >= ALPHA:
        sentences.append(
            f"With at most {count(num_pairs, 'pair')} a comparison, the exact test cannot go below p = "
            f"{smallest_exact_p(num_pairs):.3g}: it takes more seeds to tell which method wins."
        )
    return sentences


def describe_limits(results: Results, frames: Frames) -> list[str]:
    """Return what the report cannot say."""
    limits = [_describe_test_images(results, frames)]
    if any(name.endswith("_mini") for name in results.cells["dataset"]):
        limits.append(
            "A data set named mini is a small sample of the full one, and its test set is small as well: its "
            "accuracies are not those of the full set."
        )
    return [
        *limits,
        "A seed changes subset, initial weights, order of batches and generator together. The spread is that "
        "of the whole procedure; T4a separates only what all methods of a seed share, and T4b the sources "
        "where a study has seeds for each.",
        "t and prediction intervals take runs to be about normally distributed. Where some runs collapse and "
        "others do not, they are not, and an interval may cover far less than it says: read T3 beside T1.",
        "The paper gives one run a row. One number can be unlikely under ours; it cannot show how the "
        "paper's procedure behaves on average.",
        "The settings are those named; nothing here speaks of other networks, budgets or data sets. Test "
        "images were used to report, never to choose.",
        "Exploratory results suggest. To confirm them takes seeds that nobody has looked at.",
    ]


def _describe_test_images(results: Results, frames: Frames) -> str:
    text = "Intervals cover the choice of seed on one test set, not the choice of test images or of data set."
    means = frames.estimates.query("metric == 'accuracy' and subset == 'all'")["mean"].dropna()
    if means.empty:
        return text
    num_images = min(int(confusion_KK.sum()) for confusion_KK in results.confusions.values())
    middle = float(means.median())
    noise = spread(accuracy_sd(middle, num_images))
    return (
        f"{text} A new draw of {num_images:,} test images alone moves an accuracy of {middle:.3f} by {noise} "
        "points (binomial standard deviation); differences of methods on the same images move by less."
    )


def describe_versions() -> str:
    """Return with which libraries the report was computed."""
    return ", ".join(f"{name} {metadata.version(name)}" for name in ANALYSIS_PACKAGES)
