"""Train the lanes of one configuration, round by round, in as few programs as possible."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import nn

from lt_rebalance.training.lane import Lane, TrainingState, next_lanes
from lt_rebalance.training.stacks import FORMS, Fusion, LaneStack

LaneT = TypeVar("LaneT", bound=Lane)
ProgramT = TypeVar("ProgramT")


class Training(ABC, Generic[LaneT, ProgramT]):
    """Lanes of one configuration, one lane a seed, trained round by round.

    The host waits for the device once per round. The data that a lane sees do not depend on other lanes.
    Neither do its bits if it is alone in its program; otherwise its values agree within rounding.
    """

    def __init__(self, lanes: Sequence[LaneT], fusion: Fusion) -> None:
        self.lanes = lanes
        """in the order of their seeds"""
        self.fusion = fusion
        self._programs: dict[tuple[LaneT, ...], ProgramT] = {}

    @abstractmethod
    def _build_program(self, lanes: Sequence[LaneT]) -> ProgramT:
        """Fuse lanes that are at the same round."""

    @abstractmethod
    def _train_round(self, lanes: Sequence[LaneT], program: ProgramT, steps: range) -> None:
        """Train a round, test, and add its row to every lane or mark the lane as diverged.

        The lanes already count the round as finished when this is called.
        """

    @abstractmethod
    def get_lane_state(self, lane: LaneT) -> TrainingState:
        """Return the state that a lane needs to resume, except its progress fields."""

    @abstractmethod
    def _set_lane_state(self, lane: LaneT, state: TrainingState) -> None: ...

    def set_lane_state(self, lane: LaneT, state: TrainingState) -> None:
        """Restore what `get_lane_state` returned."""
        self._drop_programs_of([lane])
        self._set_lane_state(lane, state)

    def run_round(self) -> Sequence[LaneT]:
        """Train the lanes with the fewest rounds for one more round; return those lanes."""
        lanes = next_lanes(self.lanes)
        for group in group_lanes(lanes, self.fusion.max_lanes):
            start = time.perf_counter()
            steps = range(group[0].step, group[0].round_ends[group[0].round])
            program = self._program(group)
            for lane in group:
                lane.step = steps.stop
                lane.round += 1
            self._train_round(group, program, steps)
            train_s = time.perf_counter() - start
            for lane in group:
                lane.train_s += train_s / len(group)
        return lanes

    def _program(self, lanes: Sequence[LaneT]) -> ProgramT:
        members = tuple(lanes)
        if members not in self._programs:
            self._drop_programs_of(lanes)
            self._programs[members] = self._build_program(lanes)
        return self._programs[members]

    def _drop_programs_of(self, lanes: Sequence[LaneT]) -> None:
        """Drop the programs whose tensors these lanes will no longer view."""
        self._programs = {
            members: program
            for members, program in self._programs.items()
            if not set(lanes).intersection(members)
        }

    def stack(self, networks: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer]) -> LaneStack:
        """Return a stack of several lanes in the form of this training; a single lane needs no stack."""
        form = FORMS["separate"] if len(networks) == 1 else FORMS[self.fusion.form]
        return form(networks, optimizers)


def group_lanes(lanes: Sequence[LaneT], max_lanes: int) -> list[list[LaneT]]:
    """Split lanes into groups with training sets of one size and a maximum number of lanes."""
    by_size: dict[int, list[LaneT]] = {}
    for lane in lanes:
        by_size.setdefault(len(lane.training_set), []).append(lane)
    return [
        group[first : first + max_lanes]
        for group in by_size.values()
        for first in range(0, len(group), max_lanes)
    ]
