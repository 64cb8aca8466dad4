"""How long does the status of a study take? The complete command, on stores of synthetic records.

It times `lt-rebalance status STORE --json` as a separate process, from start to end.
"""

import argparse

from benchmarks.measure import make_parser


def make_own_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--records", type=int, nargs="+", default=[1000, 10_000], metavar="N")
    return parser


if __name__ == "__main__":
    make_own_parser().parse_args()  # import below keeps --help and wrong options fast

import dataclasses
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.measure import describe, median, report
from benchmarks.orchestration import make_plan, make_store
from lt_rebalance.studies.plan import describe_plan
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import resolve_execution


def time_status(num_records: int, execution: Execution, repetitions: int) -> dict[str, Any]:
    """Return the seconds of the command on a store of this many records."""
    plan = make_plan(num_records, execution)
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(folder, plan)
        flop = dict.fromkeys(plan.stages, 1e12)
        store.write_study(dataclasses.replace(describe_plan(plan, "", flop), num_slots=2))
        seconds = []
        for _ in range(repetitions):
            start = time.perf_counter()
            command = [sys.executable, "-m", "lt_rebalance", "status", folder, "--json"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - start)
    return {"what": "status of records", "count": len(plan.stages), "s": median(seconds)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    options = make_own_parser().parse_args(arguments)
    execution = resolve_execution("cpu", "auto", 1, has_cuda=False)
    rows = [time_status(count, execution, options.repetitions) for count in options.records]
    report("status", rows, describe(execution), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
