"""Account for every planned run: complete, failed, diverged or missing, from the store alone."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial

from lt_rebalance.monitoring.facts import RUN_STATES
from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.records import Failure, Record
from lt_rebalance.studies.plan import Plan, chain_of, group_by_upstream
from lt_rebalance.studies.stage import AnyStage


class Ledger:
    """The states of a plan's runs in a store. A run shares the state of a generator that failed or diverged.

    The time to look up a stage again and to count runs does not grow with the plan.
    """

    def __init__(self, plan: Plan, store: Store | None) -> None:
        """Scan the store; None means an empty one."""
        self.plan = plan
        self._store = store
        self.records: dict[str, Record] = {}
        self.failures: dict[str, Failure] = {}
        self._intact_weights: set[str] = set()
        self.look_again()

    def look_again(self) -> None:
        """Look up every stage again; what is known of it may be gone."""
        if (store := self._store) is None:
            return
        for known in (self.records, self.failures, self._intact_weights):
            known.clear()
        outcomes = dict(store.scan(_read_outcome, self.plan.stages))
        for key in self.plan.stages:
            found = outcomes.get(key)
            if isinstance(found, Record):
                self.records[key] = found
            elif isinstance(found, Failure):
                self.failures[key] = found
            elif found is not None:  # it is set aside, which changes the store, and so the ledger
                self._look_up(key)
        self._recount()

    def _recount(self) -> None:
        vars(self).pop("_counts", None)

    @cached_property
    def _runs_of(self) -> Mapping[str, int]:
        """The number of runs that end in each stage: cells that differ only in name share their stages."""
        return Counter(run.key for run in self.plan.runs)

    @cached_property
    def _built_on(self) -> Mapping[str | None, Sequence[str]]:
        return group_by_upstream(self.plan.stages)

    @cached_property
    def _counts(self) -> Counter[str]:
        """Planned runs in each state; updated by `refresh`."""
        return Counter(self.state(run.key) for run in self.plan.runs)

    def refresh(self, key: str) -> None:
        """Look up one stage again."""
        self._count(key, -1)
        self._look_up(key)
        self._count(key, 1)

    def _look_up(self, key: str) -> None:
        assert self._store is not None
        self.records.pop(key, None)
        self.failures.pop(key, None)
        if (record := self._store.load_record(key)) is not None:
            self.records[key] = record
        elif (failure := self._store.load_failure(key)) is not None:
            self.failures[key] = failure

    def _count(self, key: str, times: int) -> None:
        """Add or subtract, in the counts, the runs whose state depends on a stage."""
        for each in self.with_all_that_build_on(key):
            self._counts[self.state(each)] += times * self._runs_of.get(each, 0)

    def with_all_that_build_on(self, key: str) -> Iterator[str]:
        """Yield the key of a stage, and of every planned stage that needs it, directly or indirectly."""
        yield key
        for after in self._built_on.get(key, ()):
            yield from self.with_all_that_build_on(after)

    def state(self, key: str) -> str:
        """Return the state of a stage, one of `RUN_STATES`."""
        if key in self.records:
            return self.records[key].state
        if key in self.failures:
            return "failed"
        states = [self.state(each.key) for each in self.plan.stages[key].upstreams]
        return next((state for state in states if state in ("failed", "diverged")), "missing")

    def reason(self, key: str) -> str:
        """Return why a stage counts as failed."""
        stage = self._failed_stage(key)
        error = self.failures[stage.key].error
        what = "generator" if stage.kind == "generator" else "first training"
        return error if stage.key == key else f"its {what} failed, {error}"

    def _failed_stage(self, key: str) -> AnyStage:
        """Return the stage that causes the failure of a stage: itself, or one that it needs."""
        chain = reversed(chain_of(self.plan.stages[key]))
        return next(stage for stage in chain if stage.key in self.failures)

    def cause(self, key: str) -> str:
        """Return the cause of the failure of a stage, one of `records.CAUSES`."""
        return self.failures[self._failed_stage(key).key].cause

    def count_causes(self) -> Counter[str]:
        """Return how many failed runs there are by cause."""
        return Counter(self.cause(run.key) for run in self.plan.runs if self.state(run.key) == "failed")

    def pending(self) -> dict[str, AnyStage]:
        """Return the stages that are still to run, each after those that it needs.

        A stage that no unfinished stage needs is left out, even if its result is gone. A stage whose weights
        are missing or altered is included if it is needed.
        """
        missing = [run.stage for run in self.plan.runs if self.state(run.key) == "missing"]
        self._check_weights({each.key for stage in missing for each in stage.upstreams})
        pending: dict[str, AnyStage] = {}
        for stage in missing:
            for upstream in stage.upstreams:
                for each in self._lacking(upstream):
                    pending.setdefault(each.key, each)
            pending[stage.key] = stage
        return pending

    def _lacking(self, stage: AnyStage) -> list[AnyStage]:
        """Return a stage that others need and all that it needs, as far as they have to run."""
        if stage.key in self.records:
            return []
        return [*(each for upstream in stage.upstreams for each in self._lacking(upstream)), stage]

    def _check_weights(self, upstream_keys: set[str]) -> None:
        """Forget records whose stored weights are unusable; the store quarantines them."""
        keys = sorted(self.records.keys() & upstream_keys - self._intact_weights)
        if (store := self._store) is None:
            return
        records = [self.records[key] for key in keys]
        has_weights = partial(store.has_artifact, role="weights")
        for record, is_whole in zip(records, store.files.read_each(has_weights, records), strict=True):
            try:
                if not is_whole:
                    store.load_artifact(record, "weights")  # which gives the reason, and quarantines it
                self._intact_weights.add(record.key)
            except StoreError:
                self._count(record.key, -1)
                del self.records[record.key]
                self._count(record.key, 1)

    def forget_failures(self) -> None:
        """Count failed stages as missing, in this ledger but not in the store."""
        self.failures.clear()
        self._recount()

    def count_runs(self) -> Counter[str]:
        """Return how many planned runs there are in each state."""
        return +self._counts

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
