"""The resources of one trial, and how many trials fit the nodes; without Ray itself."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lt_rebalance.ground.exits import note
from lt_rebalance.ground.plain import require_positive
from lt_rebalance.training.configs import Execution

NodeSize = Mapping[str, float]
"""amount of each resource of a node ("CPU", "GPU")"""

ClusterSize = Sequence[NodeSize]

# A worker splits lanes that its GPU cannot hold. On a CPU concurrent seeds are faster than seeds in turn.
DEFAULT_LANES = {"cpu": 1, "cuda": 64}

GPU_STEP = 1e-4
"""the smallest share of a GPU; Ray counts in multiples of it"""

_OVERLOOKED_STEPS = 2
"""how much some shares may exceed a device in Ray, as 3 x 0.3334 do; it cannot run the last of them"""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one trial of a run holds, and how many trials run at the same time."""

    num_cpus: int
    num_gpus: float
    num_slots: int
    max_lanes: int
    """maximum number of seeds of one trial"""

    @property
    def num_devices(self) -> float:
        """The GPUs, or else CPU cores, that one trial holds."""
        return self.num_gpus or self.num_cpus

    def __str__(self) -> str:
        return f"{self.num_cpus} CPU" + (f" and {self.num_gpus:g} GPU" if self.num_gpus else "")

    def bundle(self) -> dict[str, float]:
        """Return the resources of one trial by Ray's names."""
        gpus = {"GPU": self.num_gpus} if self.num_gpus else {}
        return {"CPU": float(self.num_cpus), **gpus}


def plan_resources(
    execution: Execution,
    gpus_per_trial: float,
    num_slots: int | None,
    max_lanes: int | None,
    *nodes: NodeSize,
    may_grow: bool = True,
) -> Resources:
    """Return the resources of one trial, and how many trials fit.

    Args:
        execution: how trials compute.
        gpus_per_trial: share of a GPU, or number of GPUs; ignored on the CPU.
        num_slots: concurrent trials; None for all that fit the nodes now.
        max_lanes: maximum number of seeds of one trial; None for the fastest on the device.
        nodes: what each node has of "CPU" and "GPU".
        may_grow: whether larger nodes may join, on which a trial fits that fits on none of these.

    Raises:
        ValueError: nothing fits, a number is not positive, or a share of a GPU is invalid.
    """
    require_positive(gpus_per_trial=gpus_per_trial, max_concurrent=num_slots, lanes=max_lanes)
    num_gpus = _round_share(gpus_per_trial)
    if execution.device != "cuda":
        num_gpus = 0.0
    fitting = sum(_count_slots(node, execution.num_threads, num_gpus) for node in nodes)
    if fitting < 1 and (num_slots is None or not may_grow):
        largest = {name: max((node.get(name, 0) for node in nodes), default=0) for name in ("CPU", "GPU")}
        remedy = "lower --threads or --gpus-per-trial"
        raise ValueError(
            f"no trial fits: one needs {execution.num_threads} CPUs and {num_gpus:g} GPUs of one machine, "
            f"and none has more than {largest['CPU']:g} and {largest['GPU']:g} now; {remedy}"
            + (", or name --max-concurrent for a cluster that grows" if may_grow else "")
        )
    if num_slots is not None and num_slots > fitting and not may_grow:
        note(f"--max-concurrent {num_slots} is {fitting} here: this machine holds no more trials at a time")
    return Resources(
        num_cpus=execution.num_threads,
        num_gpus=num_gpus,
        num_slots=fitting if num_slots is None else num_slots if may_grow else min(num_slots, fitting),
        max_lanes=max_lanes or DEFAULT_LANES[execution.device],
    )


def _round_share(gpus_per_trial: float) -> float:
    """Return a share of a GPU, or a number of GPUs, as Ray counts it: in steps of `GPU_STEP`."""
    if not math.isfinite(gpus_per_trial) or (gpus_per_trial > 1 and gpus_per_trial % 1):
        raise ValueError(
            f"gpus_per_trial must be a share of one GPU, or a whole number of them, got {gpus_per_trial:g}; "
            "0.5 puts two trials on each GPU, 2 gives a trial two"
        )
    steps = round(gpus_per_trial / GPU_STEP)
    if not steps:
        raise ValueError(f"gpus_per_trial must be at least {GPU_STEP:g}, got {gpus_per_trial:g}")
    device = round(1 / GPU_STEP)
    # A share slightly above a divisor of a device is requested as one that Ray, too, considers above it.
    if 0 < (device // steps + 1) * steps - device <= _OVERLOOKED_STEPS:
        steps += 1
    return round(steps * GPU_STEP, 4)


def _count_slots(node: NodeSize, num_cpus: int, num_gpus: float) -> int:
    """Return how many trials a node holds; a share is on one GPU, several GPUs are on one node."""
    slots = int(node.get("CPU", 0) // num_cpus)
    devices = int(node.get("GPU", 0))
    if 0 < num_gpus < 1:
        return min(slots, devices * (round(1 / GPU_STEP) // round(num_gpus / GPU_STEP)))
    return min(slots, int(devices // num_gpus)) if num_gpus else slots
