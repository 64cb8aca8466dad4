"""Find what a store holds and no result needs, and delete it; no torch."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from lt_rebalance.events.naming import name_runs
from lt_rebalance.filesystem import Filesystem
from lt_rebalance.notes import DIRECTORY as NOTES
from lt_rebalance.notes import read_notes
from lt_rebalance.stage_log import DIRECTORY as LOGS
from lt_rebalance.store import Store, StoreError


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A file or a directory that nothing needs."""

    path: str
    num_bytes: int
    reason: str


def find_garbage(store: Store, *, with_orphans: bool) -> list[Garbage]:
    """Return what can be deleted, without deleting it.

    Args:
        with_orphans: count in what belongs to stages that no study plans; results are among it.

    Raises:
        StoreError: orphans are asked for while someone is at work, whose stages may not be planned yet.
    """
    found = [*_find_in_stages(store), *_find_unfinished_writes(store.files), *_find_lost_notes(store.files)]
    if with_orphans:
        if any(not note.is_lost(time.time(), ()) for note in read_notes(store.files)):
            raise StoreError(f"{store.location}: a sweep is at work; look for orphans when it is done")
        found += _find_orphans(store)
    paths = {each.path for each in found}
    return [each for each in found if not any(parent in paths for parent in _parents(each.path))]


def remove_garbage(store: Store, garbage: list[Garbage]) -> None:
    """Delete what `find_garbage` found."""
    for each in garbage:
        store.files.remove_tree(each.path)


def _find_in_stages(store: Store) -> Iterator[Garbage]:
    for key in store.list_keys():
        try:
            record = store.read_record(key)
        except StoreError:  # a sweep will put it into quarantine
            continue
        if record is None:
            continue
        names = set(store.files.list(f"stages/{key}"))
        kept = {"result.json", "errors"} | {artifact.file for artifact in record.artifacts.values()}
        for name in sorted(names - kept):
            if name == "checkpoints" and not store.files.list(f"stages/{key}/checkpoints"):
                continue
            reason = "checkpoints of a finished stage" if name == "checkpoints" else "left by another attempt"
            yield _describe(store.files, f"stages/{key}/{name}", reason)


def _find_unfinished_writes(files: Filesystem) -> Iterator[Garbage]:
    for path in files.list_unfinished():
        yield _describe(files, path, "a write that never ended")


def _find_lost_notes(files: Filesystem) -> Iterator[Garbage]:
    notes, now_s = read_notes(files), time.time()
    live = {note.name for note in notes if not note.keys and not note.is_lost(now_s, ())}
    for note in notes:
        if note.is_lost(now_s, live):
            yield _describe(files, f"{NOTES}/{note.name}", "its writer has died")


def _find_orphans(store: Store) -> Iterator[Garbage]:
    studies = [store.load_study(name) for name in store.list_studies()]
    runs = [name_runs(study) for study in studies]
    planned = {key for of_study in runs for key in of_study}
    directories = {run.directory for of_study in runs for run in of_study.values()}
    for key in store.list_keys():
        if key not in planned:
            yield _describe(store.files, f"stages/{key}", "no study plans this stage")
    for name in store.files.list(LOGS):
        if name.partition(".")[0] not in planned:
            yield _describe(store.files, f"{LOGS}/{name}", "no study plans this stage")
    for name in store.files.list("events"):
        if name not in store.list_studies():
            yield _describe(store.files, f"events/{name}", "there is no such study")
    for path in _list_event_directories(store.files, "events"):
        if "/seed-" in path and path not in directories:
            yield _describe(store.files, path, "no study plans this run")


def _list_event_directories(files: Filesystem, path: str) -> Iterator[str]:
    names = files.list(path)
    if names:
        yield path
    for name in names:
        yield from _list_event_directories(files, f"{path}/{name}")


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:length]) for length in range(1, len(parts)))


def _describe(files: Filesystem, path: str, reason: str) -> Garbage:
    return Garbage(path=path, num_bytes=files.count_bytes(path), reason=reason)
