"""Sentences of a report with computed numbers."""

from importlib import metadata

from analysis.collect import Results
from analysis.estimates import accuracy_sd
from analysis.sentences import (
    describe_assumptions,
    describe_choice,
    describe_left_out,
    describe_sample,
    describe_seeds_apart,
    describe_single_runs,
    describe_spread,
    join,
)
from analysis.tables import Frames
from analysis.tables.formats import count_between, listed, named_data, spread
from lt_rebalance.ground.text import count

ANALYSIS_PACKAGES = ("numpy", "pandas", "scipy", "statsmodels", "scikit-posthocs", "matplotlib")


def describe_design(results: Results) -> dict[str, str]:
    """Return, by setting, the compared methods and the numbers of seeds."""
    num_seeds = results.runs.groupby("cell")["seed"].nunique()
    design = {}
    for setting, cells in results.cells.groupby("setting", sort=False):
        seeds = num_seeds[cells["cell"]]
        planned = count_between(int(seeds.min()), int(seeds.max()), "seed")
        data = [named_data(each) for each in dict.fromkeys(cells["data"])]
        design[str(setting)] = (
            f"data set {cells['dataset'].iloc[0]}; {listed(data)}; "
            f"{count(cells['method'].nunique(), 'method')}; {planned} planned per configuration."
        )
    return design


def describe_limits(results: Results, frames: Frames) -> list[str]:
    """Return the limitations of the report."""
    cells, runs = results.cells, results.runs
    limits = [
        _describe_test_images(results, frames),
        describe_sample(cells),
        describe_spread(cells, frames.contrasts, has_seeds_apart=len(results.nested_runs) > 0),
        describe_seeds_apart(len(results.planned) - len(runs), len(runs)),
        describe_left_out(runs),
        describe_assumptions(runs),
        describe_single_runs(runs),
        join(
            [
                "The results hold for the settings named here, not for other networks, budgets or data sets.",
                describe_choice(cells),
            ]
        ),
        "Exploratory results suggest hypotheses. Confirming them takes new seeds.",
    ]
    return [limit for limit in limits if limit]


def _describe_test_images(results: Results, frames: Frames) -> str:
    text = "Intervals cover the choice of seed on one test set, not the choice of test images or data set."
    estimates = frames.estimates.query("metric == 'accuracy' and subset == 'all'")
    means = estimates.set_index("dataset")["mean"].dropna()
    if means.empty:
        return text
    changes = [
        _say_change(float(of_set.median()), str(dataset) if means.index.nunique() > 1 else "", results)
        for dataset, of_set in means.groupby(level=0, sort=False)
    ]
    return (
        f"{text} A new draw of {'; of '.join(changes)} (binomial standard deviation). A difference between "
        "methods on the same images changes less, the fewer images they disagree on."
    )


def _say_change(accuracy: float, dataset: str, results: Results) -> str:
    """Say what a new draw of test images would do; of one data set if it is named."""
    runs = results.planned
    keys = runs.loc[runs["dataset"] == dataset, "key"] if dataset else runs["key"]
    num_images = min(results.confusions[key].num_images for key in keys if key in results.confusions)
    images = f"{num_images:,} test images{f' of {dataset}' if dataset else ''}"
    noise = spread(accuracy_sd(accuracy, num_images))
    return f"{images} alone would change an accuracy of {accuracy:.3f} by {noise} points"


def describe_versions() -> str:
    """Return the libraries that computed the report, with versions."""
    return ", ".join(f"{name} {metadata.version(name)}" for name in ANALYSIS_PACKAGES)
