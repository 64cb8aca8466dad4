"""When is the first accuracy there, and what does that cost at the end?

Plays the schedule of studies without training: a stage takes as long as its operations. For each study and
number of slots it prints the end of the first run, as a share of the whole time, and the whole time relative
to the least possible one, in which all operations are spread evenly over the slots.
"""

import argparse
import heapq
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.measure import describe, make_parser, report
from lt_rebalance.stages.arithmetic import stage_flop
from lt_rebalance.studies.plan import Plan, Schedule, compile_study
from lt_rebalance.studies.stage import AnyStage, ClassifierStage
from lt_rebalance.training.device import resolve_execution
from sweeps import full_grid

STUDIES = {"quick": [], "paper, 3 seeds": ["--preset", "paper", "--seeds", "3"]}
"""by name, options of the full grid"""


def play(plan: Plan, num_slots: int) -> tuple[float, float]:
    """Return when the first run ends and when all is done, in operations of one slot."""
    schedule, now, first = Schedule(plan.stages, stage_flop), 0.0, 0.0
    running: list[tuple[float, int, AnyStage]] = []
    for number in range(len(plan.stages) + 1):
        while len(running) == num_slots or (running and not schedule.num_ready):
            now, _, ended = heapq.heappop(running)
            schedule.finish(ended.key, releases=True)
            if not first and ended.kind == ClassifierStage.kind:
                first = now
        for stage in schedule.next_ready():
            heapq.heappush(running, (now + stage_flop(stage), number, stage))
    return first, now


def make_own_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, print and write."""
    options = make_own_parser().parse_args(arguments)
    execution = resolve_execution("cpu", "float32", 1, has_cuda=False)
    rows: list[dict[str, Any]] = []
    for name, asked in STUDIES.items():
        study = full_grid.build_study(full_grid.make_grid_parser().parse_args(asked))
        plan = compile_study(study, execution)
        total = sum(map(stage_flop, plan.stages.values()))
        for num_slots in options.slots:
            first, end = play(plan, num_slots)
            rows.append(
                {
                    "study": name,
                    "slots": num_slots,
                    "first accuracy after, %": 100 * first / end,
                    "time, of the least": end * num_slots / total,
                }
            )
    report("when the first accuracy is there", rows, describe(execution), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
