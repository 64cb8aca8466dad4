"""Does a study that is killed repeatedly lose any result, or repeat any work?

Runs the command of a small study (a CGAN and classifiers, 2 seeds) and sends SIGKILL at random moments to its
main process, to a training worker or, with --nodes, to all processes of a Ray node, waits for a random time,
and runs the same command again, until it is done; then the same in another store, until the number of kills
is reached. Kills are reproducible by seed as far as the machine's speed is. A worker trains only some seconds
after it starts, so --within has to be well above them, and a round has at least 100 steps. At the end,
compared with the same stages run one by one in one process, without Ray and undisturbed:

  re-executed   results that were made again: an attempt began, by the stage's log, after the log's line of
                the last round, or the result's file is another than the one first seen; must be 0
  lost          stages that had a result and have no readable one at the end; must be 0
  tables equal  every record, except times and places, and the table of cells, bit for bit
  repeated      rounds of one attempt that the next attempt at its stage began again: the last one logged and
                the one in progress, minus those that the next one resumes from; at most 1 while checkpoints
                are intact
  wasted        seconds from the last checkpoint of each killed trial, or from its start, to its kill, as a
                share of all seconds of training
"""

import argparse

from benchmarks.measure import make_parser


def make_own_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="in all (default: 50)")
    parser.add_argument("--seed", type=int, metavar="S", help="of the kills (default: a new one)")
    parser.add_argument("--steps", type=int, default=400, metavar="N", help="of a training (default: 400)")
    parser.add_argument("--architecture", metavar="NAME", help="of a classifier (default: the preset's)")
    parser.add_argument(
        "--within", type=float, default=25.0, metavar="S", help="seconds from a worker's start (default: 25)"
    )
    parser.add_argument(
        "--minutes", type=float, default=60.0, metavar="M", help="no kills after (default: 60)"
    )
    parser.add_argument(
        "--nodes", type=int, default=0, metavar="N", help="also kill Ray nodes, out of this many"
    )
    return parser


if __name__ == "__main__":
    make_own_parser().parse_args()  # import below keeps --help and wrong options fast

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from ray.cluster_utils import Cluster

from benchmarks.measure import describe, report
from lt_rebalance.cli.tracked import environment
from lt_rebalance.files.private_directory import private_directory
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.presence import read_notes
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.overrides import change_study, read_overrides
from lt_rebalance.studies.plan import Plan, compile_study
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.tables import cells_frame, runs_frame
from lt_rebalance.training.device import resolve_execution
from sweeps import full_grid

ROOT = Path(__file__).parent.parent
AXES = ["--c", "1/2", "--methods", "none", "cgan", "--generators", "small_mlp_cgan_leaky", "--seeds", "2"]
EXECUTION = ["--device", "cpu", "--precision", "float32"]
EARLY_SHARE, EARLY_S = 0.2, (0.5, 10.0)
"""share of the kills at any moment, and their seconds from the last kill, or the start"""
DOWNTIME_S = (0.0, 3.0)
_ATTEMPT = re.compile(r": (begins|goes on after round (\d+)/\d+|round (\d+)/(\d+),)")


@dataclass
class Account:
    """Events so far."""

    kills: dict[str, int] = field(default_factory=lambda: {"driver": 0, "worker": 0, "node": 0})
    sweeps: int = 0
    reexecuted: int = 0
    lost: int = 0
    is_equal: bool = True
    repeated: list[int] = field(default_factory=list)
    """rounds, one entry per attempt that resumed after another"""
    wasted_s: float = 0.0
    trained_s: float = 0.0


def make_plan(budget: Sequence[str]) -> Plan:
    """Return what the command plans with the options of `make_budget`."""
    options = full_grid.make_grid_parser().parse_args([*AXES, *budget])
    study = change_study(full_grid.build_study(options), read_overrides(options.config, options.set))
    return compile_study(study, resolve_execution("cpu", "float32", 1, has_cuda=False))


def start_command(storage: Path, budget: Sequence[str], cluster: Sequence[str]) -> subprocess.Popen[str]:
    """Start the command that is killed."""
    script = str(ROOT / "sweeps" / "full_grid.py")
    options = [*AXES, *budget, *EXECUTION, *cluster, "--storage", str(storage)]
    log = (storage.parent / f"{storage.name}.out").open("a")
    # Ray gives its workers a low priority; beside other work they would hardly run.
    environment = os.environ | {"RAY_worker_niceness": "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, script, *options]
    return subprocess.Popen(command, stdout=log, stderr=log, text=True, env=environment)


def make_budget(steps: int, architecture: str | None) -> list[str]:
    """Return the options that say how long a training takes."""
    budget = ["--steps", str(steps), "--generator-steps", str(steps)]
    return budget if architecture is None else [*budget, "--set", f"classifier.architecture={architecture}"]


def open_at(storage: Path) -> Store:
    """Return the store at a place, created if missing."""
    store = open_store(str(storage), RESULTS_VERSION, create=True)
    assert store is not None
    return store


def list_workers() -> list[int]:
    """Return the training workers among the descendants of this process."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                stat = (entry / "stat").read_text()
                names[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace")
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])

    def is_ours(pid: int) -> bool:
        while pid in parents:
            if pid == os.getpid():
                return True
            pid = parents[pid]
        return False

    return [pid for pid, name in names.items() if name.startswith("ray::ResourceTrainable") and is_ours(pid)]


class Chaos:
    """One store, in which a study is killed until it is done or no kills are left."""

    def __init__(
        self,
        storage: Path,
        account: Account,
        rng: random.Random,
        budget: Sequence[str],
        within_s: float,
        nodes: "Nodes | None",
    ) -> None:
        self._storage = storage
        self._account = account
        self._rng = rng
        self._budget = budget
        self._within_s = within_s
        self._nodes = nodes
        self._seen: dict[str, tuple[int, int]] = {}

    def run(self, num_kills: int, until: float) -> None:
        """Run the command until it is done, with kills until all are made or the time is over."""
        cluster = [] if self._nodes is None else self._nodes.options
        deadline = time.monotonic() + 3600
        while time.monotonic() < deadline:
            driver = start_command(self._storage, self._budget, cluster)
            while driver.poll() is None:
                is_over = sum(self._account.kills.values()) >= num_kills or time.monotonic() > until
                if is_over:
                    driver.wait()
                    break
                kind = self._wait(driver)
                if driver.poll() is None:
                    self._kill(driver, kind)
            self._look()
            if driver.returncode == 0:
                return
            if driver.returncode != -signal.SIGKILL:
                raise RuntimeError(f"exit code {driver.returncode}; see {self._storage}.out")
            time.sleep(self._rng.uniform(*DOWNTIME_S))
        raise RuntimeError("the study was not done within an hour")

    def _wait(self, driver: subprocess.Popen[str]) -> str:
        """Wait for the time of a kill, or the end of the main process, and return what to kill."""
        if self._rng.random() < EARLY_SHARE:
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(self._rng.uniform(*EARLY_S))
            return "driver"
        kinds = ["driver", "worker"] + (["node"] if self._nodes is not None else [])
        kind, wait_s = self._rng.choice(kinds), self._rng.uniform(0.0, self._within_s)
        while not list_workers() and driver.poll() is None:
            time.sleep(0.2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(wait_s)
        return kind

    def _kill(self, driver: subprocess.Popen[str], kind: str) -> None:
        workers = list_workers()
        if kind == "worker" and not workers:
            return
        self._look()
        before = time.time()
        if kind == "driver":
            victims = set(workers)
            driver.kill()
            driver.wait()
        elif kind == "worker":
            victims = {self._rng.choice(workers)}
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        else:
            assert self._nodes is not None
            self._nodes.kill(self._rng)
            victims = set(workers) - set(list_workers())
        self._account.kills[kind] += 1
        self._charge(victims, before)
        print(f"kill {sum(self._account.kills.values())}: {kind}", flush=True)

    def _charge(self, victims: set[int], killed_s: float) -> None:
        """Add up the seconds that the victims' trials had trained since their last checkpoints."""
        for note in read_notes(open_at(self._storage).files):
            if note.keys and note.pid in victims:
                for key in note.keys:
                    if (self._storage / "stages" / key / "result.json").exists():
                        continue
                    saved = [
                        path.stat().st_mtime for path in self._storage.glob(f"stages/{key}/checkpoints/*")
                    ]
                    self._account.wasted_s += max(0.0, killed_s - max([note.started_s, *saved]))

    def _look(self) -> None:
        """Record new results, and count results that were replaced or lost."""
        for path in self._storage.glob("stages/*/result.json"):
            stat = path.stat()
            identity = (stat.st_ino, stat.st_mtime_ns)
            if self._seen.setdefault(path.parent.name, identity) != identity:
                self._account.reexecuted += 1
                self._seen[path.parent.name] = identity

    def judge(self, plan: Plan, undisturbed: Ledger) -> None:
        """Compare the end with an undisturbed run, and add up the logs."""
        account = self._account
        ledger = Ledger(plan, open_at(self._storage))
        account.sweeps += 1
        account.lost += len(set(self._seen) - set(ledger.records))
        same = set(ledger.records) == set(undisturbed.records) and all(
            ledger.records[key].deterministic() == undisturbed.records[key].deterministic()
            for key in plan.stages
        )
        account.is_equal &= same and cells_frame(runs_frame(ledger)).equals(
            cells_frame(runs_frame(undisturbed))
        )
        account.trained_s += sum(record.timing.train_s for record in ledger.records.values())
        for key in plan.stages:
            lines = (self._storage / "logs" / f"{key}.log").read_text(encoding="utf-8").splitlines()
            repeated, again = read_log(lines)
            account.repeated += repeated
            account.reexecuted += again


def read_log(lines: Sequence[str]) -> tuple[list[int], int]:
    """Return the rounds repeated by each attempt but the first, and the attempts after the last round."""
    repeated, again, last, is_done, has_begun = [], 0, 0, False, False
    for line in lines:
        if (found := _ATTEMPT.search(line)) is None:
            continue
        if found[1].startswith("round"):
            last = max(last, int(found[3]))
            is_done |= found[3] == found[4]
            continue
        again += is_done
        if has_begun:
            repeated.append(max(0, last + 1 - int(found[2] or 0)))
        last, has_begun = int(found[2] or 0), True
    return repeated, again


class Nodes:
    """A Ray cluster on this machine: a head without CPUs and nodes with one each."""

    def __init__(self, num_nodes: int) -> None:
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self._nodes = [self._cluster.add_node(num_cpus=1) for _ in range(num_nodes)]
        slots = ["--max-concurrent", str(num_nodes)]
        self.options = ["--address", self._cluster.address, *slots]

    def kill(self, rng: random.Random) -> None:
        """Kill all processes of a node together, and start another in its place."""
        node = self._nodes.pop(rng.randrange(len(self._nodes)))
        self._cluster.remove_node(node, allow_graceful=False)
        self._nodes.append(self._cluster.add_node(num_cpus=1))

    def close(self) -> None:
        """End the cluster."""
        self._cluster.shutdown()


@contextlib.contextmanager
def open_nodes(num_nodes: int) -> Iterator[Nodes | None]:
    """Start this many nodes, or none."""
    nodes = Nodes(num_nodes) if num_nodes else None
    try:
        yield nodes
    finally:
        if nodes is not None:
            nodes.close()


def run_chaos(
    num_kills: int,
    seed: int,
    budget: Sequence[str],
    within_s: float,
    num_nodes: int,
    minutes: float,
    folder: Path,
) -> Account:
    """Kill until the number of kills or the time is reached, and check every study that was run."""
    plan, rng, account = make_plan(budget), random.Random(seed), Account()
    calm = open_at(folder / "undisturbed")
    for stage in plan.stages.values():
        run_stage(stage, calm)
    undisturbed = Ledger(plan, calm)
    until = time.monotonic() + 60 * minutes
    with open_nodes(num_nodes) as nodes:
        while sum(account.kills.values()) < num_kills and time.monotonic() < until:
            chaos = Chaos(folder / f"killed-{account.sweeps}", account, rng, budget, within_s, nodes)
            chaos.run(num_kills, until)
            chaos.judge(plan, undisturbed)
            print(f"a study is done: {to_row(account, seed)}", flush=True)
    return account


def to_row(account: Account, seed: int) -> dict[str, Any]:
    """Return the printed table."""
    kills = {f"{kind} kills": count for kind, count in account.kills.items() if count}
    return {
        "seed": seed,
        "kills": sum(account.kills.values()),
        **kills,
        "studies": account.sweeps,
        "re-executed": account.reexecuted,
        "lost": account.lost,
        "tables equal": "yes" if account.is_equal else "no",
        "attempts after a kill": len(account.repeated),
        "repeated at most": max(account.repeated, default=0),
        "wasted %": 100 * account.wasted_s / max(account.trained_s + account.wasted_s, 1e-9),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, check, print and write; 1 if anything was lost, repeated or different."""
    options = make_own_parser().parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed of the kills: {seed}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="lt_rebalance-chaos-") as folder,
        private_directory(40) as closed,
        environment({"RAY_TMPDIR": str(closed)}),  # Ray makes its own directories readable to all
    ):
        account = run_chaos(
            options.kills,
            seed,
            make_budget(options.steps, options.architecture),
            options.within,
            options.nodes,
            options.minutes,
            Path(folder),
        )
    row = to_row(account, seed)
    execution = resolve_execution("cpu", "float32", 1, has_cuda=False)
    report("chaos", [row], describe(execution), options.json)
    is_right = (
        account.reexecuted == account.lost == 0 and account.is_equal and max(account.repeated, default=0) <= 1
    )
    return 0 if is_right else 1


if __name__ == "__main__":
    pd.set_option("display.width", 200)
    sys.exit(main())
