"""The store: results addressed by content, committed atomically, verified when read.

Layout under the root, all JSON except artefacts and checkpoints:

    store.json                          format and results version
    studies/<name>.json                 what a study plans: its cells and seeds with their keys
    tables/<name>/cells.csv, runs.csv   the latest tables of a study, made from the records; answer.csv of
                                        one with a question
    searches/<name>/account.json        what a search tunes, its trials, its choice; made from its journal
    searches/<name>/best.toml           the configuration that it chose
    searches/<name>/journal.jsonl       Optuna's own log of the trials, one JSON object per line; in a bucket,
        journal/<number>.json, one object per write
    searches/<name>/members/<number>.safetensors   members of a population in training
    searches/<name>/errors/<number>/<n>-<id>.json   attempts at members that raised
    stages/<key>/result.json            the record; a result that exists is complete
    stages/<key>/predictions-<hash>.npy, precision_recall-<hash>.npy, weights-<hash>.safetensors,
        samples-<hash>.npy
    stages/<key>/failed.json            the last failure, until a retry succeeds
    stages/<key>/errors/<n>-<id>.json   attempts that raised
    stages/<key>/checkpoints/<round>-<hash>.safetensors
    quarantine/<key>-<id>/<file>        unreadable files, with the reason beside them
    images/<identity>/                  a user's images, as `images.upload` writes them
    lease/<generation>.json             the main process at work, or the last one

and views for people, which nothing depends on:

    events/<study>/<run>/               what TensorBoard reads
    logs/<key>.log                      what a stage's attempts logged; in a bucket, several objects
    running/<name>.json                 who is at work
    sessions/<study>.jsonl              commands of main processes, and their estimates of the time left
    segments/                           in a bucket, many records in one object

Nothing committed is ever edited. Status is found by scanning, so there is no index to go wrong.
"""

import hashlib
import logging
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from numpy.typing import NDArray

from lt_rebalance.files.filesystem import FilesAtHand, Filesystem, telling_unreadable
from lt_rebalance.ground.arrays import parse_array
from lt_rebalance.ground.errors import StoreError, UnreadableError
from lt_rebalance.ground.names import is_foreign
from lt_rebalance.ground.text import one_line
from lt_rebalance.store.checkpoints import CHECKPOINT_NAME, KEPT_CHECKPOINTS, Checkpoint, round_of
from lt_rebalance.store.documents import StoreDocuments
from lt_rebalance.store.records import Artifact, Failure, Record, Summary
from lt_rebalance.store.study_document import StudyDocument

__all__ = ["Store", "StoreError"]

_KEY = re.compile(r"[0-9a-f]{64}")
_RUN_AGAIN = "run the sweep again: it puts the file into quarantine and remakes what it needs"
_MOVE_AWAY = "restore it, or move stages/{} away and run the sweep again"

ResultT = TypeVar("ResultT")

_log = logging.getLogger(__name__)


class _DamageError(Exception):
    """A file of a stage cannot be used."""

    def __init__(self, key: str, name: str, reason: str) -> None:
        super().__init__(key, name, reason)
        self.key, self.name, self.reason = key, name, reason


class Store(StoreDocuments):
    """Results of stages, under one location."""

    def __init__(
        self,
        filesystem: Filesystem,
        location: str,
        results_version: int,
        directory: Path | None = None,
        left_out: tuple[str, ...] = (),
    ) -> None:
        """Use `open_store`, which checks the location first."""
        super().__init__(filesystem, location, directory)
        self.results_version = results_version
        self.left_out = left_out
        """roles of artefacts that records name and that are not stored here"""

    # Results

    def list_keys(self) -> list[str]:
        """Return the keys of all stages with any file here, sorted; other names are ignored."""
        return [name for name in self._files.list("stages") if _KEY.fullmatch(name)]

    def scan(
        self, read: Callable[["Store", str], ResultT], keys: Iterable[str]
    ) -> Iterator[tuple[str, ResultT]]:
        """Yield, in any order, each of these keys with any file here, and the result of reading it.

        Args:
            read: one of the `read_` methods, or a function that calls one; called in threads like work of
                `read_each`.
        """
        present = set(self.list_keys())
        left = {_stage_path(key, "result.json"): key for key in keys if key in present}
        for contents in self._files.read_gathered("stages", list(left)):
            files = FilesAtHand(self._files, contents)
            at_hand = Store(files, self.location, self.results_version, self.directory, self.left_out)
            for path in contents:
                key = left.pop(path)
                yield key, read(at_hand, key)
        rest = list(left.values())
        yield from zip(rest, self._files.read_each(partial(read, self), rest), strict=True)

    def gather(self) -> None:
        """Let later scans read the present records with fewer requests; for the owner of the lease."""
        self._files.gather("stages", "result.json")

    def read_record(self, key: str, study: StudyDocument | None = None) -> Record | None:
        """Return the record of a stage, or None if it has none; nothing is moved.

        Raises:
            StoreError: it cannot be read, or is of another stage than the study says; it names the file.
        """
        try:
            record = self._parse_record(key)
        except _DamageError as damage:
            raise self._refuse(damage, _RUN_AGAIN) from None
        if study is not None and record is not None:
            self.require_planned(study, key, record.stage)
        return record

    def read_outcome(self, key: str) -> Record | Failure | None:
        """Return the record of a stage, or its final failure, or None; nothing is moved.

        Raises:
            StoreError: one of them cannot be read; it names the file.
        """
        record = self.read_record(key)
        return self.read_failure(key) if record is None else record

    def read_summary(self, key: str) -> Summary | None:
        """Return the glance at the record of a stage, or None if it has none; nothing is moved.

        Raises:
            StoreError: the record cannot be read; it names the file.
        """
        try:
            return self._parse_result(key, Summary.from_json)
        except _DamageError as damage:
            raise self._refuse(damage, _RUN_AGAIN) from None

    def load_record(self, key: str) -> Record | None:
        """Return the record of a stage, or None if it has no usable result.

        An unreadable record is moved to quarantine with a warning, and the stage counts as not done.
        Artefacts are checked when they are read.
        """
        try:
            return self._parse_record(key)
        except _DamageError as damage:
            self._quarantine(damage)
            return None

    def _parse_record(self, key: str) -> Record | None:
        record = self._parse_result(key, Record.from_json)
        if record is not None and record.key != key:
            raise _DamageError(key, "result.json", f"it names the key {record.key}")
        return record

    def _parse_result(self, key: str, parse: Callable[[bytes], ResultT]) -> ResultT | None:
        try:
            return parse(self._read(_stage_path(key, "result.json")))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise _DamageError(key, "result.json", str(error)) from None

    def read_artifact(self, record: Record, role: str) -> bytes:
        """Return the content of an artefact of a record; nothing is moved.

        Raises:
            StoreError: the artefact is missing or altered; it names the file.
        """
        try:
            return self._verify_artifact(record, role)
        except _DamageError as damage:
            raise self._refuse(damage, _MOVE_AWAY.format(damage.key)) from None

    def read_array(self, record: Record, role: str) -> NDArray[Any]:
        """Return an artefact that is an array, with the axes and dtype of its role; nothing is moved.

        Raises:
            StoreError: the artefact is missing, altered, or another array; it names the file.
        """
        content = self.read_artifact(record, role)
        try:
            return parse_array(content, role, len(record.class_counts))
        except ValueError as error:
            damage = _DamageError(record.key, record.artifacts[role].file, str(error))
            raise self._refuse(damage, _MOVE_AWAY.format(damage.key)) from None

    def has_artifact(self, record: Record, role: str) -> bool:
        """Whether an artefact of a record exists and is intact, by the cheapest check of its place.

        Reading it checks it again.
        """
        if (artifact := record.artifacts.get(role)) is None:
            return False
        path = _stage_path(record.key, artifact.file)
        try:
            with telling_unreadable():
                return self._files.has_content(path, artifact.sha256, artifact.num_bytes)
        except (FileNotFoundError, UnreadableError):
            return False

    def load_artifact(self, record: Record, role: str) -> bytes:
        """Return the content of an artefact of a record.

        A missing or altered artefact moves the record to quarantine, so that the stage runs again.

        Raises:
            StoreError: the artefact is missing or altered; it names the file.
        """
        try:
            return self._verify_artifact(record, role)
        except _DamageError as damage:
            raise self._give_up_result(damage) from None

    def reject_artifact(self, record: Record, role: str, reason: str) -> StoreError:
        """Move an intact but unusable artefact to quarantine, with its record.

        Returns:
            The error to raise.
        """
        return self._give_up_result(_DamageError(record.key, record.artifacts[role].file, reason))

    def _give_up_result(self, damage: _DamageError) -> StoreError:
        self._quarantine(damage)
        if damage.name != "result.json":
            self._quarantine(_DamageError(damage.key, "result.json", damage.reason))
        return self._refuse(damage, "run the sweep again to remake it")

    def _verify_artifact(self, record: Record, role: str) -> bytes:
        artifact = record.artifacts.get(role)
        if artifact is None:
            raise _DamageError(record.key, "result.json", f"it names no {role}")
        try:
            content = self._read(_stage_path(record.key, artifact.file))
        except FileNotFoundError:
            raise _DamageError(record.key, artifact.file, f"{artifact.file} is missing") from None
        except UnreadableError as error:
            raise _DamageError(record.key, artifact.file, str(error)) from None
        if hashlib.sha256(content).hexdigest() != artifact.sha256:
            reason = f"{artifact.file} does not have the sha256 that its record states"
            raise _DamageError(record.key, artifact.file, reason)
        return content

    def write_artifact(self, key: str, role: str, suffix: str, content: bytes) -> Artifact:
        """Write an artefact of a result that is about to be committed."""
        digest = hashlib.sha256(content).hexdigest()
        artifact = Artifact(file=f"{role}-{digest[:12]}{suffix}", num_bytes=len(content), sha256=digest)
        self._replace(_stage_path(key, artifact.file), content)
        return artifact

    def commit(self, record: Record) -> bool:
        """Commit a result whose artefacts are written; return False if another attempt was first.

        The first result is kept. A second one that differs in more than time and place is reported as a
        violation of determinism.
        """
        created = self._publish(record)
        if created:
            self._files.remove(_stage_path(record.key, "failed.json"))
        self.discard_checkpoints(record.key)
        return created

    def _publish(self, record: Record) -> bool:
        """Create the file of a result; if a useless file blocks its path, set that aside and retry once.

        Raises:
            StoreError: the existing file is not a result and cannot be set aside.
        """
        path, content = _stage_path(record.key, "result.json"), record.to_json()
        for _ in range(2):
            try:
                if self._files.create(path, content):
                    return True
            except OSError as error:
                raise self._explain(path, error) from None
            if (first := self.load_record(record.key)) is not None:
                if first.deterministic() != record.deterministic():
                    _log.warning("stage %s: a second result differs from the one committed", record.key)
                return False
        raise self._in_the_way(path, "the existing file is not a result, and cannot be set aside")

    # Failures

    def note_error(self, failure: Failure) -> None:
        """Record the error of an attempt that may be retried."""
        self._add_failure(_stage_path(failure.key, "errors"), failure)

    def count_errors(self, key: str) -> int:
        """Return how many attempts have raised."""
        return len(self._list_failures(_stage_path(key, "errors")))

    def load_errors(self, key: str) -> list[Failure]:
        """Return the errors of attempts that raised, in order; damaged ones are quarantined."""
        errors = []
        for path in self._list_failures(_stage_path(key, "errors")):
            try:
                if (failure := self._parse_failure(key, f"errors/{PurePosixPath(path).name}")) is not None:
                    errors.append(failure)
            except _DamageError as damage:
                self._quarantine(damage)
        return errors

    def mark_failed(self, failure: Failure) -> None:
        """Record the final failure of a stage."""
        self._replace(_stage_path(failure.key, "failed.json"), failure.to_json())

    def read_failure(self, key: str) -> Failure | None:
        """Return the final failure of a stage, or None; nothing is moved.

        Raises:
            StoreError: the failure cannot be read; it names the file.
        """
        try:
            return self._parse_failure(key, "failed.json")
        except _DamageError as damage:
            raise self._refuse(damage, _RUN_AGAIN) from None

    def load_failure(self, key: str) -> Failure | None:
        """Return the final failure of a stage, or None; a damaged one is quarantined."""
        try:
            return self._parse_failure(key, "failed.json")
        except _DamageError as damage:
            self._quarantine(damage)
            return None

    def _parse_failure(self, key: str, name: str) -> Failure | None:
        try:
            failure = Failure.from_json(self._read(_stage_path(key, name)))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise _DamageError(key, name, str(error)) from None
        if failure.key != key:
            raise _DamageError(key, name, f"it names the key {failure.key}")
        return failure

    # Checkpoints

    def save_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
        """Store the state of a training; only the newest `KEPT_CHECKPOINTS` remain."""
        self._replace(_stage_path(key, f"checkpoints/{checkpoint.name}"), checkpoint.content)
        self.discard_checkpoints(key, keep=KEPT_CHECKPOINTS)

    def reject_checkpoint(self, key: str, checkpoint: Checkpoint, reason: str) -> None:
        """Move an intact but unusable checkpoint to quarantine."""
        self._quarantine(_DamageError(key, f"checkpoints/{checkpoint.name}", reason))

    def load_checkpoint(self, key: str, *, but: Collection[str] = ()) -> Checkpoint | None:
        """Return the most advanced intact checkpoint, or None; a damaged one is quarantined.

        Args:
            but: names of checkpoints that are known to be unusable.
        """
        directory = _stage_path(key, "checkpoints")
        for name in reversed(self._list_checkpoints(key)):
            if name in but:
                continue
            reason = "its content does not have the sha256 in its name"
            try:
                checkpoint = Checkpoint(round=round_of(name), content=self._read(f"{directory}/{name}"))
                if checkpoint.name == name:
                    return checkpoint
            except FileNotFoundError:  # another attempt has just committed or progressed
                continue
            except UnreadableError as error:
                reason = str(error)
            self._quarantine(_DamageError(key, f"checkpoints/{name}", reason))
        return None

    def discard_checkpoints(self, key: str, *, keep: int = 0) -> None:
        """Remove the checkpoints of a training, except for the newest ones to keep."""
        names = self._list_checkpoints(key)
        for name in names[: len(names) - keep]:
            self._files.remove(_stage_path(key, f"checkpoints/{name}"))

    def _list_checkpoints(self, key: str) -> list[str]:
        """Return the names of the checkpoints of a stage, the most advanced last."""
        return list(filter(CHECKPOINT_NAME.fullmatch, self._files.list(_stage_path(key, "checkpoints"))))

    # Damage

    def _refuse(self, damage: _DamageError, remedy: str) -> StoreError:
        path, reason = _stage_path(damage.key, damage.name), one_line(damage.reason)
        return StoreError(f"{self.location}: {path} cannot be used: {reason}; {self._mend(remedy)}")

    def list_quarantine(self) -> list[str]:
        """Return the names of the quarantined files' directories."""
        return [name for name in self._files.list("quarantine") if not is_foreign(name)]

    def _quarantine(self, damage: _DamageError) -> None:
        key, name = damage.key, damage.name
        if self.is_read_only:
            _log.warning("stage %s: %s counts as missing: %s", key, name, damage.reason)
            return
        directory = f"quarantine/{key}-{uuid.uuid4().hex[:8]}"
        try:
            self._files.move(_stage_path(key, name), f"{directory}/{PurePosixPath(name).name}")
        except FileNotFoundError:
            return
        self._files.replace(f"{directory}/reason.txt", damage.reason.encode())
        _log.warning("stage %s: %s moved to %s: %s", key, name, directory, damage.reason)


def _stage_path(key: str, name: str) -> str:
    return f"stages/{key}/{name}"
