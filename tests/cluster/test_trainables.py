"""The trainables by themselves, as Tune drives them but without a cluster, and in a user's own Tuner."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import tune

import lt_rebalance
from lt_rebalance.cluster.attempt import AttemptError
from lt_rebalance.cluster.session import ray_cluster
from lt_rebalance.cluster.trainable import StageTrainable, trial_config
from lt_rebalance.data import places
from lt_rebalance.files.bucket import PATIENCE_VARIABLE
from lt_rebalance.stages.base import StageRun
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import Store, open_store
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, ClassifierStage, GeneratorStage
from lt_rebalance.trainables.trainables import CGANTrainable, CNNTrainable
from lt_rebalance.training.classifier import ClassifierTraining
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.stacks import Fusion
from tests.gate import open_gate
from tests.places import BucketPlace
from tests.s3_server import S3Server
from tests.tiny import TINY

ROUNDS = 3


def open_at(directory: Path) -> Store:
    store = open_store(str(directory), RESULTS_VERSION, create=True)
    assert store is not None
    return store


def test_trainables_are_had_from_the_root_of_the_package() -> None:
    assert (lt_rebalance.CGANTrainable, lt_rebalance.CNNTrainable) == (CGANTrainable, CNNTrainable)
    with pytest.raises(AttributeError, match="no attribute 'CVAETrainable'"):
        _ = lt_rebalance.CVAETrainable


def test_step_trains_one_round_and_the_last_one_commits(
    classifier_stage: ClassifierStage, tmp_path: Path
) -> None:
    store = open_at(tmp_path)
    trainable = CNNTrainable(trial_config([classifier_stage], store.location, None))
    results = [trainable.train() for _ in range(ROUNDS)]
    assert [result["round"] for result in results] == [1, 2, 3]
    assert [result["done"] for result in results] == [False, False, True]
    assert [result["outcome"] for result in results] == ["running", "running", "finished"]
    record = store.load_record(classifier_stage.key)
    assert record is not None
    assert record.metrics["accuracy"] == results[-1]["test_accuracy"]


@pytest.mark.slow
def test_both_kinds_give_what_running_the_stage_gives(
    classifier_stage: ClassifierStage, generator_stage: GeneratorStage, tmp_path: Path
) -> None:
    tuned, plain = open_at(tmp_path / "tuned"), open_at(tmp_path / "plain")
    for trainable_type, stage in ((CNNTrainable, classifier_stage), (CGANTrainable, generator_stage)):
        trainable = trainable_type(trial_config([stage], tuned.location, None))
        while not trainable.train()["done"]:
            pass
        record = tuned.load_record(stage.key)
        assert record is not None
        assert record.deterministic() == run_stage(stage, plain).deterministic()


def test_step_of_a_finished_stage_trains_nothing(classifier_stage: ClassifierStage, tmp_path: Path) -> None:
    store = open_at(tmp_path)
    run_stage(classifier_stage, store)
    before = (tmp_path / "stages" / classifier_stage.key / "result.json").stat()
    result = CNNTrainable(trial_config([classifier_stage], store.location, None)).train()
    assert (result["done"], result["outcome"]) == (True, "finished")
    assert "round" not in result
    after = (tmp_path / "stages" / classifier_stage.key / "result.json").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_new_actor_goes_on_where_a_killed_one_checkpointed(
    classifier_stage: ClassifierStage, tmp_path: Path
) -> None:
    killed, undisturbed = open_at(tmp_path / "killed"), open_at(tmp_path / "undisturbed")
    CNNTrainable(trial_config([classifier_stage], killed.location, None)).train()
    successor = CNNTrainable(trial_config([classifier_stage], killed.location, None))
    assert [successor.train()["round"] for _ in range(2)] == [2, 3]
    record = killed.load_record(classifier_stage.key)
    assert record is not None
    assert record.deterministic() == run_stage(classifier_stage, undisturbed).deterministic()


def test_reused_actor_gives_what_a_fresh_one_gives(classifier_stage: ClassifierStage, tmp_path: Path) -> None:
    reused, fresh = open_at(tmp_path / "reused"), open_at(tmp_path / "fresh")
    trainable = CNNTrainable(trial_config([classifier_stage], reused.location, None))
    trainable.train()
    other = classifier_stage.with_seed(1)
    assert trainable.reset(trial_config([other], reused.location, None))
    while not trainable.train()["done"]:
        pass
    record = reused.load_record(other.key)
    assert record is not None
    assert record.deterministic() == run_stage(other, fresh).deterministic()
    assert reused.load_record(classifier_stage.key) is None


@pytest.mark.parametrize("kind", ["generator", "classifier"])
def test_save_and_restore_move_a_training_to_another_place(
    kind: str, classifier_stage: ClassifierStage, generator_stage: GeneratorStage, tmp_path: Path
) -> None:
    stage, trainable_type = {
        "generator": (generator_stage, CGANTrainable),
        "classifier": (classifier_stage, CNNTrainable),
    }[kind]
    here, there, plain = (open_at(tmp_path / name) for name in ("here", "there", "plain"))
    first = trainable_type(trial_config([stage], here.location, None))
    first.train()
    saved = first.save(str(tmp_path / "checkpoint"))
    second = trainable_type(trial_config([stage], there.location, None))
    second.restore(saved)
    assert [second.train()["round"] for _ in range(2)] == [2, 3]
    record = there.load_record(stage.key)
    assert record is not None
    assert record.deterministic() == run_stage(stage, plain).deterministic()


@pytest.mark.slow
def test_lanes_of_a_trial_commit_singly_and_as_alone(
    classifier_stage: ClassifierStage, tmp_path: Path
) -> None:
    together, alone = open_at(tmp_path / "together"), open_at(tmp_path / "alone")
    stages = [classifier_stage.with_seed(seed) for seed in range(3)]
    trainable = CNNTrainable(trial_config(stages, together.location, None))
    while not trainable.train()["done"]:
        pass
    for stage in stages:
        record = together.load_record(stage.key)
        assert record is not None
        assert record.deterministic() == run_stage(stage, alone).deterministic()


@pytest.mark.slow
def test_lanes_are_halved_until_they_fit_the_memory(
    classifier_stage: ClassifierStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a GPU has a memory of its own to run out of, so the error is made up; all else is real."""
    fusion = Fusion(form="vmap", max_lanes=5)
    monkeypatch.setattr("lt_rebalance.stages.base.choose_fusion", lambda stage, num_lanes: fusion)
    train_round, tried = ClassifierTraining._train_round, []

    def train_what_fits(training: ClassifierTraining, lanes: list[Any], *rest: Any) -> None:
        tried.append(len(lanes))
        # The first round of two lanes goes through, so that there are checkpoints to go on from.
        if len(lanes) > 2 or (len(lanes) == 2 and lanes[0].round == 2 and tried.count(2) < 5):
            raise torch.OutOfMemoryError("made up")
        train_round(training, lanes, *rest)

    monkeypatch.setattr(ClassifierTraining, "_train_round", train_what_fits)
    store = open_at(tmp_path)
    stages = [classifier_stage.with_seed(seed) for seed in range(5)]
    trainable = CNNTrainable(trial_config(stages, store.location, None))
    results = [trainable.train()]
    while not results[-1]["done"]:
        results.append(trainable.train())
    assert tried == [5] + [2, 2, 1] + [2] + 2 * [1, 1, 1, 1, 1]
    assert [result["outcome"] for result in results] == ["running"] * 4 + ["finished"]
    for stage in stages:
        record = store.load_record(stage.key)
        assert record is not None
        assert record.state == "complete"
        assert [row["step"] for row in record.curves] == [row["step"] for row in record.curves[:ROUNDS]]
        assert record.provenance["fusion"] == {"form": "vmap", "max_lanes": 1}


def test_lane_alone_without_memory_is_an_error(
    classifier_stage: ClassifierStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(training: ClassifierTraining, *rest: Any) -> None:
        raise torch.OutOfMemoryError("made up")

    monkeypatch.setattr(ClassifierTraining, "_train_round", run_out)
    store = open_at(tmp_path)
    trainable = CNNTrainable(trial_config([classifier_stage], store.location, None))
    with pytest.raises(AttemptError, match="OutOfMemoryError: made up"):
        trainable.train()
    assert store.count_errors(classifier_stage.key) == 1


def test_lanes_whose_inputs_never_fit_are_an_error_in_the_end(
    classifier_stage: ClassifierStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*arguments: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("made up")

    monkeypatch.setattr("lt_rebalance.cluster.trainable.open_run", run_out)
    store = open_at(tmp_path)
    stages = [classifier_stage.with_seed(seed) for seed in range(5)]
    trainable = CNNTrainable(trial_config(stages, store.location, None))
    assert [trainable.train()["outcome"] for _ in range(2)] == ["running"] * 2  # with 5 lanes, with 2
    with pytest.raises(AttemptError, match="OutOfMemoryError: made up"):
        trainable.train()
    assert [store.count_errors(stage.key) for stage in stages] == [1] * 5


@pytest.mark.slow
def test_trial_takes_up_all_its_lanes_and_leaves_those_that_are_done(
    classifier_stage: ClassifierStage, tmp_path: Path
) -> None:
    store = open_at(tmp_path)
    stages = [classifier_stage.with_seed(seed) for seed in range(3)]
    run_stage(stages[1], store)
    done = (tmp_path / "stages" / stages[1].key / "result.json").stat()
    killed = CNNTrainable(trial_config(stages, store.location, None))
    killed.train()
    successor = CNNTrainable(trial_config(stages, store.location, None))
    assert [successor.train()["round"] for _ in range(2)] == [2, 3]
    plain = open_at(tmp_path / "plain")
    for stage in stages:
        record = store.load_record(stage.key)
        assert record is not None
        assert record.deterministic() == run_stage(stage, plain).deterministic()
    assert (tmp_path / "stages" / stages[1].key / "result.json").stat().st_ino == done.st_ino


def test_wrong_kind_of_stage_is_refused(classifier_stage: ClassifierStage, tmp_path: Path) -> None:
    store = open_at(tmp_path)
    result = CGANTrainable(trial_config([classifier_stage], store.location, None)).train()
    assert (result["outcome"], result["done"], result["cause"]) == ("failed", True, "input")
    assert result["reason"] == "ValueError: CGANTrainable runs generator stages, got a classifier stage"


def test_store_that_this_node_does_not_see_blocks_the_trial_and_charges_nothing(
    classifier_stage: ClassifierStage, tmp_path: Path
) -> None:
    trainable = CNNTrainable(trial_config([classifier_stage], str(tmp_path / "nowhere"), None))
    result = trainable.train()
    assert (result["done"], result["outcome"]) == (True, "blocked")
    assert "there is no store at" in result["reason"] and "this node cannot see it" in result["reason"]
    store = open_at(tmp_path / "store")
    trainable.reset(trial_config([classifier_stage], store.location, None))
    while not (result := trainable.train())["done"]:
        pass
    assert result["outcome"] == "finished"
    record = store.load_record(classifier_stage.key)
    assert record is not None and record.timing.num_errors == 0


@pytest.mark.slow
def test_store_that_is_gone_blocks_the_trial_and_charges_nothing(
    classifier_stage: ClassifierStage, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_gate(s3.port) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
        monkeypatch.setenv(PATIENCE_VARIABLE, "0.2")
        store = open_store(BucketPlace("store").location, RESULTS_VERSION, create=True)
        assert store is not None
        trainable = CNNTrainable(trial_config([classifier_stage], store.location, None))
        assert trainable.train()["outcome"] == "running"
        gate.shut()
        result = trainable.train()
        assert (result["done"], result["outcome"]) == (True, "blocked")
        assert "has not answered since" in result["reason"]
        gate.open()
        assert store.count_errors(classifier_stage.key) == 0
        assert store.load_failure(classifier_stage.key) is None
        again = CNNTrainable(trial_config([classifier_stage], store.location, None))
        while not (result := again.train())["done"]:
            pass
        record = store.load_record(classifier_stage.key)
        assert record is not None and record.timing.num_errors == 0


def test_error_that_a_retry_cannot_mend_is_recorded_at_once(
    classifier_stage: ClassifierStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: StageRun[Any, Any]) -> None:
        raise ValueError("made up")

    store = open_at(tmp_path)
    monkeypatch.setattr(StageRun, "run_round", fail)
    result = CNNTrainable(trial_config([classifier_stage], store.location, None)).train()
    assert (result["done"], result["outcome"]) == (True, "failed")
    failure = store.load_failure(classifier_stage.key)
    assert failure is not None
    assert failure.error == result["reason"] == "ValueError: made up" and "Traceback" in failure.traceback


UNFIT = {
    "torch": ({"torch_version": "1.0"}, "planned for torch 1.0, this worker has"),
    "GPU": ({"device": "cuda"}, "needs a GPU that torch can use, and this worker has none"),
    "data": ({}, "fashion_mnist: .* missing in"),
}


@pytest.mark.parametrize("lack", UNFIT)
def test_worker_that_lacks_what_a_stage_needs_is_blocked_and_fails_nothing(
    lack: str, classifier_stage: ClassifierStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node may have it; the main process has read the data."""
    monkeypatch.setattr("lt_rebalance.cluster.trainable.count_gpus", lambda: 0)
    monkeypatch.setattr(places, "DEBIAN_DIR", tmp_path / "no-package")
    changes, said = UNFIT[lack]
    stage = dataclasses.replace(
        classifier_stage, execution=dataclasses.replace(classifier_stage.execution, **changes)
    )
    if lack == "data":
        stage = dataclasses.replace(stage, data=dataclasses.replace(stage.data, dataset="fashion_mnist"))
    store = open_at(tmp_path)
    result = StageTrainable(trial_config([stage], store.location, str(tmp_path / "nothing"))).train()
    assert (result["done"], result["outcome"]) == (True, "blocked") and "is_of_stage" not in result
    assert re.search(said, result["reason"])
    assert store.load_failure(stage.key) is None and store.count_errors(stage.key) == 0


def test_other_error_is_noted_and_raised_for_tune_to_retry(
    classifier_stage: ClassifierStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_at(tmp_path)
    trainable = CNNTrainable(trial_config([classifier_stage], store.location, None))
    with monkeypatch.context() as patch:
        patch.setattr(StageRun, "run_round", lambda run: run.no_such_thing)
        with pytest.raises(AttemptError, match=r"AttributeError: .*no_such_thing"):
            trainable.train()
    assert store.count_errors(classifier_stage.key) == 1
    assert store.load_failure(classifier_stage.key) is None
    successor = CNNTrainable(trial_config([classifier_stage], store.location, None))
    while not successor.train()["done"]:
        pass
    record = store.load_record(classifier_stage.key)
    assert record is not None
    assert record.timing.num_errors == 1


def test_classifier_without_its_generator_is_blocked_not_failed(
    generator_stage: GeneratorStage, small_protocol: Protocol, cpu_execution: Execution, tmp_path: Path
) -> None:
    store = open_at(tmp_path)
    cell = make_cell(
        small_protocol,
        dataset=TINY,
        c="1/2",
        method="cgan",
        generator="small_mlp_cgan_leaky",
    )
    stage = cell.stage(0, cpu_execution)
    result = StageTrainable(trial_config([stage], store.location, None)).train()
    assert (result["done"], result["outcome"]) == (True, "blocked")
    assert store.load_failure(stage.key) is None
    assert store.count_errors(stage.key) == 1


@pytest.fixture
def local_ray() -> Iterator[None]:
    with ray_cluster(None):  # waits for a Ray that is slow to start, and tries twice
        yield


@pytest.mark.slow
def test_trainable_runs_in_a_users_own_tuner(
    classifier_stage: ClassifierStage, tmp_path: Path, local_ray: None
) -> None:
    store = open_at(tmp_path / "store")
    configs = [
        trial_config([classifier_stage.with_seed(seed)], store.location, None) | {"seed": seed}
        for seed in range(2)
    ]
    tuner = tune.Tuner(
        tune.with_resources(CNNTrainable, {"cpu": 1}),
        param_space=tune.grid_search(configs),
        tune_config=tune.TuneConfig(metric="test_accuracy", mode="max", reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path / "tune"),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, checkpoint_at_end=True),
        ),
    )
    results = tuner.fit()
    assert not results.errors
    best = results.get_best_result()
    assert best.checkpoint is not None
    records = [store.load_record(classifier_stage.with_seed(seed).key) for seed in range(2)]
    accuracies = [record.metrics["accuracy"] for record in records if record is not None]
    assert len(accuracies) == 2
    assert best.metrics is not None
    assert best.metrics["test_accuracy"] == max(accuracies)
