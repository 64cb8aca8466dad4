"""Three hosts, the shipped cluster file, a study, a killed node and a cut link: tables of one machine.

The hosts are network, process and mount namespaces of this machine, each with an address and an sshd of its
own. `ray up` starts Ray on them over ssh from deploy/local.yaml, in which the addresses and the user are
replaced, and from which two commands are left out, those that install packages and fetch data: the hosts have
this Python environment already, and no way to the internet. The code reaches them as the file sends it. The
study is submitted as a job as the head of the file says, and its results go to a server of the S3 protocol.

While it runs, all of Ray on one worker is killed. When that worker is back, the link of the other one is cut
and restored. Nobody helps: the autoscaler restarts what has died.

Everything happens once, in drill.py, in a sandbox that the kernel removes; the tests look at what it has
left.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lt_rebalance.store import open_store
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import plan_from_description
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.tables import cells_frame, runs_frame
from tests.real_cluster.sandbox import ROOT, explain_absence, run_inside

pytestmark = pytest.mark.cluster
LIMIT_S = 1200.0
LOGS = ("up.log", "submit.log", "local.log", "study.log", "down.log", "alone.log", "watch_nodes.log")


@dataclass(frozen=True, kw_only=True)
class Drill:
    """What drill.py has left."""

    facts: dict[str, Any]
    work_dir: Path

    def ledger(self, name: str) -> Ledger:
        """Return the account of the study by one of the two stores."""
        store = open_store(str(self.work_dir / name), RESULTS_VERSION, create=False)
        assert store is not None
        return Ledger(plan_from_description(store.load_study("drill")), store)


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Drill:
    """Return what is left of a drill; skip where the machine cannot hold one."""
    if (reason := explain_absence()) is not None:
        pytest.skip(reason)
    work_dir = tmp_path_factory.mktemp("drill")
    program = [sys.executable, "-u", str(ROOT / "tests/real_cluster/drill.py")]
    result = run_inside(work_dir, program, timeout_s=LIMIT_S)
    print(result.stdout)
    if result.returncode != 0:
        pytest.fail(f"the drill could not be ended:\n{result.stdout}\n{read_logs(work_dir)}", pytrace=False)
    return Drill(facts=json.loads((work_dir / "facts.json").read_text()), work_dir=work_dir)


def read_logs(work_dir: Path) -> str:
    """Return the ends of the logs of what was run from outside the cluster."""
    paths = [path for name in LOGS if (path := work_dir / name).exists()]
    return "\n".join(f"-- {path}\n{path.read_text(errors='replace')[-2000:]}" for path in paths)


def test_job_without_the_token_is_refused_with_401(drill: Drill) -> None:
    assert drill.facts["post_without_token"] == drill.facts["get_without_token"] == 401
    assert drill.facts["post_with_wrong_token"] == 403
    assert drill.facts["get_with_token"] == 200
    assert [job for job in drill.facts["jobs_before"] if job["type"] == "SUBMISSION"] == []
    assert not drill.facts["intruder"]


def test_dashboard_is_reached_through_the_tunnel_alone(drill: Drill) -> None:
    assert "refused" in drill.facts["dashboard_past_tunnel"]


def test_store_on_the_disk_of_the_head_is_refused(drill: Drill) -> None:
    assert drill.facts["local_job"] == "FAILED"
    log = (drill.work_dir / "local.log").read_text()
    assert "name a directory that every node mounts under this path, or s3://BUCKET/PREFIX" in log


def test_study_ends_by_itself_and_accounts_for_every_run(drill: Drill) -> None:
    assert drill.facts["job"] == "SUCCEEDED"
    assert "planned=6 complete=6 failed=0 diverged=0 missing=0" in (drill.work_dir / "study.log").read_text()


def test_trials_run_on_workers_and_never_on_the_head(drill: Drill) -> None:
    seen = json.loads((drill.work_dir / "seen.json").read_text())
    assert {at["host"] for sightings in seen.values() for at in sightings} == {"h1", "h2"}


@pytest.mark.parametrize("fault", ["kill", "cut"])
def test_death_of_a_node_is_found_and_the_node_comes_back(drill: Drill, fault: str) -> None:
    # Five checks of at most three seconds each, and then some for a machine that is busy with three hosts.
    assert drill.facts[fault]["death_found_s"] < 60
    assert drill.facts[fault]["alive_again_s"] < 240


@pytest.mark.parametrize("fault", ["kill", "cut"])
def test_work_of_a_lost_node_is_taken_up_by_another_process(drill: Drill, fault: str) -> None:
    ledger = drill.ledger("cluster")
    assert drill.facts[fault]["stages"]
    for key in drill.facts[fault]["stages"]:
        assert drill.facts[fault]["taken_up"][key[:8]], "nobody was seen at it again"
        assert ledger.state(key) == "complete"


def test_tables_are_those_of_one_machine_bit_for_bit(drill: Drill) -> None:
    assert drill.facts["alone_status"] == 0
    cluster, alone = drill.ledger("cluster"), drill.ledger("alone")
    assert cluster.plan == alone.plan and len(cluster.plan.runs) == 6
    for key in cluster.plan.stages:
        assert cluster.records[key].deterministic() == alone.records[key].deterministic()
    pd.testing.assert_frame_equal(
        cells_frame(runs_frame(cluster)), cells_frame(runs_frame(alone)), check_exact=True
    )
    tables = [
        (drill.work_dir / name / "tables/drill/cells.csv").read_bytes() for name in ("cluster", "alone")
    ]
    assert tables[0] == tables[1]


def test_cluster_is_taken_down(drill: Drill) -> None:
    assert drill.facts["down_status"] == 0
    assert drill.facts["ray_on_head_after_down"] == 0


def test_nothing_is_left_on_this_machine(drill: Drill) -> None:
    work_dir = str(drill.work_dir)
    assert [pid for pid in list_processes() if work_dir in read_environment(pid)] == []
    assert work_dir not in Path("/proc/self/mounts").read_text()


def list_processes() -> Sequence[int]:
    """Return the ids of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def read_environment(pid: int) -> str:
    """Return the mounts and the command of a process; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/mountinfo").read_text() + Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
