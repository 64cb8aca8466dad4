"""Find files in a store that no result needs, and delete them; no torch.

Only files that sweeps write, under their names, are ever found; foreign files are ignored, and links are not
followed.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from lt_rebalance.data.at_hand import name_own
from lt_rebalance.files.filesystem import Filesystem
from lt_rebalance.images.upload import DIRECTORY as IMAGES
from lt_rebalance.images.upload import list_uploads
from lt_rebalance.monitoring.stage_log import DIRECTORY as LOGS
from lt_rebalance.monitoring.tensorboard.naming import EventRun, name_runs, path_name
from lt_rebalance.store.checkpoints import CHECKPOINT_NAME
from lt_rebalance.store.presence import DIRECTORY as NOTES
from lt_rebalance.store.presence import read_notes
from lt_rebalance.store.store import Store, StoreError

_KEY = re.compile(r"[0-9a-f]{64}")
_OF_AN_ATTEMPT = re.compile(r"failed\.json|[a-z_]+-[0-9a-f]{12}\.[a-z]+")
"""files of an attempt without a result: its failure, and artefacts under the store's names"""


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A file or a directory that nothing needs."""

    path: str
    num_bytes: int
    reason: str
    hindrance: str = ""
    """why it is not deleted"""


def find_garbage(
    store: Store, *, owned: Collection[str] | None, named: Collection[str] | None = None, is_held: bool
) -> list[Garbage]:
    """Return deletable files, including those with an obstacle, without deleting them.

    Args:
        owned: keys of the stages that something in the store owns; files of all others are included, even
            results. None leaves such orphans out.
        named: data sets that anything in the store names; other images are included. None leaves all images
            out.
        is_held: whether another process may be at work; then only notes of processes that certainly ended are
            included.
    """
    files = store.files
    found = [*_find_in_stages(store), *_find_unfinished_writes(files), *_find_lost_notes(files, is_held)]
    if owned is not None:
        found += _find_orphans(store, owned)
    if named is not None:
        found += _find_orphaned_images(store, named)
    paths = {each.path for each in found}
    return [each for each in found if not any(parent in paths for parent in _parents(each.path))]


def remove_garbage(store: Store, garbage: Sequence[Garbage], confirm: Callable[[], None]) -> list[Garbage]:
    """Delete the files of `find_garbage` and return all of them, with new obstacles.

    Args:
        confirm: called before each deletion; its errors end the deletion.
    """
    done = []
    for each in garbage:
        if not each.hindrance:
            confirm()
            try:
                store.files.remove_tree(each.path)
            except OSError as error:
                each = replace(each, hindrance=str(error.strerror or error))
        done.append(each)
    return done


def _find_in_stages(store: Store) -> Iterator[Garbage]:
    for found in store.files.read_each(lambda key: list(_find_in_stage(store, key)), _list_keys(store)):
        yield from found


def _find_in_stage(store: Store, key: str) -> Iterator[Garbage]:
    stage = f"stages/{key}"
    try:
        record = store.read_record(key)
    except (StoreError, OSError):  # a sweep will quarantine it
        return
    if record is None or store.files.is_behind_link(f"{stage}/result.json"):
        return
    kept = {artifact.file for artifact in record.artifacts.values()}
    for name in store.files.list(stage):
        if name == "checkpoints":
            for path in _list_checkpoints(store.files, f"{stage}/{name}"):
                yield _describe(store.files, path, "checkpoints of a finished stage")
        elif _OF_AN_ATTEMPT.fullmatch(name) and name not in kept:
            yield _describe(store.files, f"{stage}/{name}", "left by another attempt")


def _list_checkpoints(files: Filesystem, directory: str) -> list[str]:
    """Return a directory that contains only checkpoints, or else the checkpoints in it."""
    names = files.list(directory)
    ours = [name for name in names if CHECKPOINT_NAME.fullmatch(name)]
    if ours and len(ours) == len(names):
        return [directory]
    return [f"{directory}/{name}" for name in ours]


def _find_unfinished_writes(files: Filesystem) -> Iterator[Garbage]:
    for path in files.list_unfinished():
        yield _describe(files, path, "an unfinished write")


def _find_lost_notes(files: Filesystem, is_held: bool) -> Iterator[Garbage]:
    """Yield the notes of ended processes, and if no process is at work, of all that are not visible."""
    for note in read_notes(files):
        if note.has_died if note.is_visible else not is_held:
            yield _describe(files, f"{NOTES}/{note.name}", "its writer has died")


def _find_orphans(store: Store, owned: Collection[str]) -> Iterator[Garbage]:
    for key in _list_keys(store):
        if key not in owned:
            yield _describe(store.files, f"stages/{key}", "nothing owns this stage")
    for name in store.files.list(LOGS):
        key = name.partition(".")[0]
        if _KEY.fullmatch(key) and key not in owned:
            yield _describe(store.files, f"{LOGS}/{name}", "nothing owns this stage")
    yield from _find_orphaned_events(store)


def _find_orphaned_images(store: Store, named: Collection[str]) -> Iterator[Garbage]:
    for identity in list_uploads(store.files):
        if name_own(identity) not in named:
            yield _describe(store.files, f"{IMAGES}/{identity}", "nothing names these images")


def _find_orphaned_events(store: Store) -> Iterator[Garbage]:
    studies = {name: store.load_study(name) for name in store.list_studies()}
    known = {path_name(name) for name in studies}
    runs: list[EventRun] = [run for study in studies.values() for run in name_runs(study).values()]
    directories = {run.directory for run in runs}
    for path in _list_directories(store.files, "events"):
        parts = path.split("/")
        if len(parts) == 2 and parts[1] not in known:
            yield _describe(store.files, path, "there is no such study")
        elif parts[-1].startswith("seed-") and path not in directories:
            yield _describe(store.files, path, "no study plans this run")


def _list_directories(files: Filesystem, path: str) -> Iterator[str]:
    """Yield a directory and all non-empty ones below it; links are left out."""
    if not files.is_behind_link(f"{path}/inside") and (names := files.list(path)):
        yield path
        for name in names:
            yield from _list_directories(files, f"{path}/{name}")


def _list_keys(store: Store) -> list[str]:
    return [key for key in store.list_keys() if _KEY.fullmatch(key)]


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:length]) for length in range(1, len(parts)))


def _describe(files: Filesystem, path: str, reason: str) -> Garbage:
    hindrance = "it is behind a link" if files.is_behind_link(path) else ""
    return Garbage(path=path, num_bytes=files.count_bytes(path), reason=reason, hindrance=hindrance)
