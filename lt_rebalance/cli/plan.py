"""`lt-rebalance plan`: the runs of a sweep, or the pending ones of a store, and their cost."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from lt_rebalance.cli.parser import make_store_plan_parser
from lt_rebalance.cli.stores import choose_studies, open_existing, print_json
from lt_rebalance.ground.text import count, one_line
from lt_rebalance.monitoring.status import Status, read_status

SHOWN = (
    *("study", "runs", "stages", "num_slots", "eta_s"),
    *("spending", "spending_by_kind", "spending_by_method", "cells"),
)
"""parts of a status that a plan shows"""


def run(options: argparse.Namespace) -> int:
    """Show the plan of a sweep or of a store."""
    if options.what.endswith(".py"):
        return _plan_sweep(options.what, options.arguments)
    return _plan_store(options.what, options.arguments)


def _plan_sweep(sweep: str, arguments: list[str]) -> int:
    if not Path(sweep).is_file():
        raise ValueError(f"there is no sweep {sweep!r}; name a file such as sweeps/full_grid.py")
    return subprocess.run([sys.executable, sweep, *arguments, "--plan"], check=False).returncode


def _plan_store(location: str, arguments: list[str]) -> int:
    try:
        options = make_store_plan_parser().parse_args(arguments)
    except ValueError as error:
        raise ValueError(f"{error}; options of a sweep need its file: lt-rebalance plan SWEEP.py") from None
    store = open_existing(location)
    statuses = [read_status(store, study, time.time()) for study in choose_studies(store, options.study)]
    if options.json:
        described = [status.to_dict(options.rate) for status in statuses]
        print_json([{name: values[name] for name in SHOWN} for values in described])
        return 0
    for status in statuses:
        _print_plan(status, options.rate)
    return 0


def _print_plan(status: Status, hourly_rate: float | None) -> None:
    runs = status.runs
    print(
        one_line(
            f"{status.study}: {count(runs['planned'], 'run')}, {runs['complete']} complete, "
            f"{runs['missing']} to run"
        )
    )
    for kind, stages in status.stages.items():
        spending = status.spending_by_kind[kind].describe(hourly_rate)
        print(
            one_line(f"  {kind} stages: {stages['planned']} planned, {stages['to_run']} to run; {spending}")
        )
    for method, each in status.spending_by_method.items():
        print(one_line(f"  method {method}: {each.describe(hourly_rate)}"))
    for cell in status.cells:
        print(
            one_line(
                f"  cell {cell.protocol} {cell.data} {cell.method}: {cell.spending.describe(hourly_rate)}"
            )
        )
    print(one_line(f"  in all: {status.spending.describe(hourly_rate)}"))
    print(f"  {status.describe_time_left()}")
