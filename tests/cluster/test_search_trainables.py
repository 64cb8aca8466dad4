"""Trials of searches by themselves, as Tune drives them but without a cluster."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from lt_rebalance.cluster.rungs import RungTrainable, rung_trial_config
from lt_rebalance.search.search import Search
from lt_rebalance.stages.inputs import InputReader
from lt_rebalance.stages.kinds import open_run, run_stage
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.records import Record
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.training.classifier import ClassifierTraining


def open_at(directory: Path) -> Store:
    store = open_store(str(directory), RESULTS_VERSION, create=True)
    assert store is not None
    return store


def make_trial(search: Search, store: Store, **values: Any) -> RungTrainable:
    ladder = search.ladder({**search.untuned, **values})
    return RungTrainable(rung_trial_config(ladder, search.objectives, store.location, None))


def find_results(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in directory.glob("stages/*/result.json")}


@pytest.mark.slow
@pytest.mark.parametrize("component", ["classifier", "generator"])
def test_every_rung_is_what_running_its_stages_gives(
    component: str, small_search: Search, small_cgan_search: Search, tmp_path: Path
) -> None:
    search = {"classifier": small_search, "generator": small_cgan_search}[component]
    climbed, plain = open_at(tmp_path / "climbed"), open_at(tmp_path / "plain")
    trial = make_trial(search, climbed)
    results = [trial.train() for _ in search.rung_rounds]
    assert [result["round"] for result in results] == [1, 2, 4]
    assert [result["outcome"] for result in results] == ["running", "running", "finished"]
    assert [result["done"] for result in results] == [False, False, True]
    for rung, result in zip(search.ladder(search.untuned), results, strict=True):
        for group in rung.groups:
            for stage in group:
                record = climbed.load_record(stage.key)
                assert record is not None
                assert record.deterministic() == run_stage(stage, plain).deterministic()
        scores = [run_stage(stage, plain).metrics["macro_f1"] for stage in rung.groups[-1]]
        assert result["macro_f1_by_seed"] == scores
        assert result["macro_f1"] == pytest.approx(sum(scores) / 2)
    steps = {"classifier": [2, 4, 8], "generator": [2 + 4, 4 + 8, 8 + 12]}[component]
    assert [result["total_steps"] for result in results] == steps
    assert list((tmp_path / "climbed").glob("stages/*/checkpoints/*")) == []


def test_longer_training_goes_on_where_the_shorter_one_ended(small_search: Search, tmp_path: Path) -> None:
    store = open_at(tmp_path)
    make_trial(small_search, store).train()
    _, second, _ = small_search.ladder(small_search.untuned)
    run = open_run(second.groups[0], store, None)
    assert [lane.round for lane in run.lanes] == [1, 1]


@pytest.mark.slow
def test_killed_trial_trains_nothing_again_and_reports_all_its_rungs(
    small_cgan_search: Search, tmp_path: Path
) -> None:
    killed, undisturbed = open_at(tmp_path / "killed"), open_at(tmp_path / "undisturbed")
    expected_trial = make_trial(small_cgan_search, undisturbed)
    expected = [expected_trial.train() for _ in range(3)]
    first = make_trial(small_cgan_search, killed)
    for _ in range(2):
        first.train()
    results = find_results(tmp_path / "killed")
    successor = make_trial(small_cgan_search, killed)
    again = [successor.train() for _ in range(3)]
    assert [result["macro_f1_by_seed"] for result in again] == [r["macro_f1_by_seed"] for r in expected]
    assert [result["total_steps"] for result in again] == [r["total_steps"] for r in expected]
    assert len(results) == 8
    assert results.items() <= find_results(tmp_path / "killed").items()


def test_trial_that_is_killed_when_a_rung_is_committed_does_not_train_that_rung_again(
    small_cgan_search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed after the first of two seeds."""
    store = open_at(tmp_path)
    first, second, _ = small_cgan_search.ladder(small_cgan_search.untuned)
    commit = Store.commit

    def commit_and_die(store: Store, record: Record) -> None:
        commit(store, record)
        raise KeyboardInterrupt

    trial = make_trial(small_cgan_search, store)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "commit", commit_and_die)
        with pytest.raises(KeyboardInterrupt):
            trial.train()
    assert [store.load_record(stage.key) is not None for stage in first.groups[0]] == [True, False]
    make_trial(small_cgan_search, store).train()
    run = open_run(second.groups[0], store, None)
    assert [lane.round for lane in run.lanes] == [1, 1]


def test_seed_whose_stage_is_committed_is_not_trained_again(small_search: Search, tmp_path: Path) -> None:
    store = open_at(tmp_path)
    first = small_search.ladder(small_search.untuned)[0].groups[0][0]
    run_stage(first, store)
    results = find_results(tmp_path)
    make_trial(small_search, store).train()
    assert results.items() <= find_results(tmp_path).items()
    assert len(find_results(tmp_path)) == 2


def test_trial_of_which_a_seed_diverges_ends_with_the_worst_score(
    small_search: Search, small_cgan_search: Search, tmp_path: Path
) -> None:
    for search in (small_search, small_cgan_search):
        trial = make_trial(search, open_at(tmp_path / search.name), learning_rate=1e30)
        result = trial.train()
        while not result["done"]:
            result = trial.train()
        assert result["outcome"] == "diverged"
        assert result["macro_f1_by_seed"] == [0.0, 0.0]


def test_trial_whose_stage_fails_for_good_says_so(
    small_search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("made up")

    monkeypatch.setattr(ClassifierTraining, "_train_round", fail)
    result = make_trial(small_search, open_at(tmp_path)).train()
    assert (result["outcome"], result["done"]) == ("failed", True)
    assert "macro_f1" not in result


def test_diversity_is_measured_without_a_classifier(small_cgan_search: Search, tmp_path: Path) -> None:
    search = dataclasses.replace(small_cgan_search, objectives=("diversity",))
    result = make_trial(search, open_at(tmp_path)).train()
    assert len(result["diversity_by_seed"]) == 2
    assert all(0 < value < 1 for value in result["diversity_by_seed"])
    assert len(find_results(tmp_path)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("component", ["classifier", "generator"])
def test_no_trial_touches_a_test_image(
    component: str,
    small_search: Search,
    small_cgan_search: Search,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(InputReader, "test_set", lambda self: pytest.fail("test images were asked for"))
    search = {"classifier": small_search, "generator": small_cgan_search}[component]
    trial = make_trial(search, open_at(tmp_path))
    assert [trial.train()["outcome"] for _ in range(3)] == ["running", "running", "finished"]
