"""What is left, kept up to date stage by stage, is what adding it all up again gives."""

import random

import pytest

from lt_rebalance.stages.arithmetic import Median, Remaining, Throughput
from lt_rebalance.stages.kinds import KINDS
from lt_rebalance.studies.stage import AnyStage
from tests.studies.chains import LaterStage, draw_stages, list_behind, make_stage


@pytest.fixture(autouse=True)
def _kind_of_later_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, LaterStage.kind, KINDS["classifier"])


def drop(stage: AnyStage, pending: list[AnyStage]) -> None:
    """Take a stage out of what is pending, with all that builds on it."""
    for after in list_behind(stage, pending):
        drop(after, pending)
    if stage in pending:  # else dropped with another that it builds on
        pending.remove(stage)


def add_up(
    pending: list[AnyStage], throughput: Throughput, num_slots: int, done_shares: dict[str, float]
) -> float:
    """Return the time left by its definition: all work over the slots, but no less than the longest chain."""

    def left_s(stage: AnyStage) -> float:
        seconds = throughput.seconds(stage)
        assert seconds is not None
        return seconds * (1 - done_shares.get(stage.key, 0.0))

    def chain_s(stage: AnyStage) -> float:
        return left_s(stage) + max((chain_s(after) for after in list_behind(stage, pending)), default=0.0)

    work_s = sum(left_s(stage) for stage in pending) / num_slots
    return max(work_s, max((chain_s(stage) for stage in pending), default=0.0))


@pytest.mark.parametrize("num_slots", [1, 3, 100])
@pytest.mark.parametrize("seed", range(10))
def test_remaining_after_any_ends_is_what_is_added_up_anew(seed: int, num_slots: int) -> None:
    rng = random.Random(seed)
    pending = draw_stages(rng)
    throughput = Throughput()
    remaining = Remaining({stage.key: stage for stage in pending})
    assert remaining.seconds(throughput, num_slots, {}) is None
    while pending:
        keys = {stage.key for stage in pending}
        first = [stage for stage in pending if keys.isdisjoint(each.key for each in stage.upstreams)]
        ended = rng.choice(first)
        throughput.observe(ended, 1.0, rng.uniform(1, 9))
        releases = rng.random() < 0.7
        remaining.finish(ended.key, releases=releases)
        if releases:
            pending.remove(ended)
        else:
            drop(ended, pending)
        assert len(remaining) == len(pending)
        shares = {stage.key: rng.random() for stage in first if stage in pending and rng.random() < 0.5}
        expected_s = add_up(pending, throughput, num_slots, shares)
        assert remaining.seconds(throughput, num_slots, shares) == pytest.approx(expected_s)
        by_key = {stage.key: stage for stage in pending}
        assert Remaining(by_key).seconds(throughput, num_slots, shares) == pytest.approx(expected_s)


def test_remaining_passes_over_the_end_of_what_was_not_pending() -> None:
    stage, other = make_stage(0), make_stage(1)
    remaining = Remaining({stage.key: stage})
    remaining.finish(other.key, releases=True)
    assert len(remaining) == 1


def test_median_follows_values_that_come_and_change() -> None:
    rng = random.Random(0)
    median, values = Median(), {}
    for _ in range(200):
        key = str(rng.randrange(40))
        values[key] = float(rng.randrange(6))
        median.set(key, values[key])
        ordered = sorted(values.values())
        middle = len(ordered) // 2
        expected = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
        assert median.get() == expected
