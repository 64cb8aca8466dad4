"""Faults that need no Ray: damaged files, errors, zombies, clocks, versions, odd paths."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from lt_rebalance.cli.main import main as cli
from lt_rebalance.cluster.attempt import MAX_ERRORS, AttemptError
from lt_rebalance.cluster.trainable import trial_config
from lt_rebalance.commands.sweep import main
from lt_rebalance.stages.kinds import open_run, run_stage
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.checkpoints import Checkpoint
from lt_rebalance.store.lease import Lease
from lt_rebalance.store.presence import Note, write_note
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, ClassifierStage, GeneratorStage
from lt_rebalance.studies.study import Study
from lt_rebalance.trainables.trainables import CNNTrainable
from lt_rebalance.training.classifier import ClassifierTraining
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import resolve_execution
from sweeps import full_grid
from tests.store.test_store import make_failure
from tests.tiny import TINY

ROOT = Path(__file__).parents[2]
AXES = ["--c", "1/2", "--methods", "none", "--seeds", "2", "--device", "cpu", "--precision", "float32"]


def open_at(directory: Path) -> Store:
    store = open_store(str(directory), RESULTS_VERSION, create=True)
    assert store is not None
    return store


def run_sweep(*arguments: str) -> int:
    return main(full_grid.make_grid_parser(), full_grid.build_study, [*AXES, *arguments])


def plan_sweep(*arguments: str) -> Plan:
    options = full_grid.make_grid_parser().parse_args([*AXES, *arguments])
    return compile_study(
        full_grid.build_study(options), resolve_execution("cpu", "float32", 1, has_cuda=False)
    )


def finish(trainable: Any) -> dict[str, Any]:
    result = trainable.train()
    while not result["done"]:
        result = trainable.train()
    return dict(result)


# Files


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classifier", "generator"])
@pytest.mark.parametrize("num_unusable", [1, 2])
def test_intact_checkpoint_that_cannot_be_restored_gives_way_to_the_one_before_or_a_new_start(
    kind: str,
    num_unusable: int,
    classifier_stage: ClassifierStage,
    generator_stage: GeneratorStage,
    tmp_path: Path,
) -> None:
    stage = {"classifier": classifier_stage, "generator": generator_stage}[kind]
    store = open_at(tmp_path / "store")
    run = open_run([stage], store, None)
    for _ in range(2):
        run.run_round()
    names = store.files.list(f"stages/{stage.key}/checkpoints")
    for name in names[-num_unusable:]:
        content = store.files.read(f"stages/{stage.key}/checkpoints/{name}")
        store.files.remove(f"stages/{stage.key}/checkpoints/{name}")
        store.save_checkpoint(
            stage.key, dataclasses.replace(make_unusable(content), round=int(name.split("-")[0]))
        )
    again = open_run([stage], store, None)
    assert [lane.round for lane in again.lanes] == [2 - num_unusable]
    assert len(store.list_quarantine()) == num_unusable
    plain = run_stage(stage, open_at(tmp_path / "plain"))
    assert run_stage(stage, store).deterministic() == plain.deterministic()


def make_unusable(content: bytes) -> Checkpoint:
    """Return a checkpoint of the same progress whose tensors have other shapes."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])["__metadata__"]
    tensors = {name: tensor.flatten()[:1].clone() for name, tensor in safetensors.torch.load(content).items()}
    return Checkpoint(round=0, content=safetensors.torch.save(tensors, header))


@pytest.mark.parametrize(
    "change",
    [{"round": 1}, {"round": 99}, {"batches": 1}, {"wall_s": None}],
    ids=["step", "round", "name", "time"],
)
def test_checkpoint_whose_progress_contradicts_itself_is_set_aside(
    change: dict[str, Any], classifier_stage: ClassifierStage, tmp_path: Path
) -> None:
    store = open_at(tmp_path)
    run = open_run([classifier_stage], store, None)
    for _ in range(2):
        run.run_round()
    content = run.checkpoint_lane(0)
    length = int.from_bytes(content[:8], "little")
    progress = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["progress"]) | change
    tensors = safetensors.torch.load(content)
    store.discard_checkpoints(classifier_stage.key)
    odd = safetensors.torch.save(tensors, {"progress": json.dumps(progress)})
    store.save_checkpoint(classifier_stage.key, Checkpoint(round=2, content=odd))
    assert open_run([classifier_stage], store, None).lanes[0].round == 0
    assert len(store.list_quarantine()) == 1


def copy_damaged_data(full_data_dir: Path, target: Path, damage: str) -> Path:
    """Copy the full data set with damaged training labels; return the damaged file."""
    source = full_data_dir / "FashionMNIST" / "raw"
    raw = target / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in source.iterdir():
        if not path.name.startswith("train-labels"):
            (raw / path.name).symlink_to(path)
    labels = next(path for path in sorted(source.iterdir()) if path.name.startswith("train-labels"))
    content = bytearray(labels.read_bytes())
    if damage == "cut short":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 1
    (raw / labels.name).write_bytes(content)
    return raw / labels.name


@pytest.mark.parametrize("damage", ["cut short", "flipped"])
def test_damaged_data_file_is_one_clear_error_on_driver_and_worker_and_is_not_retried(
    damage: str,
    full_data_dir: Path,
    small_protocol: Protocol,
    cpu_execution: Execution,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damaged = copy_damaged_data(full_data_dir, tmp_path / "data", damage)
    where = ["--data-dir", str(tmp_path / "data"), "--storage", str(tmp_path / "none")]
    assert run_sweep("--dataset", "fashion_mnist", *where) == 2
    error = capsys.readouterr().err
    assert str(damaged) in error and len(error.splitlines()) == 1
    assert not (tmp_path / "none").exists()

    store = open_at(tmp_path / "store")
    cell = make_cell(small_protocol, dataset="fashion_mnist", c="1/2", method="none", generator=None)
    stage = cell.stage(0, cpu_execution)
    result = CNNTrainable(trial_config([stage], store.location, str(tmp_path / "data"))).train()
    assert (result["outcome"], result["done"]) == ("blocked", True) and str(damaged) in result["reason"]
    assert store.load_failure(stage.key) is None and store.count_errors(stage.key) == 0


# Errors and their budgets


def test_attempts_that_raise_end_as_a_failure_but_lost_workers_and_earlier_trials_do_not_count(
    classifier_stage: ClassifierStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(training: ClassifierTraining, *rest: Any) -> None:
        raise RuntimeError("made up")

    store = open_at(tmp_path)
    for _ in range(5):
        earlier = make_failure(classifier_stage.key)
        store.note_error(dataclasses.replace(earlier, provenance={"trial": "another"}))
    for _ in range(2 * MAX_ERRORS):  # workers that die leave no error
        CNNTrainable(trial_config([classifier_stage], store.location, None))
    monkeypatch.setattr(ClassifierTraining, "_train_round", fail)
    for _ in range(MAX_ERRORS - 1):
        with pytest.raises(AttemptError, match="RuntimeError: made up"):
            CNNTrainable(trial_config([classifier_stage], store.location, None)).train()
        assert store.load_failure(classifier_stage.key) is None
    result = CNNTrainable(trial_config([classifier_stage], store.location, None)).train()
    assert (result["outcome"], result["done"]) == ("failed", True)
    failure = store.load_failure(classifier_stage.key)
    assert failure is not None and (failure.cause, failure.error) == ("code", "RuntimeError: made up")


def test_sweep_with_failures_exits_1_with_a_summary_by_cause_and_the_number_in_quarantine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, plan = open_at(tmp_path), plan_sweep()
    first, second = (run.key for run in plan.runs)
    (tmp_path / "stages" / first).mkdir(parents=True)
    (tmp_path / "stages" / first / "result.json").write_bytes(b"")
    assert store.load_record(first) is None
    store.mark_failed(dataclasses.replace(make_failure(first), cause="memory"))
    store.mark_failed(dataclasses.replace(make_failure(second), cause="infrastructure"))
    assert run_sweep("--storage", str(tmp_path)) == 1
    shown = capsys.readouterr().out
    assert "failed runs by cause: infrastructure 1, memory 1" in shown
    assert f"quarantine: set aside: 1 damaged file in {tmp_path}/quarantine" in shown
    assert shown.splitlines()[-1] == "planned=2 complete=0 failed=2 diverged=0 missing=0"


# Second sweeps, zombies, clocks


def list_store_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the store has warned of, such as two results of a stage that differ."""
    return [record.getMessage() for record in caplog.records if record.name == "lt_rebalance.store.store"]


@pytest.mark.slow
def test_second_driver_on_a_store_exits_2_with_the_name_of_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_at(tmp_path)
    with Lease(store.files, store.location, "first", beat_s=0.1):
        assert run_sweep("--storage", str(tmp_path)) == 2
        assert run_sweep("--storage", str(tmp_path), "--plan") == 0  # looking is allowed
    error = capsys.readouterr().err
    assert f"{tmp_path} is in use: first, process {os.getpid()} on " in error
    assert store.list_studies() == []


def test_zombie_that_returns_after_its_successor_has_committed_changes_nothing(
    classifier_stage: ClassifierStage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_at(tmp_path)
    zombie = CNNTrainable(trial_config([classifier_stage], store.location, None))
    zombie.train()
    run = zombie._open_run([classifier_stage])  # in the middle of its next round, from here on
    finish(CNNTrainable(trial_config([classifier_stage], store.location, None)))
    result = tmp_path / "stages" / classifier_stage.key / "result.json"
    before = (result.stat().st_ino, result.read_bytes())
    while not run.is_finished:
        run.run_round()
    assert (result.stat().st_ino, result.read_bytes()) == before
    assert list_store_warnings(caplog) == []
    assert store.load_checkpoint(classifier_stage.key) is None
    assert zombie.train()["outcome"] == "finished"


@pytest.mark.slow
def test_zombie_that_commits_while_its_successor_trains_wins_and_both_agree(
    classifier_stage: ClassifierStage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_at(tmp_path)
    zombie = open_run([classifier_stage], store, None)
    zombie.run_round()
    successor = open_run([classifier_stage], store, None)
    successor.run_round()
    assert store.load_checkpoint(classifier_stage.key) is not None
    while not zombie.is_finished:
        zombie.run_round()
    first = store.load_record(classifier_stage.key)
    successor.run_round()
    assert successor.is_finished and store.load_record(classifier_stage.key) == first
    assert list_store_warnings(caplog) == []
    plain = run_stage(classifier_stage, open_at(tmp_path / "plain"))
    assert first is not None and first.deterministic() == plain.deterministic()


FUTURE = "import time\n_now = time.time\ntime.time = lambda: _now() + 10 * 365 * 86400\n"
TRAIN_ONE_ROUND = """
import json, runpy, sys, time
from lt_rebalance.stages.kinds import open_run
from lt_rebalance.store import open_store
from lt_rebalance.studies.stage import RESULTS_VERSION, stage_from_dict
assert time.time() > 2_000_000_000
runpy.run_path("tests/tiny.py")["know_tiny"]()
stage = stage_from_dict(json.loads(sys.argv[2]))
open_run([stage], open_store(sys.argv[1], RESULTS_VERSION, create=True), None).run_round()
"""


@pytest.mark.slow
def test_worker_whose_clock_is_ten_years_ahead_hands_on_to_one_whose_is_not(
    classifier_stage: ClassifierStage, tmp_path: Path
) -> None:
    (tmp_path / "ahead").mkdir()
    (tmp_path / "ahead" / "sitecustomize.py").write_text(FUTURE)
    storage = tmp_path / "store"
    command = [sys.executable, "-c", TRAIN_ONE_ROUND, str(storage), json.dumps(classifier_stage.to_dict())]
    path = os.pathsep.join([str(tmp_path / "ahead"), str(ROOT)])
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path}, cwd=ROOT)
    ten_years_on = time.time() + 10 * 365 * 86400
    for file in storage.rglob("*"):
        os.utime(file, (ten_years_on, ten_years_on))
    store = open_at(storage)
    run = open_run([classifier_stage], store, None)
    assert run.lanes[0].round == 1
    plain = run_stage(classifier_stage, open_at(tmp_path / "plain"))
    assert run_stage(classifier_stage, store).deterministic() == plain.deterministic()
    assert store.files.list_unfinished() == []


def test_status_of_notes_from_the_future_counts_no_negative_time_and_says_what_is_odd(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, plan = open_at(tmp_path), plan_sweep()
    store.write_study(dataclasses.replace(describe_plan(plan), num_slots=2))
    name = store.list_studies()[0]
    elsewhere: dict[str, Any] = {"host": "elsewhere", "pid": 7, "pid_space": "another"}
    future: dict[str, Any] = {"started_s": time.time() + 7200, "beat_s": time.time() + 7200}
    study = store.load_study(name).name
    write_note(store.files, Note(name="driver-a.json", title=study, **elsewhere, **future))
    note = Note(
        name="trial-a.json",
        title="x",
        keys=(plan.runs[0].key,),
        driver="driver-a.json",
        **elsewhere,
        **future,
    )
    write_note(store.files, note)
    assert cli(["status", store.location]) == 0
    shown = capsys.readouterr().out
    assert "sweep at work: process 7 on elsewhere, seen 2.0 h ahead of this clock" in shown
    assert "running: x on elsewhere, process 7, for 0 s" in shown


# Versions and places


def test_store_of_another_results_version_is_refused_with_both_versions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_store(str(tmp_path), RESULTS_VERSION - 1, create=True)
    assert run_sweep("--storage", str(tmp_path)) == 2
    error = capsys.readouterr().err
    assert f"'results_version': {RESULTS_VERSION - 1}" in error
    assert f"'results_version': {RESULTS_VERSION}" in error


@pytest.mark.parametrize(
    "command", [["sweeps/full_grid.py", "--plan"], ["-m", "lt_rebalance", "status", "x"]]
)
def test_python_without_utf8_is_refused_in_words(command: list[str], tmp_path: Path) -> None:
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 2
    assert process.stderr.startswith("error: Python must use UTF-8 for paths and output, got ascii; set")


def test_ledger_shares_the_cause_of_a_generator_with_the_runs_that_need_it(
    small_protocol: Protocol, cpu_execution: Execution, tmp_path: Path
) -> None:
    common = {"dataset": TINY, "c": "1/2"}
    cell = make_cell(small_protocol, method="cgan", generator="small_mlp_cgan_leaky", **common)
    plan = compile_study(Study(name="study", cells=(cell,), seeds=(0, 1)), cpu_execution)
    store = open_at(tmp_path)
    generator = plan.runs[0].stage.generator_stage
    assert generator is not None
    store.mark_failed(dataclasses.replace(make_failure(generator.key), cause="memory"))
    assert Ledger(plan, store).count_causes() == {"memory": 1}
