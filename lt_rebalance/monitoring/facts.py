"""Read the states of all stages of a study from a store; no torch."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lt_rebalance.monitoring.concerns import find_concerns
from lt_rebalance.store.records import Record
from lt_rebalance.store.store import Store, StoreError
from lt_rebalance.store.study_document import StudyDocument, StudyRun, StudyStage

RUN_STATES = ("complete", "failed", "diverged", "missing")
_NAMED_IF_SEVERAL = ("dataset", "protocol")
"""of a cell: named in titles if a study has several"""


@dataclass(frozen=True, kw_only=True)
class StageFacts(StudyStage):
    """One stage of a study, and its result so far."""

    title: str
    """distinguishes it from all others of the study"""
    state: str = "missing"
    """one of `RUN_STATES`, of this stage alone"""
    reason: str = ""
    """why it failed or cannot be read; of a complete generator, which classes collapsed"""
    metrics: Mapping[str, float] = field(default_factory=dict)
    wall_s: float = 0.0
    train_s: float = 0.0
    device_s: float = 0.0
    """device time; wall time for older records without device time"""
    finished_s: float = 0.0
    """when its record was committed, in seconds since 1970; 0 if unknown"""


def read_facts(store: Store | None, study: StudyDocument) -> dict[str, StageFacts]:
    """Return every stage of a study once, by key, after the stages that it needs.

    None stands for an empty store. A record that cannot be read, or is of another stage than the study says,
    counts as missing, with the reason; nothing is moved.
    """
    outcomes: dict[str, dict[str, Any]] = {}
    if store is not None:
        outcomes.update(store.scan(functools.partial(_read_outcome, study), study.stages))
    several = {name: len({getattr(each, name) for each in study.cells}) > 1 for name in _NAMED_IF_SEVERAL}
    return {
        key: StageFacts(**vars(stage), title=_name_stage(study, stage, several), **outcomes.get(key, {}))
        for key, stage in study.stages.items()
    }


def _name_stage(study: StudyDocument, stage: StudyStage, several: Mapping[str, bool]) -> str:
    cell = study.cells[stage.cell]
    has_protocol = stage.kind == "classifier" or several["protocol"]
    words = [
        *([] if stage.kind == "classifier" else [stage.kind]),
        *([study.say_dataset(cell.dataset)] if several["dataset"] else []),
        *([cell.protocol] if has_protocol else []),
    ]
    return " ".join([*words, cell.data, stage.trains, stage.replicate])


def list_runs_by_cell(study: StudyDocument) -> list[list[StudyRun]]:
    """Return the runs of each cell of a study."""
    runs: list[list[StudyRun]] = [[] for _ in study.cells]
    for run in study.runs:
        runs[run.cell].append(run)
    return runs


def _read_outcome(study: StudyDocument, store: Store, key: str) -> dict[str, Any]:
    try:
        summary = store.read_summary(key)
        if summary is None:
            failure = store.read_failure(key)
            return {} if failure is None else {"state": "failed", "reason": failure.error}
        store.require_planned(study, key, summary.stage)
        concerns = []
        if summary.metrics.get("num_collapsed_classes") and (record := store.read_record(key)) is not None:
            concerns = find_concerns(record, study.class_names[study.cells[study.stages[key].cell].dataset])
    except StoreError as error:
        return {"reason": str(error)}
    timing = summary.timing
    return {
        "state": summary.state,
        "reason": "; ".join(concern.text for concern in concerns),
        "metrics": summary.metrics,
        "wall_s": timing.wall_s,
        "train_s": timing.train_s,
        "device_s": timing.charged_s,
        "finished_s": timing.finished_s or 0.0,
    }


def run_state(facts: Mapping[str, StageFacts], key: str) -> str:
    """Return the state of a run; a failed or diverged stage that it needs decides."""
    fact = facts[key]
    if fact.state != "missing":
        return fact.state
    states = [run_state(facts, upstream) for upstream in fact.upstreams]
    return next((state for state in states if state in ("failed", "diverged")), "missing")


def list_pending(facts: Mapping[str, StageFacts]) -> list[StageFacts]:
    """Return the stages that are still to run, each after the stages that it needs."""
    pending: dict[str, StageFacts] = {}
    for key, fact in facts.items():
        if fact.kind == "classifier" and run_state(facts, key) == "missing":
            for each in _chain_of(facts, fact):
                pending.setdefault(each.key, each)
    return list(pending.values())


def _chain_of(facts: Mapping[str, StageFacts], fact: StageFacts) -> list[StageFacts]:
    """Return a stage after all incomplete stages that it needs."""
    lacking = [facts[key] for key in fact.upstreams if facts[key].state != "complete"]
    return [*(each for upstream in lacking for each in _chain_of(facts, upstream)), fact]


def list_stages(store: Store) -> list[dict[str, str]]:
    """Return study, key, state, title and reason of every stage; those in no study, "", are finished ones."""
    listed = [
        {"study": name, "key": fact.key, "state": fact.state, "title": fact.title, "reason": fact.reason}
        for name in store.list_studies()
        for fact in read_facts(store, store.load_study(name)).values()
    ]
    known = {each["key"] for each in listed}
    others = [key for key in store.list_keys() if key not in known]  # of searches and of trainables
    for key, record in sorted(store.scan(_read_or_explain, others), key=lambda pair: pair[0]):
        if isinstance(record, Record):
            title = f"{record.kind} seed {record.stage['seed']}"
            listed.append({"study": "", "key": key, "state": record.state, "title": title, "reason": ""})
        elif record is not None:
            unreadable = {"state": "missing", "title": "unreadable", "reason": record}
            listed.append({"study": "", "key": key, **unreadable})
    return listed


def _read_or_explain(store: Store, key: str) -> Record | str | None:
    """Return a record, why it cannot be read, or None if there is none."""
    try:
        return store.read_record(key)
    except StoreError as error:
        return str(error)
