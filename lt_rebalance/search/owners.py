"""Find the owner of each stage in a store, so that nothing owned is deleted.

Every kind of owner has an entry in `OWNERS`. If one owner cannot be read, no stage counts as an orphan.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import optuna
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import TrialState

from lt_rebalance.data.at_hand import described
from lt_rebalance.files.filesystem import Filesystem
from lt_rebalance.ground.plain import config_from_dict
from lt_rebalance.ground.values import parse_json
from lt_rebalance.search.journal import JOURNAL_FILE
from lt_rebalance.search.search import Search, Values
from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.documents import search_path
from lt_rebalance.studies.plan import chain_of
from lt_rebalance.studies.stage import RESULTS_VERSION, AnyStage


def list_owned(store: Store) -> dict[str, str]:
    """Return the owner of each owned stage in a store, by key; the stage need not exist yet.

    Raises:
        StoreError: an owner cannot be read, so that its stages are unknown.
    """
    owned: dict[str, str] = {}
    for list_stages in OWNERS.values():
        for key, owner in list_stages(store):
            owned.setdefault(key, owner)
    return owned


def list_named_sets(store: Store) -> dict[str, str]:
    """Return the users of each data set that a store refers to, by the name of the set.

    Raises:
        StoreError: something cannot be read, so that its data sets are unknown.
    """
    named: dict[str, str] = {}
    for study in store.list_studies():
        for cell in store.load_study(study).cells:
            named.setdefault(cell.dataset, f"study {study}")
    for search in store.list_searches():
        try:
            dataset = store.load_search(search)["search"]["base"]["data"]["dataset"]
        except (KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise _refuse(store, f"{search_path(search)}/account.json", reason) from None
        named.setdefault(dataset, f"search {search}")
    for key, found in store.scan(Store.read_outcome, store.list_keys()):
        if found is not None:
            named.setdefault(found.stage["data"]["dataset"], f"stage {key}")
    return named


def _list_of_studies(store: Store) -> Iterator[tuple[str, str]]:
    for name in store.list_studies():
        for key in store.load_study(name).stages:
            yield key, f"study {name}"


def _list_of_searches(store: Store) -> Iterator[tuple[str, str]]:
    for name in store.files.list("searches"):
        path = search_path(name)
        trials = _read_trials(store, path)
        if "account.json" not in store.files.list(path):
            if trials:
                raise _refuse(store, path, "it has trials and no account.json that says what it tunes")
            continue
        for stage in _list_stages(store, name, trials):
            for each in chain_of(stage):
                yield each.key, f"search {name}"


OWNERS: Mapping[str, Callable[[Store], Iterator[tuple[str, str]]]] = {
    "studies": _list_of_studies,
    "searches": _list_of_searches,
}
"""by directory of a store: yields the key and the owner of every owned stage in it"""


def _list_stages(store: Store, name: str, trials: list[Values]) -> list[AnyStage]:
    """Return every stage of every ladder that a trial of a search has run or may run."""
    path = f"{search_path(name)}/account.json"
    account = store.load_search(name)
    if (version := account.get("results_version")) != RESULTS_VERSION:
        raise _refuse(store, path, f"it is of results version {version!r}, this code knows {RESULTS_VERSION}")
    found: list[AnyStage] = []
    try:
        with described(account.get("own_data", [])):
            search = config_from_dict(Search, account["search"])
            if account["rung_rounds"] != list(search.rung_rounds):
                raise ValueError(
                    f"its rungs are {account['rung_rounds']}, this code has {search.rung_rounds}"
                )
            kept = [dict(trial["values"]) for trial in account["trials"]]
            for values in _without_repeats([*kept, *trials]):
                if set(values) >= set(search.space):  # else it was stopped before training began
                    for rung in search.ladder(values):
                        found += chain.from_iterable(rung.groups)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refuse(store, path, f"{type(error).__name__}: {error}") from None
    return found


def _without_repeats(values: list[Any]) -> list[Values]:
    return list({tuple(sorted(each.items())): each for each in values}.values())


def _read_trials(store: Store, path: str) -> list[Values]:
    """Return the values of all trials that have begun, from the journal of a search; nothing is written."""
    try:
        operations = [*_read_lines(store.files, path), *_read_objects(store.files, path)]
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = optuna.storages.JournalStorage(_Journal(operations))
        trials = [
            trial for study in storage.get_all_studies() for trial in storage.get_all_trials(study._study_id)
        ]
    except Exception as error:  # of Optuna, which does not check operations
        name = JOURNAL_FILE if JOURNAL_FILE in store.files.list(path) else "journal"
        raise _refuse(store, f"{path}/{name}", f"{type(error).__name__}: {error}") from None
    return [dict(trial.params) for trial in trials if trial.state != TrialState.WAITING]


def _read_lines(files: Filesystem, path: str) -> Iterator[dict[str, Any]]:
    if JOURNAL_FILE in files.list(path):
        *lines, _ = files.read(f"{path}/{JOURNAL_FILE}").split(b"\n")  # the last one may be incomplete
        yield from map(parse_json, lines)


def _read_objects(files: Filesystem, path: str) -> Iterator[dict[str, Any]]:
    paths = [f"{path}/journal/{name}" for name in files.list(f"{path}/journal")]
    for content in files.read_each(files.read, paths):
        yield from parse_json(content)["operations"]


class _Journal(BaseJournalBackend):
    """Read-only operations of a journal."""

    def __init__(self, operations: list[dict[str, Any]]) -> None:
        self._operations = operations

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        return self._operations[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise AssertionError(f"write to a read-only journal: {logs}")


def _refuse(store: Store, path: str, reason: str) -> StoreError:
    return StoreError(
        f"{store.location}: {path} does not say which stages it owns ({reason}), so its stages look like "
        "orphans; fix it, or move it away if it is not needed, and try again"
    )
