"""`lt-rebalance publish`: write a finished study to its folder, so that everybody can check it."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lt_rebalance.cli.account import Account, describe
from lt_rebalance.cli.parser import DEFAULT_STORE
from lt_rebalance.cli.stores import open_existing, print_json
from lt_rebalance.commands.own_images import bring_images_again, note_needless
from lt_rebalance.data.at_hand import is_own_name
from lt_rebalance.files.archive import (
    ARCHIVE,
    CHECKSUMS,
    MOST_BYTES,
    open_to_publish,
    replace_published,
    write_all_checksums,
    write_archive,
    write_checksums,
)
from lt_rebalance.ground.text import count, format_bytes
from lt_rebalance.monitoring.sessions import (
    hide_directories,
    hide_directories_of,
    read_sessions,
    sessions_path,
)
from lt_rebalance.monitoring.stage_log import Attempts, log_path, read_attempts
from lt_rebalance.monitoring.status import read_status
from lt_rebalance.registration.study_plan import (
    StudyPlan,
    list_runs_by_seed,
    list_whole_seeds,
    read_plan,
    require_registered,
    require_searches,
)
from lt_rebalance.stages.provenance import driver_source
from lt_rebalance.store import Store
from lt_rebalance.store.documents import search_path
from lt_rebalance.store.place import PLAN, UNPUBLISHED, WITH_IMAGES
from lt_rebalance.store.records import Record
from lt_rebalance.store.study_document import StudyDocument
from lt_rebalance.studies.plan import Plan, plan_from_description

README, REPORT = "README.md", "report"
_WRITTEN = (REPORT, README, ARCHIVE)


def run(options: argparse.Namespace) -> int:
    """Publish a study; its folder changes only if all is right, except what a killed publish left."""
    folder = Path(options.folder)
    if not folder.is_dir():
        raise ValueError(
            f"there is no folder {options.folder!r}; name one that contains {PLAN}, as studies/NAME"
        )
    registered = read_plan(str(folder / PLAN), "publish")
    registered.require_declared()
    from analysis.report import write_report

    store = open_existing(DEFAULT_STORE if options.storage is None else options.storage)
    document = store.load_study(registered.name)
    require_registered(registered, document, is_partial=options.partial)
    require_searches(document, store)
    bring_images_again(options)
    note_needless(options, document.class_names)
    plan = plan_from_description(document)  # so that keys are those of the registered cells
    contents = dict(_collect(store, document))
    if not any(path.endswith("/result.json") for path in contents):
        raise ValueError(f"{store.location} has no result of study {document.name} yet; run its sweep first")
    try:
        with open_to_publish(folder, _WRITTEN) as made:
            (at_hand := made / "store").mkdir()
            _write_archive(at_hand, contents)
            results = _read_archive(at_hand, registered.name, is_partial=options.partial)
            unfinished = [*results.unfinished.get(document.name, ())]
            if unfinished and not options.partial:
                num_counted = len(list_runs_by_seed(document)) - len(unfinished)
                registered.require_seeds(num_counted, least=registered.least_seeds, what="finished seed")
            write_report(results, made / REPORT)
            account = _give_account(at_hand, registered, document, plan, unfinished)
            (made / README).write_text(describe(account), encoding="utf-8")
            (at_hand / ARCHIVE).rename(made / ARCHIVE)
            num_bytes = write_all_checksums(made, folder)
            replace_published(made, folder, _WRITTEN)
    except OSError as error:
        raise ValueError(f"{folder} cannot be written ({error.strerror or error})") from None
    told = {"folder": str(folder), "records": len(account.records), "bytes": num_bytes}
    if options.json:
        print_json(told | {"unfinished_seeds": unfinished, "notes": list(results.notes)})
        return 0
    for note in results.notes:
        print(f"note: {note}")
    size = f"{count(len(account.records), 'record')}, {format_bytes(num_bytes)} in all"
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


def _write_archive(made: Path, contents: Mapping[str, bytes]) -> None:
    content = write_archive(contents)
    if len(content) > MOST_BYTES:
        raise ValueError(
            f"the archive alone would have {format_bytes(len(content))}, and a published study has at most "
            f"{format_bytes(MOST_BYTES)}; publish it as several studies"
        )
    (made / ARCHIVE).write_bytes(content)
    (made / CHECKSUMS).write_bytes(write_checksums({ARCHIVE: content}))


def _read_archive(made: Path, study: str, *, is_partial: bool) -> Any:  # Any: pandas has no types
    """Return its results; a ValueError for gaps, unless a partial report is allowed."""
    from analysis.collect import read_results

    try:
        return read_results(str(made), studies=[study], allow=["gaps"] if is_partial else [])
    except ValueError as error:
        raise ValueError(str(error).replace(str(made.absolute()), "what is to be published")) from None


def _give_account(
    made: Path, registered: StudyPlan, document: StudyDocument, plan: Plan, unfinished: Sequence[int]
) -> Account:
    """Return the account of the archive."""
    store, is_nested = open_existing(str(made)), any(run.is_apart for run in document.runs)
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
        num_seeds=len(list_runs_by_seed(document)),
        num_subsets=len({run.subset_seed for run in document.runs}) if is_nested else None,
        num_whole=len(list_whole_seeds(document, store)),
        unfinished=unfinished,
        has_samples=any(set(WITH_IMAGES) & each.artifacts.keys() - {*store.left_out} for each in records),
        sessions=read_sessions(store.files, document.name),
        attempts=attempts,
        records=records,
        keys=tuple(plan.stages),
        execution=document.execution,
        images=[document.say_dataset(each) for each in document.class_names if is_own_name(each)],
        archive_bytes=(made / ARCHIVE).stat().st_size,
        source=driver_source(),
    )
