"""Several stores, read as one that has the studies of all."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.store.records import Failure, Record
from lt_rebalance.store.study_document import StudyDocument


class Stores:
    """One store or several; a stage that several have is read from the first that has its result."""

    def __init__(self, locations: Sequence[str]) -> None:
        """Open them read-only.

        Raises:
            StoreError: no location, one that is given twice, or no store there.
        """
        if not locations:
            raise StoreError("no store is named; name the directory given to a sweep as --storage")
        self._stores = [_open(each) for each in locations]
        self.shared: dict[str, bool] = {}
        """by key of the stages that several have a result of: whether these differ; of the last scan"""
        found = [store.location for store in self._stores]
        if twice := [each for at, each in enumerate(found) if each in found[:at]]:
            raise StoreError(f"{twice[0]} is named twice; name every store once")

    def __iter__(self) -> Iterator[Store]:
        return iter(self._stores)

    @property
    def location(self) -> str:
        return " and ".join(store.location for store in self)

    def list_studies(self) -> list[str]:
        return sorted({name for store in self for name in store.list_studies()})

    def list_keys(self) -> set[str]:
        return {key for store in self for key in store.list_keys()}

    def count_quarantined(self) -> int:
        return sum(len(store.list_quarantine()) for store in self)

    def load_study(self, name: str) -> StudyDocument:
        """Return a study.

        Raises:
            StoreError: no store has it, or several have different ones; or its file is damaged.
        """
        if len(self._stores) == 1:
            return self._stores[0].load_study(name)
        holders = [store for store in self if name in store.list_studies()]
        if not holders:
            known = ", ".join(self.list_studies()) or "none"
            raise StoreError(f"{self.location}: no study {name!r}; known: {known}")
        first, *others = holders
        study = first.load_study(name)
        for other in others:
            if not study.plans_as(other.load_study(name)):
                raise _differ(first, other, f"studies {name}")
        return study

    def require_equal_searches(self) -> None:
        """Raise a StoreError if several stores have different searches of one name."""
        found: dict[str, tuple[Store, Mapping[str, Any]]] = {}
        if len(self._stores) > 1:
            for store in self:
                for name in store.list_searches():
                    account = store.load_search(name)
                    first, known = found.setdefault(name, (store, account))
                    if account != known:
                        raise _differ(first, store, f"searches {name}")

    def scan(self, keys: Collection[str]) -> Iterator[tuple[Store, str, Record | Failure]]:
        """Yield, in any order, the outcome of each of these stages that has one, and the store it is from.

        Raises:
            StoreError: an outcome cannot be read; it names the file.
        """
        self.shared = {}
        is_one = len(self._stores) == 1
        results: dict[str, dict[str, Any]] = {}
        failures: dict[str, tuple[Store, Failure]] = {}
        for store in self:
            for key, outcome in store.scan(Store.read_outcome, keys):
                if isinstance(outcome, Failure):
                    failures.setdefault(key, (store, outcome))
                elif outcome is not None and key in results:
                    differs = outcome.deterministic() != results[key]
                    self.shared[key] = self.shared.get(key, False) or differs
                elif outcome is not None:
                    results[key] = {} if is_one else outcome.deterministic()
                    yield store, key, outcome
        yield from ((store, key, each) for key, (store, each) in failures.items() if key not in results)

    def read_samples(self, key: str) -> NDArray[np.uint8] | None:
        """Return a generator's samples (3, K, 10, C, H, W): generated, nearest real, real; or None."""
        for store in self:
            record = store.read_record(key)
            if record is not None and "samples" in record.artifacts.keys() - {*store.left_out}:
                samples: NDArray[np.uint8] = store.read_array(record, "samples")
                return samples
        return None


def _open(location: str) -> Store:
    store = open_store(location, None, create=False, is_read_only=True) if location else None
    if store is None:
        asked = location or "an empty name"
        raise StoreError(f"{asked}: there is no store; name the directory given to a sweep as --storage")
    return store


def _differ(first: Store, other: Store, what: str) -> StoreError:
    return StoreError(
        f"{first.location} and {other.location} have different {what}; leave out one of these stores"
    )
