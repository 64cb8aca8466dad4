"""Account for every planned run: complete, failed, diverged or missing. The store alone decides."""

from collections import Counter
from functools import partial

from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.facts import RUN_STATES
from lt_rebalance.store.records import Failure, Record
from lt_rebalance.studies.plan import Plan, upstream_key
from lt_rebalance.studies.stage import AnyStage


class Ledger:
    """What the store holds of a plan. A run whose generator failed or diverged shares its fate."""

    def __init__(self, plan: Plan, store: Store | None) -> None:
        """Scan the store; None stands for an empty one."""
        self.plan = plan
        self._store = store
        self.records: dict[str, Record] = {}
        self.failures: dict[str, Failure] = {}
        self._intact_weights: set[str] = set()
        self.look_again()

    def look_again(self) -> None:
        """Look up every stage that has no record here."""
        if (store := self._store) is None:
            return
        self.failures.clear()
        present = set(store.list_keys())
        keys = [key for key in self.plan.stages if key in present and key not in self.records]
        for key, found in zip(keys, store.files.read_each(partial(_read_outcome, store), keys), strict=True):
            if isinstance(found, Record):
                self.records[key] = found
            elif isinstance(found, Failure):
                self.failures[key] = found
            elif found is not None:  # it is set aside, which changes something, and so here
                self.refresh(key)

    def refresh(self, key: str) -> None:
        """Look up one stage again."""
        assert self._store is not None
        self.records.pop(key, None)
        self.failures.pop(key, None)
        if (record := self._store.load_record(key)) is not None:
            self.records[key] = record
        elif (failure := self._store.load_failure(key)) is not None:
            self.failures[key] = failure

    def state(self, key: str) -> str:
        """Return the state of a stage, one of `RUN_STATES`."""
        if key in self.records:
            return self.records[key].state
        if key in self.failures:
            return "failed"
        upstream = upstream_key(self.plan.stages[key])
        upstream_state = "missing" if upstream is None else self.state(upstream)
        return upstream_state if upstream_state in ("failed", "diverged") else "missing"

    def reason(self, key: str) -> str:
        """Return why a stage counts as failed."""
        if key in self.failures:
            return self.failures[key].error
        failed = self.plan.stages[self._failed_upstream(key)]
        what = "generator" if failed.kind == "generator" else "first training"
        return f"its {what} failed, {self.failures[failed.key].error}"

    def _failed_upstream(self, key: str) -> str:
        """Return the key of the stage whose failure a failed stage shares; its own where it failed itself."""
        while key not in self.failures:
            upstream = upstream_key(self.plan.stages[key])
            assert upstream is not None
            key = upstream
        return key

    def count_causes(self) -> Counter[str]:
        """Return how many failed runs there are by cause, one of `records.CAUSES`."""
        causes: Counter[str] = Counter()
        for run in self.plan.runs:
            if self.state(run.key) == "failed":
                causes[self.failures[self._failed_upstream(run.key)].cause] += 1
        return causes

    def pending(self) -> dict[str, AnyStage]:
        """Return the stages that are still to run, each after those that it builds on.

        One that nothing unfinished builds on is not among them, even when its result is gone; one that is
        needed again, because its weights are missing or altered, is.
        """
        missing = [run.stage for run in self.plan.runs if self.state(run.key) == "missing"]
        self._check_weights({key for stage in missing if (key := upstream_key(stage)) is not None})
        pending: dict[str, AnyStage] = {}
        for stage in missing:
            for each in self._lacking(stage.upstream):
                pending.setdefault(each.key, each)
            pending[stage.key] = stage
        return pending

    def _lacking(self, stage: AnyStage | None) -> list[AnyStage]:
        """Return a stage that others build on and all that it builds on, as far as they have to run."""
        if stage is None or stage.key in self.records:
            return []
        return [*self._lacking(stage.upstream), stage]

    def _check_weights(self, upstream_keys: set[str]) -> None:
        """Forget the records of stages whose kept weights are of no use; the store quarantines those."""
        keys = sorted(self.records.keys() & upstream_keys - self._intact_weights)
        store = self._store
        if store is None:
            return
        records = [self.records[key] for key in keys]
        has_weights = partial(store.has_artifact, role="weights")
        for record, is_whole in zip(records, store.files.read_each(has_weights, records), strict=True):
            try:
                if not is_whole:
                    store.load_artifact(record, "weights")  # which says why, and sets it aside
                self._intact_weights.add(record.key)
            except StoreError:
                del self.records[record.key]

    def forget_failures(self) -> None:
        """Count failed stages as missing, here but not in the store."""
        self.failures.clear()

    def count_runs(self) -> Counter[str]:
        """Return how many planned runs there are in each state."""
        return Counter(self.state(run.key) for run in self.plan.runs)

    def summary(self) -> str:
        """Return the line that accounts for every planned run."""
        counts = self.count_runs()
        assert sum(counts.values()) == len(self.plan.runs)
        states = " ".join(f"{state}={counts[state]}" for state in RUN_STATES)
        return f"planned={len(self.plan.runs)} {states}"


def _read_outcome(store: Store, key: str) -> Record | Failure | StoreError | None:
    try:
        return store.read_outcome(key)
    except StoreError as error:
        return error
