"""Check that a store has exactly the planned runs of its studies, and describe differences."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from analysis.reader import UNKNOWN_CODE, StoreReader, digest
from analysis.unfinished import describe_unfinished
from lt_rebalance.ground.text import count
from lt_rebalance.store.records import NOT_APPLICABLE

ALLOWANCES = ("gaps", "duplicates", "versions")
_NAMED = 10
_SINGULAR = {"are": "is", "have": "has", "their": "its", "(their": "(its"}
_STATE_NOTES = {
    "missing": "are missing",
    "failed": "failed",
    NOT_APPLICABLE: "are not applicable, which is their outcome",
    "diverged": "diverged (their loss was not finite) and have no test result",
}


class IncompleteError(ValueError):
    """The store does not hold exactly what its studies plan."""


def check_completeness(reader: StoreReader, allow: Collection[str]) -> None:
    """Raise an IncompleteError for what is not allowed, of `ALLOWANCES`."""
    if "versions" not in allow and len(reader.versions) > 1:
        counts = ", ".join(
            f"{number} of version {version}" for version, number in sorted(reader.versions.items())
        )
        raise IncompleteError(
            f"{reader.stores.location}: results of different versions ({counts}) cannot be compared; analyse "
            'one study at a time, or allow "versions"'
        )
    if doubles := _find_duplicates(reader, of_versions=True):
        raise IncompleteError(
            f"{reader.stores.location}: {count(len(doubles), 'run')} with several results, of other versions "
            f"or images: {_some(doubles)}; a run counts once, so name the studies to read"
        )
    if "duplicates" not in allow and (doubles := _find_duplicates(reader)):
        raise IncompleteError(
            f"{reader.stores.location}: {count(len(doubles), 'run')} with several results that differ in "
            f"device, precision, threads or torch: {_some(doubles)}; name the studies to read, or allow "
            '"duplicates"'
        )
    if "gaps" not in allow and (gaps := _find_gaps(reader)):
        raise IncompleteError(
            f"{reader.stores.location}: {len(gaps)} of {len(reader.runs)} planned runs "
            f"{_agree('have', len(gaps))} no result: {_some(gaps)}; run the sweep again, or "
            'allow "gaps" (--partial) for a partial analysis'
        )


def _find_duplicates(reader: StoreReader, *, of_versions: bool = False) -> list[str]:
    """Return the runs with several results: all, or those of one execution, of other versions or images."""
    left_out = () if of_versions else ("execution",)
    keys: dict[tuple[str, int, int, int | None], list[str]] = {}
    for key, run in reader.runs.items():
        config = {
            name: value for name, value in reader.cells[run["cell"]].config.items() if name not in left_out
        }
        seeds = (run["seed"], run["subset_seed"], run["generator_seed"])
        keys.setdefault((digest(config), *seeds), []).append(key)
    return [_name(reader, same[0]) for same in keys.values() if len(same) > 1]


def _find_gaps(reader: StoreReader) -> list[str]:
    return [
        f"{_name(reader, key)} ({state})"
        for key in reader.runs
        if (state := _state(reader, key)) in ("missing", "failed")
    ]


def _state(reader: StoreReader, key: str) -> str:
    """Return the state of a run; not applicable is a state of its own, not a failure."""
    row = reader.rows[key]
    return NOT_APPLICABLE if row.get("is_not_applicable") else str(row["state"])


def _name(reader: StoreReader, key: str) -> str:
    run = reader.runs[key]
    cell = reader.cells[run["cell"]]
    seeds = f"seed {run['seed']}"
    if key in reader.apart:
        seeds += f" of subset {run['subset_seed']} with generator {run['generator_seed']}"
    name = f"{cell.protocol} {cell.data} {cell.method} {seeds}"
    if len(reader.studies) == 1:
        return name
    planners = [study for study, plan in reader.studies.items() if any(each.key == key for each in plan.runs)]
    return f"{name} of {' and '.join(planners)}"


def _say(reader: StoreReader, key: str) -> str:
    """Name a run without a result, with the reason where one was recorded."""
    reason = reader.rows[key].get("reason")
    return f"{_name(reader, key)} ({reason})" if reason else _name(reader, key)


def _agree(verb: str, number: int) -> str:
    """Return what some runs do, or, if it is one, what it does."""
    return verb if number > 1 else " ".join(_SINGULAR.get(word, word) for word in verb.split(" "))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def describe_oddities(reader: StoreReader) -> tuple[str, ...]:
    """Return what is missing, failed, diverged, not applicable or mixed, in sentences."""
    notes = []
    counts = Counter(_state(reader, key) for key in reader.runs)
    for state, meaning in _STATE_NOTES.items():
        if counts[state]:
            named = [_say(reader, key) for key in reader.runs if _state(reader, key) == state]
            what = f"{counts[state]} of {len(reader.runs)} planned runs {_agree(meaning, counts[state])}"
            notes.append(f"{what}: {_some(named)}")
    if len(reader.versions) > 1:
        notes.append(f"the results come from {len(reader.versions)} versions of the code")
    for study, seeds in reader.unfinished.items():
        of_study = f" of study {study}" if len(reader.studies) > 1 else ""
        notes.append(f"not counted while runs are missing{of_study}: {describe_unfinished(seeds)}")
    known = {*reader.runs, *reader.generator_cells, *reader.first_keys.values(), *reader.not_counted}
    if shared := reader.stores.shared:
        differ = sum(shared.values())
        notes.append(
            f"results of {count(len(shared), 'stage')} are in several of these stores, and those of the "
            f"first are read; {f'those of {differ} differ' if differ else 'all are equal'}"
        )
    if others := len(reader.stores.list_keys() - known):
        notes.append(f"not read: {count(others, 'stage')} in the store of none of these studies")
    if quarantined := reader.stores.count_quarantined():
        notes.append(f"in quarantine: {count(quarantined, 'damaged file')}")
    notes += _describe_mixtures(reader)
    return tuple(notes)


def _describe_mixtures(reader: StoreReader) -> Iterator[str]:
    """Describe where results differ in code, devices or threads."""
    finished = [reader.rows[key] for key in reader.runs if "commit" in reader.rows[key]]
    codes = Counter(row["commit"] for row in finished)
    if len(codes) > 1:
        is_told_by_commit = all(", source " not in code and code != UNKNOWN_CODE for code in codes)
        yield f"results come from {len(codes)} {'commits' if is_told_by_commit else 'states'} of the code"
    if untold := codes[UNKNOWN_CODE]:
        verb = "records" if untold == 1 else "record"
        yield (
            f"{count(untold, 'result')} {verb} neither a commit nor a hash of their code, so results of "
            "different code cannot be distinguished"
        )
    identities: dict[str, set[str]] = {}
    for key in reader.runs:
        if "dataset_identity" in (row := reader.rows[key]):
            shown = reader.cells[reader.runs[key]["cell"]].dataset
            identities.setdefault(shown, set()).add(row["dataset_identity"])
    for dataset, found in identities.items():
        if len(found) > 1:
            yield (
                f"results on {dataset} come from {len(found)} different sets of images, so differences "
                "between them are not those of methods alone"
            )
    for name, meaning in {
        "device": "kinds of device",
        "num_threads": "numbers of threads",
    }.items():
        if len(values := Counter(row[name] for row in finished)) > 1:
            yield f"results come from {len(values)} {meaning}"
    if dirty := sum(row["is_dirty"] is True for row in finished):
        verb = "was" if dirty == 1 else "were"
        yield f"{count(dirty, 'result')} {verb} made with uncommitted changes to tracked files"
