"""How the searcher of a plan records the ends of its trials; without Ray."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lt_rebalance.cluster.attempt import MAX_ERRORS
from lt_rebalance.cluster.dispatch import StageSearcher
from lt_rebalance.cluster.resources import Resources
from lt_rebalance.ground.errors import StorageError
from lt_rebalance.monitoring.tensorboard.naming import name_runs
from lt_rebalance.stages.arithmetic import Throughput, stage_flop
from lt_rebalance.stages.progress import Progress
from lt_rebalance.stages.watch import Watch
from lt_rebalance.store import Store, open_store
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import Plan, Schedule, compile_study, describe_plan
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, stage_from_dict
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Execution
from tests.made_up import make_up
from tests.store.test_store import make_failure
from tests.tiny import TINY

BLOCKED = {
    "outcome": "blocked",
    "reason": "another commit",
    "hostname": "bad",
    "node_ip": "10.0.0.7",
    "done": True,
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert opened is not None
    return opened


@pytest.fixture
def plan(small_protocol: Protocol, cpu_execution: Execution) -> Plan:
    """Return ten stages that need no other."""
    cell = make_cell(small_protocol, dataset=TINY, c="1/2", method="none", generator=None)
    return compile_study(Study(name="study", cells=(cell,), seeds=tuple(range(10))), cpu_execution)


def make_searcher(plan: Plan, store: Store, max_lanes: int = 1) -> StageSearcher:
    """Return the searcher of a plan, whose earlier failures are to be tried again."""
    ledger = Ledger(plan, store)
    ledger.forget_failures()
    resources = Resources(num_cpus=1, num_gpus=0, num_slots=1, max_lanes=max_lanes)
    progress = Progress(ledger, Throughput(), 1, Console(file=io.StringIO()))
    watch = Watch(driver="", runs=name_runs(describe_plan(plan)))
    schedule = Schedule(ledger.pending(), stage_flop)
    return StageSearcher(schedule, ledger, store, None, resources, progress, watch)


def end_trial(searcher: StageSearcher, number: int, result: dict[str, Any] | None) -> None:
    assert searcher.suggest(str(number)) is not None
    searcher.on_trial_complete(str(number), result, error=result is None)


def test_node_that_blocks_all_its_trials_ends_the_run_before_it_has_taken_the_whole_plan(
    plan: Plan, store: Store
) -> None:
    searcher = make_searcher(plan, store)
    for number in range(MAX_ERRORS):
        searcher.faults.check()
        end_trial(searcher, number, BLOCKED)
    with pytest.raises(
        StorageError, match=r"3 trials .* on bad \(10\.0\.0\.7\): another commit; fix that node"
    ):
        searcher.faults.check()


@pytest.mark.parametrize("between", [{"outcome": "finished"}, BLOCKED | {"is_of_stage": True}])
def test_blocked_trials_between_others_do_not_end_the_run(
    plan: Plan, store: Store, between: dict[str, Any]
) -> None:
    searcher = make_searcher(plan, store)
    for number in range(0, 10, 2):
        end_trial(searcher, number, BLOCKED)
        end_trial(searcher, number + 1, between)
    searcher.faults.check()


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"outcome": "failed", "reason": "OSError: another"}, "OSError: another"),
        (None, "its worker process or node was lost 21 times"),
        (BLOCKED, "RuntimeError: no"),
    ],
)
def test_failure_of_an_earlier_call_is_kept_until_there_is_another_end(
    result: dict[str, Any] | None, expected: str, plan: Plan, store: Store
) -> None:
    stage = plan.runs[0].stage
    store.mark_failed(make_failure(stage.key))
    end_trial(make_searcher(plan, store), 0, result)
    failure = store.read_failure(stage.key)
    assert failure is not None and failure.error == expected
    assert store.commit(make_up(stage))
    assert store.read_failure(stage.key) is None


@pytest.mark.parametrize("result", [{"outcome": "failed", "reason": "ValueError: no"}, None])
def test_lane_that_fails_its_trial_is_found_and_takes_no_other_with_it(
    result: dict[str, Any] | None, plan: Plan, store: Store
) -> None:
    """Seed 6 of ten lanes fails whatever trial it is in, and seed 1 has a result before the first does."""
    searcher = make_searcher(plan, store, max_lanes=10)
    seeds, number = [], 0
    while isinstance(config := searcher.suggest(str(number)), dict):
        stages = [stage_from_dict(values) for values in config["stages"]]
        seeds.append([stage.seed for stage in stages])
        fails = 6 in seeds[-1]
        for stage in stages:
            if not fails or stage.seed == 1:
                assert store.commit(make_up(stage))
        searcher.on_trial_complete(str(number), result if fails else {"outcome": "finished"}, error=fails)
        number += 1
    assert seeds == [[*range(10)], [0, 2, 3, 4], [5, 6, 7, 8, 9], [5, 6], [5], [6], [7, 8, 9]]
    searcher.faults.check()
    states = {run.stage.seed: Ledger(plan, store).state(run.key) for run in plan.runs}
    assert states == {seed: "failed" if seed == 6 else "complete" for seed in range(10)}
