"""What a stage costs: its arithmetic, throughput measured, time left estimated.

No torch, but where a network must be counted or a speed be measured.
"""

import statistics
from collections.abc import Mapping

from lt_rebalance.stages.kinds import KINDS
from lt_rebalance.store.records import Record
from lt_rebalance.studies.plan import upstream_key
from lt_rebalance.studies.stage import AnyStage
from lt_rebalance.studies.workload import stage_batching, stage_round_ends


def stage_flop(stage: AnyStage) -> float:
    """Return the floating-point operations of a stage, but for drawing synthetic images."""
    kind, round_ends = KINDS[stage.kind], stage_round_ends(stage)
    flop = kind.image_flop(stage) * stage_batching(stage).images_seen(round_ends[-1])
    return flop + kind.measuring_flop(stage) * len(round_ends)


class Throughput:
    """How fast stages of each kind train here, in FLOP/s, from what has been observed of them."""

    def __init__(self) -> None:
        self._observed: dict[str, dict[str, float]] = {}

    def observe(self, stage: AnyStage, share: float, train_s: float) -> None:
        """Learn that this share of a stage took so many seconds."""
        if share > 0 and train_s > 0:
            self._observed.setdefault(stage.kind, {})[stage.key] = share * stage_flop(stage) / train_s

    def observe_record(self, stage: AnyStage, record: Record) -> None:
        """Learn from a finished stage; one that diverged on the way says nothing."""
        if record.state == "complete":
            self.observe(stage, 1.0, record.timing.train_s)

    def calibrate(self, stage: AnyStage) -> None:
        """Measure a few training steps of a stage on made-up images, unless its kind is known already."""
        if stage.kind not in self._observed:
            self._observed[stage.kind] = {stage.key: _measure(stage)}

    def seconds(self, stage: AnyStage) -> float | None:
        """Return how long a stage will train, going by the other kind until its own has been observed.

        None while nothing at all is known.
        """
        observed = self._observed.get(stage.kind) or next(iter(self._observed.values()), None)
        return stage_flop(stage) / statistics.median(observed.values()) if observed else None


def _measure(stage: AnyStage) -> float:
    """Return the FLOP/s of a few training steps of a stage."""
    from lt_rebalance.stages.calibration import measure_image_s

    image_flop = KINDS[stage.kind].image_flop(stage)
    return image_flop / measure_image_s(stage, image_flop)


def estimate_remaining_s(
    pending: Mapping[str, AnyStage], throughput: Throughput, num_slots: int, done_shares: Mapping[str, float]
) -> float | None:
    """Return how long the pending stages take on so many slots, or None while that is not known.

    Args:
        done_shares: how much of a stage that is under way is done, by key; others have not begun.
    """
    seconds: dict[str, float] = {}
    for key, stage in pending.items():
        full_s = throughput.seconds(stage)
        if full_s is None:
            return None
        seconds[key] = full_s * (1 - done_shares.get(key, 0.0))
    chains = (seconds[key] + seconds.get(upstream_key(stage) or "", 0.0) for key, stage in pending.items())
    # Never less than the longest chain, however many slots there are.
    return max(sum(seconds.values()) / num_slots, max(chains, default=0.0))
