"""Searches on Tune: suggestions, early stopping, the ends of trials, resuming after a stop."""

import dataclasses
from pathlib import Path

import pytest

from lt_rebalance.cluster.halving import TrialSearcher, make_scheduler, run_search
from lt_rebalance.cluster.resources import Resources
from lt_rebalance.ground.errors import StorageError
from lt_rebalance.search.account import RungResult, SearchBudget, Trial
from lt_rebalance.search.journal import SearchJournal, open_journal
from lt_rebalance.search.search import Search
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.checkpoints import Checkpoint
from lt_rebalance.studies.stage import RESULTS_VERSION

ONE_SLOT = Resources(num_cpus=1, num_gpus=0, num_slots=1, max_lanes=1)
NUM_TRIALS = 6


def open_at(directory: Path) -> Store:
    store = open_store(str(directory), RESULTS_VERSION, create=True)
    assert store is not None
    return store


def run_on_ray(journal: SearchJournal, store: Store, num_trials: int) -> list[Trial]:
    """Run a search until it has `num_trials` trials and return the trials that were shown."""
    shown: list[Trial] = []
    budget = SearchBudget(trials=num_trials)
    run_search(journal, store, None, budget, ONE_SLOT, shown.append, lambda: None)
    return shown


def without_times(trials: list[Trial]) -> list[Trial]:
    return [
        dataclasses.replace(
            trial, rungs=tuple(dataclasses.replace(rung, train_s=0.0) for rung in trial.rungs)
        )
        for trial in trials
    ]


def check_pruning(trials: list[Trial], search: Search) -> None:
    """Check the ends of trials that ran one after another by the rule of successive halving itself."""
    for index, trial in enumerate(trials):
        for rung in trial.rungs[:-1] if trial.state == "pruned" else trial.rungs:
            if rung.round < search.rung_rounds[-1]:
                assert not is_in_lower_half(trials[:index], rung)
        if trial.state == "pruned":
            assert is_in_lower_half(trials[:index], trial.rungs[-1])


def is_in_lower_half(earlier: list[Trial], rung: RungResult) -> bool:
    scores = sorted(
        other.mean("macro_f1") for trial in earlier for other in trial.rungs if other.round == rung.round
    )
    middle = len(scores) // 2
    median = (
        scores[middle] if len(scores) % 2 else (sum(scores[middle - 1 : middle + 1]) / 2 if scores else 0)
    )
    return rung.mean("macro_f1") < median


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_search_that_was_stopped_goes_on_as_if_it_had_not_been(small_search: Search, tmp_path: Path) -> None:
    undisturbed, stopped = open_at(tmp_path / "undisturbed"), open_at(tmp_path / "stopped")
    with open_journal(small_search, undisturbed) as journal:
        journal.enqueue(small_search.untuned)
        shown = run_on_ray(journal, undisturbed, NUM_TRIALS)
        expected = journal.trials()
    assert [trial.number for trial in expected] == list(range(NUM_TRIALS))
    assert expected[0].values == small_search.untuned
    states = [trial.state for trial in expected]
    assert {"complete", "pruned"} == set(states)
    check_pruning(expected, small_search)
    assert [trial for trial in shown if trial.state != "running"] == expected
    assert list((tmp_path / "undisturbed").glob("stages/*/checkpoints/*")) == []

    with open_journal(small_search, stopped) as journal:
        journal.enqueue(small_search.untuned)
        run_on_ray(journal, stopped, 3)
        # A process that dies here leaves a trial that has begun and has shown its first rung.
        assert journal.begin() == 3
        journal.note_rung(3, dataclasses.replace(expected[3].rungs[0], train_s=0.0))
    with open_journal(small_search, stopped) as journal:
        assert [trial.number for trial in journal.in_flight()] == [3]
        run_on_ray(journal, stopped, NUM_TRIALS)
        assert without_times(journal.trials()) == without_times(expected)
        run_on_ray(journal, stopped, NUM_TRIALS)
        assert len(journal.trials()) == NUM_TRIALS


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_ends_of_trials_are_told_apart(small_search: Search, tmp_path: Path) -> None:
    store = open_at(tmp_path)
    with open_journal(small_search, store) as journal:
        # Optuna takes queued values as they are: this one explodes.
        journal.enqueue({**small_search.untuned, "learning_rate": 1e30})
        journal.enqueue({**small_search.untuned, "learning_rate": 1e-3})
        # A file where the directory of checkpoints should be keeps this one from going on.
        journal.enqueue(small_search.untuned)
        blocked = tmp_path / "stages" / small_search.ladder(small_search.untuned)[1].groups[0][0].key
        blocked.mkdir(parents=True)
        (blocked / "checkpoints").touch()
        with pytest.raises(StorageError, match=r"trial 2: .*checkpoints.* cannot be written"):
            run_on_ray(journal, store, 3)
        assert [trial.state for trial in journal.trials()] == ["diverged", "complete", "running"]
        (blocked / "checkpoints").unlink()
        run_on_ray(journal, store, 3)
        trials = journal.trials()
    assert [trial.state for trial in trials[:2]] == ["diverged", "complete"]
    assert trials[2].state in ("complete", "pruned") and trials[2].rungs[0].round == 1
    assert trials[0].rungs[-1].scores == {"macro_f1": (0.0, 0.0)}


@pytest.mark.parametrize("outcome", ["unwritable", "blocked"])
def test_trial_that_a_fault_of_the_store_ended_goes_on_when_the_search_is_run_again(
    outcome: str, small_search: Search, tmp_path: Path
) -> None:
    store, budget = open_at(tmp_path), SearchBudget(trials=1)
    with open_journal(small_search, store) as journal:
        journal.enqueue(small_search.untuned)
        searcher = TrialSearcher(journal, store, None, budget, lambda trial: None)
        config = searcher.suggest("first")
        key = small_search.ladder(small_search.untuned)[0].groups[0][0].key
        store.save_checkpoint(key, Checkpoint(round=1, content=b"state"))
        searcher.on_trial_complete("first", {"outcome": outcome, "reason": "made up", "done": True})
        assert [trial.state for trial in journal.trials()] == ["running"]
        assert store.load_checkpoint(key) is not None
        with pytest.raises(StorageError, match="made up"):
            searcher.faults.check()
    with open_journal(small_search, store) as journal:
        again = TrialSearcher(journal, store, None, budget, lambda trial: None)
        assert config is not None and again.suggest("second") == config
        again.faults.check()
        again.on_trial_complete("second", {"outcome": "failed", "reason": "ValueError: no", "done": True})
        assert [(trial.state, trial.reason) for trial in journal.trials()] == [("failed", "ValueError: no")]
        assert store.load_checkpoint(key) is None


def test_scheduler_knows_what_ended_trials_have_shown(small_search: Search) -> None:
    def ended(number: int, score: float) -> Trial:
        rung = RungResult(round=1, num_steps=1, scores={"macro_f1": (score,)}, total_steps=1, train_s=1)
        return Trial(number=number, values={}, state="pruned", rungs=(rung,))

    class NewTrial:
        trial_id = "new"

    for score, decision in ((0.1, "STOP"), (0.9, "CONTINUE")):
        scheduler = make_scheduler(small_search, [ended(0, 0.4), ended(1, 0.6)])
        assert scheduler is not None
        scheduler.on_trial_add(None, NewTrial())  # type: ignore[arg-type]
        result = {"round": 1, "macro_f1": score}
        assert scheduler.on_trial_result(None, NewTrial(), result) == decision  # type: ignore[arg-type]
    assert make_scheduler(dataclasses.replace(small_search, scheduler="none"), []) is None
