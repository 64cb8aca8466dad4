"""Searches as a report shows them: read, drawn, tabulated, and their choice on fresh seeds."""

import dataclasses
import html
import json
import re
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.collect import read_results
from analysis.confirmation import describe_confirmation, read_confirmation
from analysis.figures.searches import draw_search, plot_history
from analysis.figures.style import make_figure
from analysis.report import search_files, write_report
from analysis.searches import SearchResults, read_searches
from analysis.tables.latex import to_latex
from analysis.tables.searches import search_tables
from lt_rebalance.search.account import RungResult, SearchBudget, Trial
from lt_rebalance.search.files import confirmation_name, make_account
from lt_rebalance.search.search import Search
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from tests.analysis.latex import compile_tables
from tests.analysis.synthetic import confusion_of, make_record

TUNED = {"learning_rate": 0.01, "beta1": 0.5, "beta2": 0.9, "batch_size": 50}
IMPORTANCE = {"learning_rate": 0.75, "beta1": 0.25, "beta2": 0.0, "batch_size": 0.0}


def rung(round_index: int, *values: float) -> RungResult:
    return RungResult(
        round=round_index, num_steps=round_index, scores={"macro_f1": values}, total_steps=2, train_s=1
    )


def make_trials(search: Search) -> list[Trial]:
    """Return a trial of every end; the second one is the best that is complete."""
    climbed = (rung(1, 0.2, 0.4), rung(2, 0.4, 0.6))
    return [
        Trial(number=0, values=search.untuned, state="complete", rungs=(*climbed, rung(4, 0.5, 0.7))),
        Trial(number=1, values=TUNED, state="complete", rungs=(*climbed, rung(4, 0.6, 0.8))),
        Trial(number=2, values={**TUNED, "beta1": 0.6}, state="pruned", rungs=(rung(1, 0.1, 0.1),)),
        Trial(number=3, values={**TUNED, "beta1": 0.7}, state="diverged", rungs=(rung(1, 0.0, 0.0),)),
        Trial(number=4, values={**TUNED, "beta1": 0.8}, state="failed", reason="OSError: <full>"),
        Trial(number=5, values={**TUNED, "beta1": 0.9}, state="running"),
    ]


def confirmation_plan(search: Search, num_cells: int) -> Plan:
    cells = (search.base, search.cell(TUNED, protocol="small-tuned"))[:num_cells]
    return compile_study(
        Study(name=confirmation_name(search), cells=cells, seeds=(0, 1, 2)), search.execution
    )


def fill_store(root: Path, search: Search, trials: list[Trial], num_cells: int = 2) -> Store:
    """Write a store with the account of a search and its confirmation, tuned better by 0.1, 0.2 and 0.3."""
    store = open_store(str(root), RESULTS_VERSION, create=True)
    assert store is not None
    account = make_account(search, "Which settings?", SearchBudget(trials=6), trials, IMPORTANCE)
    store.write_search(search.name, account)
    plan = confirmation_plan(search, num_cells)
    store.write_study(describe_plan(plan))
    for run in plan.runs:
        gain = 0.1 * (run.seed + 1) if run.cell.protocol == "small-tuned" else 0.0
        record = make_record(run.stage, confusion_of(np.full(10, 0.5 + gain)))
        # The last round is the one that is reported.
        values = [0.0] * (len(record.curves) - 1) + [record.metrics["macro_f1"] - 0.25]
        curves = [
            {**row, "validation_macro_f1": value} for row, value in zip(record.curves, values, strict=True)
        ]
        store.commit(dataclasses.replace(record, curves=tuple(curves)))
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, small_search: Search) -> Store:
    return fill_store(tmp_path_factory.mktemp("search") / "store", small_search, make_trials(small_search))


@pytest.fixture(scope="module")
def search(store: Store) -> SearchResults:
    (found,) = read_searches(store)
    return found


# Reading


def test_account_is_read_as_frames(search: SearchResults) -> None:
    assert (search.name, search.component, search.best, search.front) == ("small", "classifier", 1, (1,))
    assert search.trials["state"].tolist() == [
        *("complete", "complete", "pruned", "diverged", "failed", "running")
    ]
    assert search.trials["macro_f1"].iloc[:4].tolist() == pytest.approx([0.6, 0.7, 0.1, 0.0])
    assert search.trials["macro_f1_sd"].iloc[0] == pytest.approx(0.02**0.5)
    assert search.trials["macro_f1"].iloc[4:].isna().all()
    assert search.trials["beta1"].tolist() == [0.9, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert search.rungs.groupby("round")["number"].nunique().to_dict() == {1: 4, 2: 2, 4: 2}


def test_search_that_has_not_begun_a_trial_is_left_out(small_search: Search, tmp_path: Path) -> None:
    assert read_searches(fill_store(tmp_path, small_search, [])) == []


@pytest.mark.parametrize("content", ["{", "[]", '{"trials": [1]}'])
def test_damaged_account_is_named(content: str, small_search: Search, tmp_path: Path) -> None:
    store = fill_store(tmp_path, small_search, make_trials(small_search))
    (tmp_path / "searches" / "small" / "account.json").write_text(content, encoding="utf-8")
    with pytest.raises(StoreError, match=r"searches/small/account\.json"):
        read_searches(store)


# The confirmation


def test_differences_are_paired_by_seed_with_their_t_interval(store: Store) -> None:
    test, accuracy, validation = read_confirmation(store, "small-confirmation")
    assert accuracy.seeds == (0, 1, 2)
    assert accuracy.differences == pytest.approx((0.1, 0.2, 0.3))
    # mean 0.2, sd 0.1, t(.975, 2) = 4.3027: half width 4.3027 * 0.1 / sqrt(3) = 0.2484
    assert accuracy.interval.low == pytest.approx(0.2 - 0.2484, abs=1e-4)
    assert accuracy.interval.high == pytest.approx(0.2 + 0.2484, abs=1e-4)
    assert (test.verdict, accuracy.verdict, validation.verdict) == ("undecided", "", "")
    assert (test.metric, validation.metric) == ("test macro F1", "validation macro F1")
    assert validation.untuned == pytest.approx([value - 0.25 for value in test.untuned])
    decisive, line, _, too_few = describe_confirmation(store.location, "small-confirmation")
    assert decisive.endswith("n=3 of 3 pairs: undecided (exact sign-flip test, p = 0.25)")
    assert "fewer than 6 pairs give no verdict" in too_few
    assert line.startswith(
        "test accuracy: untuned 0.5000 ± 0.0000, tuned 0.7000 ± 0.1000; difference +0.2000"
    )
    assert line.endswith("n=3 of 3 pairs: shown, not tested")


def test_untuned_choice_stands_alone(small_search: Search, tmp_path: Path) -> None:
    store = fill_store(tmp_path, small_search, make_trials(small_search)[:1], num_cells=1)
    assert read_confirmation(store, "small-confirmation") == []
    lines = describe_confirmation(store.location, "small-confirmation")
    assert "no complete trial had a better mean" in lines[0]
    # Three equal values say nothing of how others would differ.
    assert lines[2] == "test accuracy: untuned 0.5000 ± 0.0000, n=3 of 3, 95 % t interval not estimable"
    (search,) = read_searches(store)
    _, confirmation = search_tables(search)
    assert "The choice is the untuned configuration" in confirmation.meaning


# Figures and tables


def test_search_is_drawn_with_what_its_trials_support(search: SearchResults) -> None:
    assert [drawn.name for drawn in draw_search(search)] == [
        *("s1-history", "s2-importance", "s3-parallel", "s4-rungs")
    ]
    bare = dataclasses.replace(
        search, importance={}, trials=search.trials[4:], rungs=search.rungs[:0], best=None
    )
    assert [drawn.name for drawn in draw_search(bare)] == ["s1-history"]


def test_history_shows_the_best_so_far_and_every_end(search: SearchResults) -> None:
    _, ((axes,),) = make_figure(1, 1, 4, 3)
    plot_history(axes, search)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
    ends = {f"{state} (1)" for state in ("pruned", "diverged", "failed", "running")}
    assert ends | {"best so far", "complete (2)"} == set(labels)
    (best,) = [line for line in axes.get_lines() if line.get_label() == "best so far"]
    assert np.asarray(best.get_ydata()).tolist() == pytest.approx([0.6, 0.7, 0.7, 0.7, 0.7, 0.7])


def test_two_objectives_are_drawn_against_each_other(small_cgan_search: Search, tmp_path: Path) -> None:
    both = dataclasses.replace(small_cgan_search, objectives=("macro_f1", "diversity"), scheduler="none")
    scores = [(0.5, 0.9), (0.8, 0.2), (0.4, 0.1)]
    trials = [
        Trial(
            number=number,
            values=both.untuned,
            state="complete",
            rungs=(
                RungResult(
                    round=4,
                    num_steps=4,
                    scores={"macro_f1": (first,), "diversity": (second,)},
                    total_steps=4,
                    train_s=1,
                ),
            ),
        )
        for number, (first, second) in enumerate(scores)
    ]
    store = open_store(str(tmp_path), RESULTS_VERSION, create=True)
    assert store is not None
    store.write_search(both.name, make_account(both, "", SearchBudget(trials=3), trials, {}))
    (search,) = read_searches(store)
    assert search.front == (0, 1)
    assert [drawn.name for drawn in draw_search(search)][-1] == "s5-front"


def test_tables_name_every_end_and_the_choice(search: SearchResults) -> None:
    trials, confirmation = search_tables(search)
    assert "6 trials: 2 complete, 1 pruned, 1 diverged, 1 failed and 1 running" in trials.meaning
    rows = next(iter(trials.blocks())).rows
    assert [row[0].text for row in rows] == ["0", "1 (choice)", "2", "3", "4", "5"]
    assert rows[1][6].text == "0.700 ± 0.141"
    assert rows[4][6].text == "–"
    (test, *_) = next(iter(confirmation.blocks())).rows
    assert test[0].text == "test macro F1"
    assert any("learning_rate: 5e-05 to 0.01, on a log scale" in note for note in trials.notes)


@pytest.mark.slow
def test_tables_in_latex_have_six_columns_with_the_objectives_and_compile(
    search: SearchResults, tmp_path: Path
) -> None:
    trials, confirmation = (to_latex(table) for table in search_tables(search))
    num_columns = trials.partition("\\toprule\n")[2].partition("\n")[0].count(" & ") + 1
    assert num_columns == 6 and "macro F1" in trials and r"\bfseries 0.700" in trials
    compile_tables([trials, confirmation], tmp_path)


# The page


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_report_has_a_page_for_the_search_and_a_link_to_it_and_reads_no_journal(
    store: Store, tmp_path: Path
) -> None:
    journal = Path(store.location) / "searches" / "small" / "journal.jsonl"
    journal.write_text("not even JSON", encoding="utf-8")
    index = write_report(read_results(store.location), tmp_path / "report")
    assert '<a href="search-small.html">small</a>' in index.read_text(encoding="utf-8")
    page = (index.parent / "search-small.html").read_text(encoding="utf-8")
    page = re.sub(r'<a href="(tables|figures)/[^"]*" download>', "", page)
    assert not re.search(r'(src|href)="(?!data:|#|index\.html)', page)
    assert "OSError: &lt;full&gt;" in page
    assert page.count("<figure ") == 4
    assert "test macro F1: untuned 0.5000" in page
    for name in ("s1-trials-small", "s2-confirmation-small"):
        assert {path.suffix for path in (index.parent / "tables").glob(f"{name}.*")} == {
            ".csv",
            ".md",
            ".tex",
        }
    for name in ("s1-history", "s2-importance", "s3-parallel", "s4-rungs"):
        assert (index.parent / "figures" / f"{name}-small.svg").exists()
    journal.unlink()


@pytest.mark.parametrize("name", ['a"><img src=x onerror=alert(1)>', "my search (2)", "50 % #1?"])
def test_any_name_of_a_search_is_shown_and_neither_run_nor_a_broken_link(
    name: str, search: SearchResults
) -> None:
    files = search_files(dataclasses.replace(search, name=name))
    page = files[f"search-{name}.html"].decode()
    assert "<img src=x" not in page and html.escape(name, quote=False) in page.replace("&#34;", '"')
    ids = set(re.findall(r' id="([^"]*)"', page))
    used = {each for pair in re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', page) for each in pair if each}
    assert used and used <= ids and all(re.fullmatch(r"[\w-]+", each) for each in ids)
    links = re.findall(r'href="((?:tables|figures)/[^"]*)"', page)
    assert links and {urllib.parse.unquote(html.unescape(each)) for each in links} <= files.keys()


def test_search_whose_account_lacks_what_it_may_lack_is_shown(search: SearchResults) -> None:
    """An account need not say the scale or the unit of a value."""
    space = {
        name: {key: each[key] for key in each if key not in ("is_log", "unit")}
        for name, each in search.space.items()
    }
    assert any("is_log" in each for each in search.space.values())
    whole, lacking = (
        search_files(each)[f"search-{search.name}.html"].decode()
        for each in (search, dataclasses.replace(search, space=space))
    )
    assert ", on a log scale" in whole and ", on a log scale" not in lacking


def test_account_is_plain_json_with_mean_and_spread_of_every_rung(small_search: Search) -> None:
    account: dict[str, Any] = make_account(
        small_search, "Which?", SearchBudget(trials=6), make_trials(small_search), IMPORTANCE
    )
    assert json.loads(json.dumps(account, allow_nan=False)) == account
    score = account["trials"][0]["rungs"][2]["scores"]["macro_f1"]
    assert score == {"mean": pytest.approx(0.6), "sd": pytest.approx(0.02**0.5), "by_seed": [0.5, 0.7]}
