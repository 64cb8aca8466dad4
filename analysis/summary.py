"""What a report says in sentences: every number in them is computed."""

from importlib import metadata

import pandas as pd

from analysis.collect import Results
from analysis.compare import ALPHA, EXPLORATORY
from analysis.estimates import accuracy_sd
from analysis.leading import name_leading
from analysis.power import smallest_exact_p
from analysis.sentences import (
    ORACLE,
    describe_assumptions,
    describe_choice,
    describe_left_out,
    describe_papers_numbers,
    describe_sample,
    describe_seeds_apart,
    describe_single_runs,
    describe_spread,
    join,
)
from analysis.tables import Frames, account, count_verdicts
from analysis.tables.formats import count, count_between, listed, named_data, percent, spread

ANALYSIS_PACKAGES = ("numpy", "pandas", "scipy", "statsmodels", "scikit-posthocs", "matplotlib")


def describe_findings(results: Results, frames: Frames) -> list[str]:
    """Return what a hurried reader should know."""
    counts, planned = account(results.runs), account(results.planned)
    n = frames.collapse["n"]
    collapsed = int(frames.collapse["num_collapsed"].sum())
    sentences = [
        f"{planned['complete']:,} of {count(planned['planned'], 'planned run')} "
        f"{'is' if planned['planned'] == 1 else 'are'} complete: {count(len(results.cells), 'cell')} with "
        f"{count_between(int(n.min()), int(n.max()), 'complete run')} a cell.",
    ]
    if apart := describe_seeds_apart(planned["planned"] - counts["planned"], counts["planned"]):
        sentences.append(apart)
    if counts["complete"]:
        sentences.append(
            f"{collapsed:,} of {count(counts['complete'], 'complete run')} "
            f"({percent(collapsed / counts['complete'])}) never recognise at least one class."
        )
    verdicts = count_verdicts(frames.judged)
    said = listed([f"{number} {verdict}" for verdict, number in verdicts.items()])
    absent = describe_papers_numbers(results.runs), describe_left_out(results.runs), _describe_oracle(results)
    return [
        *sentences,
        *(sentence for sentence in absent if sentence),
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
        planned = count_between(int(seeds.min()), int(seeds.max()), "seed")
        data = [named_data(each) for each in dict.fromkeys(cells["data"])]
        design[str(setting)] = (
            f"data set {cells['dataset'].iloc[0]}; {listed(data)}; "
            f"{count(cells['method'].nunique(), 'method')}; {planned} planned a cell."
        )
    return design


def _describe_oracle(results: Results) -> str:
    """Say at the head what a reader must not miss: that test images chose."""
    is_oracle = (results.cells["classifier.selection"] == ORACLE).any()
    return describe_choice(results.cells) if is_oracle else ""


def _describe_contrasts(contrasts: pd.DataFrame) -> list[str]:
    if contrasts.empty:
        return []
    is_declared = contrasts["family"] != EXPLORATORY
    is_decided = contrasts["verdict"].isin(["better", "worse"])
    sentences = [
        join(
            f"Of {count(int(rows.sum()), noun)} in {name_leading(contrasts[rows])}, "
            f"{(rows & is_decided).sum()} stand after {correction} correction at {ALPHA:g}."
            for rows, noun, correction in (
                (is_declared, "declared difference", "Holm's"),
                (~is_declared, "exploratory difference", "Benjamini-Hochberg's"),
            )
            if rows.any()
        )
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
    cells, runs = results.cells, results.runs
    limits = [
        _describe_test_images(results, frames),
        describe_sample(cells),
        describe_spread(cells, frames.contrasts, has_seeds_apart=len(results.nested_runs) > 0),
        describe_left_out(runs),
        describe_assumptions(runs),
        describe_single_runs(runs),
        join(
            [
                "The settings are those named; nothing here speaks of other networks, budgets or data sets.",
                describe_choice(cells),
            ]
        ),
        "Exploratory results suggest. To confirm them takes seeds that nobody has looked at.",
    ]
    return [limit for limit in limits if limit]


def _describe_test_images(results: Results, frames: Frames) -> str:
    text = "Intervals cover the choice of seed on one test set, not the choice of test images or of data set."
    means = frames.estimates.query("metric == 'accuracy' and subset == 'all'")["mean"].dropna()
    if means.empty:
        return text
    num_images = min(confusion.num_images for confusion in results.confusions.values())
    middle = float(means.median())
    noise = spread(accuracy_sd(middle, num_images))
    return (
        f"{text} A new draw of {num_images:,} test images alone moves an accuracy of {middle:.3f} by {noise} "
        "points (binomial standard deviation); a difference of methods on the same images moves by the "
        "less, the "
        "fewer images they disagree on."
    )


def describe_versions() -> str:
    """Return with which libraries the report was computed."""
    return ", ".join(f"{name} {metadata.version(name)}" for name in ANALYSIS_PACKAGES)
