"""The account of a search: every trial with its values, its rungs and its end, and the choice among them."""

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lt_rebalance.store.account_values import TRIAL_STATES

MAX_FAILED = 10
"""trials in a row without any rung that end a search which has no limit in trials: they spend nothing"""


@dataclass(frozen=True, kw_only=True)
class RungResult:
    """The result of a trial at a rung."""

    round: int
    num_steps: int
    """steps of the tuned training so far, of one seed"""
    scores: Mapping[str, tuple[float, ...]]
    """by objective, one value per seed"""
    total_steps: int
    """steps of all trainings of the trial so far, over seeds"""
    train_s: float
    """seconds spent in them"""
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """the values that the trial was trained with since the previous rung, if they change; else empty"""

    def mean(self, objective: str) -> float:
        """Return the mean of an objective over seeds."""
        return statistics.fmean(self.scores[objective])

    def sd(self, objective: str) -> float | None:
        """Return the standard deviation of an objective over seeds, None for one seed."""
        values = self.scores[objective]
        return statistics.stdev(values) if len(values) > 1 else None

    def to_plain(self) -> dict[str, Any]:
        """Return the result as plain JSON values, with mean and standard deviation."""
        scores = {
            name: {"mean": self.mean(name), "sd": self.sd(name), "by_seed": list(values)}
            for name, values in self.scores.items()
        }
        return dataclasses.asdict(self) | {"scores": scores}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "RungResult":
        """Return the result that `to_plain` described."""
        scores = {name: tuple(score["by_seed"]) for name, score in values["scores"].items()}
        return cls(**{**values, "scores": scores})


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One configuration of a search."""

    number: int
    values: Mapping[str, Any]
    state: str
    """"complete"; "pruned", stopped at a rung for being worse; "diverged", a loss was not finite at some
    seed; "failed", by an error; "running", also when the search was stopped"""
    reason: str = ""
    """why it failed"""
    rungs: tuple[RungResult, ...] = ()
    retry_of: int | None = None
    """the failed trial that it repeats"""

    def __post_init__(self) -> None:
        assert self.state in TRIAL_STATES, self.state

    @property
    def total_steps(self) -> int:
        """Optimizer steps of all its trainings."""
        return self.rungs[-1].total_steps if self.rungs else 0

    @property
    def train_s(self) -> float:
        """Seconds spent in its trainings."""
        return self.rungs[-1].train_s if self.rungs else 0.0

    def to_plain(self) -> dict[str, Any]:
        """Return the trial as plain JSON values."""
        return dataclasses.asdict(self) | {"rungs": [rung.to_plain() for rung in self.rungs]}


@dataclass(frozen=True, kw_only=True)
class SearchBudget:
    """When a search stops starting trials; running trials are finished."""

    trials: int | None = None
    """number of trials, except repetitions of failed ones"""
    steps: int | None = None
    """optimizer steps of all trainings of all trials"""
    minutes: float | None = None
    """minutes of training, summed over concurrent trials"""

    def __post_init__(self) -> None:
        limits = dataclasses.asdict(self)
        for name, limit in limits.items():
            if limit is not None and not 0 < limit < math.inf:
                raise ValueError(f"a budget in {name} must be above 0 and finite, got {limit}")
        if not any(limits.values()):
            raise ValueError("a search needs a budget in trials, steps or minutes")

    def __str__(self) -> str:
        limits = {name: limit for name, limit in dataclasses.asdict(self).items() if limit is not None}
        return " or ".join(f"{limit:,} {name}" for name, limit in limits.items())

    def is_spent(self, trials: Sequence[Trial]) -> bool:
        """Whether these trials reach any of the limits, or would never reach one."""
        spent = {
            "trials": sum(trial.retry_of is None for trial in trials),
            "steps": sum(trial.total_steps for trial in trials),
            "minutes": sum(trial.train_s for trial in trials) / 60,
        }
        limits = dataclasses.asdict(self)
        is_reached = any(limit is not None and spent[name] >= limit for name, limit in limits.items())
        return is_reached or self.is_out_of_reach(trials)

    def is_out_of_reach(self, trials: Sequence[Trial]) -> bool:
        """Whether trials are not limited in number, and the last `MAX_FAILED` have spent nothing."""
        last = [trial for trial in trials if trial.state != "running"][-MAX_FAILED:]
        return self.trials is None and len(last) == MAX_FAILED and not any(trial.rungs for trial in last)


def choose(trials: Sequence[Trial], objective: str) -> Trial | None:
    """Return the complete trial with the best mean at its last rung, or None; the first of equals."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return max(complete, key=lambda trial: (trial.rungs[-1].mean(objective), -trial.number), default=None)


def pareto_front(trials: Sequence[Trial], objectives: Sequence[str]) -> list[Trial]:
    """Return the Pareto front: complete trials that no other one dominates."""
    complete = [trial for trial in trials if trial.state == "complete"]
    means = [[trial.rungs[-1].mean(name) for name in objectives] for trial in complete]
    return [
        trial
        for trial, own in zip(complete, means, strict=True)
        if not any(other != own and all(b >= a for a, b in zip(own, other, strict=True)) for other in means)
    ]


def summary(trials: Sequence[Trial]) -> str:
    """Return the line that accounts for every trial."""
    counts = Counter(trial.state for trial in trials)
    return f"trials={len(trials)} " + " ".join(f"{state}={counts[state]}" for state in TRIAL_STATES)
