"""Checks that no network meets a batch that it cannot learn from, and that no other batch moves."""

import argparse
import dataclasses
import itertools
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lt_rebalance.commands.sweep import main, make_axes_parser
from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.generation.cgan import CGANTraining
from lt_rebalance.methods.registry import MethodConfig
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS
from lt_rebalance.networks.generators.generator import LABEL_DIM, NOISE_DIM
from lt_rebalance.networks.generators.registry import GENERATORS
from lt_rebalance.stages.arithmetic import stage_flop
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import open_store
from lt_rebalance.studies.plan import compile_study
from lt_rebalance.studies.protocols import PROTOCOLS, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from lt_rebalance.studies.workload import count_items, stage_batching, stage_round_ends
from lt_rebalance.training.batches import Batching
from lt_rebalance.training.batching import smallest_classifier_batch, smallest_generator_batch
from lt_rebalance.training.classifier import ClassifierTraining, EvaluationSet
from lt_rebalance.training.configs import Budget, ClassifierConfig, Execution, GeneratorConfig
from lt_rebalance.training.lane import BatchOrder, TrainingSet
from lt_rebalance.training.stacks import ALONE, FORMS, Fusion
from sweeps import ablate_cgan_training_set
from tests.mostly_slow import mostly_slow
from tests.own_networks import register

CPU = torch.device("cpu")
K = 2
SPEC = DatasetSpec(
    name="toy",
    num_classes=K,
    image_shape=(1, 4, 4),
    class_names=("a", "b"),
    train_counts_K=(10,) * K,
    test_counts_K=(10,) * K,
    licence="none",
    sha256_by_file={"toy.npz": "0" * 64},
)
NEEDS_TWO = {"big_mlp_cgan_leaky"}
"""of the networks that the package has"""
OPTIMIZER = {"learning_rate": 1e-4, "beta1": 0.9, "beta2": 0.999}


pytestmark = pytest.mark.usefixtures("one_thread")


def linear_classifier(*layers: nn.Module) -> Callable[..., nn.Module]:
    return lambda num_classes, image_shape: nn.Sequential(
        nn.Flatten(), nn.Linear(16, 4), *layers, nn.Flatten(), nn.Linear(4, num_classes)
    )


def narrow_generator(image_shape: Any) -> nn.Module:
    """Normalise over channels of one value each, in two dimensions."""
    return nn.Sequential(
        nn.Linear(NOISE_DIM + LABEL_DIM, 16), nn.Unflatten(1, (16, 1, 1)), nn.BatchNorm2d(16), nn.Flatten(),
        nn.Unflatten(1, image_shape),
    )  # fmt: skip


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add networks that normalise in other ways to those of the package."""
    for name, build in {
        "plain": linear_classifier(),
        "over_items": linear_classifier(nn.BatchNorm1d(4)),
        "over_points": linear_classifier(nn.Unflatten(1, (4, 1, 1)), nn.BatchNorm2d(4)),
        "over_maps": linear_classifier(nn.Unflatten(1, (1, 2, 2)), nn.BatchNorm2d(1)),
    }.items():
        register(monkeypatch, CLASSIFIERS, name, build)
    register(monkeypatch, GENERATORS, "narrow", narrow_generator)


def make_items(num_items: int) -> TrainingSet:
    images_PCHW = torch.linspace(-1, 1, num_items * 16).view(num_items, 1, 4, 4)
    items_N = torch.arange(num_items)
    return TrainingSet(images_PCHW=images_PCHW, labels_P=items_N % K, items_N=items_N)


def train_cgan(architecture: str, num_items: int, batch_size: int, fusion: Fusion = ALONE) -> Any:
    config = GeneratorConfig(
        architecture=architecture,
        training_method=MethodConfig(name="none", draw=None),
        budget=Budget(epochs=2),
        batch_size=batch_size,
        **OPTIMIZER,
    )
    lanes = range(fusion.max_lanes)
    sets = [make_items(num_items) for _ in lanes]
    return finish(CGANTraining(config, SPEC, CPU, "float32", lanes, sets, fusion))


def train_classifier(
    architecture: str, num_items: int, batch_size: int, num_tested: int = 101, mode: str = "batch_statistics"
) -> Any:
    config = ClassifierConfig(
        architecture=architecture,
        loss="cross_entropy",
        budget=Budget(epochs=2),
        batch_size=batch_size,
        evaluation_mode=mode,
        selection="last",
        **OPTIMIZER,
    )
    tested = make_items(num_tested)
    test_set = EvaluationSet(images_PCHW=tested.images_PCHW, labels_N=tested.labels_P)
    items = [make_items(num_items)]
    return finish(ClassifierTraining(config, SPEC, CPU, "float32", [0], items, [None], test_set))


def finish(training: Any) -> Any:
    for _ in range(2):
        training.run_round()
    assert all(lane.is_finished and not lane.is_diverged for lane in training.lanes)
    return training


def test_what_is_left_over_joins_the_batch_before_where_it_is_too_small_and_nowhere_else() -> None:
    def sizes(num_items: int, batch_size: int, smallest: int) -> list[int]:
        return Batching(num_items=num_items, batch_size=batch_size, smallest=smallest).sizes

    assert sizes(9, 4, 2) == [4, 5]
    assert sizes(9, 4, 1) == [4, 4, 1]
    assert sizes(10, 4, 2) == sizes(10, 4, 1) == [4, 4, 2]
    assert sizes(8, 4, 2) == [4, 4]
    assert sizes(3, 4, 2) == [3]
    assert sizes(3, 2, 2) == [3]
    assert sizes(673, 32, 2) == [32] * 20 + [33]


def test_every_item_is_seen_once_a_pass_and_no_batch_is_too_small() -> None:
    numbers = random.Random(12)
    for _ in range(500):
        smallest = numbers.choice((1, 2, 3))
        num_items = numbers.randint(smallest, 200)
        batching = Batching(num_items=num_items, batch_size=numbers.randint(smallest, 60), smallest=smallest)
        order = BatchOrder(batching, numbers.randint(0, 9), "classifier_batches", CPU)
        steps = range(batching.steps_per_pass, 2 * batching.steps_per_pass)
        batches = [order[step].tolist() for step in steps]
        assert sorted(itertools.chain(*batches)) == list(range(num_items))
        assert [len(batch) for batch in batches] == [order.size(step) for step in steps] == batching.sizes
        assert min(batching.sizes) >= smallest
        assert max(batching.sizes) < batching.batch_size + smallest
        seen = [batching.images_seen(num_steps) for num_steps in range(3 * batching.steps_per_pass + 1)]
        assert [after - before for before, after in itertools.pairwise(seen)] == batching.sizes * 3
        if smallest == 1:  # the batches that there have always been
            parts = torch.arange(num_items).split(batching.batch_size)
            assert batching.sizes == [len(part) for part in parts]


def list_classifiers() -> list[str]:
    """Return those that take images of 4 x 4."""
    return [name for name in CLASSIFIERS if name != "resnet18"]


@pytest.mark.usefixtures("networks")
def test_smallest_batch_is_a_property_of_the_network_and_not_of_its_name() -> None:
    for name in GENERATORS:
        assert smallest_generator_batch(name, SPEC) == (2 if name in {*NEEDS_TWO, "narrow"} else 1), name
    found = {name: smallest_classifier_batch(name, SPEC) for name in list_classifiers()}
    of_resnets = {"resnet20": 2, "resnet32": 2, "resnet20_group_norm": 1}  # 4 x 4 images, halved twice
    of_package = {"paper_cnn": 1, "paper_cnn_dropout": 1} | of_resnets
    assert found == of_package | {"plain": 1, "over_items": 2, "over_points": 2, "over_maps": 1}


def test_network_that_takes_the_name_of_another_is_tried_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for layers, expected in (((), 1), ((nn.BatchNorm1d(4),), 2), ((), 1)):
        register(monkeypatch, CLASSIFIERS, "changing", linear_classifier(*layers))
        assert smallest_classifier_batch("changing", SPEC) == expected


@pytest.mark.slow
@pytest.mark.usefixtures("networks")
def test_random_trainings_meet_no_batch_that_their_network_cannot_take() -> None:
    numbers = random.Random(6)
    for _ in range(12):
        batch_size = numbers.randint(2, 7)
        num_items = batch_size * numbers.randint(1, 3) + numbers.choice((0, 1, 1, 1, 2))
        train_classifier(numbers.choice(list_classifiers()), num_items, batch_size)
        generator = numbers.choice((*NEEDS_TWO, "narrow", "mlp_cgan_relu"))
        lane = train_cgan(generator, num_items, batch_size).lanes[0]
        assert lane.step == 2 * lane.batches.batching.steps_per_pass


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("architecture", [*NEEDS_TWO, "narrow"])
@pytest.mark.usefixtures("networks")
def test_fused_lanes_meet_no_batch_of_one(form: str, architecture: str) -> None:
    training = train_cgan(architecture, 9, 4, Fusion(form=form, max_lanes=3))
    assert [(lane.step, lane.round) for lane in training.lanes] == [(4, 2)] * 3


@pytest.mark.usefixtures("networks")
def test_test_in_training_mode_meets_no_batch_of_one() -> None:
    """101 images in batches of 100, and a batch of 100 alone: the statistics of each batch are its own."""
    for num_tested in (2, 100, 101, 201):
        training = train_classifier("over_items", 8, 4, num_tested)
        assert len(training.lanes[0].predictions_N) == num_tested
    with pytest.raises(ValueError, match="at least 2 items, got 1"):
        train_classifier("over_items", 8, 4, 1)
    train_classifier("over_items", 8, 4, 1, mode="running_statistics")


@pytest.mark.parametrize("generator", mostly_slow(GENERATORS, 1))
@pytest.mark.parametrize("training_method", ["none", "oversample", "undersample"])
def test_every_c_and_batch_size_is_planned_without_a_batch_of_one_or_refused(
    generator: str, training_method: str, cpu_execution: Execution
) -> None:
    cs = ["1/10", "8/11", "11/18", *(f"{n}/{n + 1}" for n in range(1, 12, 2))]
    for batch_size in (1, 2, 3, 32, 100, 256, 8000):
        protocol = dataclasses.replace(
            PROTOCOLS["paper"], generator_batch_size=batch_size, generator_training_method=training_method
        )
        for c in cs:
            cell = make_cell(protocol, dataset="fashion_mnist_mini", c=c, method="cgan", generator=generator)
            study = Study(name="s", cells=(cell,), seeds=(0,))
            if batch_size == 1 and generator in NEEDS_TWO:
                with pytest.raises(ValueError, match=rf"cell {cell}: .* got [\d,]+ items in batches of 1"):
                    compile_study(study, cpu_execution)
                continue
            stage = compile_study(study, cpu_execution).runs[0].stage.generator_stage
            assert stage is not None
            batching = stage_batching(stage)
            assert sum(batching.sizes) == count_items(stage)
            assert min(batching.sizes) > 1 or generator not in NEEDS_TWO
            assert stage_round_ends(stage)[0] == batching.steps_per_pass
            assert stage_flop(stage) > 0


@pytest.mark.slow
def test_step_counts_of_plan_and_record_agree(tmp_path: Path, cpu_execution: Execution) -> None:
    """673 images in batches of 336 are 3 batches, the last one of a single image; here 2."""
    protocol = dataclasses.replace(
        PROTOCOLS["sound"],
        generator_batch_size=336,
        generator_training_method="none",
        generator_budget=Budget(epochs=2),
    )
    store = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert store is not None
    num_steps = {}
    for generator in ("big_mlp_cgan_leaky", "small_mlp_cgan_leaky"):
        cell = make_cell(protocol, dataset="fashion_mnist_mini", c="1/10", method="cgan", generator=generator)
        stage = cell.stage(0, cpu_execution).generator_stage
        assert stage is not None
        assert count_items(stage) == 673
        record = run_stage(stage, store)
        assert record.num_steps == stage_round_ends(stage)[-1] == record.curves[-1]["step"]
        num_steps[generator] = record.num_steps
    assert num_steps == {"big_mlp_cgan_leaky": 4, "small_mlp_cgan_leaky": 6}


def plan_ablation(*arguments: str) -> int:
    parser: argparse.ArgumentParser = make_axes_parser(
        ablate_cgan_training_set.__doc__, ablate_cgan_training_set.PRESETS
    )
    given = [*arguments, "--device", "cpu", "--generators", "big_mlp_cgan_leaky", "--plan"]
    return main(parser, ablate_cgan_training_set.build_study, given)


def test_command_plans_a_last_batch_of_one_and_refuses_what_is_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = ["--storage", str(tmp_path / "none"), "--seeds", "1"]
    assert plan_ablation("--c", "1/10", "8/11", "11/18", "--steps", "2", *storage) == 0
    capsys.readouterr()
    assert plan_ablation("--c", "1/10", "--set", "generator.batch_size=1", *storage) == 2
    refusal = capsys.readouterr().err
    assert re.search(r"error: cell sound\S* 1/10 big_mlp_cgan_leaky: .*6,\d+ items in batches of 1;", refusal)
    assert "generator.batch_size to 2" in refusal
    assert plan_ablation("--c", "1/10", "--set", "data.validation_per_class=600", *storage) == 2
    assert "and below the smallest class" in capsys.readouterr().err


def test_set_of_one_item_in_all_is_refused_with_its_number(
    monkeypatch: pytest.MonkeyPatch, cpu_execution: Execution
) -> None:
    monkeypatch.setattr("lt_rebalance.studies.workload.count_items", lambda stage: 1)
    cell = make_cell(
        PROTOCOLS["paper"],
        dataset="fashion_mnist_mini",
        c="1/2",
        method="cgan",
        generator="big_mlp_cgan_leaky",
    )
    with pytest.raises(ValueError, match=rf"cell {cell}: .*got 1 item in batches of 256"):
        compile_study(Study(name="s", cells=(cell,), seeds=(0,)), cpu_execution)
