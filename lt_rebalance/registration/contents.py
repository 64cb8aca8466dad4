"""The contents of the archive of a published study."""

from collections.abc import Iterable, Sequence

from lt_rebalance.data.at_hand import is_own_name
from lt_rebalance.monitoring.sessions import hide_directories, hide_directories_of, sessions_path
from lt_rebalance.monitoring.stage_log import log_path
from lt_rebalance.store import Store
from lt_rebalance.store.documents import search_path
from lt_rebalance.store.place import UNPUBLISHED, WITH_IMAGES
from lt_rebalance.store.study_document import StudyDocument


def collect_contents(
    store: Store, document: StudyDocument, counted: StudyDocument
) -> Iterable[tuple[str, bytes]]:
    """Yield the files of a study, each checked; without weights, checkpoints and views of results.

    Args:
        counted: the study without its unfinished seeds, as it is published. The results of these are there
            all the same, for the sweep that finishes them.

    Raises:
        StoreError: a record or an artefact cannot be read.
    """
    files = store.files
    yield "store.json", files.read("store.json")
    path = f"studies/{document.name}.json"
    yield path, files.read(path) if counted is document else counted.to_json()
    for search in sorted({each["search"] for each in document.tunings}):
        yield (path := f"{search_path(search)}/account.json"), files.read(path)
    is_own = any(map(is_own_name, document.class_names))
    keys, left_out = list(document.stages), (*UNPUBLISHED, *(WITH_IMAGES if is_own else ()))
    for found in files.read_each(lambda key: dict(_collect_stage(store, key, left_out)), keys):
        yield from found.items()
    for path in (*map(log_path, keys), sessions_path(document.name)):
        try:
            yield path, hide_directories(files.read_appended(path))
        except FileNotFoundError:
            continue


def _collect_stage(store: Store, key: str, left_out: Sequence[str]) -> Iterable[tuple[str, bytes]]:
    directory = f"stages/{key}"
    record = store.read_record(key)
    if record is not None:
        yield f"{directory}/result.json", store.files.read(f"{directory}/result.json")
        for role, artifact in record.artifacts.items():
            if role not in left_out:
                yield f"{directory}/{artifact.file}", store.read_artifact(record, role)
    elif store.read_failure(key) is not None:
        yield (path := f"{directory}/failed.json"), hide_directories_of(store.files.read(path), path)
    for name in store.files.list(f"{directory}/errors"):
        path = f"{directory}/errors/{name}"
        yield path, hide_directories_of(store.files.read(path), path)
