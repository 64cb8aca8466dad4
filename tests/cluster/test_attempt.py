"""The table from an exception, raised anywhere in a trial, to how the trial ends."""

import errno
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lt_rebalance.cluster.attempt import MAX_ERRORS, AttemptError
from lt_rebalance.cluster.rungs import (
    PopulationTrainable,
    RungTrainable,
    member_trial_config,
    rung_trial_config,
)
from lt_rebalance.cluster.trainable import StageTrainable, trial_config
from lt_rebalance.generation.cgan import CGANTraining
from lt_rebalance.ground.errors import DataError, NotApplicableError, StorageError
from lt_rebalance.search.search import Search
from lt_rebalance.stages.stage_errors import describe_error
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.studies.stage import RESULTS_VERSION, ClassifierStage
from lt_rebalance.training.classifier import ClassifierTraining


class OddError(Exception):
    """What a user may write: it cannot be unpickled, and cannot say what it is."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__()

    def __str__(self) -> str:
        raise KeyError("no text")


AGAIN = "tried again"
ERRORS: dict[str, tuple[Callable[[], BaseException], str, str]] = {
    "value": (lambda: ValueError("made up"), "failed", "input"),
    "not applicable": (lambda: NotApplicableError("made up"), "failed", "not applicable"),
    "unicode": (lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "made up"), "failed", "input"),
    "import": (lambda: ModuleNotFoundError("No module named 'made_up'"), AGAIN, "code"),
    "syntax": (lambda: SyntaxError("made up"), AGAIN, "code"),
    "assertion": (lambda: AssertionError("made up"), AGAIN, "code"),
    "recursion": (lambda: RecursionError("made up"), AGAIN, "code"),
    "exit": (lambda: SystemExit(3), AGAIN, "code"),
    "odd": (lambda: OddError("1", "2"), AGAIN, "code"),
    "memory": (lambda: MemoryError("made up"), AGAIN, "memory"),
    "device memory": (lambda: torch.OutOfMemoryError("made up"), AGAIN, "memory"),
    "connection": (lambda: ConnectionError("made up"), AGAIN, "infrastructure"),
    "full": (lambda: OSError(errno.ENOSPC, "made up"), "unwritable", ""),
    "storage": (lambda: StorageError("made up"), "blocked", ""),
    "data, once it is loaded": (lambda: DataError("made up"), "failed", "input"),
    "store": (lambda: StoreError("made up"), "blocked", "infrastructure"),
}
PLACES = {
    "stages": "lt_rebalance.cluster.{module}.stage_from_dict",
    "observer": "lt_rebalance.stages.observer.TrialObserver",
    "inputs": "lt_rebalance.cluster.trainable.open_run",
    "training": None,
    "measuring": "lt_rebalance.cluster.rungs.score",
}
TRIALS = {"stages": "trainable", "rungs": "rungs", "member": "rungs"}


def open_at(directory: Path) -> Store:
    store = open_store(str(directory), RESULTS_VERSION, create=True)
    assert store is not None
    return store


def raise_in(place: str, kind: str, error: BaseException, patch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    if place == "training":
        patch.setattr(CGANTraining, "_train_round", fail)
        patch.setattr(ClassifierTraining, "_train_round", fail)
    else:
        patch.setattr(str(PLACES[place]).format(module=TRIALS[kind]), fail)


@pytest.fixture
def make_trial(
    classifier_stage: ClassifierStage, small_search: Search, small_cgan_search: Search
) -> Callable[[str, str], StageTrainable]:
    """Return what makes a trial of some kind on a store."""

    def make(kind: str, storage: str) -> StageTrainable:
        if kind == "stages":
            return StageTrainable(trial_config([classifier_stage], storage, None))
        if kind == "rungs":
            ladder = small_search.ladder(small_search.untuned)
            return RungTrainable(rung_trial_config(ladder, small_search.objectives, storage, None))
        search = small_cgan_search
        return PopulationTrainable(member_trial_config(search, 0, search.untuned, storage, None))

    return make


def load_errors(store: Store, search: Search) -> list[Any]:
    """Return all errors that are kept, of stages and of the member."""
    of_stages = [error for key in store.list_keys() for error in store.load_errors(key)]
    return of_stages + store.load_member_errors(search.name, 0)


# Every error at the first place; at those that train before they come to it, one of each outcome.
CASES = [
    (name, place, kind)
    for place in PLACES
    for kind in TRIALS
    for name in (ERRORS if place == "stages" else ("value", "odd", "full"))
    if (place, kind) != ("measuring", "stages")  # it measures nothing
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "place", "kind"), CASES)
def test_error_has_its_outcome_and_cause_wherever_it_is_raised(
    name: str,
    place: str,
    kind: str,
    make_trial: Callable[[str, str], StageTrainable],
    small_cgan_search: Search,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_error, outcome, cause = ERRORS[name]
    store, error = open_at(tmp_path / "store"), make_error()
    raise_in(place, kind, error, monkeypatch)
    words = describe_error(error)
    for _ in range(MAX_ERRORS - 1 if outcome == AGAIN else 0):
        with pytest.raises(AttemptError) as raised:
            make_trial(kind, store.location).train()
        assert str(raised.value) == words
        assert str(pickle.loads(pickle.dumps(raised.value))) == words  # it has a way to go
    result = make_trial(kind, store.location).train()
    assert (result["outcome"], result["done"]) == ("failed" if outcome == AGAIN else outcome, True)
    kept = {error.cause for error in load_errors(store, small_cgan_search)}
    if result["outcome"] == "failed":
        assert (result["reason"], result["cause"]) == (words, cause)
        assert "Traceback" in result["traceback"]
        failures = [failure for key in store.list_keys() if (failure := store.load_failure(key)) is not None]
        assert {(failure.error, failure.cause) for failure in failures} <= {(words, cause)}
        assert failures or kind != "stages"
        # A final error is kept with the unfinished seeds of a rung, of which one alone may have failed.
        is_kept = outcome == AGAIN or (kind == "rungs" and place != "measuring")
        assert kept == ({cause} if is_kept else set())
    else:
        assert "made up" in result["reason"]
        assert kept == ({cause} if cause else set())


@pytest.mark.parametrize("kind", TRIALS)
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (StoreError("made up"), "blocked"),
        (PermissionError("made up"), "blocked"),
        (ModuleNotFoundError("made up"), "failed"),
        (ValueError("made up"), "failed"),
    ],
)
def test_error_before_there_is_a_store_is_final_and_told(
    error: Exception,
    outcome: str,
    kind: str,
    make_trial: Callable[[str, str], StageTrainable],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raise_in("training", kind, RuntimeError("never reached"), monkeypatch)
    monkeypatch.setattr("lt_rebalance.cluster.trainable.open_store", raise_always(error))
    result = make_trial(kind, str(tmp_path)).train()
    assert (result["outcome"], result["done"]) == (outcome, True)
    assert "made up" in result["reason"]


def raise_always(error: BaseException) -> Callable[..., None]:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    return fail


def test_error_of_a_later_rung_is_told_like_one_of_the_first(
    make_trial: Callable[[str, str], StageTrainable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_at(tmp_path)
    trial = make_trial("rungs", store.location)
    assert trial.train()["outcome"] == "running"
    monkeypatch.setattr(ClassifierTraining, "_train_round", raise_always(ValueError("made up")))
    result = trial.train()
    assert (result["outcome"], result["cause"], result["done"]) == ("failed", "input", True)


@pytest.mark.parametrize("config", [{}, {"storage": 7}, {"storage": "x", "stages": None}])
def test_configuration_that_is_none_is_told(config: dict[str, Any]) -> None:
    for trainable in (StageTrainable, RungTrainable, PopulationTrainable):
        result = trainable(dict(config)).train()
        assert result["outcome"] in ("failed", "blocked") and result["reason"]


def test_stage_that_this_worker_does_not_know_fails_at_once_and_is_kept_with_its_stage(
    classifier_stage: ClassifierStage, tmp_path: Path
) -> None:
    """A method that a user's own sweep registers does not exist in the workers."""
    store = open_at(tmp_path)
    config = trial_config([classifier_stage], store.location, None)
    config["stages"][0]["method"]["name"] = "my_own"
    result = StageTrainable(config).train()
    assert (result["outcome"], result["cause"]) == ("failed", "input")
    assert "my_own" in result["reason"]
    (key,) = store.list_keys()
    failure = store.load_failure(key)
    assert failure is not None and (failure.error, failure.cause) == (result["reason"], "input")


def test_worker_that_ray_ends_is_not_taken_for_one_that_raises(
    classifier_stage: ClassifierStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = SystemExit(1)
    ended.ray_terminate_msg = "made up"  # type: ignore[attr-defined]  # Ray's mark
    monkeypatch.setattr(ClassifierTraining, "_train_round", raise_always(ended))
    store = open_at(tmp_path)
    with pytest.raises(SystemExit):
        StageTrainable(trial_config([classifier_stage], store.location, None)).train()
    assert store.count_errors(classifier_stage.key) == 0


@pytest.mark.slow
def test_errors_while_members_hand_on_checkpoints_are_counted_like_others(
    make_trial: Callable[[str, str], StageTrainable],
    small_cgan_search: Search,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = open_at(tmp_path / "store")
    for part in ("_save", "_load"):
        monkeypatch.setattr(PopulationTrainable, part, raise_always(RuntimeError("made up")))
    with tempfile.TemporaryDirectory() as directory:
        for use in ("save_checkpoint", "load_checkpoint"):
            member = make_trial("member", store.location)
            member.train()
            with pytest.raises(AttemptError, match="made up"):
                getattr(member, use)(directory)
        member = make_trial("member", store.location)
        member.train()
        member.save_checkpoint(directory)
    assert member.train()["outcome"] == "failed"
    assert len(store.load_member_errors(small_cgan_search.name, 0)) == MAX_ERRORS
