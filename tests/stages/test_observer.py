"""Trials are watched: events, note, log and device time; and what they compute does not depend on it."""

import logging
import warnings
from pathlib import Path

import pytest

from lt_rebalance.cluster.trainable import StageTrainable, trial_config
from lt_rebalance.monitoring.stage_log import log_path
from lt_rebalance.monitoring.tensorboard.log import list_event_files, parse_events
from lt_rebalance.monitoring.tensorboard.naming import EventRun
from lt_rebalance.monitoring.tensorboard.writer import read_end
from lt_rebalance.stages import observer
from lt_rebalance.stages.kinds import open_run, run_stage
from lt_rebalance.stages.watch import Watch
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.presence import read_notes
from lt_rebalance.store.records import Record
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, AnyStage, ClassifierStage, GeneratorStage
from lt_rebalance.training.configs import Execution
from tests.tiny import TINY

NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def open_at(directory: Path) -> Store:
    store = open_store(str(directory), RESULTS_VERSION, create=True)
    assert store is not None
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_at(tmp_path / "store")


@pytest.fixture
def classifier_stage(small_protocol: Protocol, cpu_execution: Execution) -> ClassifierStage:
    cell = make_cell(small_protocol, dataset=TINY, c="1/2", method="cgan", generator=SMALL)
    return cell.stage(0, cpu_execution)


SMALL = "small_mlp_cgan_leaky"


@pytest.fixture
def generator_stage(classifier_stage: ClassifierStage) -> GeneratorStage:
    assert classifier_stage.generator_stage is not None
    return classifier_stage.generator_stage


def make_run(stage: AnyStage) -> EventRun:
    group = "a cell" if stage.kind == "classifier" else ""
    return EventRun(directory=f"events/study/{stage.key[:8]}", group=group, hparams={}, class_names=NAMES)


def make_trial(store: Store, *stages: AnyStage, num_devices: float = 1.0) -> StageTrainable:
    watch = Watch(driver="driver.json", runs={stage.key: make_run(stage) for stage in stages})
    return StageTrainable(trial_config(stages, store.location, None, watch=watch, num_devices=num_devices))


def finish(trial: StageTrainable) -> None:
    while not trial.train()["done"]:
        pass
    trial.stop()


def load(store: Store, stage: AnyStage) -> Record:
    record = store.load_record(stage.key)
    assert record is not None
    return record


def list_points(store: Store, stage: AnyStage) -> list[tuple[int, str]]:
    directory = make_run(stage).directory
    contents = [store.files.read(f"{directory}/{name}") for name in list_event_files(store.files, directory)]
    events = [event for content in contents for event in parse_events(content)]
    return sorted((event.step, value.tag) for event in events for value in event.summary.value)


@pytest.mark.slow
def test_watched_stages_give_the_bits_of_unwatched_ones(
    classifier_stage: ClassifierStage, generator_stage: GeneratorStage, tmp_path: Path
) -> None:
    watched, plain = open_at(tmp_path / "watched"), open_at(tmp_path / "plain")
    for stage in (generator_stage, classifier_stage):
        finish(make_trial(watched, stage))
        assert load(watched, stage).deterministic() == run_stage(stage, plain).deterministic()
        assert read_end(watched, make_run(stage)) == "complete"
    samples = [step for step, tag in list_points(watched, generator_stage) if tag == "samples"]
    assert samples == [2, 4, 6]
    tags = {tag for _, tag in list_points(watched, classifier_stage)}
    assert {"confusion", "precision_recall/8 Bag", "result/last_macro_f1", "recall/8 Bag"} <= tags


@pytest.mark.slow
def test_trial_killed_after_any_round_leaves_the_events_of_an_undisturbed_one(
    generator_stage: GeneratorStage, tmp_path: Path
) -> None:
    undisturbed = open_at(tmp_path / "undisturbed")
    finish(make_trial(undisturbed, generator_stage))
    for rounds in (1, 2):
        killed = open_at(tmp_path / str(rounds))
        first = make_trial(killed, generator_stage)
        for _ in range(rounds):
            first.train()
        finish(make_trial(killed, generator_stage))
        assert list_points(killed, generator_stage) == list_points(undisturbed, generator_stage)


@pytest.mark.slow
def test_trial_killed_between_checkpoint_and_events_leaves_no_gap(
    generator_stage: GeneratorStage, tmp_path: Path
) -> None:
    undisturbed, killed = open_at(tmp_path / "undisturbed"), open_at(tmp_path / "killed")
    finish(make_trial(undisturbed, generator_stage))
    open_run([generator_stage], killed, None).run_round()  # which writes a checkpoint and shows nothing
    finish(make_trial(killed, generator_stage))
    assert list_points(killed, generator_stage) == list_points(undisturbed, generator_stage)


def test_events_that_cannot_be_written_cost_no_result(
    classifier_stage: ClassifierStage, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    stage = classifier_stage.with_seed(1)
    run_stage(stage.generator_stage, store)  # type: ignore[arg-type]  # it has one
    for name in ("RunEvents", "write_note", "remove_note"):
        monkeypatch.setattr(observer, name, fail)
    finish(make_trial(store, stage))
    assert load(store, stage).state == "complete"
    assert "no space left" in store.files.read(log_path(stage.key)).decode()


# Notes


def test_trial_leaves_a_note_of_its_round_until_it_ends(
    generator_stage: GeneratorStage, store: Store
) -> None:
    trial = make_trial(store, generator_stage)
    original, seen = trial._train_round, []

    def look_and_train() -> dict[str, object]:
        seen.extend(read_notes(store.files))
        return original()

    trial._train_round = look_and_train  # type: ignore[method-assign]
    trial.train()
    (note,) = seen
    assert (note.keys, note.driver, note.round) == ((generator_stage.key,), "driver.json", 0)
    (note,) = read_notes(store.files)
    assert (note.round, note.num_rounds) == (1, 3)
    trial.train()
    (note,) = read_notes(store.files)
    assert (note.round, note.num_rounds) == (2, 3)
    trial.train()
    assert read_notes(store.files) == []


def test_trial_that_takes_on_another_stage_takes_the_first_note_away(
    generator_stage: GeneratorStage, store: Store
) -> None:
    trial = make_trial(store, generator_stage)
    trial.train()
    other = generator_stage.with_seed(1)
    trial.reset(trial_config([other], store.location, None))
    assert read_notes(store.files) == []
    trial.train()
    assert [note.keys for note in read_notes(store.files)] == [(other.key,)]
    trial.stop()
    assert read_notes(store.files) == []


# Logs


def test_log_has_every_round_and_every_warning(generator_stage: GeneratorStage, store: Store) -> None:
    trial = make_trial(store, generator_stage)
    trial.train()
    with warnings.catch_warnings(action="ignore"):
        warnings.warn("between two rounds", stacklevel=1)
    original = trial._train

    def warn_and_train() -> dict[str, object]:
        warnings.warn("a warning of a library", stacklevel=1)
        logging.getLogger("some.library").error("an error of a library")
        return original()

    trial._train = warn_and_train  # type: ignore[method-assign]
    trial.train()
    trial.train()
    lines = store.files.read(log_path(generator_stage.key)).decode().splitlines()
    assert [f"round {index}/3" in " ".join(lines) for index in (1, 2, 3, 4)] == [True, True, True, False]
    assert sum("a warning of a library" in line for line in lines) >= 1
    assert sum("ERROR some.library: an error of a library" in line for line in lines) == 2
    assert not any("between two rounds" in line for line in lines)
    assert logging.getLogger("lt_rebalance").level == logging.NOTSET


def test_log_of_a_failing_stage_has_the_traceback(classifier_stage: ClassifierStage, store: Store) -> None:
    assert make_trial(store, classifier_stage).train()["outcome"] == "blocked"  # its generator is missing
    text = store.files.read(log_path(classifier_stage.key)).decode()
    assert "Traceback" in text and "StoreError" in text


# Device time


@pytest.mark.slow
def test_device_time_of_lanes_adds_up_to_what_their_trial_held(
    generator_stage: GeneratorStage, store: Store
) -> None:
    lanes = [generator_stage.with_seed(seed) for seed in range(3)]
    finish(make_trial(store, *lanes, num_devices=0.5))
    timings = [load(store, lane).timing for lane in lanes]
    assert all(timing.device_s is not None and timing.device_s > 0 for timing in timings)
    held_s = 0.5 * max(timing.wall_s for timing in timings)
    # The commits of the last round are charged to their lanes, but not the writing of the records.
    assert sum(timing.device_s or 0 for timing in timings) == pytest.approx(held_s, rel=0.2)


def test_device_time_goes_on_from_a_checkpoint(generator_stage: GeneratorStage, store: Store) -> None:
    first = open_run([generator_stage], store, None, num_devices=1000.0)
    first.run_round()
    second = open_run([generator_stage], store, None, num_devices=1.0)
    while not second.is_finished:
        second.run_round()
    timing = load(store, generator_stage).timing
    # The first round alone counts a thousandfold, and wall time goes on as well.
    assert timing.device_s is not None and timing.device_s > timing.wall_s
