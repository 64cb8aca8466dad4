"""The status of a study, from its store: counts, work in progress, failures, time left; no torch."""

import dataclasses
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lt_rebalance.ground.exits import say_command
from lt_rebalance.ground.metrics import headline_metrics
from lt_rebalance.ground.statements import NUM_MORE
from lt_rebalance.ground.text import format_duration
from lt_rebalance.monitoring.estimates import (
    Estimator,
    Spending,
    add_up,
    estimate_left,
    saved_by_sharing,
    spending_by_cell,
    spending_by_kind,
    sum_spending,
    typical_by_cell,
)
from lt_rebalance.monitoring.facts import (
    RUN_STATES,
    StageFacts,
    list_pending,
    list_runs_by_cell,
    read_facts,
    run_state,
)
from lt_rebalance.store import Store
from lt_rebalance.store.presence import Note, read_notes
from lt_rebalance.store.study_document import StudyDocument

STRAGGLER_FACTOR = 2.0
"""a trial that takes this many times its expected duration is a straggler"""
STRAGGLER_LEAST_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Running:
    """A trial at work, or lost."""

    title: str
    keys: tuple[str, ...]
    host: str
    pid: int
    for_s: float
    """since it started"""
    round: int
    num_rounds: int
    expected_s: float | None
    """expected duration of such a trial, from finished ones"""

    @property
    def is_straggler(self) -> bool:
        """Whether it takes far longer than similar trials."""
        if self.expected_s is None:
            return False
        return self.for_s > max(STRAGGLER_FACTOR * self.expected_s, STRAGGLER_LEAST_S)


@dataclass(frozen=True, kw_only=True)
class StageReason:
    """Why a stage has no result, or which classes of it collapsed."""

    key: str
    title: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CellStatus:
    """The progress of a cell, and its results so far."""

    protocol: str
    data: str
    method: str
    planned: int
    complete: int
    means: Mapping[str, float | None]
    """over the complete runs, of `headline_metrics`; None if there are none, or one lacks the metric"""
    is_test_balanced: bool
    """whether accuracy leads, rather than macro F1 and balanced accuracy"""
    collapsed: int
    """complete runs with a dead class"""
    spending: Spending
    typical_s: float | None
    """device seconds of a run, as `typical_by_cell`"""


@dataclass(frozen=True, kw_only=True)
class Status:
    """The status of a study."""

    study: str
    question: str
    runs: Mapping[str, int]
    """planned runs, and the number in each of `RUN_STATES`"""
    stages: Mapping[str, Mapping[str, int]]
    """by kind: planned, done and to run"""
    drivers: tuple[Note, ...]
    """sweeps of this study that are running"""
    running: tuple[Running, ...]
    lost: tuple[Running, ...]
    """trials whose worker or sweep died before they ended"""
    failed: tuple[StageReason, ...]
    unreadable: tuple[StageReason, ...]
    """stages with a record or a failure that cannot be read"""
    collapsed_generators: tuple[StageReason, ...]
    """generators that draw almost the same image for a class"""
    num_slots: int | None
    """concurrent trials; None if the study was written without"""
    num_devices: float | None
    """devices that they occupy together"""
    eta_s: float | None
    cells: tuple[CellStatus, ...]
    spending: Spending
    spending_by_kind: Mapping[str, Spending]
    spending_by_method: Mapping[str, Spending]
    saved_s: float
    """additional device seconds if no two runs shared a stage"""

    @property
    def more_s(self) -> float | None:
        """The device seconds of `NUM_MORE` further seeds of all cells; None if unknown."""
        known = [cell.typical_s for cell in self.cells if cell.typical_s is not None]
        return NUM_MORE * sum(known) if len(known) == len(self.cells) else None

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to run."""
        return self.runs["missing"] == 0

    def describe_time_left(self) -> str:
        """Return the time left, in words."""
        if self.is_over:
            return "nothing is left to run"
        if self.eta_s is None:
            return "time left is unknown before a stage is done"
        return f"about {format_duration(self.eta_s)} left, {self.num_slots} at a time"

    def describe_spending(self, hourly_rate: float | None = None) -> Iterator[str]:
        """Yield lines on the device time, spent and to come, by kind of stage and by method."""
        yield f"device time: {self.spending.describe(hourly_rate)}"
        for kind, each in self.spending_by_kind.items():
            yield f"  {kind} stages: {each.describe(hourly_rate)}"
        if len(self.spending_by_method) < len(self.cells):  # else the table has it
            for method, each in self.spending_by_method.items():
                yield f"  method {method}: {each.describe(hourly_rate)}"
        if self.saved_s:
            saved = format_duration(self.saved_s)
            yield f"  saved by runs that share a generator or a first training: {saved}"
        if self.more_s:
            yield f"  {NUM_MORE} more seeds: about {format_duration(self.more_s)}{self._describe_wait()}"

    def _describe_wait(self) -> str:
        """Return how long further seeds take where several trials run at the same time."""
        if not (self.more_s and self.num_devices and self.num_slots and self.num_slots > 1):
            return ""
        wait = format_duration(self.more_s / self.num_devices)
        return f" of device time, {wait} with {self.num_slots} at a time"

    def to_dict(self, hourly_rate: float | None = None) -> dict[str, Any]:
        """Return plain JSON values."""
        values = dataclasses.asdict(self)
        values["device_hours_saved"] = values.pop("saved_s") / 3600
        more = None if self.more_s is None else self.more_s / 3600
        values[f"device_hours_of_{NUM_MORE}_more_seeds"] = more
        values["spending"] = self.spending.to_dict(hourly_rate)
        for name in ("spending_by_kind", "spending_by_method"):
            values[name] = {each: value.to_dict(hourly_rate) for each, value in getattr(self, name).items()}
        for cell, described in zip(self.cells, values["cells"], strict=True):
            described |= described.pop("means")
            described["spending"] = cell.spending.to_dict(hourly_rate)
        for trial, described in zip(self.running, values["running"], strict=True):
            described["is_straggler"] = trial.is_straggler
        return values


def report_command(location: str, studies: Sequence[str], counts: Mapping[str, int]) -> str:
    """Return the command that writes the report of studies, which may have gaps.

    Args:
        counts: their runs in each of `RUN_STATES`.
    """
    partial = ["--partial"] if counts["failed"] or counts["missing"] else []
    return say_command("python", "-m", "analysis", location, "--study", *studies, *partial)


def read_status(store: Store, study: str, now_s: float) -> Status:
    """Read the status of a study; errors as `Store.load_study`."""
    planned = store.load_study(study)
    return describe_status(planned, read_facts(store, planned), read_notes(store.files), now_s)


def describe_status(
    study: StudyDocument, facts: Mapping[str, StageFacts], notes: Sequence[Note], now_s: float
) -> Status:
    """Return the status of a study.

    Args:
        now_s: seconds since 1970.
    """
    pending = list_pending(facts)
    is_open = {fact.key for fact in pending}
    num_slots, per_slot = study.num_slots, study.devices_per_slot
    num_devices = num_slots * per_slot if num_slots else None
    estimator = Estimator(facts.values(), study.expected_s, per_slot)
    drivers = [note for note in notes if not note.keys and not note.is_lost(now_s, ())]
    names = {note.name for note in drivers}
    trials = [note for note in notes if is_open.intersection(note.keys)]
    running = [note for note in trials if not note.is_lost(now_s, names)]
    done_shares = {key: note.round / max(note.num_rounds, 1) for note in running for key in note.keys}
    spent_s = {key: fact.device_s for key, fact in facts.items()}
    left_s = {fact.key: estimator.device_s(fact) for fact in pending}
    runs = [(run.cell, run.keys) for run in study.runs]
    by_cell = spending_by_cell(len(study.cells), runs, spent_s, left_s)
    done = {run.key: run.keys for run in study.runs if facts[run.key].state in ("complete", "diverged")}
    return Status(
        study=study.name,
        question=study.question,
        runs=_count_runs(study, facts),
        stages=_count_stages(facts, pending),
        drivers=tuple(note for note in drivers if note.title == study.name),
        running=tuple(_describe_trial(note, facts, estimator, now_s) for note in running),
        lost=tuple(_describe_trial(note, facts, estimator, now_s) for note in trials if note not in running),
        failed=tuple(_give_reason(fact) for fact in facts.values() if fact.state == "failed"),
        unreadable=tuple(_give_reason(fact) for fact in facts.values() if _is_unreadable(fact)),
        collapsed_generators=tuple(_give_reason(fact) for fact in facts.values() if _is_collapsed(fact)),
        num_slots=num_slots,
        num_devices=num_devices,
        eta_s=estimate_left(pending, estimator, num_devices, done_shares) if num_devices else None,
        cells=_describe_cells(
            study, facts, by_cell, typical_by_cell(len(study.cells), runs, spent_s, left_s)
        ),
        spending=sum_spending(spent_s, left_s),
        spending_by_kind=spending_by_kind({key: fact.kind for key, fact in facts.items()}, spent_s, left_s),
        spending_by_method=add_up(by_cell, [cell.method for cell in study.cells]),
        saved_s=saved_by_sharing(done.values(), facts),
    )


def _is_unreadable(fact: StageFacts) -> bool:
    return fact.state == "missing" and bool(fact.reason)


def _is_collapsed(fact: StageFacts) -> bool:
    return fact.kind == "generator" and fact.state == "complete" and bool(fact.reason)


def _give_reason(fact: StageFacts) -> StageReason:
    return StageReason(key=fact.key, title=fact.title, reason=fact.reason)


def _count_runs(study: StudyDocument, facts: Mapping[str, StageFacts]) -> dict[str, int]:
    counts = Counter(run_state(facts, run.key) for run in study.runs)
    return {"planned": len(study.runs)} | {state: counts[state] for state in RUN_STATES}


def _count_stages(
    facts: Mapping[str, StageFacts], pending: Sequence[StageFacts]
) -> dict[str, dict[str, int]]:
    planned = Counter(fact.kind for fact in facts.values())
    done = Counter(fact.kind for fact in facts.values() if fact.state in ("complete", "diverged"))
    to_run = Counter(fact.kind for fact in pending)
    return {kind: {"planned": planned[kind], "done": done[kind], "to_run": to_run[kind]} for kind in planned}


def _describe_trial(
    note: Note, facts: Mapping[str, StageFacts], estimator: Estimator, now_s: float
) -> Running:
    known = [facts[key] for key in note.keys if key in facts]
    return Running(
        title=note.title,
        keys=note.keys,
        host=note.host,
        pid=note.pid,
        for_s=max(0.0, now_s - note.started_s),  # clocks of two machines may differ
        round=note.round,
        num_rounds=note.num_rounds,
        expected_s=estimator.wall_s(known[0]),
    )


def _mean(metrics: Sequence[Mapping[str, float]], name: str) -> float | None:
    """Return the mean of a metric over runs; None if no run has it, or one lacks it."""
    if not metrics or any(name not in each for each in metrics):
        return None
    return statistics.fmean(each[name] for each in metrics)


def _describe_cells(
    study: StudyDocument,
    facts: Mapping[str, StageFacts],
    spendings: Sequence[Spending],
    typical_s: Sequence[float | None],
) -> tuple[CellStatus, ...]:
    cells = []
    for cell, runs, spending, of_run_s in zip(
        study.cells, list_runs_by_cell(study), spendings, typical_s, strict=True
    ):
        repeats = [facts[run.key] for run in runs]
        complete = [fact.metrics for fact in repeats if fact.state == "complete"]
        cells.append(
            CellStatus(
                protocol=cell.protocol,
                data=cell.data,
                method=cell.method,
                planned=len(repeats),
                complete=len(complete),
                means={name: _mean(complete, name) for name in headline_metrics(is_test_balanced=False)},
                is_test_balanced=cell.dataset not in study.unbalanced,
                collapsed=sum(each["num_dead_classes"] > 0 for each in complete),
                spending=spending,
                typical_s=of_run_s,
            )
        )
    return tuple(cells)
