"""Numbers, names and words in README and docs/ are those of the code."""

import dataclasses
import re
import tomllib
from pathlib import Path

import torch

from analysis.chapters import CHAPTERS
from analysis.collect import read_results
from analysis.compare import ALPHA, BLOCK_COLUMNS, MARGIN, MIN_PAIRS, compare, decide
from analysis.hypotheses import HYPOTHESES, LOGIT_METHODS
from analysis.significance import EXACT
from lt_rebalance.data.catalog import DATASETS
from lt_rebalance.data.long_tail import VALIDATION_PER_CLASS, choose_validation
from lt_rebalance.ground.confusion import MAX_DETAILED
from lt_rebalance.ground.metrics import COLLAPSED_BELOW
from lt_rebalance.ground.plain import parse_value
from lt_rebalance.methods.registry import METHODS
from lt_rebalance.methods.weighing import effective_number, inverse_frequency
from lt_rebalance.monitoring.tensorboard.content import MAX_SAMPLED
from lt_rebalance.networks.generators.registry import GENERATORS
from lt_rebalance.studies.protocols import PROTOCOLS, step_budget
from sweeps import compare_methods

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_readme_counts_what_there_is_and_has_the_command_of_the_tests() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    counts = f"{len(METHODS)} methods, {len(GENERATORS)} generators, {len(DATASETS)} data sets"
    assert counts in " ".join(text.split())
    assert "uv run pytest -n 2 --dist worksteal" in text


def test_mean_weights_that_the_settings_state_are_those_of_the_methods() -> None:
    counts_LK = torch.tensor([[int(5_000 * 0.01 ** (place / 9)) for place in range(10)]])
    text = " ".join((ROOT / "docs" / "settings.md").read_text(encoding="utf-8").split())
    for weights_LK, stated in (
        (effective_number(counts_LK, 0.9999), "has a mean weight of {:.2f} by `class_balanced`"),
        (inverse_frequency(counts_LK, 1.0), "and {:.2f} by `weighted_cross_entropy`"),
    ):
        assert stated.format(float((weights_LK * counts_LK).sum() / counts_LK.sum())) in text


def test_table_of_protocols_has_the_values_of_the_code() -> None:
    text = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    rows = {
        row.split("|")[1].strip(): row.split("|")[2:4] for row in text.splitlines() if row.startswith("| ")
    }
    paper, sound = PROTOCOLS["paper"], PROTOCOLS["sound"]
    for row, inside in {
        "Adam's beta1, classifier": (str(paper.classifier_beta1), str(sound.classifier_beta1)),
        "budget of the classifier": (
            f"{paper.classifier_budget.epochs} epochs",
            f"{sound.classifier_budget.steps:,} steps",
        ),
        "budget of a CGAN": (
            f"{paper.generator_budget.epochs} epochs",
            f"{sound.generator_budget.steps:,} steps",
        ),
        "order of the classes": (f"by {paper.class_order}", f"by {sound.class_order}"),
        "set that a CGAN learns from": (paper.generator_training_method, sound.generator_training_method),
    }.items():
        assert all(value in told for value, told in zip(inside, rows[row], strict=True)), row


def read_page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def read_rows(text: str, head: str) -> list[list[str]]:
    """Return the cells of each row of the table whose first line begins like this."""
    lines = text.partition(f"\n{head}")[2].partition("\n\n")[0].splitlines()[2:]
    return [[each.strip() for each in line.split("|")[1:-1]] for line in lines]


def test_pages_have_the_images_that_a_search_sets_aside() -> None:
    found = re.findall(r"(\d+)\s+on\s+`(\w+)`", read_page("search").partition("**The objective**")[2][:600])
    assert len(found) >= 4
    assert [(int(number), name) for number, name in found if choose_validation(name) != int(number)] == []
    rule = f"a twelfth of the smallest class, from 1 to {VALIDATION_PER_CLASS}"
    for page in ("search", "own-data"):
        assert rule in " ".join(read_page(page).split()), page


def test_pages_have_the_fewest_seeds_of_the_full_comparison() -> None:
    full = compare_methods.make_methods_parser().parse_args(["--preset", "full"])
    study = compare_methods.build_study(full)
    num_differences, num_seeds = len(study.comparisons), len(study.seeds)
    least_p = num_differences * 2 / 2 ** (num_seeds - 1)
    assert num_differences * 2 / 2**num_seeds < ALPHA <= least_p
    text = " ".join(read_page("sweeps").split())
    assert f"has {num_differences} differences; below {num_seeds} seeds none could be significant" in text
    assert f"({num_differences} · 2/2¹¹ = {least_p:.3f})" in text and num_seeds - 1 == 11


def test_page_has_the_classes_that_tensorboard_shows() -> None:
    text = " ".join(read_page("watching").split())
    assert f"A data set of more than {MAX_DETAILED} classes has no recalls" in text
    assert f"Samples of a CGAN show the first {MAX_SAMPLED} classes" in text


def test_chapters_of_the_report_have_their_tables() -> None:
    titles = {
        path.stem: path.read_text(encoding="utf-8").removeprefix("## ").split(".")[0].split("\n")[0]
        for path in ROOT.glob("studies/*/report/tables/*.md")
    }
    rows = read_rows(read_page("report"), "| chapter |")
    assert len(rows) == len(CHAPTERS)
    for (name, tables), chapter in zip(rows, CHAPTERS, strict=True):
        assert name.startswith(chapter.short_title), name
        expected = {titles.get(each, each.split("-")[0].upper()) for each in chapter.tables}
        if chapter.name != "claims":  # which has a link in its place
            assert set(tables.split(", ")) - {""} == expected, name


def test_verdicts_are_those_of_the_code() -> None:
    rows = read_rows(read_page("report"), "| first screen |")
    known = ["better", "worse", "equivalent", "undecided"]
    assert [word for row in rows for word in row[1].split(", ")] == known
    differences = [
        {"n_pairs": 6, "mean_difference": sign, "tost_p": tost_p} for sign in (1, -1) for tost_p in (0, 1)
    ]
    found = {decide(each, p_value, "accuracy") for each in differences for p_value in (0.01, 0.5)}
    assert found == set(known)
    assert f"±{100 * MARGIN:g} points" in rows[1][2] and f"below {ALPHA:g}" in rows[0][2]
    assert f"needs {MIN_PAIRS} pairs" in read_page("report")
    assert f"of the sign-flip test ({EXACT}):" in " ".join(read_page("report").split())


def test_every_hypothesis_is_listed_with_its_claim() -> None:
    rows = read_rows(read_page("report"), "| | claim |")
    assert rows == [[each.name, each.claim, each.source.replace("new", "")] for each in HYPOTHESES]
    text = read_page("report")
    assert "H1 to H9, H15 and H17 are claims of the paper" in text
    of_paper = {*(f"H{number}" for number in range(1, 10)), "H15", "H17"}
    assert {each.name for each in HYPOTHESES if each.source != "new"} == of_paper


def test_options_of_methods_have_their_defaults() -> None:
    described = {}
    for _, names, _, text in read_rows(read_page("methods"), "| family | name |"):
        for name in re.findall(r"`(\w+)`", names):
            described[name] = dict(re.findall(r"`(\w+)` \(([^)]*)\)", text))
    for name, method in METHODS.items():
        declared = dataclasses.fields(method.options) if method.options else ()
        expected = {each.name: each.default for each in declared}
        said = described[name.removesuffix("_drw")] | described[name] if "mix" in name else described[name]
        found = {each: parse_value(value.replace(",", "")) for each, value in said.items()}
        assert found == expected, name


def test_glossary_has_the_threshold_and_the_words_of_the_report() -> None:
    words = {row[0]: row[1] for row in read_rows(read_page("concepts"), "| word |")}
    assert f"below {COLLAPSED_BELOW:g}" in words["collapsed generator"]
    assert f"±{100 * MARGIN:g} points" in words["equivalent"]
    logit_level = re.findall(r"`(\w+)`", words["logit-level"])
    assert sorted(logit_level) == sorted(LOGIT_METHODS)
    needed = ("arithmetic", "collapsed run", "confirmatory", "contrast", "diversity", "exploratory")
    assert set(needed) | {"undecided", "untuned"} <= set(words)


def test_settings_say_which_rounds_steps_alone_get() -> None:
    assert [step_budget(steps).rounds for steps in (50, 250, 3000, 9000)] == [1, 2, 30, 30]
    assert "one round per 100 steps, at least 1 and at most 30" in " ".join(read_page("settings").split())


def test_extras_are_installed_from_the_checkout() -> None:
    """The package is on no index."""
    texts = [*PAGES, *(ROOT / "lt_rebalance").rglob("*.py"), *(ROOT / "analysis").rglob("*.py")]
    named = [
        path for path in texts if re.search(r"pip install\s+'?lt_rebalance", path.read_text(encoding="utf-8"))
    ]
    assert named == []


def test_documentation_of_compare_has_its_columns() -> None:
    contrasts = compare(read_results(str(ROOT / "studies" / "cifar10_lt")).runs)
    named = set(re.findall(r"`(\w+)`", compare.__doc__ or ""))
    assert set(contrasts.columns) - set(BLOCK_COLUMNS) <= named


def test_citation_has_the_version_of_the_package() -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {package['version']}\n" in citation and f"license: {package['license']}" in citation


def test_glossary_is_in_order_and_defines_each_word_once() -> None:
    text = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8").partition("## Glossary")[2]
    words = re.findall(r"^\| ([^|]+?) \|", text, re.MULTILINE)[1:]
    assert len(words) > 20 and words == sorted(set(words), key=str.lower)
