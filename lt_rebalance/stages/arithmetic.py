"""The cost of stages: arithmetic, measured throughput, estimated time left.

Torch is imported only to count a network or to measure a speed.
"""

import bisect
import statistics
from collections import Counter
from collections.abc import Mapping

from lt_rebalance.stages.kinds import KINDS
from lt_rebalance.store.records import Record
from lt_rebalance.studies.keys import lanes_of
from lt_rebalance.studies.plan import group_by_upstream, list_twins, list_upstreams
from lt_rebalance.studies.stage import AnyStage, GeneratorStage
from lt_rebalance.studies.workload import counts_seed, stage_batching, stage_round_ends

_FLOP: dict[str, dict[int, float]] = {}
"""results of `stage_flop`, by the shared parts of all seeds of a stage and the counts that depend on the
seed"""


def stage_flop(stage: AnyStage) -> float:
    """Return the floating-point operations of a stage, without drawing synthetic images."""
    of_seeds = _FLOP.setdefault(lanes_of(stage), {})
    seed = counts_seed(stage)
    if seed not in of_seeds:
        of_seeds[seed] = _count_flop(stage)
    return of_seeds[seed]


def _count_flop(stage: AnyStage) -> float:
    kind, round_ends = KINDS[stage.kind], stage_round_ends(stage)
    flop = kind.image_flop(stage) * stage_batching(stage).images_seen(round_ends[-1])
    return flop + kind.measuring_flop(stage) * len(round_ends)


class Median:
    """The median of values by key, with cheap changes and additions."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._sorted: list[float] = []

    def set(self, key: str, value: float) -> None:
        """Add a value, or replace that of the same key."""
        if (earlier := self._values.get(key)) is not None:
            del self._sorted[bisect.bisect_left(self._sorted, earlier)]
        self._values[key] = value
        bisect.insort(self._sorted, value)

    def get(self) -> float:
        """Return the median of at least one value."""
        middle = len(self._sorted) // 2
        return statistics.median(self._sorted[middle - 1 + len(self._sorted) % 2 : middle + 1])


def _name_work(kind: str) -> str:
    """Return what a kind of stage trains: stages that train the same are equally fast."""
    return "generator" if kind == GeneratorStage.kind else "classifier"


class Throughput:
    """The speed of training generators and classifiers here, in FLOP/s, from observations."""

    def __init__(self) -> None:
        self._observed: dict[str, Median] = {}

    def observe(self, stage: AnyStage, share: float, train_s: float) -> None:
        """Observe the seconds of a share of a stage; a stage without steps is ignored."""
        if share > 0 and train_s > 0 and stage_round_ends(stage)[-1]:
            flop_per_s = share * stage_flop(stage) / train_s
            self._observed.setdefault(_name_work(stage.kind), Median()).set(stage.key, flop_per_s)

    def observe_record(self, stage: AnyStage, record: Record) -> None:
        """Observe a finished stage; one that diverged is ignored."""
        if record.state == "complete":
            self.observe(stage, 1.0, record.timing.train_s)

    def calibrate(self, stage: AnyStage) -> None:
        """Measure a few training steps of a stage on artificial images, unless their speed is known."""
        if _name_work(stage.kind) not in self._observed and stage_round_ends(stage)[-1]:
            flop_per_s = _measure(stage)
            self._observed.setdefault(_name_work(stage.kind), Median()).set(stage.key, flop_per_s)

    def seconds(self, stage: AnyStage) -> float | None:
        """Return the training time of a stage, at the speed of the other work until its own is observed.

        None if nothing is known.
        """
        return self.seconds_of(stage.kind, stage_flop(stage))

    def seconds_of(self, kind: str, flop: float) -> float | None:
        """Return the same of a stage of this kind and arithmetic."""
        observed = self._observed.get(_name_work(kind)) or next(iter(self._observed.values()), None)
        return None if observed is None else flop / observed.get()


def _measure(stage: AnyStage) -> float:
    """Return the FLOP/s of a few training steps of a stage."""
    from lt_rebalance.stages.calibration import measure_image_s

    image_flop = KINDS[stage.kind].image_flop(stage)
    return image_flop / measure_image_s(stage, image_flop)


Work = tuple[str, float]
"""kind and arithmetic of a stage, which determine its time"""


class Remaining:
    """Stages that are still to run, and their total time.

    The cost of its operations depends on the number of different amounts of work, not on the number of
    stages. Stages have one shape if they and all stages that build on them have the same work to do.
    """

    def __init__(self, pending: Mapping[str, AnyStage]) -> None:
        """Begin with these stages; a stage that they build on is one of them, or done."""
        come_along = list_twins(pending)
        self.works: dict[str, Work] = {
            key: (stage.kind, 0.0 if key in come_along else stage_flop(stage))
            for key, stage in pending.items()
        }
        """of each stage, by key; none of a representation that a classifier trains as well"""
        self._num_works = Counter(self.works.values())
        self._after = group_by_upstream(pending)
        self._num_awaited = Counter({key: len(each) for key, each in list_upstreams(pending).items()})
        self._shapes: dict[tuple[Work, frozenset[int]], int] = {}
        """shapes by number, each after those that build on it"""
        self._shape_of: dict[str, int] = {}
        first = self._after.pop(None, [])
        self._num_first = Counter(self._find_shape(key) for key in first)
        """number of stages of each shape that are ready"""
        self._first = set(first)

    def _find_shape(self, key: str) -> int:
        behind = frozenset(self._find_shape(after) for after in self._after.get(key, ()))
        self._shape_of[key] = self._shapes.setdefault((self.works[key], behind), len(self._shapes))
        return self._shape_of[key]

    def __len__(self) -> int:
        return len(self.works)

    def finish(self, key: str, *, releases: bool) -> None:
        """Note that a stage has ended; unless it `releases` them, all that build on it are removed, too."""
        if key not in self.works:
            return
        self._drop(key)
        for after in self._after.pop(key, []):
            if after in self.works and releases:
                self._num_awaited[after] -= 1
                if not self._num_awaited[after]:
                    self._first.add(after)
                    self._num_first[self._shape_of[after]] += 1
            else:
                self.finish(after, releases=False)

    def _drop(self, key: str) -> None:
        self._num_works[self.works.pop(key)] -= 1
        if key in self._first:
            self._first.remove(key)
            self._num_first[self._shape_of[key]] -= 1

    def seconds(
        self, throughput: Throughput, num_slots: int, done_shares: Mapping[str, float]
    ) -> float | None:
        """Return the time of all stages on `num_slots` slots, or None if it is not known.

        Args:
            done_shares: finished share of each running stage, by key; others have not begun.
        """
        if not self.works:
            return 0.0
        chain_s: list[float] = []
        work_s: dict[Work, float] = {}
        for work, behind in self._shapes:
            if (seconds := throughput.seconds_of(*work)) is None:
                return None
            work_s[work] = seconds
            chain_s.append(seconds + max((chain_s[each] for each in behind), default=0.0))
        total_s = sum(work_s[work] * number for work, number in self._num_works.items())
        waiting = Counter(self._num_first)
        chains = []
        for key, share in done_shares.items():
            if key in self._first:
                done_s = share * work_s[self.works[key]]
                total_s -= done_s
                chains.append(chain_s[self._shape_of[key]] - done_s)
                waiting[self._shape_of[key]] -= 1
        chains += [chain_s[shape] for shape, number in waiting.items() if number > 0]
        # Never less than the longest chain, however many slots there are.
        return max(total_s / num_slots, max(chains, default=0.0))
