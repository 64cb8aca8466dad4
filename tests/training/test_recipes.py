"""Checks of optimizers, schedules and augmentation: by hand, by table, by loops; and of lanes in company."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.ground.plain import to_plain
from lt_rebalance.ground.seeding import stream_key
from lt_rebalance.studies.overrides import change_cell, read_overrides
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.training.augmentation import augment, draw_words
from lt_rebalance.training.classifier import ClassifierTraining, EvaluationSet
from lt_rebalance.training.configs import Budget, ClassifierConfig
from lt_rebalance.training.lane import TrainingSet, build_optimizer
from lt_rebalance.training.randaugment import RandAugment
from lt_rebalance.training.recipe import learning_rate
from lt_rebalance.training.stacks import ALONE, Fusion
from tests.mostly_slow import mostly_slow

CPU = torch.device("cpu")
K = 4
SPEC = DatasetSpec(
    name="toy",
    num_classes=K,
    image_shape=(3, 9, 8),
    class_names=("a", "b", "c", "d"),
    train_counts_K=(10,) * K,
    test_counts_K=(10,) * K,
    licence="none",
    sha256_by_file={"toy.npz": "0" * 64},
)
SGD = {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9}
FULL = {**SGD, "nesterov": True, "weight_decay": 1e-3, "warm_up": 0.25, "augmentation": "crop+flip+cutout"}
RECIPES: dict[str, dict[str, Any]] = {
    "adam": {},
    "adam, cosine": {"schedule": "cosine", "weight_decay": 1e-3, "warm_up": 0.25},
    "sgd without momentum": {**SGD, "momentum": 0.0},
    "sgd": SGD,
    "sgd, step": {**FULL, "schedule": "step", "milestones": "0.5+0.75", "decay": 0.2},
    "sgd, cosine": {**FULL, "schedule": "cosine"},
    "augmented": {"augmentation": "crop+flip+cutout"},
    "randaugment": {"augmentation": "flip+randaugment", "num_operations": 3, "magnitude": 20},
}

pytestmark = pytest.mark.usefixtures("one_thread")


def make_config(**changes: Any) -> ClassifierConfig:
    values: dict[str, Any] = {
        "architecture": "paper_cnn",
        "loss": "cross_entropy",
        "budget": Budget(steps=8, rounds=4),
        "batch_size": 8,
        "learning_rate": 1e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "evaluation_mode": "running_statistics",
        "selection": "last",
    }
    return ClassifierConfig(**(values | changes))


def make_images(num_images: int, seed: int) -> torch.Tensor:
    return torch.rand(num_images, *SPEC.image_shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def make_training(
    recipe: dict[str, Any], seeds: Sequence[int] = (0,), fusion: Fusion = ALONE
) -> ClassifierTraining:
    labels_N = torch.arange(20) % K
    sets = [
        TrainingSet(images_PCHW=make_images(20, seed), labels_P=labels_N, items_N=torch.arange(20))
        for seed in seeds
    ]
    test_set = EvaluationSet(images_PCHW=make_images(20, 100), labels_N=labels_N)
    config = make_config(**recipe)
    return ClassifierTraining(
        config, SPEC, CPU, "float32", seeds, sets, [None] * len(seeds), test_set, fusion
    )


def finish(training: ClassifierTraining) -> ClassifierTraining:
    while training.run_round():
        pass
    return training


def state_of(training: ClassifierTraining, index: int = 0) -> dict[str, torch.Tensor]:
    return training.get_lane_state(training.lanes[index])


def assert_equal(state: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert state.keys() == other.keys()
    assert [name for name in state if not torch.equal(state[name], other[name])] == []


@functools.cache
def alone(name: str, seed: int = 0) -> ClassifierTraining:
    """Return a finished lane of a recipe that had no company; several tests compare theirs with it."""
    return finish(make_training(RECIPES[name], [seed]))


# Optimizers


@pytest.mark.parametrize("nesterov", [False, True])
def test_two_steps_of_sgd_are_those_of_the_formula(nesterov: bool) -> None:
    """v = 0.9 v + g with g = gradient + 0.1 w; w moves by v, or with Nesterov's by g + 0.9 v, times 0.5."""
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(2.0)
    recipe = {**SGD, "learning_rate": 0.5, "weight_decay": 0.1, "nesterov": nesterov}
    optimizer = build_optimizer(network, make_config(**recipe))
    weight, velocity = 2.0, 0.0
    for gradient in (1.0, -3.0):
        network.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
        decayed = gradient + 0.1 * weight
        velocity = 0.9 * velocity + decayed
        weight -= 0.5 * (decayed + 0.9 * velocity if nesterov else velocity)
        assert network.weight.item() == pytest.approx(weight, rel=1e-6)


@pytest.mark.parametrize("name", RECIPES)
def test_training_resumed_gives_the_bits_of_one_without_interruption(name: str) -> None:
    whole = alone(name)
    first = make_training(RECIPES[name])
    first.run_round()
    resumed = make_training(RECIPES[name])
    (lane,), (twin,) = first.lanes, resumed.lanes
    resumed.set_lane_state(twin, first.get_lane_state(lane))
    for field in lane.progress_fields:
        setattr(twin, field, getattr(lane, field))
    assert_equal(state_of(finish(resumed)), state_of(whole))


@pytest.mark.parametrize("name", RECIPES)
def test_equal_seeds_give_equal_bits_and_no_two_recipes_do(name: str) -> None:
    state = state_of(finish(make_training(RECIPES[name])))
    assert_equal(state, state_of(alone(name)))
    other = state_of(alone(next(each for each in RECIPES if each != name)))
    weights = "classifier.network.0.weight"
    assert not torch.equal(state[weights], other[weights])


@pytest.mark.parametrize("form", ["separate", "vmap", "unfold"])
@pytest.mark.parametrize("name", mostly_slow(RECIPES, 2))
def test_lanes_at_once_train_by_every_recipe_as_each_alone(name: str, form: str) -> None:
    """Also where a round has been trained alone before: what the optimizer holds is taken over."""
    together = make_training(RECIPES[name], [0, 1], Fusion(form=form, max_lanes=2))
    for index in (0, 1):
        first = make_training(RECIPES[name], [index])
        first.run_round()
        lane = together.lanes[index]
        together.set_lane_state(lane, first.get_lane_state(first.lanes[0]))
        for field in lane.progress_fields:
            setattr(lane, field, getattr(first.lanes[0], field))
    finish(together)
    for index in (0, 1):
        single = alone(name, index)
        losses = [
            [row["train_loss"] for row in each.curves] for each in (together.lanes[index], single.lanes[0])
        ]
        assert losses[0] == pytest.approx(losses[1], rel=2e-3)
        if form == "separate":
            assert_equal(state_of(together, index), state_of(single))


# Schedules


def test_rates_of_cifar_lt_are_those_of_the_field_s_code() -> None:
    """0.1 after 5 epochs of warm-up, 0.001 from epoch 160 and 0.00001 from epoch 180 on, of 200."""
    cell = make_cell(
        get_protocol("cifar_lt"), dataset="fashion_mnist", c="1/2", method="none", generator=None
    )
    steps_per_epoch = 98
    expected = {0: 0.1 / 490, 244: 0.05, 489: 0.1, 490: 0.1, 159 * 98 + 97: 0.1}
    expected |= {160 * 98: 1e-3, 180 * 98 - 1: 1e-3, 180 * 98: 1e-5, 200 * 98 - 1: 1e-5}
    for step, rate in expected.items():
        assert learning_rate(cell.classifier, step, 200 * steps_per_epoch) == pytest.approx(rate), step


def test_cosine_falls_from_the_full_rate_after_the_warm_up_to_half_of_it_midway() -> None:
    config = make_config(schedule="cosine", warm_up=0.2, learning_rate=1.0)
    rates = [learning_rate(config, step, 10) for step in (0, 1, 2, 4, 6, 8)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.8535534, 0.5, 0.1464466])


def test_scheduled_rate_of_zero_steps_nowhere_and_a_rate_is_that_of_its_step() -> None:
    """With a decay close to 0 from the first quarter on, weights stay where they were then."""
    training = make_training({**SGD, "schedule": "step", "milestones": "0.25", "decay": 1e-30})
    training.run_round()
    before = state_of(training)["classifier.network.0.weight"]
    finish(training)
    assert torch.equal(state_of(training)["classifier.network.0.weight"], before)


# Augmentation


def change_slowly(image_CHW: NDArray[np.float32], words_R: list[int], names: str) -> NDArray[np.float32]:
    """Augment one image pixel by pixel."""
    _, height, width = image_CHW.shape
    pads = height // 8, width // 8
    result = np.empty_like(image_CHW)
    for row in range(height):
        for column in range(width):
            from_row, from_column = row, column
            if "flip" in names and words_R[2] % 2:
                from_column = width - 1 - column
            if "crop" in names:
                from_row += words_R[0] % (2 * pads[0] + 1) - pads[0]
                from_column += words_R[1] % (2 * pads[1] + 1) - pads[1]
            is_inside = 0 <= from_row < height and 0 <= from_column < width
            result[:, row, column] = image_CHW[:, from_row, from_column] if is_inside else -1
            in_rows = -(height // 4) <= row - words_R[3] % height < height // 4
            in_columns = -(width // 4) <= column - words_R[4] % width < width // 4
            if "cutout" in names and in_rows and in_columns:
                result[:, row, column] = 0
    return result


@pytest.mark.parametrize("names", ["crop", "flip", "cutout", "crop+flip", "crop+flip+cutout"])
@pytest.mark.parametrize("image_shape", [(1, 28, 28), (3, 17, 23)])
def test_augmented_images_are_those_of_a_loop_over_pixels(names: str, image_shape: tuple[int, ...]) -> None:
    images_LBCHW = torch.rand(2, 5, *image_shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    keys_L, step = (
        torch.tensor([stream_key(seed, "classifier_augmentation") for seed in (0, 7)]),
        torch.tensor(3),
    )
    unused = RandAugment(2, 9, (1, 28, 28), CPU)
    found = augment(images_LBCHW, keys_L, step, names.split("+"), unused)
    words_LBR = draw_words(keys_L, step, 5).tolist()
    for lane in range(2):
        for item in range(5):
            expected = change_slowly(images_LBCHW[lane, item].numpy(), words_LBR[lane][item], names)
            np.testing.assert_array_equal(found[lane, item].numpy(), expected)


def test_draws_of_a_lane_depend_on_its_seed_and_the_step_alone() -> None:
    keys_L = torch.tensor([stream_key(seed, "classifier_augmentation") for seed in (0, 1)])
    both, alone = draw_words(keys_L, torch.tensor(2), 6), draw_words(keys_L[1:], torch.tensor(2), 6)
    assert torch.equal(both[1], alone[0])
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(alone, draw_words(keys_L[1:], torch.tensor(3), 6))


def test_crops_and_flips_are_equally_frequent() -> None:
    """Of 81,000 items, each of 9 x 9 shifts is about 1,000 (six deviations: 190), and half are flipped."""
    words_NR = draw_words(torch.tensor([stream_key(0, "classifier_augmentation")]), torch.tensor(0), 81_000)[
        0
    ]
    counts = torch.bincount(words_NR[:, 0] % 9 * 9 + words_NR[:, 1] % 9, minlength=81)
    assert (counts - 1000).abs().max() < 190
    assert abs(int((words_NR[:, 2] % 2).sum()) - 40_500) < 6 * 143


# Configurations


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "lion"}, "unknown optimizer 'lion'; known: adam, sgd"),
        ({"momentum": 0.9}, "settings of optimizer 'sgd', got 'adam'"),
        ({"optimizer": "sgd", "nesterov": True}, "nesterov needs a momentum above 0"),
        ({"optimizer": "sgd", "beta1": 0.5}, "leave them at 0.9 and 0.999, got 0.5"),
        ({"momentum": 1.0, "optimizer": "sgd"}, "momentum must be at least 0 and below 1"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"schedule": "step"}, "needs milestones"),
        ({"milestones": "0.5"}, "no other takes them"),
        ({"schedule": "step", "milestones": "0.9+0.8"}, "rise between 0 and 1"),
        ({"schedule": "step", "milestones": "0.9+nan"}, "rise between 0 and 1"),
        ({"schedule": "step", "milestones": "0.5", "warm_up": 0.6}, "must end before the first milestone"),
        ({"schedule": "cosine", "decay": 0.5}, "decay belongs to schedule 'step'"),
        (
            {"augmentation": "spin"},
            "unknown augmentation 'spin'; known: none, crop, flip, randaugment, cutout",
        ),
        ({"augmentation": "flip+crop"}, "in the order crop\\+flip\\+randaugment\\+cutout"),
        ({"magnitude": 5}, "magnitude belongs to augmentation 'randaugment', got 5 with 'none'"),
        ({"augmentation": "randaugment", "magnitude": 31}, "magnitude must be 0 to 30, got 31"),
        ({"augmentation": "randaugment", "num_operations": 0}, "num_operations must be 1 to 14, got 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(**changes)


def test_configuration_without_a_recipe_keeps_its_plain_form() -> None:
    fields = {field.name for field in dataclasses.fields(ClassifierConfig)} - {"file_sha256"}
    assert fields - to_plain(make_config()).keys() == {
        *("optimizer", "momentum", "nesterov", "weight_decay", "schedule", "warm_up", "milestones", "decay"),
        *("augmentation", "num_operations", "magnitude"),
    }


def test_settings_on_the_command_line_make_a_recipe() -> None:
    cell = make_cell(get_protocol("sound"), dataset="fashion_mnist", c="1/2", method="none", generator=None)
    settings = ["optimizer=sgd", "momentum=0.9", "nesterov=true", "schedule=step", "milestones=0.5+0.9"]
    changed = change_cell(cell, read_overrides(None, [f"classifier.{each}" for each in settings]))
    assert changed.classifier.nesterov is True
    assert changed.classifier.milestones == "0.5+0.9"
    with pytest.raises(ValueError, match="must be a value of type bool, got 1"):
        read_overrides(None, ["classifier.nesterov=1"])


@pytest.mark.parametrize(("dataset", "augmentation"), [("fashion_mnist", "crop+flip"), ("mnist", "crop")])
def test_bundle_flips_what_may_be_flipped_alone(dataset: str, augmentation: str) -> None:
    cell = make_cell(get_protocol("cifar_lt"), dataset=dataset, c="1/2", method="none", generator=None)
    assert cell.classifier.augmentation == augmentation
    assert (cell.classifier.architecture, cell.classifier.batch_size) == ("resnet32", 128)
