"""The schedule hands out what the plain definition of it does, on graphs drawn at random."""

import random

import pytest

from lt_rebalance.studies.plan import Schedule
from lt_rebalance.studies.stage import AnyStage
from tests.studies.chains import draw_stages, list_behind, make_later, make_stage


def is_run(stage: AnyStage) -> bool:
    return stage.kind == "classifier"


class PlainSchedule:
    """The definition: a run where none is at work, else the longest chain; then its other seeds."""

    def __init__(self, costs: dict[AnyStage, float]) -> None:
        self._costs = costs
        self._stages = list(costs)
        self._done: list[AnyStage] = []
        self._running: list[AnyStage] = []
        self._ready = [stage for stage in costs if not self._waits(stage)]

    def _waits(self, stage: AnyStage) -> bool:
        others = [other for other in self._stages if other not in self._done]
        return any(stage in list_behind(other, self._stages) for other in others)

    def _chain_cost(self, stage: AnyStage) -> float:
        behind = [self._chain_cost(after) for after in list_behind(stage, self._stages)]
        return self._costs[stage] + max(behind, default=0)

    def next_ready(self, max_lanes: int) -> list[AnyStage]:
        order = sorted(self._ready, key=lambda each: (-self._chain_cost(each), self._stages.index(each)))
        runs = sorted(filter(is_run, self._ready), key=self._stages.index)
        begun = any(map(is_run, self._running))
        first = [each.with_seed(0) for each in (order if begun or not runs else runs)[:1]]
        lanes = [stage for stage in order if stage.with_seed(0) in first][:max_lanes]
        self._ready = [stage for stage in self._ready if stage not in lanes]
        self._running += lanes
        return lanes

    def finish(self, stage: AnyStage, *, releases: bool) -> None:
        self._running.remove(stage)
        if releases:
            self._done.append(stage)
            behind = list_behind(stage, self._stages)
            self._ready += [each for each in behind if not self._waits(each)]

    @property
    def num_ready(self) -> int:
        return len(self._ready)


@pytest.mark.parametrize("max_lanes", [1, 2, 8])
@pytest.mark.parametrize("seed", range(15))
def test_schedule_hands_out_what_its_definition_does(seed: int, max_lanes: int) -> None:
    rng = random.Random(seed)
    costs: dict[AnyStage, float] = {stage: rng.randrange(1, 4) for stage in draw_stages(rng)}
    plain = PlainSchedule(costs)
    schedule = Schedule({stage.key: stage for stage in costs}, costs.__getitem__)
    running: list[AnyStage] = []
    begun: list[AnyStage] = []
    while not schedule.is_exhausted:
        assert schedule.num_ready == plain.num_ready
        if rng.random() < 0.6 and len(running) < 6:
            started = schedule.next_ready(max_lanes)
            assert started == plain.next_ready(max_lanes)
            running += started
            begun += started
        elif running:
            ended = running.pop(rng.randrange(len(running)))
            releases = rng.random() < 0.8
            schedule.finish(ended.key, releases=releases)
            plain.finish(ended, releases=releases)
    assert plain.num_ready == 0 and not running
    assert len(begun) == len(set(begun))


def test_schedule_begins_with_the_longest_chain_of_three_links_beside_a_run() -> None:
    run, single = make_stage(0, batch_size=11), make_stage(0, batch_size=10)
    first = make_stage(1)
    second = make_later(first, 20)
    third = make_later(second, 30)
    # 3 alone, against 1 + 1 + 2 behind one another.
    costs: dict[AnyStage, float] = {run: 1, single: 3, first: 1, second: 1, third: 2}
    schedule = Schedule({stage.key: stage for stage in costs}, costs.__getitem__)
    assert schedule.next_ready() == [run]
    assert schedule.next_ready() == [first]
    schedule.finish(first.key, releases=True)
    assert schedule.next_ready() == [single]  # 3 against 1 + 2: the order of the plan decides
    assert schedule.next_ready() == [second]
