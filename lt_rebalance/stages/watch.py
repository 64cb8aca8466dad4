"""Where a trial reports. No torch here: the process of a sweep hands it to the trials."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lt_rebalance.monitoring.tensorboard.naming import EventRun


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What a trial needs in order to report."""

    driver: str = ""
    """name of the note of the main process"""
    runs: Mapping[str, EventRun] = field(default_factory=dict)
    """by key of a stage, the run of its events; without one it has no events"""

    def of(self, keys: Iterable[str]) -> "Watch":
        """Return what a trial of these stages needs."""
        return dataclasses.replace(self, runs={key: self.runs[key] for key in keys})

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Watch":
        """Return what `to_dict` described."""
        runs = {key: EventRun.from_dict(run) for key, run in values["runs"].items()}
        return cls(driver=values["driver"], runs=runs)
