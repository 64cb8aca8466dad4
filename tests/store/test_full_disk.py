"""Disks that are full, too small or read-only: finished results are kept, and all of it is said in words."""

import contextlib
import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lt_rebalance.cluster.trainable import trial_config
from lt_rebalance.files.filesystem import LocalFilesystem
from lt_rebalance.ground.disk import cannot_be_written
from lt_rebalance.monitoring.tensorboard.naming import name_runs
from lt_rebalance.stages.kinds import open_run, run_stage
from lt_rebalance.stages.size import check_space, checkpoint_bytes, kept_bytes
from lt_rebalance.stages.watch import Watch
from lt_rebalance.studies.plan import compile_study, describe_plan
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import ClassifierStage, GeneratorStage
from lt_rebalance.studies.study import Study
from lt_rebalance.trainables.trainables import CGANTrainable, CNNTrainable
from lt_rebalance.training.configs import Execution
from tests.cluster.test_faults import finish, open_at, run_sweep
from tests.tiny import TINY


@contextlib.contextmanager
def mounted(directory: Path, size: str) -> Iterator[None]:
    """Mount a small mount point on a directory; skip where that is not allowed."""
    directory.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs root, to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def test_full_disk_ends_the_trial_without_a_failure_and_room_lets_it_go_on(
    classifier_stage: ClassifierStage, tmp_path: Path
) -> None:
    with mounted(tmp_path / "small", "30m"):
        store = open_at(tmp_path / "small" / "store")
        trainable = CNNTrainable(trial_config([classifier_stage], store.location, None))
        assert trainable.train()["outcome"] == "running"
        filler = tmp_path / "small" / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(100_000))
                file.flush()
        result = trainable.train()
        assert (result["outcome"], result["done"]) == ("unwritable", True)
        assert "No space left on device" in result["reason"]
        assert (store.load_failure(classifier_stage.key), store.count_errors(classifier_stage.key)) == (
            None,
            0,
        )
        filler.unlink()
        successor = CNNTrainable(trial_config([classifier_stage], store.location, None))
        assert [successor.train()["round"] for _ in range(2)] == [2, 3]
        record = store.load_record(classifier_stage.key)
        assert record is not None
        plain = run_stage(classifier_stage, open_at(tmp_path / "plain"))
        assert record.deterministic() == plain.deterministic()


def test_full_disk_of_events_and_logs_costs_no_result(
    classifier_stage: ClassifierStage, small_protocol: Protocol, cpu_execution: Execution, tmp_path: Path
) -> None:
    store = open_at(tmp_path / "store")
    cell = make_cell(small_protocol, dataset=TINY, c="1/2", method="oversample", generator=None)
    plan = compile_study(Study(name="study", cells=(cell,), seeds=(0,)), cpu_execution)
    watch = Watch(runs=name_runs(describe_plan(plan)))
    with contextlib.ExitStack() as stack:
        for name in ("events", "logs", "running"):
            directory = tmp_path / "store" / name
            stack.enter_context(mounted(directory, "8k"))
            with contextlib.suppress(OSError):
                (directory / "filler").write_bytes(bytes(100_000))
        trainable = CNNTrainable(trial_config([classifier_stage], store.location, None, watch=watch))
        assert finish(trainable)["outcome"] == "finished"
    assert store.load_record(classifier_stage.key) is not None


def test_sweep_is_refused_before_training_where_its_checkpoints_do_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "small", "4m"):
        assert run_sweep("--storage", str(tmp_path / "small" / "store")) == 2
    assert f"the disk of {tmp_path}/small/store has 4 MB left, and the checkpoints" in capsys.readouterr().err


def test_disk_that_may_not_hold_the_whole_plan_is_warned_of_with_numbers(
    classifier_stage: ClassifierStage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pending = {str(seed): classifier_stage.with_seed(seed) for seed in range(40)}
    with mounted(tmp_path / "small", "60m"), caplog.at_level(logging.WARNING):
        check_space(str(tmp_path / "small"), dict(list(pending.items())[:2]), 2)
        assert caplog.messages == []
        check_space(str(tmp_path / "small"), pending, 2)
    (message,) = caplog.messages
    assert "has 63 MB left" in message and "may take up to" in message


def test_estimate_of_space_is_above_what_stages_take_and_not_far_above(
    classifier_stage: ClassifierStage, generator_stage: GeneratorStage, tmp_path: Path
) -> None:
    for stage in (classifier_stage, generator_stage):
        store = open_at(tmp_path / stage.kind)
        run = open_run([stage], store, None)
        run.run_round()
        checkpoints = 3 * store.files.count_bytes(f"stages/{stage.key}/checkpoints")
        assert checkpoints <= 1.05 * checkpoint_bytes(stage) < 1.2 * checkpoints
        run_stage(stage, store)
        assert store.files.count_bytes(f"stages/{stage.key}") <= kept_bytes(stage)


def test_read_only_storage_is_refused_before_training_by_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disk", "20m"):
        storage = tmp_path / "disk" / "store"
        open_at(storage)
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        assert run_sweep("--storage", str(storage)) == 2
    error = capsys.readouterr().err
    assert f"{storage} cannot be used as a store: Read-only file system" in error


def test_errors_of_a_disk_are_told_from_others() -> None:
    assert cannot_be_written(OSError(28, "No space left on device"))
    assert not cannot_be_written(OSError(13, "Permission denied")) and not cannot_be_written(ValueError("28"))


def test_cgan_on_a_full_disk_goes_on_too(generator_stage: GeneratorStage, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "4m"):
        store = open_at(tmp_path / "small")
        result = CGANTrainable(trial_config([generator_stage], store.location, None)).train()
        assert (result["outcome"], result["done"]) == ("unwritable", True)
        assert store.load_failure(generator_stage.key) is None
        assert LocalFilesystem(tmp_path / "small").list(f"stages/{generator_stage.key}/checkpoints") == []
