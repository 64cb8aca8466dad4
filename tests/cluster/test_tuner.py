"""Searches on Tune: suggestions, early stopping, the ends of trials, resuming after a stop."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lt_rebalance.cluster.faults import name_trial
from lt_rebalance.cluster.halving import TrialSearcher, make_scheduler, run_search
from lt_rebalance.cluster.resources import Resources
from lt_rebalance.cluster.rungs import RungTrainable
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
        searcher = TrialSearcher(journal, store, None, budget, ONE_SLOT, None, lambda trial: None)
        config = searcher.suggest("first")
        key = small_search.ladder(small_search.untuned)[0].groups[0][0].key
        store.save_checkpoint(key, Checkpoint(round=1, content=b"state"))
        searcher.on_trial_complete("first", {"outcome": outcome, "reason": "made up", "done": True})
        assert [trial.state for trial in journal.trials()] == ["running"]
        assert store.load_checkpoint(key) is not None
        with pytest.raises(StorageError, match="made up"):
            searcher.faults.check()
    with open_journal(small_search, store) as journal:
        again = TrialSearcher(journal, store, None, budget, ONE_SLOT, None, lambda trial: None)
        assert config is not None and again.suggest("second") == config
        again.faults.check()
        again.on_trial_complete("second", {"outcome": "failed", "reason": "ValueError: no", "done": True})
        assert [(trial.state, trial.reason) for trial in journal.trials()] == [("failed", "ValueError: no")]
        assert store.load_checkpoint(key) is None


def test_trial_is_named_by_its_stages_which_are_charged_with_all_devices_that_it_holds(
    small_search: Search, tmp_path: Path
) -> None:
    store, budget = open_at(tmp_path), SearchBudget(trials=1)
    resources = dataclasses.replace(ONE_SLOT, num_cpus=8)
    with open_journal(small_search, store) as journal:
        config = TrialSearcher(journal, store, None, budget, resources, None, lambda trial: None).suggest("1")
    assert config is not None
    trial: Any = SimpleNamespace(config=config, trial_id="1")
    assert name_trial(trial) == str(small_search.ladder(journal.trials()[0].values)[0].groups[0][0])
    RungTrainable(config).train()
    timings = [record.timing for key in store.list_keys() if (record := store.load_record(key)) is not None]
    assert len(timings) == 2
    # The two seeds share the time.
    assert sum(timing.device_s or 0 for timing in timings) > 2 * sum(timing.wall_s for timing in timings)


class Halving:
    """Passes results to searcher and scheduler, as Tune does."""

    def __init__(self, journal: SearchJournal, store: Store) -> None:
        scheduler = make_scheduler(journal.search, journal.trials())
        assert scheduler is not None
        self._scheduler: Any = scheduler
        budget = SearchBudget(trials=4)
        self._searcher = TrialSearcher(journal, store, None, budget, ONE_SLOT, scheduler, lambda trial: None)

    def begin(self, name: str) -> None:
        self._searcher.suggest(name)
        self._scheduler.on_trial_add(None, SimpleNamespace(trial_id=name))

    def report(self, name: str, round_index: int, score: float) -> str:
        """Return the decision on a trial that shows a score at a rung."""
        outcome = "finished" if round_index == 4 else "running"
        scores = {"macro_f1": score, "macro_f1_by_seed": [score, score], "outcome": outcome}
        result = {"round": round_index, "num_steps": 1, "total_steps": 2, "train_s": 1.0} | scores
        trial = SimpleNamespace(trial_id=name)
        decision: str = self._scheduler.on_trial_result(None, trial, result)
        if decision == "STOP":
            self._searcher.on_trial_complete(name, result)
            self._scheduler.on_trial_complete(None, trial, result)
        else:
            self._searcher.on_trial_result(name, result)
        return decision

    def shown(self) -> dict[int, list[float]]:
        """Return the scores at the rungs where trials are compared."""
        (bracket,) = self._scheduler._brackets
        return {round_index: sorted(scores.values()) for round_index, scores in bracket._rungs[1:]}


def test_running_trial_is_not_judged_again_after_a_restart_at_rungs_that_it_has_passed(
    small_search: Search, tmp_path: Path
) -> None:
    store = open_at(tmp_path)
    with open_journal(small_search, store) as journal:
        before = Halving(journal, store)
        before.begin("early")
        assert before.report("early", 1, 0.4) == "CONTINUE"
        before.begin("better")
        assert [before.report("better", *told) for told in ((1, 0.6), (2, 0.7))] == ["CONTINUE"] * 2
        before.report("better", 4, 0.7)
        before.begin("waiting")
        assert before.report("waiting", 1, 0.8) == "CONTINUE"
        assert before.shown() == {2: [0.7], 1: [0.4, 0.6, 0.8]}
    with open_journal(small_search, store) as journal:
        after = Halving(journal, store)
        assert after.shown() == before.shown()
        after.begin("again")
        assert after.report("again", 1, 0.4) == "CONTINUE"  # as before, although two others are better now
        assert after.shown() == before.shown()
        assert after.report("again", 2, 0.5) == "STOP"
        assert after.shown() == {2: [0.5, 0.7], 1: [0.4, 0.6, 0.8]}
        after.begin("waited")
        assert after.report("waited", 1, 0.8) == "CONTINUE"
        after.begin("new")
        assert after.report("new", 1, 0.5) == "STOP"
        assert after.shown() == {2: [0.5, 0.7], 1: [0.4, 0.5, 0.6, 0.8]}
        assert [trial.state for trial in journal.trials()] == ["pruned", "complete", "running", "pruned"]


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
