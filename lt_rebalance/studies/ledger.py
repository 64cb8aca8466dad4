"""Account for every planned run: complete, failed, diverged or missing. The store alone decides."""

from collections import Counter

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
        if store is not None:
            for key in set(plan.stages).intersection(store.list_keys()):
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
        pending: dict[str, AnyStage] = {}
        for run in self.plan.runs:
            if run.key in pending or self.state(run.key) != "missing":
                continue
            for stage in self._lacking(run.stage.upstream):
                pending.setdefault(stage.key, stage)
            pending[run.key] = run.stage
        return pending

    def _lacking(self, stage: AnyStage | None) -> list[AnyStage]:
        """Return a stage that others build on and all that it builds on, as far as they have to run."""
        if stage is None or self._has_weights(stage.key):
            return []
        return [*self._lacking(stage.upstream), stage]

    def _has_weights(self, key: str) -> bool:
        """Whether the weights that a stage has kept are usable; a damaged one is quarantined by the store."""
        if key in self.records and key not in self._intact_weights:
            assert self._store is not None
            try:
                self._store.load_artifact(self.records[key], "weights")
                self._intact_weights.add(key)
            except StoreError:
                del self.records[key]
        return key in self.records

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
