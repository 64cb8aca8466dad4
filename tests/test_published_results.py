"""What README and docs/ say of published studies is what their reports have."""

import csv
import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from analysis.collect import read_results
from analysis.compare import compare
from analysis.hypotheses import judge_hypotheses
from analysis.sources import SOURCES

ROOT = Path(__file__).parents[1]
LOSSES = {"cross_entropy": "cross-entropy", "double_softmax": "double softmax"}
INTERVAL = re.compile(r"[(, ]([+-]?\d+\.\d) to\s+([+-]?\d+\.\d)[);, ]")

Row = dict[str, str]


def read_table(study: str, name: str = "t1-replication-all") -> list[Row]:
    """Return the rows of a table of a published report."""
    path = ROOT / "studies" / study / "report" / "tables" / f"{name}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def read_section(heading: str) -> str:
    """Return the section of the results whose heading begins like this."""
    return read_page("results").partition(f"## {heading}")[2].partition("\n## ")[0]


def describe_data(cell: Row) -> str:
    return "original set" if cell["data"] == "original" else f"C = {cell['data']}"


def describe_measure(cell: Row, measure: str, of: str = "mean") -> str:
    """Return a mean with its standard deviation, or the paper's single number."""
    value = f"{float(cell[f'{measure}_{of}']):.3f}"
    return f"{value} ± {float(cell[f'{measure}_sd']):.3f}" if of == "mean" else value


def describe_result(cell: Row) -> list[str]:
    """Return a row of T1 as the documentation has it."""
    measures = (describe_measure(cell, measure) for measure in ("accuracy", "macro_f1"))
    return [cell["method"], *measures, cell["num_collapsed"]]


def describe_replication(cell: Row) -> list[str]:
    """Return a row of T1 beside the paper's numbers."""
    measures = (
        describe_measure(cell, measure, of)
        for measure in ("accuracy", "macro_f1", "loss")
        for of in ("mean", "paper")
    )
    return [describe_data(cell), cell["method"], *measures, cell["num_collapsed"]]


def describe_ranked(cell: Row) -> list[str]:
    """Return a row of R1 and R2: means, differences in macro F1, bold if significant, and dead classes."""
    means = (f"{float(cell[mean]):.3f}" for mean in ("mean", "accuracy"))
    differences = (describe_difference(cell, reference) for reference in ("none", "oversample"))
    return [f"`{cell['method']}`", *means, *differences, cell["num_collapsed"]]


def describe_difference(cell: Row, reference: str) -> str:
    """Return a difference in macro F1 in points with its interval; empty if there is none."""
    name = f"macro_f1_minus_{reference}"
    if not cell[f"{name}_n_pairs"]:
        return ""
    ends = (
        100 * float(cell[f"{name}_{end}"]) for end in ("mean_difference", "difference_low", "difference_high")
    )
    mean, low, high = (f"{end:+.1f}".replace("-", "−") for end in ends)
    mark = "**" if cell[f"{name}_verdict"] in ("better", "worse") else ""
    return f"{mark}{mean}{mark} ({low} to {high})"


def describe_sources(cell: Row) -> list[str]:
    """Return the standard deviation that each source makes, in points, with its interval."""
    parts = [[100 * float(cell[f"{source}_{each}"]) for each in ("sd", "low", "high")] for source in SOURCES]
    return [cell["method"], *(f"{sd:.2f} ({low:.2f} to {high:.2f})" for sd, low, high in parts)]


TABLES: dict[str, tuple[list[Row], Callable[[Row], list[str]], int]] = {
    "The sample": (
        read_table("sample"),
        lambda cell: [LOSSES[cell["loss_function"]], describe_data(cell), *describe_result(cell)],
        26,
    ),
    "Long-tailed CIFAR-10": (read_table("cifar10_lt"), describe_result, 5),
    "A sample of MNIST": (
        read_table("mnist_5k"),
        lambda cell: [describe_data(cell), *describe_result(cell)],
        14,
    ),
    "Double softmax kills classes": (
        read_table("loss"),
        lambda cell: [LOSSES[cell["loss_function"]], *describe_result(cell)],
        4,
    ),
    "The paper's rows at the paper's budget": (read_table("replication"), describe_replication, 15),
    "Methods on full Fashion-MNIST": (
        sorted(read_table("sound_methods", "r1-ranking"), key=lambda cell: int(cell["rank"])),
        describe_ranked,
        11,
    ),
    "Thirty methods on the sample": (
        sorted(read_table("methods", "r1-ranking"), key=lambda cell: int(cell["rank"])),
        describe_ranked,
        30,
    ),
    "Where the spread comes from": (read_table("sources", "t4-sources"), describe_sources, 2),
}
"""section of the results: the table of the report, a row of it as the section has it, and their number"""


@pytest.mark.parametrize("heading", TABLES)
def test_table_of_a_section_is_that_of_the_report(heading: str) -> None:
    cells, describe, num_rows = TABLES[heading]
    lines = [line for line in read_section(heading).splitlines() if line.startswith("| ")]
    rows = [[each.strip() for each in line.split("|")[1:-1]] for line in lines]
    assert rows[1:] == [describe(cell) for cell in cells] and len(cells) == num_rows


def test_rows_of_the_paper_that_are_said_to_be_far_are() -> None:
    """Of 15 rows twelve have means within 4.2 points of the paper's, and three are named."""
    far = {
        (cell["data"], cell["method"])
        for cell in read_table("replication")
        if abs(float(cell["accuracy_mean"]) - float(cell["accuracy_paper"])) > 0.0421
    }
    assert far == {("7/9", "none"), ("1/2", "none"), ("7/9", "mlp_cgan_leaky")}


def test_picture_is_that_of_the_report() -> None:
    picture = (ROOT / "docs" / "assets" / "accuracy-sample.png").read_bytes()
    assert picture == (ROOT / "studies/sample/report/figures/f1-replicates-2.png").read_bytes()


def list_intervals(rows: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """Return the intervals of differences, in points, from either method's side."""
    known = set()
    for row in rows:
        low, high = (100 * float(row[f"difference_{end}"]) for end in ("low", "high"))
        # "4 below (1 to 7)" is a difference from -7 to -1.
        known |= {(f"{low:.1f}", f"{high:.1f}"), (f"{-high:.1f}", f"{-low:.1f}")}
    return known


def read_finding(start: str) -> str:
    """Return the finding of the README that begins like this."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("**Findings**")[2]
    return text.partition(f"\n- {start}")[2].partition("\n- ")[0].partition("\n\n")[0]


def list_reported(study: str) -> set[tuple[str, str]]:
    """Return the intervals of T2 and A1 of a published report."""
    return list_intervals([*read_table(study, "t2-differences"), *read_table(study, "a1-ablations")])


def test_intervals_that_the_documentation_has_are_those_of_published_reports() -> None:
    sample, _, known_before = read_section("The sample").partition("**Known before.**")
    runs = read_results(str(ROOT / "studies" / "sample")).runs
    unknown = runs[(runs["seed"] >= 5) & (runs["data"] == "1/2") & (runs["loss_function"] == "cross_entropy")]
    for text, known, least in (
        (sample, list_reported("sample"), 13),
        (known_before, list_intervals(compare(unknown).to_dict("records")), 3),
        (read_finding("On the sample, cut"), list_reported("sample"), 4),
        (read_section("Long-tailed CIFAR-10"), list_reported("cifar10_lt"), 7),
        (read_finding("On [long-tailed CIFAR-10]"), list_reported("cifar10_lt"), 2),
        (read_section("Double softmax kills classes"), list_reported("loss"), 4),
        (read_finding("With a second softmax"), list_reported("loss"), 2),
    ):
        found = INTERVAL.findall(" ".join(text.split()))
        said = {(low.removeprefix("+"), high.removeprefix("+")) for low, high in found}
        assert len(said) >= least and said <= known, said - known


@pytest.mark.parametrize("first_seed", [0, 5])
def test_verdicts_on_double_softmax_are_those_of_all_seeds_and_of_the_unknown_ones(first_seed: int) -> None:
    results = read_results(str(ROOT / "studies" / "loss"))
    chosen = dataclasses.replace(results, runs=results.runs[results.runs["seed"] >= first_seed])
    verdicts = judge_hypotheses(chosen).set_index("hypothesis")
    assert list(verdicts.loc[["H10", "H11"], "verdict"]) == ["supported"] * 2
    section = " ".join(read_section("Double softmax kills classes").split())
    (points,) = re.findall(r"cross-entropy: \+([\d.]+) points", verdicts.loc["H11", "evidence"])
    assert f"{float(points):.1f} points" in section
    for k, n, k_other in re.findall(r"(\d+)/(\d+) against (\d+)/", verdicts.loc["H10", "evidence"]):
        assert re.search(rf"{k} of {n} runs|all {k} runs|{k} of {n} against", section) and k_other == "0"


def test_command_that_continues_a_published_study_runs_more_seeds_than_it_has() -> None:
    text = " ".join(read_page("publishing").split())
    ((study, seeds),) = re.findall(r"--plan-file (studies/\w+)/plan.toml --storage more --seeds (\w+)`", text)
    num_seeds = read_results(str(ROOT / study), allow=["gaps"]).runs["seed"].nunique()
    assert seeds == "N" or int(seeds) > num_seeds
