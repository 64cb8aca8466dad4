"""Forecast a search and its maximum cost: nothing is written, and at most a few steps are trained."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lt_rebalance.cluster.resources import Resources
from lt_rebalance.ground.text import format_duration
from lt_rebalance.search.account import SearchBudget
from lt_rebalance.search.files import describe_search
from lt_rebalance.search.search import OBJECTIVES, Search
from lt_rebalance.stages.arithmetic import Throughput
from lt_rebalance.store import Store
from lt_rebalance.store.account_values import TRIAL_STATES
from lt_rebalance.studies.plan import chain_of
from lt_rebalance.studies.stage import AnyStage
from lt_rebalance.studies.study import Cell
from lt_rebalance.training.device import count_gpus

Comparison = Callable[[str, str], Sequence[str]]
"""from the location of a store and the name of a study to lines that compare its two cells"""


@dataclass(frozen=True, kw_only=True)
class SearchForecast:
    """A search that is only planned."""

    search: Search
    budget: SearchBudget
    resources: Resources
    confirm_seeds: int
    store: Store | None
    """None if there is none yet"""
    retry_failed: bool
    """whether failed trials are to be retried"""

    def show(self, hourly_rate: float | None, *, as_json: bool) -> int:
        """Print it and return 0."""
        answer = self.describe(hourly_rate)
        if as_json:
            print(json.dumps(answer, indent=2))
            return 0
        search = self.search
        print(f"{search.name}: tunes the {search.component} of {search.base}, {search.budget}")
        for name, domain in search.space.items():
            print(f"  {name}: {domain}; untuned {search.untuned[name]}")
        print(f"objectives: {'; '.join(OBJECTIVES[name].label for name in search.objectives)}")
        print(f"seeds: {', '.join(map(str, search.seeds))}; measured after rounds {answer['rung_rounds']}")
        print(f"budget: {self.budget}; {answer['num_slots']} trials at a time")
        print(f"confirmation: {self.confirm_seeds} fresh seeds, at most {answer['max_lanes']} in one trial")
        states = " ".join(f"{state}={count}" for state, count in answer["trials"].items())
        print(f"trials so far: {states}; to retry: {answer['to_try_again']}")
        if (hours := answer["device_hours_at_most"]) is None:
            print("device time: not known here; it needs a GPU to measure on")
        else:
            price = "" if hourly_rate is None else f"; price {answer['price_at_most']:.2f}"
            print(f"device time in total, at most about {format_duration(3600 * hours)}{price}")
        return 0

    def describe(self, hourly_rate: float | None) -> dict[str, Any]:
        """Return it as plain JSON values."""
        states = self._count_states()
        hours = self._device_hours_at_most()
        answer = describe_search(self.search) | {
            "name": self.search.name,
            "budget": dataclasses.asdict(self.budget),
            "num_slots": self.resources.num_slots,
            "devices_per_trial": self.resources.num_devices,
            "max_lanes": self.resources.max_lanes,
            "confirm_seeds": self.confirm_seeds,
            "trials": states,
            "to_try_again": states["failed"] if self.retry_failed else 0,
            "device_hours_at_most": hours,
        }
        if hourly_rate is not None:
            answer["price_at_most"] = None if hours is None else hours * hourly_rate
        return answer

    def _count_states(self) -> dict[str, int]:
        kept: Mapping[str, Any] = {}
        if self.store is not None and self.search.name in self.store.list_searches():
            kept = self.store.load_search(self.search.name)
        found = Counter(trial["state"] for trial in kept.get("trials", ()))
        return {state: found[state] for state in TRIAL_STATES}

    def _device_hours_at_most(self) -> float | None:
        """Return the device time if no trial is stopped early; None if nothing can be measured."""
        search = self.search
        if search.execution.device != "cpu" and not count_gpus():
            return None
        throughput = Throughput()
        trial = self._stages_of_a_trial()
        trial_s = _add_up(throughput, trial)
        # Measuring a trial takes steps too, so this number of trials is never exceeded.
        assert search.budget.steps is not None
        trial_steps = search.budget.steps * len(search.seeds)
        # Trials that run when a budget of steps or minutes is spent are finished.
        overrun_s = self.resources.num_slots * trial_s
        bounds = []
        if self.budget.trials is not None:
            bounds.append(self.budget.trials * trial_s)
        if self.budget.steps is not None:
            bounds.append(self.budget.steps / trial_steps * trial_s + overrun_s)
        if self.budget.minutes is not None:
            bounds.append(60 * self.budget.minutes + overrun_s)
        confirmation_s = 2 * self.confirm_seeds * _add_up(throughput, self._stages_of_a_run(search.base))
        return (min(bounds) + confirmation_s) * self.resources.num_devices / 3600

    def _stages_of_a_trial(self) -> list[AnyStage]:
        """Return the stages of a full trial: the tuned training, and those that measure it at every rung."""
        ladder = self.search.ladder(self.search.untuned)
        measuring = [stage for rung in ladder for group in rung.groups[1:] for stage in group]
        return [*ladder[-1].groups[0], *measuring]

    def _stages_of_a_run(self, cell: Cell) -> list[AnyStage]:
        return chain_of(cell.stage(0, self.search.execution))


def _add_up(throughput: Throughput, stages: list[AnyStage]) -> float:
    """Return the seconds of stages in sequence, timed here if their kind has no known speed."""
    for stage in stages:
        throughput.calibrate(stage)
    return sum(throughput.seconds(stage) or 0.0 for stage in stages)
