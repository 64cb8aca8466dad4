"""`lt-rebalance publish`: write a finished study to its folder, so that everybody can check it."""

import argparse
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from lt_rebalance.cli.account import Account, describe
from lt_rebalance.cli.parser import DEFAULT_STORE
from lt_rebalance.cli.stores import open_existing, print_json
from lt_rebalance.commands.own_images import bring_images_again, note_needless
from lt_rebalance.commands.study_plan import StudyPlan, read_plan, require_registered
from lt_rebalance.files.archive import ARCHIVE, CHECKSUMS, MOST_BYTES, write_archive, write_checksums
from lt_rebalance.files.trees import delete_tree
from lt_rebalance.ground.names import is_foreign
from lt_rebalance.ground.text import format_bytes
from lt_rebalance.monitoring.sessions import hide_directories, read_sessions, sessions_path
from lt_rebalance.monitoring.stage_log import Attempts, log_path, read_attempts
from lt_rebalance.monitoring.status import read_status
from lt_rebalance.stages.provenance import driver_source
from lt_rebalance.store import Store
from lt_rebalance.store.documents import search_path
from lt_rebalance.store.place import PLAN, UNPUBLISHED
from lt_rebalance.store.records import Record
from lt_rebalance.store.study_document import StudyDocument
from lt_rebalance.studies.plan import Plan, plan_from_description

README, REPORT = "README.md", "report"


def run(options: argparse.Namespace) -> int:
    """Publish a study; its folder changes only if everything is right."""
    folder = Path(options.folder)
    if not folder.is_dir():
        raise ValueError(
            f"there is no folder {options.folder!r}; name one that contains {PLAN}, as studies/NAME"
        )
    registered = read_plan(str(folder / PLAN), "publish")
    registered.require_declared()
    store = open_existing(DEFAULT_STORE if options.storage is None else options.storage)
    document = store.load_study(registered.name)
    require_registered(registered, document, is_partial=options.partial)
    bring_images_again(options)
    note_needless(options, document.class_names)
    plan = plan_from_description(document)  # so that keys are those of the registered cells
    contents = {path: content for path, content in _collect(store, document)}
    try:
        with tempfile.TemporaryDirectory(prefix=".publishing-", dir=folder) as name:
            made = Path(name)
            _write_archive(made, contents)
            notes = _write_report(made, registered.name, is_partial=options.partial)
            account = _give_account(made, registered, document, plan, is_partial=options.partial)
            (made / README).write_text(describe(account), encoding="utf-8")
            num_bytes = _seal(made, folder)
            _move(made, folder)
    except OSError as error:
        raise ValueError(f"{folder} cannot be written ({error.strerror or error})") from None
    told = {"folder": str(folder), "records": len(account.records), "bytes": num_bytes, "notes": notes}
    if options.json:
        print_json(told)
        return 0
    for note in notes:
        print(f"note: {note}")
    size = f"{len(account.records)} records, {format_bytes(num_bytes)} in all"
    print(f"{folder}: {size}; read its {README}, and commit it")
    return 0


def _collect(store: Store, document: StudyDocument) -> Iterable[tuple[str, bytes]]:
    """Yield the files of a study, each checked; without weights, checkpoints and views of results.

    Raises:
        StoreError: a record or an artefact cannot be read.
    """
    files = store.files
    yield "store.json", files.read("store.json")
    yield (path := f"studies/{document.name}.json"), files.read(path)
    for search in sorted({each["search"] for each in document.tunings}):
        yield (path := f"{search_path(search)}/account.json"), files.read(path)
    keys = list(document.stages)
    for found in files.read_each(lambda key: dict(_collect_stage(store, key)), keys):
        yield from found.items()
    for path in (*map(log_path, keys), sessions_path(document.name)):
        try:
            yield path, hide_directories(files.read_appended(path))
        except FileNotFoundError:
            continue


def _collect_stage(store: Store, key: str) -> Iterable[tuple[str, bytes]]:
    directory = f"stages/{key}"
    record = store.read_record(key)
    if record is not None:
        yield f"{directory}/result.json", store.files.read(f"{directory}/result.json")
        for role, artifact in record.artifacts.items():
            if role not in UNPUBLISHED:
                yield f"{directory}/{artifact.file}", store.read_artifact(record, role)
    elif store.read_failure(key) is not None:
        yield f"{directory}/failed.json", store.files.read(f"{directory}/failed.json")
    for name in store.files.list(f"{directory}/errors"):
        yield f"{directory}/errors/{name}", store.files.read(f"{directory}/errors/{name}")


def _write_archive(made: Path, contents: Mapping[str, bytes]) -> None:
    content = write_archive(contents)
    if len(content) > MOST_BYTES:
        raise ValueError(
            f"the archive alone would have {format_bytes(len(content))}, and a published study has at most "
            f"{format_bytes(MOST_BYTES)}; publish it as several studies"
        )
    (made / ARCHIVE).write_bytes(content)
    (made / CHECKSUMS).write_bytes(write_checksums({ARCHIVE: content}))


def _write_report(made: Path, study: str, *, is_partial: bool) -> list[str]:
    """Write the report of the archive; ValueError for gaps, unless a partial report is allowed."""
    from analysis.collect import read_results
    from analysis.report import write_report

    try:
        results = read_results(str(made), studies=[study], allow=["gaps"] if is_partial else [])
    except ValueError as error:
        raise ValueError(str(error).replace(str(made.absolute()), "what is to be published")) from None
    write_report(results, made / REPORT)
    return list(results.notes)


def _give_account(
    made: Path, registered: StudyPlan, document: StudyDocument, plan: Plan, *, is_partial: bool
) -> Account:
    """Return the account of the archive."""
    store = open_existing(str(made))
    attempts: dict[str, Attempts] = {}
    records: list[Record] = []
    for key, stage in plan.stages.items():
        if (record := store.read_record(key)) is not None:
            records.append(record)
        try:
            log = store.files.read_appended(log_path(key)).decode(errors="replace")
            attempts[key] = read_attempts(log, str(stage))
        except FileNotFoundError:
            continue
    return Account(
        plan=registered,
        status=read_status(store, document.name, 0.0),
        is_partial=is_partial,
        sessions=read_sessions(store.files, document.name),
        attempts=attempts,
        records=records,
        keys=tuple(plan.stages),
        execution=document.execution,
        archive_bytes=(made / ARCHIVE).stat().st_size,
        source=driver_source(),
    )


def _seal(made: Path, folder: Path) -> int:
    """Write the checksums of all files of the folder, and return their total bytes.

    Raises:
        ValueError: more than a repository should hold.
    """
    kept = {path.name: path for path in folder.iterdir() if path.is_file() and not is_foreign(path.name)}
    paths = kept | {path.relative_to(made).as_posix(): path for path in made.rglob("*") if path.is_file()}
    del paths[CHECKSUMS]
    contents: dict[str, bytes] = {name: path.read_bytes() for name, path in paths.items()}
    checksums = write_checksums(contents)
    num_bytes = sum(map(len, contents.values())) + len(checksums)
    if num_bytes > MOST_BYTES:
        raise ValueError(
            f"{folder} would have {format_bytes(num_bytes)}, and a published study has at most "
            f"{format_bytes(MOST_BYTES)}; publish it as several studies"
        )
    (made / CHECKSUMS).write_bytes(checksums)
    return num_bytes


def _move(made: Path, folder: Path) -> None:
    """Replace old files with new ones; the checksums come last, so that a partial update is detected."""
    (folder / CHECKSUMS).unlink(missing_ok=True)
    delete_tree(folder, REPORT)
    for name in (REPORT, README, ARCHIVE, CHECKSUMS):
        os.replace(made / name, folder / name)
