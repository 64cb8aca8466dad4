"""Plans on a real Ray: order, sharing, resuming, failures that stay by themselves."""

import dataclasses
import functools
import io
import math
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.train.constants import RAY_CHDIR_TO_TRIAL_DIR
from ray.tune.execution import class_cache
from rich.console import Console

from benchmarks.chaos import list_workers
from lt_rebalance.cluster.attempt import MAX_ERRORS
from lt_rebalance.cluster.dispatch import run_plan
from lt_rebalance.cluster.resources import Resources, plan_resources
from lt_rebalance.ground.interrupts import Interrupted
from lt_rebalance.ground.own_file import resolve
from lt_rebalance.methods.registry import METHODS
from lt_rebalance.monitoring.stage_log import log_path
from lt_rebalance.monitoring.tensorboard.naming import name_runs
from lt_rebalance.monitoring.tensorboard.writer import read_end
from lt_rebalance.monitoring.waiting import Waiting
from lt_rebalance.stages.arithmetic import Throughput
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.stages.progress import Progress
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.presence import read_notes
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import compile_study, describe_plan
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Cell, Study
from lt_rebalance.training.configs import Budget, Execution
from tests.tiny import TINY

RESOURCES = Resources(num_cpus=1, num_gpus=0, num_slots=2, max_lanes=1)


BROKEN_IN_WORKERS = """\
import math
import sys

from torch import nn

from lt_rebalance.methods.contract import Method, plan_all
from lt_rebalance.networks.generators.generator import LABEL_DIM, NOISE_DIM


def require_main_process():
    if sys.argv[0].endswith("default_worker.py"):
        raise ValueError("not in a worker")


def plan(counts_K, draw, rng, options):
    require_main_process()
    return plan_all(counts_K, draw, rng, options)


def generator(image_shape):
    require_main_process()
    return nn.Sequential(
        nn.Linear(NOISE_DIM + LABEL_DIM, math.prod(image_shape)), nn.Unflatten(1, image_shape)
    )


method = Method(description="raises in workers", plan=plan)
"""


def no_interrupt() -> None:
    """Let a run go on."""


def open_at(directory: Path) -> Store:
    store = open_store(str(directory), RESULTS_VERSION, create=True)
    assert store is not None
    return store


def run_on_ray(
    ledger: Ledger,
    store: Store,
    data_dir: str | None = None,
    check: Callable[[], None] = no_interrupt,
    resources: Resources = RESOURCES,
) -> str:
    """Run the pending stages of a plan and return what was shown, one line per stage."""
    shown = io.StringIO()
    console = Console(file=shown, width=200)
    with Progress(ledger, Throughput(), resources.num_slots, console) as progress:
        run_plan(ledger, store, data_dir, resources, progress, check)
    return shown.getvalue()


def list_ends(shown: str) -> list[str]:
    """Return the lines that say how a stage ended, without warnings."""
    return [line for line in shown.splitlines() if line[:1].isdigit()]


def make_cells(protocol: Protocol) -> tuple[Cell, ...]:
    """Return three cells, of which two share a generator."""
    other_loss = dataclasses.replace(protocol, name="double", loss="double_softmax")
    arguments = {"dataset": TINY, "c": "1/2"}
    cgan = {"method": "cgan", "generator": "small_mlp_cgan_leaky"}
    return (
        make_cell(protocol, method="none", generator=None, **arguments),
        make_cell(protocol, **cgan, **arguments),
        make_cell(other_loss, **cgan, **arguments),
    )


@pytest.fixture
def cells(small_protocol: Protocol) -> tuple[Cell, ...]:
    return make_cells(small_protocol)


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_actor_of_tune_has_no_environment_of_its_own_and_so_takes_a_process_that_waits() -> None:
    class Worker:
        def tell(self) -> tuple[dict[str, Any], str | None]:
            return dict(ray.get_runtime_context().runtime_env), os.environ.get(RAY_CHDIR_TO_TRIAL_DIR)

    actor = class_cache._ActorClassCache().get(Worker).remote()
    assert ray.get(actor.tell.remote(), timeout=300) == ({}, "0")


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_plan_on_ray_gives_the_bits_of_its_stages_run_one_by_one_backwards(
    cells: Sequence[Cell], cpu_execution: Execution, tmp_path: Path
) -> None:
    plan = compile_study(Study(name="study", cells=tuple(cells), seeds=(0, 1)), cpu_execution)
    on_ray, plain = open_at(tmp_path / "on ray ä"), open_at(tmp_path / "plain")
    ledger = Ledger(plan, on_ray)
    lines = list_ends(run_on_ray(ledger, on_ray))
    assert ledger.summary() == "planned=6 complete=6 failed=0 diverged=0 missing=0"

    # Six classifiers, and two generators rather than four: each once, before what builds on it.
    assert len(plan.stages) == len(lines) == 8
    shown = [line.split(" ", 1)[1].split(":")[0] for line in lines]
    for stage in plan.stages.values():
        for upstream in stage.upstreams:
            assert shown.index(str(upstream)) < shown.index(str(stage))

    backwards = list(plan.stages.values())[::-1]
    for stage in [stage for stage in backwards if not stage.upstreams] + backwards:
        run_stage(stage, plain)
    for key in plan.stages:
        expected = plain.load_record(key)
        assert expected is not None
        assert ledger.records[key].deterministic() == expected.deterministic()

    event_runs = name_runs(describe_plan(plan))
    assert {read_end(on_ray, event_runs[key]) for key in plan.stages} == {"complete"}
    assert all(on_ray.files.read(log_path(key)) for key in plan.stages) and read_notes(on_ray.files) == []

    first = ledger.records[plan.runs[0].key]
    predictions_N = np.load(io.BytesIO(on_ray.read_artifact(first, "predictions")), allow_pickle=False)
    assert (predictions_N.shape, predictions_N.dtype) == ((100,), np.uint8)

    # A study that has grown runs only what is new, here with all its seeds as lanes of one trial.
    grown = compile_study(Study(name="study", cells=tuple(cells), seeds=(0, 1, 2, 3)), cpu_execution)
    ledger = Ledger(grown, on_ray)
    one_slot = dataclasses.replace(RESOURCES, num_slots=1, max_lanes=8)
    assert len(list_ends(run_on_ray(ledger, on_ray, resources=one_slot))) == 8
    assert ledger.summary() == "planned=12 complete=12 failed=0 diverged=0 missing=0"
    for run in grown.runs[6:]:
        assert ledger.records[run.key].provenance["lanes"] == 2
        if run.stage.generator_stage is not None:
            run_stage(run.stage.generator_stage, plain)
        assert ledger.records[run.key].deterministic() == run_stage(run.stage, plain).deterministic()


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_none_is_trained_once_for_all_that_act_after_training(
    small_protocol: Protocol, cpu_execution: Execution, tmp_path: Path
) -> None:
    names = ("none", "tau_norm", "nearest_class_mean")
    cells = [make_cell(small_protocol, dataset=TINY, c="1/2", method=name, generator=None) for name in names]
    plan = compile_study(Study(name="study", cells=tuple(cells), seeds=(0, 1)), cpu_execution)
    on_ray, plain = open_at(tmp_path / "on ray"), open_at(tmp_path / "plain")
    ledger = Ledger(plan, on_ray)
    run_on_ray(ledger, on_ray)
    assert ledger.summary() == "planned=6 complete=6 failed=0 diverged=0 missing=0"
    assert plan.count_stages() == {"classifier": 6, "representation": 2}
    for key, stage in plan.stages.items():
        record = ledger.records[key]
        assert record.deterministic() == run_stage(stage, plain).deterministic()
        # What came along is charged to the training that it came along with.
        assert (record.timing.device_s == 0) == (stage.kind == "representation")


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_stage_that_fails_or_diverges_takes_only_its_dependants_with_it(
    small_protocol: Protocol, cpu_execution: Execution, tmp_path: Path
) -> None:
    explosive = dataclasses.replace(small_protocol, name="explosive", classifier_learning_rate=1e30)
    explosive_cgan = dataclasses.replace(small_protocol, name="explosive", generator_learning_rate=1e30)
    mini = {"dataset": TINY, "c": "1/2"}
    (own := tmp_path / "mine.py").write_text(BROKEN_IN_WORKERS)
    method, generator = (resolve(f"{own}:{name}") for name in ("method", "generator"))
    cells = (
        make_cell(small_protocol, method="none", generator=None, **mini),
        make_cell(explosive, method="none", generator=None, **mini),
        make_cell(explosive_cgan, method="cgan", generator="small_mlp_cgan_leaky", **mini),
        make_cell(small_protocol, method=method, generator=None, **mini),
        make_cell(small_protocol, method="cgan", generator=generator, **mini),
    )
    store = open_at(tmp_path / "store")
    ledger = Ledger(compile_study(Study(name="study", cells=cells, seeds=(0,)), cpu_execution), store)
    run_on_ray(ledger, store)
    states = [ledger.state(run.key) for run in ledger.plan.runs]
    assert states == ["complete", "diverged", "diverged", "failed", "failed"]
    assert ledger.summary() == "planned=5 complete=1 failed=2 diverged=2 missing=0"
    reason = ledger.reason(ledger.plan.runs[4].key)
    assert reason.startswith("its generator failed, ") and "ValueError: not in a worker" in reason
    event_runs = name_runs(describe_plan(ledger.plan))
    ends = [read_end(store, event_runs[run.key]) for run in ledger.plan.runs]
    assert ends == ["complete", "diverged", None, "failed", None]

    # Failures and divergence are final until asked otherwise.
    assert Ledger(ledger.plan, store).pending() == {}
    ledger = Ledger(ledger.plan, store)
    ledger.forget_failures()
    assert len(ledger.pending()) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
@pytest.mark.parametrize("max_lanes", [1, 4])
def test_seed_that_a_method_does_not_apply_to_fails_alone(
    max_lanes: int, small_protocol: Protocol, cpu_execution: Execution, tmp_path: Path
) -> None:
    """With one neighbour ADASYN finds none of another class at seed 3."""
    asked: dict[str, Any] = {"dataset": "fashion_mnist_mini", "c": "1/2", "generator": None}
    cell = make_cell(small_protocol, method="adasyn:n_neighbors=1", **asked)
    plan = compile_study(Study(name="study", cells=(cell,), seeds=(0, 1, 2, 3)), cpu_execution)
    store = open_at(tmp_path / "store")
    ledger = Ledger(plan, store)
    run_on_ray(ledger, store, resources=dataclasses.replace(RESOURCES, num_slots=1, max_lanes=max_lanes))
    states = {run.stage.seed: ledger.state(run.key) for run in plan.runs}
    assert states == {0: "complete", 1: "complete", 2: "complete", 3: "failed"}
    assert "ADASYN is not applicable" in ledger.failures[plan.runs[3].key].error


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_stage_that_workers_do_not_know_is_told_and_final_on_ray(
    small_protocol: Protocol,
    cpu_execution: Execution,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Registered in this process alone, as by a user's own sweep.
    monkeypatch.setitem(METHODS, "my_own", METHODS["none"])
    mini = {"dataset": TINY, "c": "1/2"}
    cells = tuple(
        make_cell(small_protocol, method=name, generator=None, **mini) for name in ("my_own", "none")
    )
    store = open_at(tmp_path)
    ledger = Ledger(compile_study(Study(name="study", cells=cells, seeds=(0,)), cpu_execution), store)
    assert "failed, ValueError: unknown method 'my_own'" in run_on_ray(ledger, store)
    assert ledger.summary() == "planned=2 complete=1 failed=1 diverged=0 missing=0"
    assert ledger.count_causes() == {"input": 1}
    assert [message for message in caplog.messages if "lost" in message or "retried" in message] == []


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_run_without_room_for_a_trial_says_what_it_waits_for(
    cells: Sequence[Cell],
    cpu_execution: Execution,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("lt_rebalance.cluster.tuner.Waiting", functools.partial(Waiting, 0.5))

    def stop_when_said() -> None:
        if any(message.startswith("waiting") for message in caplog.messages):
            raise Interrupted(signal.SIGTERM)

    store = open_at(tmp_path)
    ledger = Ledger(compile_study(Study(name="study", cells=cells[:1], seeds=(0,)), cpu_execution), store)
    with pytest.raises(Interrupted):
        run_on_ray(ledger, store, check=stop_when_said, resources=dataclasses.replace(RESOURCES, num_gpus=1))
    (said,) = caplog.messages
    assert "for free resources for a trial, which needs 1 CPU and 1 GPU; the cluster has " in said
    assert "and 0 GPU (0 free) now" in said


class KillWorkers:
    """Kills the training workers whenever there is a new checkpoint, `times` times in all."""

    def __init__(self, store_dir: Path, times: int) -> None:
        self.store_dir = store_dir
        self.times_left = times
        self.seen: set[str] = set()

    def __call__(self) -> None:
        checkpoints = {path.name for path in self.store_dir.glob("stages/*/checkpoints/0*")}
        workers = list_workers() if self.times_left and checkpoints - self.seen else []
        if workers:
            self.seen |= checkpoints
            self.times_left -= 1
            for pid in workers:
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def long_cell(small_protocol: Protocol) -> Cell:
    """Return a cell of twelve rounds, each long enough to be killed in."""
    longer = dataclasses.replace(small_protocol, classifier_budget=Budget(steps=60, rounds=12))
    return make_cell(longer, dataset=TINY, c="1/2", method="oversample", generator=None)


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_worker_that_dies_again_and_again_ends_as_a_recorded_failure(
    long_cell: Cell, cpu_execution: Execution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lt_rebalance.cluster.tuner.MAX_LOST_WORKERS", 2)
    monkeypatch.setattr("lt_rebalance.cluster.faults.MAX_LOST_WORKERS", 2)
    store = open_at(tmp_path)
    plan = compile_study(Study(name="study", cells=(long_cell,), seeds=(0,)), cpu_execution)
    ledger = Ledger(plan, store)
    kill = KillWorkers(tmp_path, times=3)
    run_on_ray(ledger, store, check=kill)
    assert kill.times_left == 0
    assert ledger.summary() == "planned=1 complete=0 failed=1 diverged=0 missing=0"
    assert ledger.reason(plan.runs[0].key) == "its worker process or node was lost 3 times"


@pytest.mark.chaos
@pytest.mark.usefixtures("shared_ray")
def test_worker_that_dies_more_often_than_code_may_raise_still_ends_with_its_result(
    long_cell: Cell, cpu_execution: Execution, tmp_path: Path
) -> None:
    store, plain = open_at(tmp_path / "store"), open_at(tmp_path / "plain")
    plan = compile_study(Study(name="study", cells=(long_cell,), seeds=(0,)), cpu_execution)
    ledger = Ledger(plan, store)
    kill = KillWorkers(tmp_path / "store", times=MAX_ERRORS + 1)
    run_on_ray(ledger, store, check=kill)
    assert kill.times_left == 0
    assert ledger.summary() == "planned=1 complete=1 failed=0 diverged=0 missing=0"
    for run in plan.runs:
        assert ledger.records[run.key].deterministic() == run_stage(run.stage, plain).deterministic()


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_generator_whose_weights_were_damaged_is_made_again(
    cells: Sequence[Cell], cpu_execution: Execution, tmp_path: Path
) -> None:
    store = open_at(tmp_path)
    one = compile_study(Study(name="study", cells=(cells[1],), seeds=(0,)), cpu_execution)
    run_on_ray(Ledger(one, store), store)
    generator_key = one.runs[0].generator_key
    (weights,) = (tmp_path / "stages" / str(generator_key)).glob("weights-*")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))

    both = compile_study(Study(name="study", cells=tuple(cells[1:]), seeds=(0,)), cpu_execution)
    ledger = Ledger(both, store)
    lines = list_ends(run_on_ray(ledger, store))
    assert len(lines) == 2
    assert ledger.summary() == "planned=2 complete=2 failed=0 diverged=0 missing=0"
    assert len(store.list_quarantine()) == 2  # the weights, and the record that vouched for them


def test_plan_resources_counts_slots(cpu_execution: Execution) -> None:
    two_threads = dataclasses.replace(cpu_execution, num_threads=2)
    cuda = dataclasses.replace(cpu_execution, device="cuda")
    cluster = {"CPU": 9.0, "GPU": 2.0}
    assert plan_resources(cpu_execution, 1, None, None, cluster).num_slots == 9
    assert plan_resources(two_threads, 1, None, None, cluster).num_slots == 4
    assert plan_resources(cuda, 1, None, None, cluster).num_slots == 2
    assert plan_resources(cuda, 0.25, None, None, cluster).num_slots == 8
    assert plan_resources(cuda, 0.25, 3, None, {}).num_slots == 3
    assert plan_resources(cpu_execution, 1, 50, None, cluster).num_slots == 50  # more nodes may join
    assert plan_resources(cpu_execution, 1, 50, None, cluster, may_grow=False).num_slots == 9
    assert plan_resources(cuda, 0.25, None, None, cluster).bundle() == {"CPU": 1.0, "GPU": 0.25}
    assert plan_resources(cpu_execution, 1, None, None, cluster).bundle() == {"CPU": 1.0}


@pytest.mark.parametrize(
    ("gpus_per_trial", "num_slots", "cluster", "message"),
    [
        (0, None, {"CPU": 2, "GPU": 1}, "gpus_per_trial must be above 0, got 0"),
        (1, 0, {"CPU": 2, "GPU": 1}, "max_concurrent must be above 0, got 0"),
        (
            1,
            None,
            {"CPU": 2},
            "one needs 1 CPUs and 1 GPUs of one machine, and none has more than 2 and 0 now",
        ),
        (1, None, {"GPU": 1}, "no trial fits"),
        (1.5, None, {"CPU": 8, "GPU": 8}, "a share of one GPU, or a whole number of them, got 1.5"),
        (1.0001, 2, {}, "a share of one GPU, or a whole number of them"),
        (math.inf, 1, {"CPU": 2, "GPU": 1}, "a share of one GPU, or a whole number of them, got inf"),
        (math.nan, 1, {"CPU": 2, "GPU": 1}, "gpus_per_trial must be above 0, got nan"),
        (-0.5, 1, {"CPU": 2, "GPU": 1}, "gpus_per_trial must be above 0"),
        (0.00004, 1, {"CPU": 2, "GPU": 1}, "gpus_per_trial must be at least 0.0001, got 4e-05"),
        (2, None, {"CPU": 8, "GPU": 1}, "no trial fits"),
    ],
)
def test_plan_resources_refuses(
    gpus_per_trial: float,
    num_slots: int | None,
    cluster: dict[str, float],
    message: str,
    cpu_execution: Execution,
) -> None:
    cuda = dataclasses.replace(cpu_execution, device="cuda")
    with pytest.raises(ValueError, match=message):
        plan_resources(cuda, gpus_per_trial, num_slots, None, cluster)


@pytest.mark.parametrize(
    ("gpus_per_trial", "num_gpus", "expected"),
    [
        (0.15, 8, 48),  # six on each, not 8 / 0.15
        (0.6, 2, 2),  # one on each, not 2 / 0.6
        (1 / 3, 2, 6),  # Ray counts in steps of 0.0001
        (0.3334, 2, 4),
        (0.1667, 2, 10),
        (0.2501, 2, 6),
        (0.5001, 2, 2),
        (0.5, 3, 6),
        (0.99999, 3, 3),
        (2, 5, 2),
        (8, 8, 1),
    ],
)
def test_slots_are_counted_device_by_device(
    gpus_per_trial: float, num_gpus: int, expected: int, cpu_execution: Execution
) -> None:
    cuda = dataclasses.replace(cpu_execution, device="cuda")
    node = {"CPU": 100, "GPU": num_gpus}
    assert plan_resources(cuda, gpus_per_trial, None, None, node).num_slots == expected


@pytest.mark.parametrize("num_trials", range(2, 40))
def test_no_share_that_is_asked_for_is_one_that_ray_takes_to_divide_a_device(
    num_trials: int, cpu_execution: Execution
) -> None:
    """Ray lets shares exceed a device by two steps of 0.0001, and fails to run the last of them."""
    cuda = dataclasses.replace(cpu_execution, device="cuda")
    node = {"CPU": 100, "GPU": 1}
    for steps in range(round(10_000 / num_trials) - 3, round(10_000 / num_trials) + 4):
        resources = plan_resources(cuda, steps / 10_000, None, None, node)
        asked = round(resources.num_gpus * 10_000)
        assert asked in (steps, steps + 1) and resources.num_slots == 10_000 // steps
        assert resources.num_slots * asked <= 10_000
        assert not 0 < (resources.num_slots + 1) * asked - 10_000 <= 2


def test_slots_are_counted_node_by_node(cpu_execution: Execution) -> None:
    cuda = dataclasses.replace(cpu_execution, device="cuda", num_threads=2)
    three_threads = dataclasses.replace(cpu_execution, num_threads=3)
    head, small, large = {"CPU": 0}, {"CPU": 4, "GPU": 3}, {"CPU": 16, "GPU": 1}
    assert plan_resources(cuda, 1, None, None, head, small, large).num_slots == 2 + 1
    assert plan_resources(cuda, 2, None, None, head, small, large).num_slots == 1
    assert plan_resources(three_threads, 1, None, None, {"CPU": 4}, {"CPU": 5}).num_slots == 2
    with pytest.raises(ValueError, match="no trial fits"):
        plan_resources(three_threads, 1, None, None, {"CPU": 2}, {"CPU": 2})


def test_trial_that_never_fits_is_refused_where_no_node_can_come(cpu_execution: Execution) -> None:
    eight_threads = dataclasses.replace(cpu_execution, num_threads=8)
    assert plan_resources(eight_threads, 1, 3, None, {"CPU": 2}).num_slots == 3
    with pytest.raises(ValueError, match=r"lower --threads or --gpus-per-trial$"):
        plan_resources(eight_threads, 1, 3, None, {"CPU": 2}, may_grow=False)
