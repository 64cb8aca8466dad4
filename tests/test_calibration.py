"""Checks of what is measured before a training: step times, and how lanes are fused on a GPU."""

import dataclasses
import math

import pytest
import torch

from lt_rebalance import calibration
from lt_rebalance.calibration import build_made_up_training, choose_fusion, measure_step_s
from lt_rebalance.configs import Execution
from lt_rebalance.lane_stacks import ALONE, Fusion
from lt_rebalance.protocols import Protocol, make_cell
from lt_rebalance.study import AnyStage, ClassifierStage


@pytest.fixture
def stage(small_protocol: Protocol, cpu_execution: Execution) -> ClassifierStage:
    mini = {"dataset": "fashion_mnist_mini", "c": "1/2"}
    cell = make_cell(small_protocol, method="cgan", generator="small_mlp_cgan_leaky", **mini)
    return cell.stage(0, cpu_execution)


def on_gpu(stage: ClassifierStage) -> ClassifierStage:
    return dataclasses.replace(stage, execution=dataclasses.replace(stage.execution, device="cuda"))


def test_step_time_is_that_of_all_lanes_in_the_second_round(
    stage: ClassifierStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each program's round reads the clock twice; rounds of 100 s, then of 12 s, for both programs together.
    times = iter([0, 50, 50, 100, 100, 106, 106, 112])
    monkeypatch.setattr("lt_rebalance.lanes.time.perf_counter", lambda: next(times))
    assert measure_step_s(stage, 4, Fusion(form="separate", max_lanes=2)) == pytest.approx(12 / 6)


@pytest.mark.parametrize("kind", ["generator", "classifier"])
def test_made_up_lanes_train_as_the_stage_would(kind: str, stage: ClassifierStage) -> None:
    of_kind: AnyStage | None = stage if kind == "classifier" else stage.generator_stage
    assert of_kind is not None
    training = build_made_up_training(of_kind, 2, Fusion(form="vmap", max_lanes=2))
    training.run_round()
    training.run_round()
    assert [(lane.is_finished, lane.is_diverged) for lane in training.lanes] == [(True, False)] * 2
    config = stage.classifier if isinstance(of_kind, ClassifierStage) else of_kind.generator
    assert [len(lane.training_set) for lane in training.lanes] == [config.batch_size] * 2


def test_lanes_on_a_cpu_and_a_single_lane_train_alone(stage: ClassifierStage) -> None:
    assert choose_fusion(stage, 10) == ALONE
    assert choose_fusion(on_gpu(stage), 1) == ALONE


@pytest.mark.parametrize(
    ("num_lanes", "num_fitting", "expected"), [(10, 100, 10), (12, 10, 6), (10, 4, 4), (10, 3, 3), (7, 1, 1)]
)
def test_lanes_on_a_gpu_take_the_fastest_form_in_equal_programs_that_fit(
    stage: ClassifierStage,
    num_lanes: int,
    num_fitting: int,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The measurements are made up: they stand for a GPU."""
    measured = []

    def measure(stage: AnyStage, num_lanes: int, fusion: Fusion) -> float:
        measured.append((num_lanes, fusion.max_lanes))
        if fusion.form == "unfold":
            raise torch.OutOfMemoryError("made up")
        return {"separate": 3.0, "vmap": 2.0}[fusion.form]

    monkeypatch.setattr(calibration, "measure_step_s", measure)
    monkeypatch.setattr(calibration, "_count_fitting_lanes", lambda stage: num_fitting)
    calibration._choose_on_gpu.cache_clear()
    for seed in (0, 1):
        fusion = choose_fusion(on_gpu(stage).with_seed(seed), num_lanes)
        assert fusion == Fusion(form="vmap", max_lanes=expected)
    assert measured == [(expected, expected)] * 3  # once for all seeds
    assert math.ceil(num_lanes / expected) == math.ceil(num_lanes / min(num_lanes, num_fitting))
    calibration._choose_on_gpu.cache_clear()
