"""The confirmation of a search decides as every other comparison does: its size, its silence at few seeds."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.compare import MIN_PAIRS, decide, describe_difference
from analysis.confirmation import DECISIVE, PairedDifference, describe_confirmation, read_confirmation
from analysis.searches import read_searches
from analysis.tables.searches import search_tables
from lt_rebalance.search.search import Search
from lt_rebalance.store import Store
from tests.analysis.simulation import is_share_at_most
from tests.analysis.test_searches import confirmation_plan, fill_store, make_trials


def confirmed(differences: np.ndarray, metric: str = DECISIVE) -> PairedDifference:
    untuned = np.full(len(differences), 0.5)
    return PairedDifference(
        metric=metric,
        seeds=tuple(range(len(differences))),
        untuned=tuple(untuned),
        tuned=tuple(untuned + differences),
        num_planned=len(differences),
        num_diverged=0,
    )


# The null


@pytest.mark.parametrize("n", [3, 6, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 5, 8, 10))])
def test_a_search_that_found_nothing_is_confirmed_in_one_case_of_twenty_at_most(n: int) -> None:
    """All that a confirmation says, over all its metrics: "better" or "worse" where nothing differs."""
    rng = np.random.default_rng(n)
    decided = []
    for _ in range(500):
        noise = rng.normal(0, 0.02, n)
        metrics = [
            confirmed(noise),
            *(confirmed(noise + rng.normal(0, 0.01, n), name) for name in ("a", "b")),
        ]
        decided.append(any(each.verdict in ("better", "worse") for each in metrics))
    assert is_share_at_most(decided, 0.05)
    assert any(decided) == (n >= MIN_PAIRS)


@pytest.mark.parametrize("n", [3, 6, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 10))])
def test_equivalence_at_the_edge_of_the_margin_is_claimed_in_one_case_of_twenty_at_most(n: int) -> None:
    rng = np.random.default_rng(n)
    edge = rng.normal(0.005, 0.004, size=(500, n))
    claimed = [confirmed(differences).verdict == "equivalent" for differences in edge]
    assert is_share_at_most(claimed, 0.05)
    assert any(claimed) == (n >= MIN_PAIRS)


# The rule


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        (np.linspace(0.10, 0.12, 6), "better"),
        (-np.linspace(0.10, 0.12, 6), "worse"),
        (np.linspace(0.10, 0.12, 5), "undecided"),
        (np.linspace(-0.001, 0.001, 8), "equivalent"),
        (np.linspace(-0.001, 0.001, 5), "undecided"),
        (np.zeros(0), "undecided"),
        (np.zeros(8), "equivalent"),
    ],
)
def test_the_verdict_is_that_of_every_comparison(differences: np.ndarray, verdict: str) -> None:
    each = confirmed(differences)
    assert each.verdict == verdict
    frame = {"first": differences + 0.5, "second": 0 * differences + 0.5, "difference": differences}
    assert decide(describe_difference(pd.DataFrame(frame)), each.p_value, "accuracy") == verdict


def test_only_the_declared_metric_has_a_verdict_and_a_p_value() -> None:
    other = confirmed(np.linspace(0.10, 0.12, 10), "test accuracy")
    assert other.verdict == "" and np.isnan(other.p_value) and str(other).endswith("shown, not tested")
    assert confirmed(np.linspace(0.10, 0.12, 10)).p_value == 2 / 2**10


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_pairs_are_said_in_words_and_never_as_nan(n: int) -> None:
    for metric in (DECISIVE, "test accuracy"):
        line = str(confirmed(np.full(n, 0.1), metric))
        assert "nan" not in line and "inf" not in line.replace("validation", "")
        assert ("no seed at which both are complete" in line) == (n == 0)


def test_test_of_many_pairs_is_not_called_exact() -> None:
    said = [str(confirmed(np.linspace(0.10, 0.12, n))) for n in (20, 21)]
    assert "(exact sign-flip test, p" in said[0] and "(sign-flip test, p" in said[1]


# Runs that diverged


@pytest.fixture
def diverged(small_search: Search, tmp_path: Path) -> Store:
    """A confirmation at three seeds; at seed 1 the tuned run has diverged."""
    store = fill_store(tmp_path, small_search, make_trials(small_search))
    (run,) = (
        run
        for run in confirmation_plan(small_search, 2).runs
        if run.seed == 1 and run.cell.protocol == "small-tuned"
    )
    record = store.read_record(run.key)
    assert record is not None
    record = dataclasses.replace(record, state="diverged", metrics={}, confusion=(), artifacts={})
    (tmp_path / "stages" / run.key / "result.json").write_bytes(record.to_json())
    return store


def test_diverged_runs_are_said_beside_the_difference(diverged: Store) -> None:
    said = "1 diverged, left out of the differences: their absence depends on the outcome"
    decisive = read_confirmation(diverged, "small-confirmation")[0]
    assert (decisive.seeds, decisive.num_planned, decisive.num_diverged) == ((0, 2), 3, 1)
    lines = describe_confirmation(diverged.location, "small-confirmation")
    assert "n=2 of 3 (1 diverged) pairs" in lines[0]
    assert lines[-1] == f"of 3 planned pairs, {said}"
    (search,) = read_searches(diverged)
    _, table = search_tables(search)
    assert said in table.meaning
    (row, *_) = next(iter(table.blocks())).rows
    assert row[table.heads.index("pairs of planned")].text == "2 of 3 (1 diverged)"
