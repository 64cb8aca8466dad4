"""Every block of code in README and docs/ is run or says why not, and the site builds."""

import csv
import dataclasses
import importlib
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import sync_playwright

import analysis.__main__
import lt_rebalance.cli.main
from analysis.chapters import CHAPTERS
from analysis.collect import read_results
from analysis.compare import ALPHA, BLOCK_COLUMNS, MARGIN, MIN_PAIRS, compare, decide
from analysis.hypotheses import HYPOTHESES, LOGIT_METHODS
from analysis.significance import EXACT
from analysis.sources import SOURCES
from lt_rebalance.cli.parser import make_parser
from lt_rebalance.commands.sweep import make_axes_parser
from lt_rebalance.data.catalog import DATASETS, is_location
from lt_rebalance.data.long_tail import VALIDATION_PER_CLASS, choose_validation
from lt_rebalance.ground.metrics import COLLAPSED_BELOW
from lt_rebalance.ground.plain import parse_value
from lt_rebalance.methods.registry import METHODS
from lt_rebalance.methods.weighing import effective_number, inverse_frequency
from lt_rebalance.networks.generators.registry import GENERATORS
from lt_rebalance.studies.overrides import change_study, read_overrides
from lt_rebalance.studies.protocols import PROTOCOLS, step_budget
from sweeps import compare_methods

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "store"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"^(?:(?P<comment> *<!--.*?-->)\n)?(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
SLOW = "<!-- slow -->"
REASON = re.compile(r"<!-- not run: \S.{8,} -->")

LOADED = r"""<(?:script|img|iframe)[^>]*\ssrc=["']([^"']*)|<link[^>]*\shref=["']([^"']*)"""
"""addresses that a page of the site loads"""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    comment: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    def commands(self) -> list[list[str]]:
        """Return the words of each command; comments and `VARIABLE=...` before it are left out."""
        joined = self.text.replace("\\\n", " ").splitlines()
        split = [shlex.split(line, comments=True) for line in joined]
        commands = []
        for words in split:
            while words and re.match(r"[A-Z_]+=", words[0]):
                words = words[1:]
            commands += [list(part) for part in _split_at(words, "&&") if part]
        return commands


def _split_at(words: list[str], mark: str) -> Iterator[list[str]]:
    while mark in words:
        place = words.index(mark)
        yield words[:place]
        words = words[place + 1 :]
    yield words


def find_blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start("language")) + 1,
            language=found["language"],
            comment=(found["comment"] or "").strip(),
            text=textwrap.dedent(found["text"]),
        )
        for found in FENCE.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in find_blocks(page)]
SHELL = [block for block in BLOCKS if block.language in ("", "sh")]
SLOW_PAGES = sorted({block.page for block in BLOCKS if block.comment == SLOW})
PYTHON = [block for block in BLOCKS if block.language == "python"]


@pytest.fixture
def golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current directory, which holds the golden store as `results`, and the published studies."""
    shutil.copytree(GOLDEN, tmp_path / "results")
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Blocks


def test_every_fence_is_a_block_and_every_comment_over_one_is_known() -> None:
    for page in PAGES:
        blocks = [block for block in BLOCKS if block.page == page]
        fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(blocks), page
    wrong = [
        f"{block}: {block.comment or block.language}"
        for block in BLOCKS
        if not (block.comment in ("", SLOW) or REASON.fullmatch(block.comment))
        or block.language not in ("", "sh", "python", "toml", "json")
    ]
    assert wrong == []


def test_data_can_be_read() -> None:
    readers = {"toml": tomllib.loads, "json": json.loads}
    for block in BLOCKS:
        if block.language in readers:
            assert readers[block.language](block.text)


@pytest.mark.parametrize("block", [each for each in PYTHON if not each.comment], ids=str)
def test_python_runs(block: Block, golden: Path) -> None:
    exec(compile(block.text, str(block), "exec"), {"__name__": "documentation"})


@pytest.mark.parametrize("block", [each for each in SHELL if not each.comment], ids=str)
def test_commands_run(block: Block, golden: Path) -> None:
    mains = {"lt-rebalance": lt_rebalance.cli.main.main, "analysis": analysis.__main__.main}
    for words in block.commands():
        name, rest = _name(words)
        assert mains[name](rest) == 0, f"{block}: {shlex.join(words)}; mark the block, or have it succeed"


@pytest.mark.parametrize("block", [each for each in SHELL if each.comment], ids=str)
def test_commands_that_are_not_run_here_are_ones_that_are_taken(
    block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for words in block.commands():
        name, rest = _name(words)
        monkeypatch.setattr(sys, "argv", [name])  # parsers take their name from here
        if name == "lt-rebalance":
            make_parser().parse_args(rest)
        elif name == "analysis":
            analysis.__main__.make_parser().parse_args(rest)
        elif name.startswith("sweeps/"):
            _check_sweep(name, [each.replace("studies/NAME/", "studies/replication/") for each in rest])
        elif name.endswith(".py"):
            assert (ROOT / name).exists()
        elif name.startswith("benchmarks."):
            importlib.import_module(name).make_own_parser().parse_args(rest)


def test_benchmarks_that_a_sentence_names_take_the_options_it_gives() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    found = [each for text in texts for each in re.findall(r"`[^`\n]*python -m (benchmarks\.[^`]*)`", text)]
    assert len(found) > 10
    for line in found:
        name, *rest = shlex.split(line)
        importlib.import_module(name).make_own_parser().parse_args(rest)


def _name(words: list[str]) -> tuple[str, list[str]]:
    """Return what a command runs and its arguments; `uv run`, `python` and the like are left out."""
    while words[0] in ("uv", "run", "python", "-m", "env", "time") or "=" in words[0]:
        words = words[1:]
    return words[0], words[1:]


def _check_sweep(name: str, arguments: list[str]) -> None:
    """Read a sweep's command line and make its study, where no file of the reader's is needed for that."""
    page = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    if not (ROOT / name).exists() and f"`{name}`" in page:
        return  # the one that the page shows how to write
    sweep = runpy.run_path(str(ROOT / name))
    own = [each for each in sweep.values() if getattr(each, "__module__", "") == "<run_path>"]
    made = [each for each in own if re.fullmatch(r"make_\w+_parser", getattr(each, "__name__", ""))]
    parser = made[0]() if made else make_axes_parser(sweep["__doc__"], sweep["PRESETS"])
    options = parser.parse_args(arguments)
    needs_files = re.search(r"path/|PATH/|--tuned|--config", " ".join(arguments))
    if "build_study" in sweep and not needs_files and not is_location(getattr(options, "dataset", None)):
        overrides = read_overrides(None, options.set)
        assert change_study(sweep["build_study"](options), overrides).cells


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW_PAGES, ids=lambda page: page.name)
def test_slow_blocks_run_one_after_another(page: Path, tmp_path: Path) -> None:
    blocks = [each for each in BLOCKS if each.page == page and each.comment == SLOW]
    if not any("sweeps/" in block.text for block in blocks):
        shutil.copytree(GOLDEN, tmp_path / "results")
    python = shlex.quote(sys.executable)
    for block in blocks:
        text = block.text if block.language != "python" else f"{python} - <<'END'\n{block.text}END"
        for shown, run in {
            "uv run python": python,
            "uv run lt-rebalance": f"{python} -m lt_rebalance",
            "sweeps/": f"{shlex.quote(str(ROOT))}/sweeps/",
            "--seeds 5": "--seeds 1 --steps 20 --generator-steps 20",  # enough to see that it runs
        }.items():
            text = text.replace(shown, run)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_python_passes_the_checks_of_this_project(tmp_path: Path) -> None:
    for number, block in enumerate(PYTHON):
        (tmp_path / f"block_{number}.py").write_text(block.text, encoding="utf-8")
    for check in (["check"], ["format", "--check"]):
        command = [
            sys.executable,
            "-m",
            "ruff",
            *check,
            "--no-cache",
            "--config",
            str(ROOT / "pyproject.toml"),
        ]
        done = subprocess.run(
            [*command, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.returncode == 0, done.stdout


# Numbers


def test_readme_counts_what_there_is_and_has_the_command_of_the_tests() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    counts = f"{len(METHODS)} methods, {len(GENERATORS)} generators, {len(DATASETS)} data sets"
    assert counts in " ".join(text.split())
    assert "uv run pytest -n 2 --dist worksteal" in text


def test_results_of_published_studies_are_those_of_their_reports() -> None:
    losses = {"cross_entropy": "cross-entropy", "double_softmax": "double softmax"}
    of_sample = [
        [
            losses[cell["loss_function"]],
            "original set" if cell["data"] == "original" else f"C = {cell['data']}",
            *describe_result(cell),
        ]
        for cell in read_table("sample", "t1-replication-all")
    ]
    of_cifar = [describe_result(cell) for cell in read_table("cifar10_lt", "t1-replication-all")]
    measures = ("accuracy", "macro_f1", "loss")
    of_replication = [
        [
            "original set" if cell["data"] == "original" else f"C = {cell['data']}",
            cell["method"],
            *(describe_measure(cell, measure, of) for measure in measures for of in ("mean", "paper")),
            cell["num_collapsed"],
        ]
        for cell in read_table("replication", "t1-replication-all")
    ]
    of_mnist = [
        [f"C = {cell['data']}", *describe_result(cell)]
        for cell in read_table("mnist_5k", "t1-replication-all")
    ]
    by_rank = sorted(read_table("methods", "r1-ranking"), key=lambda cell: int(cell["rank"]))
    of_methods = [describe_contrasts(cell) for cell in by_rank]
    of_sources = [
        [cell["method"], *(describe_source(cell, source) for source in SOURCES)]
        for cell in read_table("sources", "t4-sources")
    ]
    for heading, expected, num_rows in (
        ("## The sample", of_sample, 26),
        ("## Long-tailed CIFAR-10", of_cifar, 5),
        ("## The paper's rows at the paper's budget", of_replication, 15),
        ("## Where the spread comes from", of_sources, 2),
        ("## A sample of MNIST", of_mnist, 14),
        ("## Thirty methods on the sample", of_methods, 30),
    ):
        lines = [line for line in read_section(heading).splitlines() if line.startswith("| ")]
        rows = [[each.strip() for each in line.split("|")[1:-1]] for line in lines]
        assert rows[1:] == expected and len(expected) == num_rows
    # "The mean accuracies of twelve rows are within 4.2 points", and what the other three are.
    far = {
        (cell["data"], cell["method"])
        for cell in read_table("replication", "t1-replication-all")
        if abs(float(cell["accuracy_mean"]) - float(cell["accuracy_paper"])) > 0.0421
    }
    assert far == {("7/9", "none"), ("1/2", "none"), ("7/9", "mlp_cgan_leaky")}
    picture = (ROOT / "docs" / "assets" / "accuracy-sample.png").read_bytes()
    assert picture == (ROOT / "studies/sample/report/figures/f1-replicates-2.png").read_bytes()


def test_mean_weights_that_the_settings_state_are_those_of_the_methods() -> None:
    counts_LK = torch.tensor([[int(5_000 * 0.01 ** (place / 9)) for place in range(10)]])
    text = " ".join((ROOT / "docs" / "settings.md").read_text(encoding="utf-8").split())
    for weights_LK, stated in (
        (effective_number(counts_LK, 0.9999), "has a mean weight of {:.2f} by `class_balanced`"),
        (inverse_frequency(counts_LK, 1.0), "and {:.2f} by `weighted_cross_entropy`"),
    ):
        assert stated.format(float((weights_LK * counts_LK).sum() / counts_LK.sum())) in text


def describe_measure(cell: dict[str, str], measure: str, of: str) -> str:
    """Return a mean with its standard deviation, or the paper's single number."""
    value = f"{float(cell[f'{measure}_{of}']):.3f}"
    return f"{value} ± {float(cell[f'{measure}_sd']):.3f}" if of == "mean" else value


def describe_contrasts(cell: dict[str, str]) -> list[str]:
    """Return a row of R1 and R2: means, differences in macro F1, bold if significant, and dead classes."""
    differences = [describe_difference(cell, reference) for reference in ("none", "oversample")]
    return [
        f"`{cell['method']}`",
        f"{float(cell['mean']):.3f}",
        f"{float(cell['accuracy']):.3f}",
        *differences,
        cell["num_collapsed"],
    ]


def describe_difference(cell: dict[str, str], reference: str) -> str:
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


def describe_source(cell: dict[str, str], source: str) -> str:
    """Return the standard deviation that a source makes, in points, with its interval."""
    sd, low, high = (100 * float(cell[f"{source}_{each}"]) for each in ("sd", "low", "high"))
    return f"{sd:.2f} ({low:.2f} to {high:.2f})"


def read_table(study: str, name: str) -> list[dict[str, str]]:
    """Return the rows of a table of a published report."""
    path = ROOT / "studies" / study / "report" / "tables" / f"{name}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def describe_result(cell: dict[str, str]) -> list[str]:
    """Return a row of T1 as the documentation has it."""
    means = [
        f"{float(cell[f'{m}_mean']):.3f} ± {float(cell[f'{m}_sd']):.3f}" for m in ("accuracy", "macro_f1")
    ]
    return [cell["method"], *means, cell["num_collapsed"]]


def read_section(heading: str) -> str:
    """Return the section of the results whose heading begins like this."""
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    return text.partition(heading)[2].partition("\n## ")[0]


def list_intervals(rows: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """Return the intervals of differences, in points, from either method's side."""
    known = set()
    for row in rows:
        low, high = (100 * float(row[f"difference_{end}"]) for end in ("low", "high"))
        # "4 below (1 to 7)" is a difference from -7 to -1.
        known |= {(f"{low:.1f}", f"{high:.1f}"), (f"{-high:.1f}", f"{-low:.1f}")}
    return known


def test_intervals_that_the_documentation_has_are_those_of_published_reports() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("**Findings**")[2]
    findings = readme.partition("- With a second softmax")[0]
    of_findings, _, of_cifar = findings.partition("- On [long-tailed CIFAR-10]")
    sample, _, known_before = read_section("## The sample").partition("**Known before.**")
    runs = read_results(str(ROOT / "studies" / "sample")).runs
    unknown = runs[(runs["seed"] >= 5) & (runs["data"] == "1/2") & (runs["loss_function"] == "cross_entropy")]
    of_sample, others = (
        list_intervals([*read_table(study, "t2-differences"), *read_table(study, "a1-ablations")])
        for study in ("sample", "cifar10_lt")
    )
    for text, known, least in (
        (sample, of_sample, 13),
        (of_findings, of_sample, 4),
        (known_before, list_intervals(compare(unknown).to_dict("records")), 3),
        (read_section("## Long-tailed CIFAR-10"), others, 7),
        (of_cifar, others, 2),
    ):
        found = re.findall(r"[(, ]([+-]?\d+\.\d) to\s+([+-]?\d+\.\d)[);, ]", " ".join(text.split()))
        said = {(low.removeprefix("+"), high.removeprefix("+")) for low, high in found}
        assert len(said) >= least and said <= known, said - known


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


def test_command_that_continues_a_published_study_runs_more_seeds_than_it_has() -> None:
    text = " ".join(read_page("publishing").split())
    ((study, seeds),) = re.findall(r"--plan-file (studies/\w+)/plan.toml --storage more --seeds (\w+)`", text)
    num_seeds = read_results(str(ROOT / study), allow=["gaps"]).runs["seed"].nunique()
    assert seeds == "N" or int(seeds) > num_seeds


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


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, strictly."""
    pytest.importorskip("material", reason="mkdocs is not installed: uv sync --group docs")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed: uv sync --group docs")
    site = tmp_path_factory.mktemp("documentation") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return site


@pytest.mark.slow
def test_site_builds_strictly_and_needs_no_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        asked = re.findall(LOADED, text)
        assert [each for pair in asked for each in pair if "//" in each and each[:5] != "data:"] == [], page
    assert "CGANSampler" in (site / "python.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_site_is_searched_from_a_disk(site: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no browser is installed: chromium or google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page, asked = browser.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.click("input.md-search__input")
        page.keyboard.type("oversample", delay=20)
        page.wait_for_selector(".md-search-result__item", timeout=60_000)
        browser.close()
    assert [address for address in asked if not address.startswith(("file:", "data:"))] == []
