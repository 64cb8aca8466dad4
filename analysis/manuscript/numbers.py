"""Say in plain English how each number of a manuscript was made: from which records, and by what formula."""

import textwrap
from collections.abc import Iterator, Sequence
from importlib import metadata

import pandas as pd

from analysis.collect import Results
from analysis.compare import MARGIN
from analysis.figures.style import Drawn
from analysis.manuscript.choice import Choice
from analysis.manuscript.tables import say_correction
from analysis.sentences import describe_reported_round, describe_seeds
from analysis.significance import MAX_EXACT, NUM_FLIPS
from analysis.summary import describe_versions
from analysis.tables import Frames, Table, account
from analysis.tables.formats import count_between, listed
from lt_rebalance.ground.imbalance import say_data
from lt_rebalance.ground.metrics import METRICS
from lt_rebalance.ground.text import count

_WIDTH = 110
_KEY_DIGITS = 12
_MADE_WITH = {
    "code_version": "lt_rebalance",
    "commit": "commit",
    "torch_version": "torch",
    "device": "device",
    "precision": "precision",
    "num_threads": "threads per run",
}
"""columns of runs, and how they are called"""


def describe_numbers(
    results: Results,
    frames: Frames,
    choice: Choice,
    tables: Sequence[Table],
    figures: Sequence[Drawn],
    command: str,
) -> str:
    """Return the text of `numbers.txt`."""
    sections = [
        ("How each number was made", _describe_all(results, choice, command)),
        ("Runs", _describe_runs(results, choice)),
        *((f"{table.name}.tex", _describe_table(table, frames, choice)) for table in tables),
        *(
            (f"{drawn.name}.pdf", [f"{drawn.title}.", drawn.caption, _FIGURES[drawn.name]])
            for drawn in figures
        ),
        ("Not shown", [f"- {each}." for each in choice.left_out] or ["Nothing is left out."]),
        ("Records", _list_records(choice)),
    ]
    return "\n".join(line for title, texts in sections for line in _section(title, texts))


def _section(title: str, texts: Sequence[str]) -> Iterator[str]:
    yield title
    yield "=" * len(title)
    for text in texts:
        indent = "  " if text.startswith(("- ", "  ")) else ""
        yield textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_on_hyphens=False)
    yield ""


def _describe_all(results: Results, choice: Choice, command: str) -> list[str]:
    return [
        "The files in this folder were written by",
        f"  {command}",
        f"with lt_rebalance {metadata.version('lt_rebalance')} and {describe_versions()}.",
        f"They are about the store {results.location}, studies {listed(list(results.studies))}, setting "
        f"“{choice.setting}”, data set {choice.dataset}.",
        "The .tex files round; the .csv files have the same numbers with all digits.",
    ]


def _describe_runs(results: Results, choice: Choice) -> list[str]:
    runs = choice.runs
    complete = runs[runs["state"] == "complete"]
    counts = ", ".join(f"{number} {name}" for name, number in account(runs).items() if name != "planned")
    sizes = complete.groupby("cell").size()
    cells = results.cells[results.cells["setting"] == choice.setting]
    sizes_of_tests = sorted({results.confusions[str(key)].num_images for key in complete["key"]})
    images = " or ".join(f"{number:,}" for number in sizes_of_tests)
    return [
        f"Planned in this setting: {count(len(runs), 'run')}, of which {counts}. Only complete runs give "
        "numbers.",
        f"n is the number of complete runs (one per seed) of one method on one training set: here "
        f"{count_between(int(sizes.min()), int(sizes.max()), 'seed')}.",
        f"Each run is tested once on {images} test images, with the network "
        f"{describe_reported_round(cells)}. All metrics are computed from its confusion matrix or its "
        "predictions, which are in its record.",
        describe_seeds(cells),
        "The runs were made with: " + _describe_made_with(complete) + ".",
    ]


def _describe_made_with(runs: pd.DataFrame) -> str:
    said = []
    for name, label in _MADE_WITH.items():
        values = dict.fromkeys(
            f"{value:g}" if isinstance(value, float) else str(value) for value in runs[name].dropna()
        )
        if values:
            said.append(f"{label} {' or '.join(values)}")
    return "; ".join(said)


def _describe_table(table: Table, frames: Frames, choice: Choice) -> list[str]:
    label = METRICS[choice.metric].label
    interval = (
        "After ±: half of the 95 % t interval of the mean, t(0.975, n - 1) · s / √n, with s the standard "
        "deviation with n - 1; absent if n is 1 or all values are equal."
    )
    marks = (
        "Bold: the best value of its column (of each training set); underlined: the second best. Values that "
        "are printed alike are marked alike. The marks are not a test."
    )
    texts = {
        "table1-main": [
            f"Each number is the arithmetic mean of the {label} of the n complete runs of its method and "
            "training set.",
            interval,
            f"Training sets, in the order of the columns: {listed(list(map(say_data, choice.data)))}. The "
            "columns of the CSV end in the number of the training set, from 0.",
            marks,
        ],
        "table2-differences": [
            f"Each difference is the mean over seeds of {label} of the method minus {label} of the "
            "reference, both runs with the same seed; in points, a hundredth each.",
            interval.replace("of the mean", "of the mean difference over the n pairs"),
            say_correction(choice, frames.contrasts)
            + f" The test flips the signs of the differences in all possible ways, or with more than "
            f"{MAX_EXACT} pairs in {NUM_FLIPS:,} random ways; the uncorrected p is the share of ways whose "
            "sum is at least as far from 0 as the observed one.",
            marks,
        ],
        "table3-classes": [
            "A class is dead in a run if none of its test images is recognised. Runs with a dead class: "
            "their number, of the n complete runs. Dead classes per run: the mean over the n runs.",
            "Recall of the tail: mean over the n runs of the mean recall of the rarest 30 % of classes.",
            interval,
            *(
                [
                    "Diversity of generated images: for each class, the standard deviation between "
                    "generated images, averaged over pixels, divided by the same of its real training "
                    "images; mean over classes and generators."
                ]
                if "mean_diversity" in table.frame
                else ["Worst-class recall: mean over the n runs of the lowest recall of any class."]
            ),
            marks,
        ],
    }
    return [f"{table.title}.", *texts[table.name]]


_FIGURES = {
    "figure1-main": (
        "The means are those of table 1. Their intervals are wider: Student's t at 95 % after Bonferroni "
        "over the methods of a training set, so that all of them hold together."
    ),
    "figure2-differences": (
        "Differences and intervals are made as in table 2: one difference per seed, and the t interval of "
        f"their mean. The grey band of ±{100 * MARGIN:g} points is fixed in the code."
    ),
    "figure3-classes": (
        "Each number is the mean, over the complete runs of a method, of the share of the test images of a "
        "class that are recognised."
    ),
}


def _list_records(choice: Choice) -> list[str]:
    """Return a line for each method and training set: the seeds and the records that its numbers rest on."""
    lines = [
        "Each run is stages/KEY/result.json in the store. These are the first digits of its KEY, by seed; "
        "tables/runs.csv of the report has all digits."
    ]
    complete = choice.runs[(choice.runs["state"] == "complete") & choice.runs["data"].isin(choice.data)]
    for (data, method), runs in complete.groupby(["data", "method"], sort=False):
        ordered = runs.sort_values("seed")
        pairs = zip(ordered["seed"], ordered["key"], strict=True)
        keys = ", ".join(f"{seed}: {key[:_KEY_DIGITS]}" for seed, key in pairs)
        lines.append(f"- {say_data(str(data))}, {method}: n = {len(runs)} ({keys})")
    return lines
