"""Checks of what is measured before a training: step times, and how lanes are fused on a GPU."""

import argparse
import dataclasses
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from lt_rebalance.commands.options import read_axes
from lt_rebalance.commands.sweep import main, make_axes_parser
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS
from lt_rebalance.networks.discriminator import Discriminator
from lt_rebalance.networks.generators.generator import Generator
from lt_rebalance.networks.generators.registry import GENERATORS
from lt_rebalance.stages import calibration
from lt_rebalance.stages.arithmetic import Throughput, stage_flop
from lt_rebalance.stages.calibration import (
    LARGEST_BATCH,
    LARGEST_STEP_FLOP,
    MEASURED_STEPS,
    PATIENCE_S,
    build_made_up_training,
    choose_fusion,
    measure_step_s,
)
from lt_rebalance.stages.kinds import KINDS
from lt_rebalance.studies.axes import make_presets
from lt_rebalance.studies.protocols import PROTOCOLS, Protocol, make_cell
from lt_rebalance.studies.stage import AnyStage, ClassifierStage
from lt_rebalance.studies.study import Study
from lt_rebalance.studies.workload import smallest_batch, stage_batching, stage_round_ends
from lt_rebalance.training import forms
from lt_rebalance.training.configs import Budget, Execution
from lt_rebalance.training.stacks import ALONE, FORMS, Fusion
from tests.own_networks import register


@pytest.fixture
def stage(small_protocol: Protocol, cpu_execution: Execution) -> ClassifierStage:
    mini = {"dataset": "fashion_mnist_mini", "c": "1/2"}
    cell = make_cell(small_protocol, method="cgan", generator="small_mlp_cgan_leaky", **mini)
    return cell.stage(0, cpu_execution)


def on_gpu(stage: ClassifierStage) -> ClassifierStage:
    return dataclasses.replace(stage, execution=dataclasses.replace(stage.execution, device="cuda"))


def test_step_time_is_that_of_all_lanes_in_the_round_after_the_warm_up(
    stage: ClassifierStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each program's round reads the clock twice; rounds of 0.2 s, 50 s and 12 s, for both programs together.
    # The stage has 6 steps, so that 1, 2 and 2 are made.
    times = iter([0, 0.1, 0.1, 0.2, 1, 26, 26, 51, 60, 66, 66, 72])
    monkeypatch.setattr("lt_rebalance.training.rounds.time.perf_counter", lambda: next(times))
    assert measure_step_s(stage, 4, Fusion(form="separate", max_lanes=2)) == pytest.approx(12 / 2)


@pytest.mark.parametrize("kind", ["generator", "classifier"])
def test_made_up_lanes_train_as_the_stage_would(kind: str, stage: ClassifierStage) -> None:
    of_kind: AnyStage | None = stage if kind == "classifier" else stage.generator_stage
    assert of_kind is not None
    training = build_made_up_training(of_kind, 2, Fusion(form="vmap", max_lanes=2), 8)
    for _ in range(4):
        training.run_round()
    assert [(lane.is_finished, lane.is_diverged) for lane in training.lanes] == [(True, False)] * 2
    assert [len(lane.training_set) for lane in training.lanes] == [8] * 2


@dataclasses.dataclass
class CountedTraining:
    """Stands for a training of any size: counts the steps and the images it is handed, at a made-up speed."""

    lanes: list[Any]
    num_images: int
    image_s: float
    images: int = 0
    steps: int = 0

    def run_round(self) -> None:
        (lane,) = self.lanes
        steps = lane.round_ends[lane.round] - lane.step
        lane.round, lane.step = lane.round + 1, lane.round_ends[lane.round]
        lane.train_s += steps * self.num_images * self.image_s
        self.steps += steps
        self.images += steps * self.num_images


def count_measurement(stage: AnyStage, image_s: float, monkeypatch: pytest.MonkeyPatch) -> CountedTraining:
    """Return what a measurement for a forecast hands to a training."""
    made: list[CountedTraining] = []

    def build(stage: AnyStage, num_lanes: int, fusion: Fusion, batch_size: int) -> CountedTraining:
        lane = SimpleNamespace(round_ends=[1, 2, 3, 4], round=0, step=0, train_s=0.0)
        made.append(CountedTraining(lanes=[lane] * num_lanes, num_images=batch_size, image_s=image_s))
        return made[-1]

    monkeypatch.setattr(calibration, "build_made_up_training", build)
    throughput = Throughput()
    throughput.calibrate(stage)
    flop_per_s = stage_flop(stage) / (throughput.seconds(stage) or math.nan)
    assert flop_per_s * image_s == pytest.approx(KINDS[stage.kind].image_flop(stage))
    (training,) = made
    return training


def random_stage(numbers: random.Random, execution: Execution) -> AnyStage:
    steps = numbers.choice((1, 2, 3, 5, 18_000))
    budget = numbers.choice((Budget(steps=steps, rounds=1), Budget(epochs=numbers.randint(1, 3))))
    protocol = dataclasses.replace(
        PROTOCOLS[numbers.choice(tuple(PROTOCOLS))],
        classifier_budget=budget,
        generator_budget=budget,
        classifier_batch_size=numbers.choice((1, 2, 8, 100, 600, 8000, 10**7)),
        generator_batch_size=numbers.choice((2, 8, 256, 600, 8000, 10**7)),
        generator_training_method=numbers.choice(("none", "undersample", "oversample")),
    )
    cell = make_cell(
        protocol,
        dataset=numbers.choice(("fashion_mnist_mini", "fashion_mnist")),
        c=numbers.choice(("1/10", "1/2", "7/9", "11/12")),
        method="cgan",
        generator=numbers.choice(tuple(GENERATORS)),
    )
    device = numbers.choice(("cpu", "cuda"))
    stage = cell.stage(0, dataclasses.replace(execution, device=device))
    generator_stage = stage.generator_stage
    return generator_stage if generator_stage is not None and numbers.random() < 0.5 else stage


def test_measurement_is_never_larger_than_its_work_nor_than_its_bounds(
    cpu_execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = random.Random(7)
    for _ in range(300):
        stage = random_stage(numbers, cpu_execution)
        batching, planned_steps = stage_batching(stage), stage_round_ends(stage)[-1]
        image_s = 10.0 ** numbers.uniform(-6, 2)
        found = count_measurement(stage, image_s, monkeypatch)
        assert 1 <= found.steps <= planned_steps
        assert found.images <= batching.images_seen(planned_steps)
        assert smallest_batch(stage) <= found.num_images <= min(batching.num_items, batching.batch_size)
        assert found.num_images <= LARGEST_BATCH
        step_flop = found.num_images * KINDS[stage.kind].image_flop(stage)
        bound = LARGEST_STEP_FLOP[stage.execution.device]
        assert step_flop <= bound or found.num_images == smallest_batch(stage)
        if stage.execution.device == "cpu":
            first_s = found.num_images * image_s
            assert found.lanes[0].train_s <= first_s + PATIENCE_S * (1 + 1e-9)


def test_work_within_the_bounds_is_measured_as_it_is(
    stage: ClassifierStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = dataclasses.replace(
        stage, classifier=dataclasses.replace(stage.classifier, budget=Budget(steps=1000, rounds=10))
    )
    found = count_measurement(long, 1e-6, monkeypatch)
    assert (found.num_images, found.steps) == (8, 1 + 2 * MEASURED_STEPS)


@pytest.mark.slow
def test_plan_with_a_batch_larger_than_the_set_measures_no_more_than_the_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The set of C = 1/2 has 614 images after 600 of each class are cut; its batches hold 8000."""
    sizes = []
    real = calibration._made_up_items

    def count(num_items: int, *arguments: Any) -> Any:
        sizes.append(num_items)
        return real(num_items, *arguments)

    monkeypatch.setattr(calibration, "_made_up_items", count)
    parser = make_axes_parser("?", make_presets(methods=("none",), cs=("1/2",)))
    arguments = ["--plan", "--set", "classifier.batch_size=8000", "--seeds", "1", "--device", "cpu"]
    arguments += ["--precision", "float32", "--storage", str(tmp_path / "none")]

    def build_study(options: argparse.Namespace) -> Study:
        axes = read_axes("sweep", options, make_presets(methods=("none",), cs=("1/2",)))
        return Study(name="s", cells=axes.cells(), seeds=axes.seeds)

    assert main(parser, build_study, arguments) == 0
    assert "time: " in capsys.readouterr().out
    assert len(sizes) == 1 and sizes[0] <= 614


def test_lanes_that_diverge_while_they_are_measured_are_still_timed(stage: ClassifierStage) -> None:
    diverging = dataclasses.replace(
        stage,
        classifier=dataclasses.replace(
            stage.classifier, learning_rate=1e30, budget=Budget(steps=100, rounds=1)
        ),
    )
    assert 0 < measure_step_s(diverging) < math.inf


@pytest.mark.parametrize("selection", ["last", "best_validation", "oracle_best_test"])
@pytest.mark.parametrize("mode", ["running_statistics", "batch_statistics"])
def test_every_way_to_test_a_classifier_can_be_measured(
    selection: str, mode: str, stage: ClassifierStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(
        monkeypatch,
        CLASSIFIERS,
        "over_items",
        lambda num_classes, image_shape: nn.Sequential(
            nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, num_classes)
        ),
    )
    classifier = dataclasses.replace(
        stage.classifier, architecture="over_items", selection=selection, evaluation_mode=mode
    )
    assert measure_step_s(dataclasses.replace(stage, classifier=classifier)) > 0


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
    monkeypatch.setattr(calibration, "_count_fitting_lanes", lambda stage, num_lanes: num_fitting)
    calibration._choose_on_gpu.cache_clear()
    for seed in (0, 1):
        fusion = choose_fusion(on_gpu(stage).with_seed(seed), num_lanes)
        assert fusion == Fusion(form="vmap", max_lanes=expected)
    assert measured == [(expected, expected)] * 3  # once for all seeds
    assert math.ceil(num_lanes / expected) == math.ceil(num_lanes / min(num_lanes, num_fitting))
    calibration._choose_on_gpu.cache_clear()


# Forms that a network cannot be computed in


class Branching(nn.Module):
    """Choose by the values what is computed, which vmap cannot."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return 2 * values if values.mean() > 0 else values


def build_branching(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), num_classes), Branching())


@pytest.fixture
def choice(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have all lanes fit, so that a CPU chooses as a GPU would; nothing is kept from one test to another."""
    monkeypatch.setattr(calibration, "_count_fitting_lanes", lambda stage, num_lanes: num_lanes)
    for cached in (calibration._choose_on_gpu, calibration._pass_over):
        cached.cache_clear()
    yield
    for cached in (calibration._choose_on_gpu, calibration._pass_over):
        cached.cache_clear()


def of_architecture(stage: ClassifierStage, architecture: str) -> ClassifierStage:
    return dataclasses.replace(
        stage, classifier=dataclasses.replace(stage.classifier, architecture=architecture)
    )


def forget_times(monkeypatch: pytest.MonkeyPatch, faults: dict[str, Exception]) -> list[str]:
    """Have stacked forms be faster and some forms fail when measured; return a list of those measured."""
    measured = []

    def measure(stage: AnyStage, num_lanes: int, fusion: Fusion) -> float:
        measured.append(fusion.form)
        if fusion.form in faults:
            raise faults[fusion.form]
        return {"separate": 3.0, "vmap": 2.0, "unfold": 1.0}[fusion.form]

    monkeypatch.setattr(calibration, "measure_step_s", measure)
    return measured


@pytest.mark.usefixtures("choice", "one_thread")
@pytest.mark.parametrize(
    "architecture",
    [pytest.param(name, marks=pytest.mark.slow if name == "resnet18" else ()) for name in CLASSIFIERS],
)
def test_every_classifier_has_all_its_forms_measured_and_one_chosen(
    architecture: str, stage: ClassifierStage, caplog: pytest.LogCaptureFixture
) -> None:
    """Measured as it is, with two steps of two lanes."""
    short = dataclasses.replace(stage.classifier, budget=Budget(steps=3, rounds=1), batch_size=4)
    chosen = calibration._choose_on_gpu(
        of_architecture(dataclasses.replace(stage, classifier=short), architecture), 2
    )
    assert chosen.form in FORMS and chosen.max_lanes == 2
    assert caplog.messages == []


@pytest.mark.usefixtures("choice", "one_thread")
def test_form_that_cannot_compute_a_network_is_passed_over_and_told_once(
    stage: ClassifierStage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    register(monkeypatch, CLASSIFIERS, "branching", build_branching)
    measured = forget_times(monkeypatch, {})
    for num_lanes in (2, 3):
        chosen = choose_fusion(on_gpu(of_architecture(stage, "branching")), num_lanes)
        assert chosen == Fusion(form="separate", max_lanes=num_lanes)
    assert measured == ["separate"] * 2
    told = r"lanes of branching are not computed in the form {}: layer 2 \(Branching\): RuntimeError: "
    assert len(caplog.messages) == 2
    for form, message in zip(("vmap", "unfold"), caplog.messages, strict=True):
        assert re.match(told.format(form), message) and len(message.splitlines()) == 1


@pytest.mark.usefixtures("choice", "one_thread")
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("made up"),
        TypeError("made up"),
        AssertionError("made up"),
        torch.OutOfMemoryError("made up"),
    ],
)
def test_measurement_survives_every_form_that_fails(
    error: Exception,
    stage: ClassifierStage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where all fail, lanes go on one after another, and what is wrong shows when they train."""
    forget_times(monkeypatch, {"unfold": error})
    assert choose_fusion(on_gpu(stage), 2).form == "vmap"
    told = f"lanes of paper_cnn are not computed in the form unfold: {type(error).__name__}: made up"
    assert caplog.messages == [told]
    calibration._choose_on_gpu.cache_clear()
    forget_times(monkeypatch, dict.fromkeys(FORMS, error))
    assert choose_fusion(on_gpu(stage), 2).form == "separate"


@pytest.mark.usefixtures("choice", "one_thread")
def test_forms_of_a_cgan_are_tried_on_both_of_its_networks(
    stage: ClassifierStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    monkeypatch.setattr(
        "lt_rebalance.training.forms.find_fault", lambda form, make: tried.append((form, type(make(0)[0])))
    )
    for cached in (forms._try_generator, forms._try_partner):
        cached.cache_clear()
    forget_times(monkeypatch, {})
    assert stage.generator_stage is not None
    generator_stage = dataclasses.replace(stage.generator_stage, execution=on_gpu(stage).execution)
    assert choose_fusion(generator_stage, 2).form == "unfold"
    assert tried == [(form, network) for form in FORMS for network in (Generator, Discriminator)]
    for cached in (forms._try_generator, forms._try_partner):
        cached.cache_clear()
