"""Every block of code in README and docs/ is run or says why not, and the site builds."""

import importlib
import itertools
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

import analysis.__main__
import lt_rebalance.cli.main
from lt_rebalance.cli.parser import make_parser
from lt_rebalance.commands.sweep import make_axes_parser
from lt_rebalance.data.catalog import is_location
from lt_rebalance.studies.overrides import change_study, read_overrides

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


GROWS = {"--seeds", "--trials"}
"""options with which a command continues what it has begun"""


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_sweeps_of_one_block_have_a_name_each_so_that_none_replaces_or_refuses_another(block: Block) -> None:
    told: dict[tuple[str, ...], list[str]] = {}
    for words in block.commands():
        name, rest = _name(words)
        if not name.startswith("sweeps/") or "--plan" in rest or "--plan-file" in rest:
            continue
        values = dict(itertools.pairwise(rest))
        study = (name, *(values.get(option, "") for option in ("--preset", "--storage", "--name")))
        same = [each for before, each in itertools.pairwise(["", *rest]) if not {before, each} & GROWS]
        assert told.setdefault(study, same) == same, study


def test_files_that_pages_name_exist() -> None:
    named = {
        (page.name, path)
        for page in PAGES
        for path in re.findall(
            r"`([\w*-]+/[\w*/-]+\.(?:py|toml|ya?ml|md))`", page.read_text(encoding="utf-8")
        )
        if not path.startswith("path/") and "NAME" not in path
    }
    assert len(named) > 30
    shown = {("sweeps.md", "sweeps/ablate_batch_size.py")}  # which the page shows how to write
    assert {(page, path) for page, path in named if not list(ROOT.glob(path))} <= shown


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
