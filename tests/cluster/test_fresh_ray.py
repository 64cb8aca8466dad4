"""What needs a Ray of its own: one that an interrupted run leaves something on, one of a made-up size."""

import dataclasses
import signal
from pathlib import Path

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from lt_rebalance.cluster.resources import Resources, plan_resources
from lt_rebalance.cluster.session import ray_cluster
from lt_rebalance.ground.interrupts import Interrupted
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import compile_study
from lt_rebalance.studies.protocols import Protocol
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Execution
from tests.cluster.test_runner import list_ends, make_cells, open_at, run_on_ray


@pytest.mark.slow
def test_interrupt_ends_a_run_and_the_next_one_finishes_it(
    small_protocol: Protocol, cpu_execution: Execution, tmp_path: Path
) -> None:
    store = open_at(tmp_path)
    plan = compile_study(Study(name="study", cells=make_cells(small_protocol), seeds=(0,)), cpu_execution)
    ledger = Ledger(plan, store)

    def interrupt_after_first_record() -> None:
        if ledger.records:
            raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted), ray_cluster(None):
        run_on_ray(ledger, store, check=interrupt_after_first_record)
    assert ledger.count_runs()["missing"] > 0
    ledger = Ledger(plan, store)
    finished = set(ledger.records)
    assert finished
    with ray_cluster(None):
        lines = list_ends(run_on_ray(ledger, store))
    assert len(lines) == len(plan.stages) - len(finished)
    assert ledger.summary() == "planned=3 complete=3 failed=0 diverged=0 missing=0"


@pytest.mark.slow
def test_ray_places_as_many_trials_at_once_as_are_planned(
    cpu_execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_gpus, num_cpus = 3, 1000
    init, cuda = ray.init, dataclasses.replace(cpu_execution, device="cuda")
    made_up = {"num_gpus": num_gpus, "num_cpus": num_cpus}
    monkeypatch.setattr(ray, "init", lambda **options: init(**options | made_up))
    with ray_cluster(None):
        for share in (0.0834, 0.15, 1 / 6, 0.1667, 0.29, 1 / 3, 0.3334, 0.5001, 0.57, 0.6, 0.99996, 1, 2, 3):
            resources = plan_resources(cuda, share, None, None, {"CPU": num_cpus, "GPU": num_gpus})
            assert count_placed(resources, more=2) == resources.num_slots, share


def count_placed(resources: Resources, more: int) -> int:
    """Offer Ray a trial per slot and `more` trials; return how many it places at the same time."""
    bundles = [resources.bundle()]
    groups = [placement_group(bundles) for _ in range(resources.num_slots + more)]
    waiting = [group.ready() for group in groups]
    done, _ = ray.wait(waiting, num_returns=resources.num_slots, timeout=60)
    late, _ = ray.wait(waiting, num_returns=len(done) + 1, timeout=1)
    for group in groups:
        remove_placement_group(group)
    return max(len(done), len(late))
