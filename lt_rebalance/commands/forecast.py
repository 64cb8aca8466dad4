"""Forecast a job: its speed here, time, device time and price, by stage, cell and method."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lt_rebalance.cluster.resources import Resources
from lt_rebalance.ground.interrupts import InterruptWatch
from lt_rebalance.ground.own_file import find_place
from lt_rebalance.ground.plain import to_plain
from lt_rebalance.ground.text import format_duration
from lt_rebalance.monitoring.estimates import (
    Spending,
    add_up,
    spending_by_cell,
    spending_by_kind,
    sum_spending,
)
from lt_rebalance.monitoring.facts import RUN_STATES
from lt_rebalance.stages.arithmetic import Remaining, Throughput, stage_flop
from lt_rebalance.store import Store
from lt_rebalance.store.study_document import StudyDocument
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import Plan, chain_of, describe_plan
from lt_rebalance.studies.stage import AnyStage
from lt_rebalance.training.device import count_gpus

PLANNED_KINDS = ("generator", "classifier")
LEAST_FLOP_TO_FORECAST = 2e12
"""work of some ten seconds on one core: whatever is less has ended before its forecast is of use"""
Answer = Callable[[str, str, int], tuple[str, str]]
"""From the location of a store, the name of a study in it and the line width to text and CSV."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The work of a command, after all its input has been checked."""

    question: str
    """the question of the sweep, in one line"""
    confirmatory: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    registered: Mapping[str, Any] | None = None
    """as in `StudyDocument`, as are the two before"""
    ledger: Ledger
    store: Store | None
    """None if there is none, and only a plan is requested"""
    resources: Resources
    seeds_option: str = "--seeds"
    """the option that grows the study"""
    most_seeds: float = math.inf
    """seeds to which it may grow"""
    answer: Answer | None = None
    """what the run prints at its end, in addition to the account of its runs"""


def describe_study(job: Job) -> StudyDocument:
    """Return the document of a study for the store: its plan and its number of slots."""
    plan = job.ledger.plan
    flop = {key: stage_flop(stage) for key, stage in plan.stages.items()}
    return dataclasses.replace(
        describe_plan(plan, job.question, flop),
        confirmatory=job.confirmatory,
        changes=job.changes,
        registered=job.registered,
        num_slots=job.resources.num_slots,
        devices_per_slot=job.resources.num_devices,
    )


def measure_unknown(throughput: Throughput, pending: Mapping[str, AnyStage]) -> None:
    """Time a few steps of kinds of stages without known speed, if that needs no GPU memory.

    Nothing is timed for work below `LEAST_FLOP_TO_FORECAST`.

    Raises:
        Interrupted: a signal asked for it.
    """
    if sum(map(stage_flop, pending.values())) < LEAST_FLOP_TO_FORECAST:
        return
    with InterruptWatch() as interrupts:
        for stage in pending.values():
            if stage.execution.device == "cpu":
                try:
                    throughput.calibrate(stage)
                except Exception as error:
                    if find_place(error) is None:
                        raise
                    return  # the stage will raise it again in its worker, which records it
            interrupts.check()


def expect(throughput: Throughput, pending: Mapping[str, AnyStage]) -> dict[str, float]:
    """Return, by kind of stage, the expected seconds per floating-point operation in training.

    Estimates use it until stages of that kind are finished.
    """
    expected = {}
    for stage in pending.values():
        if stage.kind not in expected and (seconds := throughput.seconds(stage)) is not None:
            expected[stage.kind] = seconds / stage_flop(stage)
    return expected


def learn_throughput(ledger: Ledger) -> Throughput:
    """Return the speed of the finished stages of a plan."""
    throughput = Throughput()
    for key, record in ledger.records.items():
        throughput.observe_record(ledger.plan.stages[key], record)
    return throughput


def show_plan(job: Job, hourly_rate: float | None, *, as_json: bool) -> int:
    """Print the pending work, its cost and its time, timed here if the store has no times; return 0."""
    ledger, resources = job.ledger, job.resources
    spent_s = {key: record.timing.charged_s for key, record in ledger.records.items()}
    pending = ledger.pending()
    if not as_json:  # before torch is imported to measure a speed that is not known
        _show_runs(ledger, pending)
    throughput = learn_throughput(ledger)
    if ledger.plan.execution.device == "cpu" or count_gpus():
        for stage in pending.values():
            throughput.calibrate(stage)
    remaining = Remaining(pending)
    eta_s = remaining.seconds(throughput, resources.num_slots, {})
    seconds = {key: throughput.seconds_of(*work) for key, work in remaining.works.items()}
    total_s = sum(each or 0.0 for each in seconds.values())
    num_devices = resources.num_devices
    left_s = {key: None if each is None else each * num_devices for key, each in seconds.items()}
    costs = _estimate_costs(ledger.plan, spent_s, left_s)
    answer = {
        "study": ledger.plan.study.name,
        "runs": {
            "planned": len(ledger.plan.runs),
            **{state: ledger.count_runs()[state] for state in RUN_STATES},
        },
        "stages": _count_to_run(ledger, pending),
        "execution": to_plain(ledger.plan.execution),
        "num_slots": resources.num_slots,
        "max_lanes": resources.max_lanes,
        "flop": sum(flop for _, flop in remaining.works.values()),
        "device_hours": None if eta_s is None else total_s * num_devices / 3600,
        "eta_s": eta_s,
        "costs": {
            axis: {name: each.to_dict(hourly_rate) for name, each in of_axis.items()}
            for axis, of_axis in costs.items()
        },
    }
    if as_json:
        print(json.dumps(answer, indent=2))
        return 0
    print(f"arithmetic: {answer['flop'] / 1e15:.3g} PFLOP in {ledger.plan.execution.precision}")
    if eta_s is None:
        print("time: not known here; it needs a finished run in the store, or a GPU to measure on")
    else:
        total, left, slots = format_duration(total_s), format_duration(eta_s), resources.num_slots
        print(f"time: {total} of one {ledger.plan.execution.device} slot, about {left} on {slots}")
    print(f"seeds per trial: at most {resources.max_lanes}")
    for axis, of_axis in costs.items():
        for name, each in of_axis.items():
            print(f"device time, {axis} {name}: {each.describe(hourly_rate)}")
    return 0


def _count_to_run(ledger: Ledger, pending: Mapping[str, AnyStage]) -> dict[str, dict[str, int]]:
    """Return how many stages of each kind are planned, and how many are to run."""
    planned, to_run = ledger.plan.count_stages(), Counter(stage.kind for stage in pending.values())
    kinds = dict.fromkeys((*PLANNED_KINDS, *planned))
    return {kind: {"planned": planned[kind], "to_run": to_run[kind]} for kind in kinds}


def _show_runs(ledger: Ledger, pending: Mapping[str, AnyStage]) -> None:
    study = ledger.plan.study
    print(f"{study.name}: {ledger.summary()}")
    print(f"cells: {len(study.cells)}, seeds: {len(study.seeds)}; what is complete is not run again")
    for kind, counts in _count_to_run(ledger, pending).items():
        print(f"{kind} runs: {counts['planned']} planned, {counts['to_run']} to run", flush=True)


def _estimate_costs(
    plan: Plan, spent_s: Mapping[str, float], left_s: Mapping[str, float | None]
) -> dict[str, dict[str, Spending]]:
    """Return device time spent and left by kind of stage, by method and by cell, and in total."""
    cells = plan.study.cells
    places = {id(cell): place for place, cell in enumerate(cells)}
    runs = [(places[id(run.cell)], [stage.key for stage in chain_of(run.stage)]) for run in plan.runs]
    has_several_sets = len({cell.data.dataset for cell in cells}) > 1
    names = [f"{cell.data.dataset} {cell}" if has_several_sets else str(cell) for cell in cells]
    by_cell = spending_by_cell(len(cells), runs, spent_s, left_s)
    return {
        "stage": spending_by_kind({key: stage.kind for key, stage in plan.stages.items()}, spent_s, left_s),
        "cell": add_up(by_cell, names),
        "method": add_up(by_cell, [cell.method_label for cell in cells]),
        "in": {"all": sum_spending(spent_s, left_s)},
    }
