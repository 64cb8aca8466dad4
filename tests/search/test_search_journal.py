"""The journal of a search: what it remembers, what it passes to Optuna, and how it survives a torn file."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from lt_rebalance.ground.errors import StorageError
from lt_rebalance.methods.domains import Choice, Range
from lt_rebalance.search.account import RungResult, SearchBudget, Trial
from lt_rebalance.search.journal import JOURNAL_FILE, SearchJournal, open_journal
from lt_rebalance.search.journal_objects import ObjectJournal
from lt_rebalance.search.search import Search, Values
from lt_rebalance.store import Store, open_store
from tests.places import BucketPlace, Place


def rung(round_index: int, *values: float, objective: str = "macro_f1") -> RungResult:
    return RungResult(
        round=round_index, num_steps=round_index, scores={objective: values}, total_steps=2, train_s=1
    )


def open_at(location: str) -> Store:
    store = open_store(location, 1, create=True)
    assert store is not None
    return store


@pytest.fixture
def store(place: Place) -> Store:
    """Return a store in a directory or in a bucket."""
    return open_at(place.location)


@pytest.fixture
def journal(small_search: Search, tmp_path: Path) -> Iterator[SearchJournal]:
    with open_journal(small_search, open_at(str(tmp_path))) as opened:
        yield opened


def search_directory(root: Path, search: Search) -> Path:
    """Return the directory of a search in the store at a root, made if need be."""
    path = open_at(str(root)).search_directory(search.name)
    assert path is not None
    return path


def test_ends_of_trials_are_told_apart_also_after_reopening(small_search: Search, store: Store) -> None:
    with open_journal(small_search, store) as journal:
        for _ in range(5):
            journal.begin()
        journal.note_rung(0, rung(1, 0.1, 0.3))
        journal.note_rung(0, rung(4, 0.5, 0.7))
        journal.settle(0, "complete")
        journal.note_rung(1, rung(1, 0.1, 0.1))
        journal.settle(1, "pruned")
        journal.note_rung(2, rung(2, 0.0, 0.0))
        journal.settle(2, "diverged")
        journal.settle(3, "failed", "ValueError: no")
        before = journal.trials()
    with open_journal(small_search, store) as journal:
        assert journal.trials() == before
        assert [trial.state for trial in before] == ["complete", "pruned", "diverged", "failed", "running"]
        assert before[3].reason == "ValueError: no"
        assert [rung.mean("macro_f1") for rung in before[0].rungs] == pytest.approx([0.2, 0.6])
        frozen = journal.study.get_trials()
        told = [
            TrialState.COMPLETE,
            TrialState.PRUNED,
            TrialState.COMPLETE,
            TrialState.FAIL,
            TrialState.RUNNING,
        ]
        assert [trial.state for trial in frozen] == told
        assert frozen[0].values == pytest.approx([0.6])
        assert frozen[0].intermediate_values == pytest.approx({1: 0.2, 4: 0.6})
        assert frozen[2].values == [0.0]
        assert [trial.number for trial in journal.in_flight()] == [4]


def test_rung_that_is_reported_again_is_kept_once(journal: SearchJournal) -> None:
    number = journal.begin()
    for _ in range(2):
        journal.note_rung(number, rung(1, 0.1, 0.3))
    assert journal.trials()[number].rungs == (rung(1, 0.1, 0.3),)


def test_queued_values_come_first_and_once(journal: SearchJournal, small_search: Search) -> None:
    for _ in range(2):
        journal.enqueue(small_search.untuned)
    assert journal.trials() == []
    journal.begin()
    journal.begin()
    trials = journal.trials()
    assert trials[0].values == small_search.untuned
    assert trials[1].values != small_search.untuned


def test_suggestions_lie_in_the_space(journal: SearchJournal, small_search: Search) -> None:
    for _ in range(20):
        journal.begin()
    for trial in journal.trials():
        assert set(trial.values) == set(small_search.space)
        assert all(value in small_search.space[name] for name, value in trial.values.items())
    rates = [trial.values["learning_rate"] for trial in journal.trials()]
    domain = small_search.space["learning_rate"]
    assert isinstance(domain, Range)
    middle = (domain.low * domain.high) ** 0.5  # on a log scale, half of all values are below it
    assert 4 <= sum(rate < middle for rate in rates) <= 16


def run_trials(journal: SearchJournal, end: int) -> list[Values]:
    """Run trials until there are `end`, each as good as its learning rate is high; return their values."""
    while len(journal.trials()) < end:
        number = journal.begin()
        score = 10 * float(journal.trials()[number].values["learning_rate"])
        journal.note_rung(number, rung(4, score, score))
        journal.settle(number, "complete")
    return [trial.values for trial in journal.trials()]


@pytest.mark.slow
def test_reopened_search_suggests_what_it_would_have_and_learns(
    small_search: Search, store: Store, tmp_path: Path
) -> None:
    with open_journal(small_search, open_at(str(tmp_path / "undisturbed"))) as journal:
        undisturbed = run_trials(journal, 30)
    for end in (4, 15, 30):
        with open_journal(small_search, store) as journal:
            stopped = run_trials(journal, end)
    assert stopped == undisturbed
    early, late = undisturbed[:10], undisturbed[-10:]
    means = [sum(float(values["learning_rate"]) for values in part) / 10 for part in (early, late)]
    assert means[1] > means[0]

    other = dataclasses.replace(small_search, sampler_seed=1)
    with open_journal(other, open_at(str(tmp_path / "other"))) as journal:
        assert run_trials(journal, 3) != undisturbed[:3]


@pytest.mark.parametrize("kind", ["sampled", "learned", "queued"])
@pytest.mark.parametrize("space", ["small_search", "small_cgan_search"])
def test_trial_that_was_interrupted_while_it_chose_its_values_has_those_of_an_undisturbed_search(
    kind: str, space: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    search: Search = request.getfixturevalue(space)
    path = search_directory(tmp_path, search) / JOURNAL_FILE
    with open_journal(search, open_at(str(tmp_path))) as journal:
        if kind == "learned":
            run_trials(journal, 12)  # Optuna draws the first ten at random, and considers those that run
            journal.begin()
        if kind == "queued":
            journal.enqueue(search.untuned)
            journal.enqueue({**search.untuned, "beta1": 0.6})
        before = len(path.read_bytes().splitlines())
        number = journal.begin()
        expected = journal.trials()[number].values
        assert set(expected) == set(search.space) and (kind == "queued") == (expected == search.untuned)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) > before + len(search.space)
    for end in range(before + 1, len(lines)):
        path.write_bytes(b"".join(lines[:end]))
        with open_journal(search, open_at(str(tmp_path))) as journal:
            assert list(journal.trials()[number].values.items()) == list(expected.items())
            assert journal.in_flight()[-1].params == expected
        params = [json.loads(line).get("param_name") for line in path.read_bytes().splitlines()]
        assert all(params.count(name) == number + 1 for name in search.space)


@pytest.mark.parametrize("state", ["complete", "pruned", "diverged", "failed"])
def test_end_of_a_trial_that_was_interrupted_is_complete_or_has_not_begun(
    state: str, small_search: Search, tmp_path: Path
) -> None:
    path = search_directory(tmp_path, small_search) / JOURNAL_FILE
    with open_journal(small_search, open_at(str(tmp_path))) as journal:
        number = journal.begin()
        journal.note_rung(number, rung(1, 0.5, 0.5))
        running = journal.trials()
        before = len(path.read_bytes().splitlines())
        journal.settle(number, state, "why", None if state == "failed" else rung(2, 0.25, 0.5))
        ended = journal.trials()
        frozen = journal.study.get_trials()
    lines = path.read_bytes().splitlines(keepends=True)
    found = []
    for end in range(before, len(lines) + 1):
        path.write_bytes(b"".join(lines[:end]))
        with open_journal(small_search, open_at(str(tmp_path))) as journal:
            found.append(journal.trials())
            if found[-1] == ended:
                (trial,) = journal.study.get_trials()
                told = (trial.state, trial.values, trial.intermediate_values)
                assert told == (frozen[0].state, frozen[0].values, frozen[0].intermediate_values)
    assert found == [running] + [ended] * (len(lines) - before)


def test_importance_names_the_setting_that_matters(journal: SearchJournal) -> None:
    assert journal.importance() == {}
    run_trials(journal, 20)
    importance = journal.importance()
    assert set(importance) == set(journal.search.space)
    assert max(importance, key=importance.__getitem__) == "learning_rate"
    assert sum(importance.values()) == pytest.approx(1)


def test_failed_trial_is_queued_again_on_demand_and_once(journal: SearchJournal) -> None:
    budget = SearchBudget(trials=1)
    assert journal.has_more(budget)
    number = journal.begin()
    journal.settle(number, "failed", "OSError: full")
    assert not journal.has_more(budget)
    for _ in range(2):
        journal.enqueue_failed()
    assert journal.has_more(budget)
    journal.begin()
    journal.begin()
    assert not journal.has_more(budget)
    assert [trial.retry_of for trial in journal.trials()] == [None, 0, None]
    values = [trial.values for trial in journal.trials()]
    assert values[1] == values[0] != values[2]


@pytest.mark.parametrize("torn", [b'{"op_code":6,"wor', b"\xff"])
def test_line_that_was_not_written_to_its_end_is_cut_off(
    torn: bytes, small_search: Search, tmp_path: Path
) -> None:
    with open_journal(small_search, open_at(str(tmp_path))) as journal:
        run_trials(journal, 2)
        before = journal.trials()
    path = search_directory(tmp_path, small_search) / JOURNAL_FILE
    path.write_bytes(path.read_bytes() + torn)
    with open_journal(small_search, open_at(str(tmp_path))) as journal:
        assert journal.trials() == before
        run_trials(journal, 3)
    with open_journal(small_search, open_at(str(tmp_path))) as journal:
        assert len(journal.trials()) == 3


def test_lock_that_a_killed_process_left_does_not_hold_up(small_search: Search, tmp_path: Path) -> None:
    lock = search_directory(tmp_path, small_search) / f"{JOURNAL_FILE}.lock"
    lock.symlink_to("nowhere")
    with open_journal(small_search, open_at(str(tmp_path))) as journal:
        journal.begin()
    assert not lock.is_symlink()


def test_second_process_is_refused(small_search: Search, tmp_path: Path) -> None:
    held = (
        "import fcntl, sys; owner = open(sys.argv[1], 'a'); fcntl.flock(owner, fcntl.LOCK_EX); "
        "print('held', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", held, str(search_directory(tmp_path, small_search) / "owner")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with ExitStack() as stack, pytest.raises(ValueError, match="'small' is being run by another process"):
        stack.enter_context(open_journal(small_search, open_at(str(tmp_path))))
    process.communicate("\n")
    with open_journal(small_search, open_at(str(tmp_path))) as journal:
        assert journal.trials() == []


def test_journal_is_lines_of_json(small_search: Search, tmp_path: Path) -> None:
    with open_journal(small_search, open_at(str(tmp_path))) as journal:
        run_trials(journal, 2)
    lines = (search_directory(tmp_path, small_search) / JOURNAL_FILE).read_text(encoding="utf-8").splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)


@pytest.mark.usefixtures("s3")
def test_journal_in_a_bucket_is_objects_of_json(small_search: Search) -> None:
    place = BucketPlace("store")
    with open_journal(small_search, open_at(place.location)) as journal:
        run_trials(journal, 2)
    found = {path: content for path, content in place.read_all().items() if "/journal/" in path}
    assert list(found) == [f"searches/small/journal/{index:08d}.json" for index in range(len(found))]
    documents = [json.loads(content) for content in found.values()]
    assert [("owner" in document, bool(document["operations"])) for document in documents] == [
        (True, False),
        *[(False, True)] * (len(found) - 1),
    ]


@pytest.mark.usefixtures("s3")
def test_owner_that_was_taken_for_dead_cannot_write_any_more(small_search: Search) -> None:
    store = open_at(BucketPlace("store").location)
    first = ObjectJournal(store.files, "small", "searches/small/journal")
    first.append_logs([{"number": 1}])
    second = ObjectJournal(store.files, "small", "searches/small/journal")
    assert second.read_logs(0) == [{"number": 1}]
    with pytest.raises(StorageError, match="'small' has been taken over by another process"):
        first.append_logs([{"number": 2}])
    second.append_logs([{"number": 3}, {"number": 4}])
    with pytest.raises(StorageError, match="taken over"):
        first.append_logs([{"number": 2}])
    third = ObjectJournal(store.files, "small", "searches/small/journal")
    assert third.read_logs(0) == [{"number": 1}, {"number": 3}, {"number": 4}]
    assert third.read_logs(2) == [{"number": 4}]


def test_two_objectives_are_kept_and_told(small_cgan_search: Search, tmp_path: Path) -> None:
    both = dataclasses.replace(small_cgan_search, objectives=("macro_f1", "diversity"), scheduler="none")
    with open_journal(both, open_at(str(tmp_path))) as journal:
        for score in (0.5, 0.25):
            number = journal.begin()
            scores = {"macro_f1": (score,), "diversity": (1 - score,)}
            result = dataclasses.replace(rung(4, 0), scores=scores)
            journal.note_rung(number, result)
            journal.settle(number, "complete")
        number = journal.begin()
        journal.settle(number, "diverged")
        assert [trial.values for trial in journal.study.get_trials()] == [[0.5, 0.5], [0.25, 0.75], [0, 0]]
        assert set(journal.importance()) == set(both.space)
        assert isinstance(journal.trials()[0], Trial)
        assert len(journal.study.best_trials) == 2


def test_choice_reaches_optuna_in_its_order(journal: SearchJournal, small_search: Search) -> None:
    journal.begin()
    domain = small_search.space["batch_size"]
    assert isinstance(domain, Choice)
    (frozen,) = journal.study.get_trials()
    assert frozen.distributions["batch_size"] == optuna.distributions.CategoricalDistribution(domain.values)
