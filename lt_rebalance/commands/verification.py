"""Run a finished stage again in a temporary store, and compare its record with the new one."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lt_rebalance.files.filesystem import LocalFilesystem
from lt_rebalance.ground.disk import cannot_be_written
from lt_rebalance.ground.errors import StorageError
from lt_rebalance.ground.exits import note
from lt_rebalance.ground.own_file import require_at_hand
from lt_rebalance.stages.inputs import load_dataset_once
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.stages.machine import describe_machine
from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.records import Record
from lt_rebalance.studies.plan import chain_of
from lt_rebalance.studies.stage import RESULTS_VERSION, AnyStage, stage_from_dict
from lt_rebalance.training.device import prepare_torch


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The result of running a stage again."""

    key: str
    title: str
    runs: tuple[str, ...]
    """of which studies of the store it is a stage, and of which run"""
    faults: tuple[str, ...]
    """contradictions within the store, found without training"""
    differences: tuple[str, ...]
    """differences between the two records, each as "path: stored X, now Y"."""
    is_same_device: bool
    """whether both were made with the same kind of processor, which bit equality needs"""
    is_same_source: bool | None
    """whether both were made with the same files of the package; None if the record does not say"""

    @property
    def is_equal(self) -> bool:
        """Whether every bit agrees."""
        return not self.faults and not self.differences


def prepare_verification(store: Store, key: str, data_dir: str | None) -> Callable[[], Verification]:
    """Check that a finished stage can be run again here; return what does so in a temporary store.

    A classifier learns again from its stored generator and its stored first training, which are separate
    stages. If the store leaves out their weights, they are run again and compared, too.

    Raises:
        StoreError: the stage, or one that it needs, has no usable record, or the latter no usable files.
        StorageError: temporary files cannot be written.
        ValueError: this machine cannot run the stage as it was run, or its data set, or a user's file or
            images that it needs are missing here.
    """
    record = _read(store, key)
    require_at_hand(record.stage)
    if (version := record.stage["results_version"]) != RESULTS_VERSION:
        raise ValueError(
            f"stage {key[:12]} is of results version {version}, this code makes version {RESULTS_VERSION}; "
            "verify it with the code that made it"
        )
    try:
        stage = stage_from_dict(record.stage)
    except ValueError as error:
        place = f"{store.location}: stages/{key}/result.json"
        raise ValueError(f"{place} cannot be run again here: {error}") from None
    if stage.execution.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"stage {key[:12]} was run on a GPU, and this machine has none")
    prepare_torch(stage.execution)
    needed = {upstream: _read(store, upstream.key) for upstream in chain_of(stage)[:-1]}
    with _temporary_store() as trial:  # what is to be copied is intact, and there is room
        trial.files.replace("trial", b"")
        for kept in needed.values():
            if _has_all(store, kept):
                _copy(kept, store, trial)
    load_dataset_once(stage.data.dataset, data_dir)
    return partial(_verify, store, record, stage, needed, data_dir)


def _verify(
    store: Store, record: Record, stage: AnyStage, needed: Mapping[AnyStage, Record], data_dir: str | None
) -> Verification:
    runs, faults = _find_runs(store, record)
    faults += _find_faults(store, record)
    differences: list[str] = []
    with _temporary_store() as elsewhere:
        for upstream, kept in needed.items():
            if _has_all(store, kept):
                _copy(kept, store, elsewhere)
            else:
                made = run_stage(upstream, elsewhere, data_dir)
                found = list_differences(kept.deterministic(), made.deterministic())
                differences += [f"{upstream.kind} {upstream.key[:12]}, {each}" for each in found]
        again = run_stage(stage, elsewhere, data_dir)
    return Verification(
        key=record.key,
        title=str(stage),
        runs=tuple(runs),
        faults=tuple(faults),
        differences=(*differences, *list_differences(record.deterministic(), again.deterministic())),
        is_same_device=_is_same_device(record, stage),
        is_same_source=_is_same_source(record, again),
    )


@contextlib.contextmanager
def _temporary_store() -> Iterator[Store]:
    """Open a new store for the length of a block; StorageError if the disk of temporary files is full."""
    try:
        with tempfile.TemporaryDirectory(prefix="lt_rebalance-verify-") as folder:
            yield Store(LocalFilesystem(Path(folder)), folder, RESULTS_VERSION, Path(folder))
    except OSError as error:
        if not cannot_be_written(error):
            raise
        raise StorageError(
            f"temporary files cannot be written in {tempfile.gettempdir()} ({error.strerror}); free space "
            "there, or name another directory in TMPDIR"
        ) from None


def _read(store: Store, key: str) -> Record:
    record = store.read_record(key)
    if record is None:
        raise StoreError(
            f"{store.location}: stage {key} has no record; only a finished stage can be verified"
        )
    return record


def _has_all(store: Store, record: Record) -> bool:
    return not record.artifacts.keys() & set(store.left_out)


def _copy(record: Record, store: Store, elsewhere: Store) -> None:
    for role, artifact in record.artifacts.items():
        suffix = artifact.file[artifact.file.rindex(".") :]
        elsewhere.write_artifact(record.key, role, suffix, store.read_artifact(record, role))
    elsewhere.commit(record)


def _find_runs(store: Store, record: Record) -> tuple[list[str], list[str]]:
    """Return the runs that studies of the store say a record is of, and what contradicts that."""
    runs, faults = [], []
    for name in store.list_studies():
        try:
            study = store.load_study(name)
        except StoreError as error:
            note(f"whether this is a stage of study {name} is not known: {error}")
            continue
        if (stage := study.stages.get(record.key)) is not None:
            cell = study.cells[stage.cell]
            runs.append(f"study {name}, {cell.protocol} {cell.data} {cell.method}, {stage.replicate}")
            try:
                store.require_planned(study, record.key, record.stage)
            except StoreError as error:
                faults.append(str(error))
    return runs, faults


def _find_faults(store: Store, record: Record) -> Iterator[str]:
    for role in record.artifacts.keys() - set(store.left_out):
        try:
            store.read_artifact(record, role)
        except StoreError as error:
            yield str(error)


def _is_same_device(record: Record, stage: AnyStage) -> bool:
    return bool(record.provenance.get("device") == describe_machine(stage.execution)["device"])


def _is_same_source(record: Record, again: Record) -> bool | None:
    stored = record.provenance.get("source_sha256")
    return None if stored is None else bool(stored == again.provenance["source_sha256"])


def list_differences(stored: Any, now: Any, path: str = "") -> Iterator[str]:  # Any: JSON values
    """Yield the differences between two values, with their paths."""
    if isinstance(stored, Mapping) and isinstance(now, Mapping):
        for name in sorted({*stored, *now}):
            inner = f"{path}.{name}" if path else str(name)
            if name not in stored or name not in now:
                yield f"{inner}: only {'now' if name in now else 'stored'}"
            else:
                yield from list_differences(stored[name], now[name], inner)
    elif _is_sequence(stored) and _is_sequence(now) and len(stored) == len(now):
        for index, (first, second) in enumerate(zip(stored, now, strict=True)):
            yield from list_differences(first, second, f"{path}[{index}]")
    elif stored != now:
        yield f"{path}: stored {stored!r}, now {now!r}"


def _is_sequence(value: Any) -> bool:  # Any: JSON values
    return isinstance(value, Sequence) and not isinstance(value, str)
