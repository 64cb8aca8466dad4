"""Populations of CGANs: copied weights, changed settings, true records in the store, and faults."""

import dataclasses
import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lt_rebalance.cluster.attempt import MAX_ERRORS, AttemptError
from lt_rebalance.cluster.faults import StoreFaults
from lt_rebalance.cluster.population import MemberCallback, run_population
from lt_rebalance.cluster.resources import Resources
from lt_rebalance.cluster.rungs import PopulationTrainable, member_trial_config, rung_result
from lt_rebalance.ground.errors import StorageError
from lt_rebalance.search.account import SearchBudget, Trial
from lt_rebalance.search.journal import SearchJournal, open_journal
from lt_rebalance.search.search import Search
from lt_rebalance.store import Store, open_store
from lt_rebalance.studies.stage import RESULTS_VERSION
from tests.cluster.test_faults import finish
from tests.store.test_store import make_failure

RESOURCES = Resources(num_cpus=1, num_gpus=0, num_slots=2, max_lanes=1)
NUM_MEMBERS = 3


@pytest.fixture
def population(small_cgan_search: Search) -> Search:
    """Return a population that is judged by diversity at each of four rounds, at one seed."""
    return dataclasses.replace(
        small_cgan_search, name="small-pbt", objectives=("diversity",), scheduler="pbt", seeds=(1000,)
    )


def open_at(directory: Path) -> Store:
    store = open_store(str(directory), RESULTS_VERSION, create=True)
    assert store is not None
    return store


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_population_that_was_stopped_goes_on_to_its_end_with_settings_that_change(
    population: Search, tmp_path: Path
) -> None:
    store = open_at(tmp_path)
    shown: list[Trial] = []
    with open_journal(population, store) as journal:
        journal.enqueue(population.untuned)
        for rounds_done in (1, 2):
            number = journal.begin()
            values = journal.trials()[number].values
            member = PopulationTrainable(
                member_trial_config(population, number, values, store.location, None)
            )
            for _ in range(rounds_done):
                journal.note_rung(number, rung_result(member.train(), population.objectives))
        journal.study.ask()  # a member that is interrupted before it has any value
    with open_journal(population, store) as journal:
        budget = SearchBudget(trials=NUM_MEMBERS)
        run_population(journal, store, None, budget, RESOURCES, shown.append, lambda: None, None)
        members = journal.trials()
    assert [member.state for member in members] == ["complete"] * NUM_MEMBERS
    assert [trial for trial in shown if trial.state == "complete"] != []
    assert members[0].rungs[0].values == population.untuned
    for member in members:
        assert [rung.round for rung in member.rungs] == [1, 2, 3, 4]
        for rung in member.rungs:
            assert all(value in population.space[name] for name, value in rung.values.items())
        assert member.values == member.rungs[-1].values
    schedules = [[tuple(rung.values.values()) for rung in member.rungs] for member in members]
    assert any(len(set(schedule)) > 1 for schedule in schedules), "nobody took over another's settings"
    # What a population trains is the result of no stage.
    assert store.list_keys() == []
    assert list((tmp_path / "searches" / population.name / "members").iterdir()) == []


@pytest.mark.slow
def test_member_takes_over_the_weights_and_keeps_its_own_settings(population: Search, tmp_path: Path) -> None:
    store = open_at(tmp_path)

    def make_member(member: int, learning_rate: float) -> PopulationTrainable:
        values = {**population.untuned, "learning_rate": learning_rate}
        config = member_trial_config(population, member, values, store.location, None)
        return PopulationTrainable(config)

    best, worst, alone = make_member(0, 1e-3), make_member(1, 1e-4), make_member(2, 1e-4)
    best.train()
    saved = best.save(str(tmp_path / "checkpoint"))
    worst.train()
    worst.restore(saved)
    taken_over, gone_on = worst.train(), best.train()
    alone.train()
    assert (taken_over["round"], taken_over["values"]["learning_rate"]) == (2, 1e-4)
    # Another rate from the same weights differs from the same rate, and from the same rate on other weights.
    scores = {result["diversity"] for result in (taken_over, gone_on, alone.train())}
    assert len(scores) == 3
    same = make_member(3, 1e-3)
    same.restore(saved)
    assert same.train()["diversity"] == gone_on["diversity"]


@pytest.mark.slow
def test_member_whose_process_was_killed_repeats_its_last_rung_and_goes_on(
    population: Search, tmp_path: Path
) -> None:
    store = open_at(tmp_path)
    config = member_trial_config(population, 0, population.untuned, store.location, None)
    killed = PopulationTrainable(config)
    before = [killed.train() for _ in range(2)]
    successor = PopulationTrainable(config)
    again = [successor.train() for _ in range(3)]
    assert [result["round"] for result in again] == [2, 3, 4]
    assert again[0]["diversity_by_seed"] == before[1]["diversity_by_seed"]
    assert again[-1]["done"]
    undisturbed = PopulationTrainable(config | {"member": 1})
    expected = [undisturbed.train() for _ in range(4)]
    assert again[-1]["diversity_by_seed"] == expected[-1]["diversity_by_seed"]


# Faults


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_member_whose_workers_die_more_often_than_code_may_raise_still_ends_complete(
    population: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = ["dies", "raises"] * (MAX_ERRORS - 1) + ["dies"] * 2
    attempts = tmp_path / "attempts"
    attempts.mkdir()

    class FaultyTrainable(PopulationTrainable):
        def _climb(self) -> dict[str, Any]:
            number = len(list(attempts.iterdir()))
            if number == len(ends):
                return super()._climb()
            (attempts / str(number)).touch()
            if ends[number] == "dies":
                os._exit(1)
            raise RuntimeError("made up")

    monkeypatch.setattr("lt_rebalance.cluster.population.PopulationTrainable", FaultyTrainable)
    store = open_at(tmp_path / "store")
    with open_journal(population, store) as journal:
        budget = SearchBudget(trials=1)
        run_population(journal, store, None, budget, RESOURCES, lambda trial: None, lambda: None, None)
        (member,) = journal.trials()
    assert ends.count("dies") > MAX_ERRORS and len(list(attempts.iterdir())) == len(ends)
    assert (member.state, [rung.round for rung in member.rungs]) == ("complete", [1, 2, 3, 4])
    errors = [failure.error for failure in store.load_member_errors(population.name, 0)]
    assert errors == ["RuntimeError: made up"] * (MAX_ERRORS - 1)


FAULTY_PARTS = {
    "training": "lt_rebalance.generation.cgan.CGANTraining._train_round",
    "measuring": "lt_rebalance.cluster.rungs.score",
    "going on": "lt_rebalance.cluster.rungs.unpack_member",
    "keeping": "lt_rebalance.store.store.Store.save_member",
}


@pytest.mark.slow
@pytest.mark.parametrize("part", FAULTY_PARTS)
def test_member_that_raises_fails_after_three_attempts_of_which_lost_workers_and_earlier_runs_are_none(
    part: str, population: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("made up")

    store = open_at(tmp_path)
    config = member_trial_config(population, 0, population.untuned, store.location, None)
    assert PopulationTrainable(config).train()["outcome"] == "running"
    for _ in range(MAX_ERRORS):
        earlier = dataclasses.replace(make_failure(), provenance={"trial": "another"})
        store.note_member_error(population.name, 0, earlier)
        PopulationTrainable(config)  # a worker that dies leaves no error
    monkeypatch.setattr(FAULTY_PARTS[part], fail)
    for _ in range(MAX_ERRORS - 1):
        with pytest.raises(AttemptError, match="RuntimeError: made up"):
            finish(PopulationTrainable(config))
    result = finish(PopulationTrainable(config))
    assert (result["outcome"], result["reason"]) == ("failed", "RuntimeError: made up")
    errors = store.load_member_errors(population.name, 0)[MAX_ERRORS:]
    assert [failure.error for failure in errors] == ["RuntimeError: made up"] * MAX_ERRORS
    assert all("Traceback" in failure.traceback for failure in errors)
    assert store.list_keys() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "unwritable", "No space left on device; "),
        (StorageError("s3://bucket has not answered"), "blocked", "s3://bucket has not answered"),
    ],
)
def test_member_whose_state_cannot_be_kept_is_charged_nothing_and_goes_on_when_it_can(
    error: OSError,
    outcome: str,
    reason: str,
    population: Search,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    store = open_at(tmp_path)
    config = member_trial_config(population, 0, population.untuned, store.location, None)
    member = PopulationTrainable(config)
    first = member.train()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "save_member", fail)
        result = member.train()
    assert (result["outcome"], result["done"]) == (outcome, True) and reason in result["reason"]
    assert store.load_member_errors(population.name, 0) == []
    successor = PopulationTrainable(config)
    assert successor.train()["diversity_by_seed"] == first["diversity_by_seed"]
    assert successor.train()["round"] == 2


def test_member_on_a_node_that_does_not_see_the_store_is_blocked(population: Search, tmp_path: Path) -> None:
    config = member_trial_config(population, 0, population.untuned, str(tmp_path / "nowhere"), None)
    result = PopulationTrainable(config).train()
    assert (result["outcome"], result["done"]) == ("blocked", True)
    assert "this node cannot see it" in result["reason"]


def make_callback(journal: SearchJournal, store: Store) -> tuple[MemberCallback, StoreFaults, Any]:
    """Return a callback, the faults that it keeps, and a new member, as Tune shows it, with a kept state."""
    faults = StoreFaults(store.location)
    member = SimpleNamespace(config={"member": journal.begin()}, last_result={})
    store.save_member(journal.search.name, member.config["member"], b"state")
    return MemberCallback(journal, store, lambda trial: None, faults), faults, member


@pytest.mark.parametrize("outcome", ["unwritable", "blocked"])
def test_member_that_a_fault_of_the_store_ended_keeps_its_state_and_ends_the_search_unfinished(
    outcome: str, population: Search, tmp_path: Path
) -> None:
    store = open_at(tmp_path)
    with open_journal(population, store) as journal:
        callback, faults, member = make_callback(journal, store)
        member.last_result = {"outcome": outcome, "reason": "made up", "done": True}
        callback.on_trial_complete(0, [], member)
        assert [trial.state for trial in journal.trials()] == ["running"]
        assert store.load_member(population.name, 0) == b"state"
        with pytest.raises(StorageError, match="made up"):
            faults.check()


def test_member_that_failed_is_settled_with_its_reason(population: Search, tmp_path: Path) -> None:
    store = open_at(tmp_path)
    with open_journal(population, store) as journal:
        callback, faults, failed = make_callback(journal, store)
        failed.last_result = {"outcome": "failed", "reason": "ValueError: no", "done": True}
        callback.on_trial_complete(0, [], failed)
        callback, _, lost = make_callback(journal, store)
        callback.on_trial_error(0, [], lost)
        callback, _, raised = make_callback(journal, store)
        store.note_member_error(population.name, 2, make_failure(error="RuntimeError: no"))
        callback.on_trial_error(0, [], raised)
        assert {trial.state for trial in journal.trials()} == {"failed"}
        reasons = [trial.reason for trial in journal.trials()]
    assert reasons == [
        "ValueError: no",
        "its worker process or node was lost 21 times",
        "RuntimeError: no",
    ]
    assert [store.load_member(population.name, number) for number in range(3)] == [None] * 3
    faults.check()
