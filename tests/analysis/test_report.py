"""The report: what the page contains, which files are beside it, and which files it never opens."""

import csv
import dataclasses
import hashlib
import html
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.__main__ import main
from analysis.collect import Results, read_results
from analysis.report import write_report
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.studies.plan import Plan
from lt_rebalance.studies.stage import RESULTS_VERSION
from tests.analysis.synthetic import confusion_of, make_record, make_store, plan_study

TOUCH = b"cbuiltins\nopen\n(V%s\nVw\ntR."
"""a pickle that makes a file when it is loaded"""

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def small_plan() -> Plan:
    """Methods none and oversample and one CGAN at C = 1/2, two seeds."""
    return plan_study(generators=("mlp_cgan_relu",), cs=("1/2",), num_seeds=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, small_plan: Plan) -> Store:
    """A complete store of the small plan in which the runs of method none have accuracy 0.7 and 0.8."""
    store = make_store(tmp_path_factory.mktemp("small") / "store", small_plan)
    for run in small_plan.runs:
        if run.cell.method_label == "none":
            record = make_record(run.stage, confusion_of(np.full(10, 0.7 + 0.1 * run.seed)))
            result_path(store, run.key).write_bytes(record.to_json())
    return store


@pytest.fixture(scope="module")
def report_dir(tmp_path_factory: pytest.TempPathFactory, store: Store) -> Path:
    """The report of the small store, which it leaves as it was."""
    before = files_below(Path(store.location))
    path = write_report(read_results(store.location), tmp_path_factory.mktemp("small") / "report").parent
    assert files_below(Path(store.location)) == before, "a report has changed its store"
    return path


def result_path(store: Store, key: str) -> Path:
    return Path(store.location) / "stages" / key / "result.json"


def files_below(root: Path) -> dict[str, str]:
    """Return the hash of every file, by path."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def rename(results: Results, name: str) -> Results:
    """Return results in which the study and the method none have another name."""
    runs, cells = (
        frame.assign(method=frame["method"].replace("none", name)) for frame in (results.runs, results.cells)
    )
    return dataclasses.replace(results, studies=(name,), runs=runs, cells=cells)


# What is written


def test_numbers_by_hand_stand_on_the_page_and_in_the_csv(report_dir: Path) -> None:
    # 0.7 and 0.8: mean 0.75, sd 0.0707; t(.975, 1) = 12.706, half width 12.706 * 0.0707 / sqrt(2) = 0.635
    page = (report_dir / "index.html").read_text(encoding="utf-8")
    assert re.search(r'data-value="0\.75">0\.750 \(0\.115 to 1\.385\)<', page)
    with (report_dir / "tables" / "t1-replication-all.csv").open(encoding="utf-8") as file:
        (row,) = [row for row in csv.DictReader(file) if row["method"] == "none"]
    assert float(row["accuracy_mean"]) == pytest.approx(0.75)
    assert float(row["accuracy_mean_low"]) == pytest.approx(0.75 - 12.7062 * 0.05, abs=1e-4)
    assert row["accuracy_paper"] == ""  # the paper ran another loss and budget


def test_first_screen_says_what_the_protocol_is_and_how_to_go_on(report_dir: Path) -> None:
    page = (report_dir / "index.html").read_text(encoding="utf-8")
    first, rest = page.split("</header>", 1)
    assert "Protocol sound follows good practice" in first and "More seeds, resuming" in first
    assert "with a larger <code>--seeds</code>" in rest and "--paper" in rest


def test_every_table_and_figure_is_written_in_every_format(report_dir: Path) -> None:
    tables, figures = (
        sorted(path.name for path in (report_dir / name).iterdir()) for name in ("tables", "figures")
    )
    stems = {name.rpartition(".")[0] for name in tables} - {"runs", "cells"}
    assert "t2-differences" in stems and "hypotheses" in stems
    assert {f"{stem}.{suffix}" for stem in stems for suffix in ("csv", "md", "tex")} <= set(tables)
    assert figures and {name.rpartition(".")[2] for name in figures} == {"png", "svg"}


def test_page_needs_nothing_beside_itself(report_dir: Path) -> None:
    page = (report_dir / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'<a href="((?!#)[^"]*)" download>', page)
    others = re.sub(r'<a href="[^"]*" download>', "", page)
    assert not re.search(r'(src|href)="(?!data:|#)|url\((?!#)', others) and "@import" not in page
    assert page.count("<figure ") == len(list((report_dir / "figures").glob("*.png")))
    assert {"tables/t0-leaders.csv", "tables/t0-leaders.tex", "figures/f1-replicates-1.svg"} <= set(links)
    assert [link for link in links if not (report_dir / link).is_file()] == []


def test_no_two_elements_have_one_id_and_every_anchor_is_there(report_dir: Path) -> None:
    page = (report_dir / "index.html").read_text(encoding="utf-8")
    ids = re.findall(r' id="([^"]*)"', page)
    pointed = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page)
    assert len(set(ids)) == len(ids) and {name for pair in pointed for name in pair if name} <= set(ids)
    assert {"t0-leaders", "results"} <= {name for pair in pointed for name in pair}


def test_every_figure_has_its_title_and_caption_as_alternative_text(report_dir: Path) -> None:
    page = (report_dir / "index.html").read_text(encoding="utf-8")
    alternatives = re.findall(r'<(?:img [^>]*alt|svg role="img" aria-label)="([^"]*)"', page)
    said = re.findall(r"<figcaption><strong>(.*?)</strong>(.*?)<span>", page, re.DOTALL)
    assert alternatives == [f"{title.strip().removesuffix('.')}. {text.strip()}" for title, text in said]
    assert len(set(alternatives)) == len(alternatives) > 1


def test_page_has_no_chapter_of_methods_where_no_study_compares_them(report_dir: Path) -> None:
    assert 'id="methods"' not in (report_dir / "index.html").read_text(encoding="utf-8")


def test_chapters_come_in_the_order_of_the_questions(report_dir: Path) -> None:
    page = (report_dir / "index.html").read_text(encoding="utf-8")
    names = re.findall(r'<(?:header|section) id="([^"]+)"', page)
    assert names == [
        "summary",
        "results",
        "differences",
        "classes",
        "generators",
        "cost",
        "claims",
        "exploratory",
        "spread",
        "limits",
        "provenance",
    ]
    (nav,) = re.findall(r"<nav .*?</nav>", page, re.DOTALL)
    assert re.findall(r'href="#([^"]+)"', nav) == names
    assert "A1. Changes" in page.partition('<section id="provenance">')[2]  # without a row, and said so


@pytest.mark.slow
def test_a_second_report_is_the_same_and_leaves_foreign_files_alone(
    tmp_path: Path, store: Store, report_dir: Path
) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "index.html").write_text("an earlier report")
    write_report(read_results(store.location), tmp_path)
    written = files_below(tmp_path)
    assert written.pop("mine.txt") == hashlib.sha256(b"mine").hexdigest()
    assert written == files_below(report_dir)


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_a_failure_while_writing_leaves_the_earlier_page_whole(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "index.html"
    page.write_text("an earlier report")
    results, write_bytes = read_results(store.location), Path.write_bytes

    def stop_in_the_middle(path: Path, content: bytes) -> int:
        if "index.html" in path.name:
            write_bytes(path, content[: len(content) // 2])
            raise OSError("no space left")
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", stop_in_the_middle)
    with pytest.raises(OSError, match="no space left"):
        write_report(results, tmp_path)
    assert page.read_text() == "an earlier report"


# What is said


def test_a_complete_report_does_not_call_itself_partial(report_dir: Path) -> None:
    assert "PARTIAL" not in (report_dir / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_a_partial_report_says_so_in_title_and_banner_with_counts(tmp_path: Path, small_plan: Plan) -> None:
    store = make_store(tmp_path / "store", small_plan)
    result_path(store, small_plan.runs[0].key).unlink()
    page = write_report(read_results(store.location, allow=["gaps"]), tmp_path / "report").read_text("utf-8")
    total = len(small_plan.runs)
    title = re.search(r"<title>(.*?)</title>", page)
    assert title and title[1].startswith(f"PARTIAL ({total - 1} of {total} runs)")
    banner = re.search(r'class="partial".*?</p>', page, re.DOTALL)
    assert banner and f"{total - 1} of {total}" in banner[0]
    assert ">1 of 2<" in page


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_a_sweep_without_a_complete_run_has_a_partial_report(tmp_path: Path) -> None:
    plan = plan_study(cs=("1/2",), methods=("none", "cgan"), generators=("mlp_cgan_relu",), num_seeds=2)
    store = make_store(tmp_path / "store", plan)
    for run in plan.runs:
        (tmp_path / "store" / "stages" / run.key / "result.json").unlink()
    page = write_report(read_results(store.location, allow=["gaps"]), tmp_path / "report").read_text()
    assert "PARTIAL" in page and "0 of 2" in page
    for path in (tmp_path / "store" / "stages").glob("*/result.json"):
        path.unlink()
    page = write_report(read_results(store.location, allow=["gaps"]), tmp_path / "nothing").read_text()
    assert "PARTIAL" in page


@pytest.mark.slow
def test_nothing_is_written_when_a_sheet_is_damaged(tmp_path: Path) -> None:
    plan = plan_study(cs=("1/2",), methods=("none", "cgan"), generators=("mlp_cgan_relu",), num_seeds=2)
    store = make_store(tmp_path / "store", plan)
    next((tmp_path / "store" / "stages").glob("*/samples-*.npy")).write_bytes(b"altered")
    results = read_results(store.location)
    with pytest.raises(StoreError, match="sha256"):
        write_report(results, tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_one_seed_gives_a_report_that_says_not_estimable(tmp_path: Path) -> None:
    plan = plan_study(generators=("mlp_cgan_relu",), cs=("1/2",), num_seeds=1)
    store = make_store(tmp_path / "store", plan)
    page = write_report(read_results(store.location), tmp_path / "report").read_text("utf-8")
    text = re.sub(r"data:image/[^\"]*|<[^>]*>", " ", page)
    assert "not estimable" in text and not re.search(r"\bnan\b", text, re.IGNORECASE)


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_hostile_names_are_shown_not_run(tmp_path: Path, store: Store) -> None:
    name = '<script>alert("x")</script>'
    page = write_report(rename(read_results(store.location), name), tmp_path).read_text("utf-8")
    assert name not in page and html.escape(name, quote=False) in page.replace("&#34;", '"')
    assert page.count("<script>") == 1


def test_every_link_to_a_file_is_written_as_an_address() -> None:
    """Names of searches may have letters that end an address."""
    links = [
        link
        for template in (ROOT / "analysis" / "templates").glob("*.jinja")
        for link in re.findall(r'(?:href|src)="([^"#]*\{\{.*?\}\}[^"]*)"', template.read_text("utf-8"))
    ]
    assert len(links) >= 6 and [link for link in links if "| urlencode }}" not in link] == []


@pytest.mark.usefixtures("unprinted_figures")
def test_link_under_a_guessed_name_is_not_followed(tmp_path: Path, store: Store) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / f".index.html.{os.getpid()}").symlink_to("mine")
    write_report(read_results(store.location), tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"


# What is never opened or written


def test_report_in_a_store_is_refused(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = open_store(str(tmp_path / "other"), RESULTS_VERSION, create=True)
    assert other is not None
    for place in (store.location, other.location):
        before = files_below(Path(place))
        for inner in ("", "report", f"stages/{store.list_keys()[0]}", f"../{Path(place).name}/tables"):
            assert main([store.location, "--out", str(Path(place) / inner)]) == 2
            assert f"is in {place}, a store or a published study" in capsys.readouterr().err
        assert files_below(Path(place)) == before


@pytest.fixture
def opened_files() -> Iterator[list[str]]:
    """Names of files opened while the test runs; an audit hook cannot be removed, so a flag stops it."""
    names: list[str] = []
    is_listening = True

    def listen(event: str, arguments: tuple[Any, ...]) -> None:
        if is_listening and event == "open":
            names.append(str(arguments[0]))

    sys.addaudithook(listen)
    yield names
    is_listening = False


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_a_crafted_pickle_is_never_opened(tmp_path: Path, small_plan: Plan, opened_files: list[str]) -> None:
    store = make_store(tmp_path / "store", small_plan)
    proof = tmp_path / "run_by_a_pickle"
    root = Path(store.location)
    places = [root, root / "studies", root / "stages", root / "stages" / small_plan.runs[0].key]
    for place in places[:1] + places[3:]:
        for name in ("result.pkl", "result.pickle", "samples.npy"):
            (place / name).write_bytes(TOUCH % str(proof).encode())
    opened_files.clear()
    write_report(read_results(store.location), tmp_path / "report")
    assert any(name.endswith("result.json") for name in opened_files)
    assert not [name for name in opened_files if name.endswith((".pkl", ".pickle", "samples.npy"))]
    assert not proof.exists()


def test_the_crafted_pickle_would_have_made_its_file(tmp_path: Path) -> None:
    import pickle

    proof = tmp_path / "proof"
    pickle.loads(TOUCH % str(proof).encode()).close()
    assert proof.exists()
