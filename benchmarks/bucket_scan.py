"""How long does it take to find out what a bucket holds whose every answer takes a while?

It times the start of a sweep (every record, checked, and the weights of its generators), what `lt-rebalance
status` reads, and what the analysis reads, each without and with the segments that a sweep leaves at its end;
the making of these; and for comparison, records read one after another. It also shows this process's CPU
seconds, which other work on the machine affects less.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from analysis.reader import StoreReader
from analysis.stores import Stores
from benchmarks.orchestration import make_plan, make_store
from lt_rebalance.cli.tracked import environment
from lt_rebalance.monitoring.status import read_status
from lt_rebalance.store import Store, open_store
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import Plan, describe_plan
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.training.configs import Execution

DELAY_S = 0.02
ONE_BY_ONE = 500
"""records read one after another"""


def time_bucket(num_records: int, execution: Execution, delay_s: float = DELAY_S) -> list[dict[str, Any]]:
    """Return the seconds of each way to read a bucket of `num_records` records."""
    plan = make_plan(num_records, execution)
    with tempfile.TemporaryDirectory() as folder:
        local = make_store(f"{folder}/store", plan)
        local.write_study(describe_plan(plan, "", dict.fromkeys(plan.stages, 1e12)))
        with _serve(Path(folder), delay_s):
            store = open_store("s3://bucket/store", RESULTS_VERSION, create=False, is_read_only=True)
            assert store is not None
            some = list(plan.stages)[:ONE_BY_ONE]
            each_s = _time(lambda: [store.read_record(key) for key in some])[0] / len(some)
            writer = open_store("s3://bucket/store", RESULTS_VERSION, create=False)
            assert writer is not None
            work = _list_work(store, plan)
            rows = [_describe(name, len(plan.stages), _time(run), each_s) for name, run in work.items()]
            rows.append(_describe("making of segments", len(plan.stages), _time(writer.gather), each_s))
            for name, run in work.items():
                rows.append(_describe(f"{name}, segments", len(plan.stages), _time(run), each_s))
            return rows


def _list_work(store: Store, plan: Plan) -> dict[str, Callable[[], object]]:
    def start_sweep() -> None:
        ledger = Ledger(plan, store)
        assert not ledger.pending() and ledger.count_runs()["complete"] == len(plan.runs)

    def analyse() -> None:
        reader = StoreReader(Stores([store.location]), {"noop": store.load_study("noop")})
        reader.read()
        assert {row["state"] for row in reader.rows.values()} == {"complete"}

    return {
        "bucket, start of a sweep": start_sweep,
        "bucket, status": lambda: read_status(store, "noop", time.time()),
        "bucket, analysis": analyse,
    }


def _time(run: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds by the clock, and those of the CPU."""
    start, start_cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - start_cpu


def _describe(what: str, count: int, taken: tuple[float, float], each_s: float) -> dict[str, Any]:
    seconds, cpu_s = taken
    one_by_one = each_s * count / seconds
    return {
        "what": what,
        "count": count,
        "s": seconds,
        "s of CPU": cpu_s,
        "ms each": 1e3 * seconds / count,
        "one by one takes": one_by_one,
    }


@contextlib.contextmanager
def _serve(root: Path, delay_s: float) -> Iterator[None]:
    """Serve a directory as a bucket, and point the environment to it without the user's own settings."""
    script = Path(__file__).with_name("bucket_server.py")
    command = [sys.executable, str(script), str(root), str(delay_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            leading = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
            leading |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
            leading |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
            with environment(leading, without="AWS_"):
                yield
        finally:
            server.terminate()
