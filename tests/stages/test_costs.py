"""Checks of the costs: arithmetic against hand counts and torch's own counter, speed, time left."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.long_tail import Cut, draw_subset, parse_c
from lt_rebalance.generation.images import sample_images
from lt_rebalance.generation.training import build_generator_training
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS, build_classifier
from lt_rebalance.networks.generators.registry import GENERATORS
from lt_rebalance.stages.arithmetic import Remaining, Throughput, stage_flop
from lt_rebalance.stages.size import checkpoint_bytes
from lt_rebalance.store.records import Record, Timing
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.stage import AnyStage, ClassifierStage, GeneratorStage, RepresentationStage
from lt_rebalance.training.classifier import ClassifierTraining, EvaluationSet
from lt_rebalance.training.configs import Budget, Execution
from lt_rebalance.training.device import torch_version
from lt_rebalance.training.lane import TrainingSet
from tests.mostly_slow import mostly_slow

EXECUTION = Execution(device="cpu", precision="float32", num_threads=1, torch_version=torch_version())
SMALL = "small_mlp_cgan_leaky"
CPU = torch.device("cpu")

# A multiplication and an addition for every weight and position, layer by layer, for an image of 1 x 28 x 28.
FIRST_CONVOLUTION_FLOP = 2 * 9 * 1 * 32 * 28 * 28
CNN_FLOP = FIRST_CONVOLUTION_FLOP + 2 * (
    9 * 32 * 32 * 28 * 28 + 9 * 32 * 48 * 14 * 14 + 9 * 48 * 64 * 14 * 14 + 3136 * 128 + 128 * 10
)
SMALL_GENERATOR_FLOP = 2 * (110 * 256 + 256 * 512 + 512 * 784)
DISCRIMINATOR_FLOP = 2 * (794 * 1024 + 1024 * 512 + 512 * 256 + 256 * 1)
# Real and fake images train the discriminator (forward, backward to inputs and to weights, so 3 + 3 passes);
# fake images pass once more, forward and backward to the inputs; the generator takes 3 passes.
CGAN_IMAGE_FLOP = 3 * SMALL_GENERATOR_FLOP + 8 * DISCRIMINATOR_FLOP


@pytest.fixture(autouse=True)
def keep_num_threads() -> Iterator[None]:
    """Undo what measuring does to the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def make_classifier_stage(
    method: str = "none",
    *,
    protocol: str = "paper",
    dataset: str = "fashion_mnist",
    c: str | None = "1/2",
    seed: int = 0,
    data: dict[str, Any] | None = None,
    **classifier: Any,
) -> ClassifierStage:
    """Return a classifier stage of a protocol, with some fields of its data and classifier set otherwise."""
    generator = SMALL if method == "cgan" else None
    cell = make_cell(get_protocol(protocol), dataset=dataset, c=c, method=method, generator=generator)
    cell = dataclasses.replace(
        cell,
        data=dataclasses.replace(cell.data, **(data or {})),
        classifier=dataclasses.replace(cell.classifier, **classifier),
    )
    return cell.stage(seed, EXECUTION)


def make_generator_stage(
    architecture: str = SMALL, *, protocol: str = "paper", seed: int = 0, **config: Any
) -> GeneratorStage:
    """Return a generator stage of a protocol on C = 1/2, with some fields of its generator set otherwise."""
    cell = make_cell(
        get_protocol(protocol), dataset="fashion_mnist", c="1/2", method="cgan", generator=architecture
    )
    stage = cell.stage(seed, EXECUTION).generator_stage
    assert stage is not None
    return dataclasses.replace(stage, generator=dataclasses.replace(stage.generator, **config))


def make_items(num_items: int) -> TrainingSet:
    items_N = torch.arange(num_items)
    images_PCHW = torch.linspace(-1, 1, num_items * 784).view(num_items, 1, 28, 28)
    return TrainingSet(images_PCHW=images_PCHW, labels_P=items_N % 10, items_N=items_N)


# Arithmetic


@pytest.mark.parametrize("architecture", GENERATORS)
def test_stage_flop_of_a_cgan_step_is_what_torch_counts(architecture: str) -> None:
    stage = make_generator_stage(architecture, budget=Budget(steps=1, rounds=1), batch_size=4)
    spec = get_dataset_spec("fashion_mnist")
    training = build_generator_training(stage.generator, spec, CPU, "float32", [0], [make_items(4)])
    with FlopCounterMode(display=False) as counter:
        training.run_round()
    # A finished generator draws one image of each class, to see that it still does.
    with FlopCounterMode(display=False) as drawing:
        sample_images(training.lanes[0].generator, torch.arange(10), torch.Generator())
    counted = counter.get_total_flops() - drawing.get_total_flops()
    if architecture == "cvae":
        counted += 4 * 2 * 784 * 400  # the gradient of four images, which torch leaves out
    # If images or noise have no label beside them, torch leaves out their gradients. The singular vectors of
    # a projection GAN are computed once per step, not once per image.
    allowed = {"acgan": 0.03, "projection_gan": 0.03}.get(architecture, 0.0)
    assert stage_flop(stage) == pytest.approx(counted, rel=allowed, abs=0)


def test_stage_flop_of_a_cgan_step_is_counted_by_hand() -> None:
    assert (SMALL_GENERATOR_FLOP, DISCRIMINATOR_FLOP) == (1_121_280, 2_937_344)
    stage = make_generator_stage(budget=Budget(steps=1, rounds=1), batch_size=1)
    assert stage_flop(stage) == CGAN_IMAGE_FLOP


@pytest.mark.parametrize("architecture", mostly_slow(CLASSIFIERS, 1))
def test_stage_flop_of_a_classifier_step_is_what_torch_counts_but_for_the_gradient_of_images(
    architecture: str,
) -> None:
    stage = make_classifier_stage(budget=Budget(steps=1, rounds=1), batch_size=4, architecture=architecture)
    items, spec = make_items(4), get_dataset_spec("fashion_mnist")
    test_set = EvaluationSet(images_PCHW=items.images_PCHW[:1], labels_N=items.labels_P[:1])
    config = stage.classifier
    training = ClassifierTraining(config, spec, CPU, "float32", [0], [items], [None], test_set)
    with FlopCounterMode(display=False) as counter:
        training.run_round()
    network = training.lanes[0].network
    with FlopCounterMode(display=False) as testing:
        network(items.images_PCHW[:1])
    first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    # Here one image is tested, not 10,000, and torch leaves out the gradient of four images.
    left_out = 9_999 * testing.get_total_flops() + 4 * 2 * first.weight.numel() * 28 * 28
    assert stage_flop(stage) == counter.get_total_flops() + left_out


def test_stage_flop_of_a_tested_image_is_counted_by_hand() -> None:
    assert CNN_FLOP == 31_964_672
    once = make_classifier_stage(budget=Budget(steps=2, rounds=1))
    twice = make_classifier_stage(budget=Budget(steps=2, rounds=2))
    assert stage_flop(twice) - stage_flop(once) == 10_000 * CNN_FLOP


def test_stage_flop_of_resnet20_is_counted_by_hand() -> None:
    convolutions = 9 * (1 * 16 + 6 * 16**2) * 28**2
    convolutions += 9 * (16 * 32 + 5 * 32**2) * 14**2 + 9 * (32 * 64 + 5 * 64**2) * 7**2
    once, twice = (
        make_classifier_stage(budget=Budget(steps=2, rounds=rounds), architecture="resnet20")
        for rounds in (1, 2)
    )
    assert stage_flop(twice) - stage_flop(once) == 10_000 * 2 * (convolutions + 64 * 10)


@pytest.mark.parametrize("architecture", CLASSIFIERS)
def test_checkpoints_of_a_classifier_are_sized_by_its_parameters(architecture: str) -> None:
    """Three at a time, each with a number and two moments of 4 bytes for every parameter."""
    network = build_classifier(architecture, 10, (1, 28, 28))
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    stage = make_classifier_stage(architecture=architecture)
    assert checkpoint_bytes(stage) == 3 * 3 * 4 * num_parameters


@pytest.mark.parametrize(
    ("protocol", "c", "method", "num_images"),
    [
        # 30 epochs of 60,000 images, of 24,817 and 11,990 (whose last batches are of 17 and 90), and of ten
        # times the smallest class: 625 and 12.
        ("paper", None, "none", 30 * 60_000),
        ("paper", "7/9", "none", 30 * 24_817),
        ("paper", "1/2", "none", 30 * 11_990),
        ("paper", "7/9", "undersample", 30 * 6_250),
        ("paper", "1/2", "undersample", 30 * 120),
        ("paper", "1/2", "oversample", 30 * 60_000),
        ("paper", "1/2", "cgan", 30 * 60_000),
        # 18,000 steps in passes of 600, of 120 and of 2 steps (100 images and 20); or of 249 steps: 72 passes
        # and 72 more steps, all of 100.
        ("sound", None, "none", 18_000 * 100),
        ("sound", "1/2", "oversample", 18_000 * 100),
        ("sound", "1/2", "cgan", 18_000 * 100),
        ("sound", "1/2", "none", 150 * 11_990),
        ("sound", "1/2", "undersample", 9_000 * 120),
        ("sound", "7/9", "none", 72 * 24_817 + 72 * 100),
    ],
)
def test_stage_flop_of_a_full_classifier_run_is_counted_by_hand(
    protocol: str, c: str | None, method: str, num_images: int
) -> None:
    # Both protocols test 30 times; training takes three passes an image.
    expected = CNN_FLOP * (3 * num_images + 30 * 10_000)
    assert stage_flop(make_classifier_stage(method, protocol=protocol, c=c)) == expected


@pytest.mark.parametrize(("num_steps", "num_images"), [(1, 100), (2, 120), (3, 220), (4, 240), (5, 340)])
def test_stage_flop_counts_the_small_last_batch_of_each_pass(num_steps: int, num_images: int) -> None:
    stage = make_classifier_stage("undersample", budget=Budget(steps=num_steps, rounds=1))
    assert stage_flop(stage) == CNN_FLOP * (3 * num_images + 10_000)


@pytest.mark.parametrize(
    ("protocol", "num_images"),
    # 96 epochs of 60,000; 23,500 steps are 100 passes of 235 steps, the last of 96 images.
    [("paper", 96 * 60_000), ("sound", 100 * 60_000)],
)
def test_stage_flop_of_a_full_generator_run_is_counted_by_hand(protocol: str, num_images: int) -> None:
    assert stage_flop(make_generator_stage(protocol=protocol)) == num_images * CGAN_IMAGE_FLOP


def test_stage_flop_with_validation_tests_more_and_trains_on_less() -> None:
    stage = make_classifier_stage(
        c=None, data={"validation_per_class": 500}, budget=Budget(epochs=2), selection="best_validation"
    )
    assert stage_flop(stage) == CNN_FLOP * 2 * (3 * 55_000 + 10_000 + 5_000)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_stage_flop_of_permuted_classes_of_different_sizes_follows_the_seed(seed: int) -> None:
    stage = make_classifier_stage(
        dataset="mnist",
        c="7/9",
        seed=seed,
        data={"subset_draw": "per_seed", "class_order": "permuted"},
        budget=Budget(epochs=1),
    )
    labels_N = np.repeat(np.arange(10), get_dataset_spec("mnist").train_counts_K)
    subset = draw_subset(
        labels_N,
        10,
        cut=Cut(profile=None, value=parse_c("7/9")),
        subset_draw="per_seed",
        class_order="permuted",
        validation_per_class=0,
        seed=seed,
    )
    assert stage_flop(stage) == CNN_FLOP * (3 * sum(subset.counts_K) + 10_000)


# Throughput


def make_record(stage: AnyStage, train_s: float, state: str = "complete") -> Record:
    return Record(
        key=stage.key,
        kind=stage.kind,
        state=state,
        stage=stage.to_dict(),
        num_steps=1,
        class_counts=(1,),
        training_counts=(1,),
        synthetic_counts=(0,),
        rank_groups={},
        metrics={},
        confusion=(),
        quality_per_class={},
        curves=(),
        artifacts={},
        timing=Timing(wall_s=2 * train_s, train_s=train_s, num_errors=0),
        provenance={},
    )


def test_throughput_predicts_with_the_median_of_what_it_observed() -> None:
    throughput = Throughput()
    for seed, seconds in enumerate([8.0, 2.0, 100.0]):
        stage = make_classifier_stage(seed=seed)
        throughput.observe_record(stage, make_record(stage, seconds))
    # The median speed is that of the stage of 8 s.
    assert throughput.seconds(make_classifier_stage(seed=9)) == pytest.approx(8)


def test_throughput_of_two_observations_lies_midway_between_their_speeds() -> None:
    throughput = Throughput()
    for seed, seconds in enumerate([1.0, 3.0]):
        throughput.observe(make_classifier_stage(seed=seed), 1.0, seconds)
    # Speeds 1 and 1/3 of a stage a second, midway 2/3.
    assert throughput.seconds(make_classifier_stage(seed=9)) == pytest.approx(1.5)


def test_throughput_predicts_other_stages_by_their_arithmetic() -> None:
    throughput = Throughput()
    throughput.observe(make_generator_stage(budget=Budget(epochs=5)), 1.0, 10)
    assert throughput.seconds(make_generator_stage(budget=Budget(epochs=15))) == pytest.approx(30)


def test_throughput_learns_from_a_share_of_a_stage_and_goes_by_its_latest_word() -> None:
    throughput = Throughput()
    stage = make_generator_stage()
    throughput.observe(stage, 0.25, 3)
    assert throughput.seconds(stage) == pytest.approx(12)
    throughput.observe(stage, 0.5, 10)
    assert throughput.seconds(stage) == pytest.approx(20)


@pytest.mark.parametrize(("share", "train_s"), [(0.0, 1.0), (0.5, 0.0)])
def test_throughput_of_nothing_done_learns_nothing(share: float, train_s: float) -> None:
    throughput = Throughput()
    throughput.observe(make_generator_stage(), share, train_s)
    assert throughput.seconds(make_generator_stage()) is None


def test_throughput_of_an_unknown_kind_goes_by_the_other_until_its_own_is_known() -> None:
    throughput = Throughput()
    generator, classifier = make_generator_stage(), make_classifier_stage()
    assert throughput.seconds(generator) is None
    assert throughput.seconds(classifier) is None
    throughput.observe(generator, 1.0, 10)
    speed = 96 * 60_000 * CGAN_IMAGE_FLOP / 10
    expected = CNN_FLOP * (3 * 30 * 11_990 + 30 * 10_000) / speed
    assert throughput.seconds(classifier) == pytest.approx(expected)
    throughput.observe(classifier, 1.0, 7)
    assert throughput.seconds(classifier) == pytest.approx(7)
    assert throughput.seconds(generator) == pytest.approx(10)


def test_throughput_ignores_a_diverged_record() -> None:
    throughput = Throughput()
    stage = make_classifier_stage()
    throughput.observe_record(stage, make_record(stage, 5.0, state="diverged"))
    assert throughput.seconds(stage) is None


@pytest.mark.parametrize(
    "stage",
    [make_generator_stage(batch_size=8), make_classifier_stage(batch_size=8)],
    ids=["generator", "classifier"],
)
def test_calibrate_measures_a_stage_of_an_unknown_kind(stage: AnyStage) -> None:
    throughput = Throughput()
    throughput.calibrate(stage)
    seconds = throughput.seconds(stage)
    assert seconds is not None
    assert 0 < seconds < float("inf")


def test_calibrate_leaves_an_observed_kind_alone_and_measures_the_other() -> None:
    throughput = Throughput()
    generator, classifier = make_generator_stage(batch_size=8), make_classifier_stage(batch_size=8)
    throughput.observe(generator, 1.0, 10)
    by_generators = throughput.seconds(classifier)
    throughput.calibrate(generator)
    assert throughput.seconds(generator) == pytest.approx(10)
    throughput.calibrate(classifier)
    assert throughput.seconds(generator) == pytest.approx(10)
    measured = throughput.seconds(classifier)
    assert measured not in (None, by_generators)
    throughput.calibrate(make_classifier_stage(seed=1, batch_size=8))
    assert throughput.seconds(classifier) == measured


def test_all_that_trains_a_classifier_is_of_one_speed() -> None:
    """The first training of two, and trainings that are judged on validation images, are not measured."""
    stage = make_classifier_stage("none", batch_size=8, selection="last")
    stage = dataclasses.replace(stage, data=dataclasses.replace(stage.data, validation_per_class=2))
    first = RepresentationStage(
        **{each.name: getattr(stage, each.name) for each in dataclasses.fields(stage)}
    )
    others = [first, stage.on_validation()]
    throughput = Throughput()
    throughput.observe(stage, 1.0, 10)
    for other in others:
        assert throughput.seconds(other) == pytest.approx(10 * stage_flop(other) / stage_flop(stage))
        throughput.calibrate(other)  # which would take another speed
        assert throughput.seconds(other) == pytest.approx(10 * stage_flop(other) / stage_flop(stage))


# Time left


def test_representation_that_a_pending_run_of_none_trains_as_well_costs_nothing() -> None:
    none = make_classifier_stage(evaluation_mode="running_statistics")
    twin = none.as_representation()
    assert twin is not None
    both = Remaining({stage.key: stage for stage in (none, twin)})
    assert both.works[twin.key][1] == 0 and both.works[none.key][1] == stage_flop(none)
    assert Remaining({twin.key: twin}).works[twin.key][1] == stage_flop(twin) > 0


def make_chain() -> tuple[GeneratorStage, ClassifierStage, ClassifierStage]:
    """Return a generator stage and two classifier stages that build on it and cost the same."""
    first = make_classifier_stage("cgan")
    second = make_classifier_stage("cgan", loss="cross_entropy")
    assert first.generator_stage is not None
    assert first.generator_stage == second.generator_stage
    return first.generator_stage, first, second


def make_throughput(generator_s: float, classifier_s: float) -> Throughput:
    """Return a throughput that has observed the stages of `make_chain` take these numbers of seconds."""
    generator, classifier, _ = make_chain()
    throughput = Throughput()
    throughput.observe(generator, 1.0, generator_s)
    throughput.observe(classifier, 1.0, classifier_s)
    return throughput


@pytest.mark.parametrize(
    ("num_slots", "expected_s"),
    # 10 + 4 + 4 seconds of work; no number of slots shortens the chain of 10 + 4.
    [(1, 18), (2, 14), (100, 14)],
)
def test_remaining_time_divides_work_by_slots_down_to_the_longest_chain(
    num_slots: int, expected_s: float
) -> None:
    pending = {stage.key: stage for stage in make_chain()}
    assert Remaining(pending).seconds(make_throughput(10, 4), num_slots, {}) == pytest.approx(expected_s)


@pytest.mark.parametrize(
    ("num_slots", "share", "expected_s"),
    # Half the generator is left: 5 + 4 + 4 of work, a chain of 5 + 4.
    [(1, 0.5, 13), (2, 0.5, 9), (1, 1.0, 8), (2, 1.0, 4)],
)
def test_remaining_time_counts_what_running_stages_have_done(
    num_slots: int, share: float, expected_s: float
) -> None:
    stages = make_chain()
    pending = {stage.key: stage for stage in stages}
    left = Remaining(pending).seconds(make_throughput(10, 4), num_slots, {stages[0].key: share})
    assert left == pytest.approx(expected_s)


@pytest.mark.parametrize(("num_slots", "expected_s"), [(1, 8), (2, 4), (4, 4)])
def test_remaining_time_does_not_wait_for_a_generator_that_is_done(num_slots: int, expected_s: float) -> None:
    pending = {stage.key: stage for stage in make_chain()[1:]}
    assert Remaining(pending).seconds(make_throughput(10, 4), num_slots, {}) == pytest.approx(expected_s)


def test_remaining_time_of_unknown_speed_is_none() -> None:
    pending = {stage.key: stage for stage in make_chain()}
    assert Remaining(pending).seconds(Throughput(), 2, {}) is None


@pytest.mark.parametrize("throughput", [Throughput(), make_throughput(10, 4)])
def test_remaining_time_of_nothing_is_zero(throughput: Throughput) -> None:
    assert Remaining({}).seconds(throughput, 2, {}) == 0
