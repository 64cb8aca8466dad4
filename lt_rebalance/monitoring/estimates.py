"""Past and future costs of a study, in device time, from its finished stages; no torch.

A device is a GPU, or else a CPU core.
"""

import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lt_rebalance.ground.text import format_duration
from lt_rebalance.monitoring.facts import StageFacts
from lt_rebalance.store.records import KINDS

LATEST = 10
"""number of latest finished stages of a kind that estimates use, as the load of a machine varies"""


@dataclass(frozen=True, kw_only=True)
class Spending:
    """Device seconds spent and to come. None: no finished stage tells how long it takes."""

    spent_s: float
    left_s: float | None

    def to_dict(self, hourly_rate: float | None = None) -> dict[str, float | None]:
        """Return it in hours, with its price if a rate for a device-hour is given."""
        spent_h = self.spent_s / 3600
        left_h = None if self.left_s is None else self.left_s / 3600
        values = {"device_hours_spent": spent_h, "device_hours_left": left_h}
        if hourly_rate is not None:
            values |= {
                "price_spent": spent_h * hourly_rate,
                "price_left": None if left_h is None else left_h * hourly_rate,
            }
        return values

    def describe(self, hourly_rate: float | None = None) -> str:
        """Return "12 min spent, 3.4 h left", with prices if there is a rate, and without 0 s left."""
        left = "?" if self.left_s is None else format_duration(self.left_s)
        parts = [f"{format_duration(self.spent_s)} spent{self._unless_over(left)}"]
        if hourly_rate is not None:
            prices = self.to_dict(hourly_rate)
            left = "?" if prices["price_left"] is None else f"{prices['price_left']:.2f}"
            parts.append(f"price {prices['price_spent']:.2f} spent{self._unless_over(left)}")
        return "; ".join(parts)

    def _unless_over(self, left: str) -> str:
        return "" if self.left_s == 0 else f", {left} left"


class Estimator:
    """How long stages take: like the latest finished ones of their kind, in proportion to their FLOPs."""

    def __init__(
        self,
        finished: Collection[StageFacts],
        expected_s: Mapping[str, float] | None = None,
        num_devices: float = 1.0,
    ) -> None:
        """Learn from finished stages.

        Args:
            expected_s: by kind, seconds per floating-point operation, measured before the sweep; used until a
                stage of that kind is finished.
            num_devices: devices that a trial holds, for this measurement.
        """
        self._rates: dict[tuple[str, str], float] = {}
        expected_s = expected_s or {}
        complete = sorted(
            (fact for fact in finished if fact.state == "complete"), key=lambda fact: fact.finished_s
        )
        by_kind = {kind: [fact for fact in complete if fact.kind == kind][-LATEST:] for kind in KINDS}
        for kind, peers in by_kind.items():
            for measure in ("wall_s", "device_s") if peers else ():
                self._rates[kind, measure] = _median_rate(peers, measure)
        slowdowns = [
            _median_rate(peers, "train_s") / expected_s[kind]
            for kind, peers in by_kind.items()
            if peers and kind in expected_s
        ]
        # A slow machine slows down both kinds, so each kind's deviation informs the other.
        slowdown = math.sqrt(statistics.fmean(slowdowns)) if slowdowns else 1.0
        for kind, seconds in expected_s.items():
            self._rates.setdefault((kind, "wall_s"), slowdown * seconds)
            self._rates.setdefault((kind, "device_s"), slowdown * seconds * num_devices)
        self._can_borrow = all(fact.flop is not None for fact in complete)

    def wall_s(self, fact: StageFacts) -> float | None:
        """Return the seconds from the start to the end of a stage, or None while nothing is known."""
        return self._estimate(fact, "wall_s")

    def device_s(self, fact: StageFacts) -> float | None:
        """Return the device seconds of a stage, or None while nothing is known."""
        return self._estimate(fact, "device_s")

    def _estimate(self, fact: StageFacts, measure: str) -> float | None:
        rate = self._rates.get((fact.kind, measure))
        if rate is None and self._can_borrow and fact.flop is not None:
            # A kind without finished stages uses the other kind.
            rate = next((rate for (_, name), rate in self._rates.items() if name == measure), None)
        return None if rate is None else rate * _work(fact)


def _median_rate(peers: Collection[StageFacts], measure: str) -> float:
    seconds: list[float] = [getattr(fact, measure) / _work(fact) for fact in peers]
    return statistics.median(seconds)


def _work(fact: StageFacts) -> float:
    """Return the FLOPs of a stage; if unknown, all stages of a kind count as equal."""
    return fact.flop or 1.0


def estimate_left(
    pending: Sequence[StageFacts],
    estimator: Estimator,
    num_devices: float,
    done_shares: Mapping[str, float],
) -> float | None:
    """Return the seconds until all pending stages are done, or None if unknown.

    Args:
        num_devices: number of devices in use.
        done_shares: finished share of each running stage, by key; others have not begun.
    """
    device_s, wall_s = [], {}
    for fact in pending:
        left = 1 - done_shares.get(fact.key, 0.0)
        device, wall = estimator.device_s(fact), estimator.wall_s(fact)
        if device is None or wall is None:
            return None
        device_s.append(left * device)
        wall_s[fact.key] = left * wall
    chains = (
        wall_s[fact.key] + max((wall_s.get(each, 0.0) for each in fact.upstreams), default=0.0)
        for fact in pending
    )
    return max(sum(device_s) / num_devices, max(chains, default=0.0))


def sum_spending(spent_s: Mapping[str, float], left_s: Mapping[str, float | None]) -> Spending:
    """Return the total cost of stages, from spent and remaining seconds by key."""
    known = [seconds for seconds in left_s.values() if seconds is not None]
    return Spending(spent_s=sum(spent_s.values()), left_s=sum(known) if len(known) == len(left_s) else None)


def spending_by_kind(
    kinds: Mapping[str, str], spent_s: Mapping[str, float], left_s: Mapping[str, float | None]
) -> dict[str, Spending]:
    """Return the total cost of the stages of each kind.

    Args:
        kinds: of all stages, by key.
        spent_s: device seconds of stages that have used any, by key.
        left_s: device seconds of stages that are still to run, by key; None if unknown.
    """
    return {
        kind: sum_spending(
            {key: seconds for key, seconds in spent_s.items() if kinds[key] == kind},
            {key: seconds for key, seconds in left_s.items() if kinds[key] == kind},
        )
        for kind in dict.fromkeys(kinds.values())
    }


def spending_by_cell(
    num_cells: int,
    runs: Sequence[tuple[int, Sequence[str]]],
    spent_s: Mapping[str, float],
    left_s: Mapping[str, float | None],
) -> list[Spending]:
    """Return the cost of each cell; runs that share a generator share its cost equally.

    So the costs of cells add up to the cost of all stages.

    Args:
        runs: the position of the cell of each run, and the keys of its stages.
        spent_s: as in `spending_by_kind`.
        left_s: as there.
    """
    users = Counter(key for _, keys in runs for key in keys)
    spent, left = [0.0] * num_cells, [0.0] * num_cells
    unknown = set()
    for cell, keys in runs:
        for key in keys:
            spent[cell] += spent_s.get(key, 0.0) / users[key]
            if (seconds := left_s.get(key, 0.0)) is None:
                unknown.add(cell)
            else:
                left[cell] += seconds / users[key]
    return [
        Spending(spent_s=spent[cell], left_s=None if cell in unknown else left[cell])
        for cell in range(num_cells)
    ]


def typical_by_cell(
    num_cells: int,
    runs: Sequence[tuple[int, Sequence[str]]],
    spent_s: Mapping[str, float],
    left_s: Mapping[str, float | None],
) -> list[float | None]:
    """Return the device seconds of a run of each cell: the median of finished ones, or of what is expected.

    Runs that share a stage share its cost equally. None: no run is finished, and its cost is unknown.

    Args:
        runs, spent_s, left_s: as in `spending_by_cell`.
    """
    users = Counter(key for _, keys in runs for key in keys)
    finished: list[list[float]] = [[] for _ in range(num_cells)]
    expected: list[list[float]] = [[] for _ in range(num_cells)]
    for cell, keys in runs:
        if not any(key in left_s for key in keys):
            finished[cell].append(sum(spent_s.get(key, 0.0) / users[key] for key in keys))
        else:
            costs = [(left_s[key] if key in left_s else spent_s.get(key, 0.0), users[key]) for key in keys]
            if all(cost is not None for cost, _ in costs):
                expected[cell].append(sum((cost or 0.0) / num for cost, num in costs))
    return [
        statistics.median(known) if known else None
        for known in (first or second for first, second in zip(finished, expected, strict=True))
    ]


def saved_by_sharing(keys_by_run: Iterable[Collection[str]], facts: Mapping[str, StageFacts]) -> float:
    """Return the device seconds that runs would cost more if each trained all stages for itself alone.

    A representation that a run of method none has trained as well held no device of its own.

    Args:
        keys_by_run: the keys of the stages of each run that is done.
        facts: of all stages, by key.
    """
    users = Counter(key for keys in keys_by_run for key in keys)
    return sum(
        (num - 1) * facts[key].device_s if facts[key].device_s else num * facts[key].train_s
        for key, num in users.items()
    )


def add_up(spendings: Sequence[Spending], names: Sequence[str]) -> dict[str, Spending]:
    """Return sums by name, in the order of first occurrence."""
    sums: dict[str, Spending] = {}
    for name, each in zip(names, spendings, strict=True):
        before = sums.get(name, Spending(spent_s=0.0, left_s=0.0))
        is_known = before.left_s is not None and each.left_s is not None
        left_s = (before.left_s or 0.0) + (each.left_s or 0.0) if is_known else None
        sums[name] = Spending(spent_s=before.spent_s + each.spent_s, left_s=left_s)
    return sums
