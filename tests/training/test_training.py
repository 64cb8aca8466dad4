"""Checks of what both trainings share: batch order, training sets, lanes, Adam, state."""

import copy
import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from lt_rebalance.training import lane as lane_module
from lt_rebalance.training.batches import Batching
from lt_rebalance.training.lane import (
    STEPS_READ_AT_ONCE,
    BatchOrder,
    Lane,
    TrainingSet,
    TrainingState,
    autocast,
    build_adam,
    get_state,
    next_lanes,
    read_batches,
    set_state,
    stack,
    to_floats,
)

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


# Batch order


def make_order(
    num_items: int = 20, batch_size: int = 8, seed: int = 0, purpose: str = "classifier_batches"
) -> BatchOrder:
    return BatchOrder(Batching(num_items=num_items, batch_size=batch_size, smallest=1), seed, purpose, CPU)


def read_pass(order: BatchOrder, index: int) -> list[int]:
    steps = range(index * order.batching.steps_per_pass, (index + 1) * order.batching.steps_per_pass)
    return torch.cat([order[step] for step in steps]).tolist()


@pytest.mark.parametrize(
    ("num_items", "batch_size", "sizes"),
    [(20, 8, [8, 8, 4]), (16, 8, [8, 8]), (7, 10, [7]), (3, 1, [1, 1, 1]), (9, 8, [8, 1])],
)
def test_batch_order_has_batches_of_the_size_asked_for_and_a_smaller_last(
    num_items: int, batch_size: int, sizes: list[int]
) -> None:
    order = make_order(num_items, batch_size)
    assert order.batching.steps_per_pass == len(sizes)
    assert [len(order[step]) for step in range(2 * len(sizes))] == 2 * sizes
    assert [order.size(step) for step in range(2 * len(sizes))] == 2 * sizes


@pytest.mark.parametrize(("num_items", "batch_size"), [(20, 8), (16, 8), (7, 10), (3, 1)])
def test_batch_order_shows_every_item_once_a_pass(num_items: int, batch_size: int) -> None:
    order = make_order(num_items, batch_size)
    for index in range(3):
        assert sorted(read_pass(order, index)) == list(range(num_items))


def test_batch_order_of_60000_items_keeps_the_last_batch_of_96() -> None:
    order = make_order(60_000, 256, purpose="generator_batches")
    assert order.batching.steps_per_pass == 235
    assert [len(order[step]) for step in (0, 233, 234, 235)] == [256, 256, 96, 256]


def test_batch_order_differs_between_passes() -> None:
    order = make_order()
    passes = [read_pass(order, index) for index in range(3)]
    assert passes[0] != passes[1] != passes[2] != passes[0]


def test_batch_order_is_equal_for_equal_seeds_and_differs_for_different_seeds_and_purposes() -> None:
    same, again = make_order(), make_order()
    others = [make_order(seed=1), make_order(purpose="generator_batches")]
    assert read_pass(same, 0) == read_pass(again, 0)
    for other in others:
        assert read_pass(same, 0) != read_pass(other, 0)


def test_batch_order_asked_for_any_step_gives_what_it_gives_in_turn() -> None:
    order = make_order()
    in_turn = [order[step].tolist() for step in range(12)]
    steps = [11, 0, 4, 10, 4, 1, 9, 2, 8, 3, 7, 6, 5]
    assert [order[step].tolist() for step in steps] == [in_turn[step] for step in steps]
    assert make_order()[7].tolist() == in_turn[7]


# Training sets and lanes


def test_training_set_batch_follows_items_into_the_pool() -> None:
    training_set = TrainingSet(
        images_PCHW=torch.tensor([0.0, 0.1, 0.2]).reshape(3, 1, 1, 1),
        labels_P=torch.tensor([5, 6, 7]),
        items_N=torch.tensor([0, 2, 2, 1]),
    )
    images_BCHW, labels_B = training_set.batch(torch.tensor([3, 1, 2]))
    assert len(training_set) == 4
    assert images_BCHW.flatten().tolist() == pytest.approx([0.1, 0.2, 0.2])
    assert labels_B.tolist() == [6, 7, 7]


def make_training_set(num_items: int, seed: int = 0) -> TrainingSet:
    generator = torch.Generator().manual_seed(seed)
    return TrainingSet(
        images_PCHW=torch.rand(num_items, 1, 2, 2, generator=generator),
        labels_P=torch.arange(num_items) % 3,
        items_N=torch.randperm(num_items, generator=generator),
    )


@pytest.mark.parametrize("num_lanes", [1, 3])
@pytest.mark.parametrize("num_steps", [1, STEPS_READ_AT_ONCE, STEPS_READ_AT_ONCE + 5])
def test_read_batches_gives_every_lane_its_own_batches_in_order(num_lanes: int, num_steps: int) -> None:
    lanes = [make_lane(0, seed=seed) for seed in range(num_lanes)]
    steps = range(2, 2 + num_steps)
    read = list(read_batches(lanes, steps))
    assert len(read) == num_steps
    for step, (images_LBCHW, labels_LB) in zip(steps, read, strict=True):
        assert len(images_LBCHW) == len(labels_LB) == num_lanes
        for lane, images_BCHW, labels_B in zip(lanes, images_LBCHW, labels_LB, strict=True):
            expected = lane.training_set.batch(lane.batches[step])
            assert torch.equal(images_BCHW, expected[0])
            assert torch.equal(labels_B, expected[1])


def plain_floats(images: torch.Tensor) -> torch.Tensor:
    """Return what whole sets of images were made into before any batch was read."""
    return images.float().div_(127.5).sub_(1)


def test_bytes_become_the_floats_of_the_plain_formula_in_a_batch_of_any_size() -> None:
    bytes_P = torch.arange(256, dtype=torch.uint8)
    whole_P = plain_floats(bytes_P)
    assert whole_P[[0, 51, 255]].tolist() == [-1.0, pytest.approx(-0.6), 1.0]
    for size in (1, 3, 8, 17, 256):  # with and without what is left over of vector instructions
        parts = [to_floats(part) for part in bytes_P.split(size)]
        assert torch.equal(torch.cat(parts).view(torch.int32), whole_P.view(torch.int32))
    assert bytes_P.tolist() == list(range(256))
    floats = torch.tensor([0.25, -1.0])
    assert to_floats(floats) is floats


def draw_bytes(num_images: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(256, (num_images, 1, 2, 2), dtype=torch.uint8, generator=generator)


def test_items_beyond_the_pool_are_synthetic_images_as_they_are_in_bits() -> None:
    real_PCHW = draw_bytes(3)
    synthetic_SCHW = torch.tensor([0.3, float("nan")]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
    training_set = TrainingSet(
        images_PCHW=real_PCHW,
        labels_P=torch.tensor([5, 6, 7, 8, 9]),
        items_N=torch.tensor([4, 2, 2, 3, 0]),
        synthetic_SCHW=synthetic_SCHW,
    )
    images_BCHW, labels_B = training_set.batch(torch.arange(5))
    expected = torch.cat([plain_floats(real_PCHW), synthetic_SCHW])[[4, 2, 2, 3, 0]]
    assert images_BCHW.dtype == torch.float32
    assert torch.equal(images_BCHW.view(torch.int32), expected.view(torch.int32))
    assert labels_B.tolist() == [9, 7, 7, 8, 5]
    assert training_set.count_classes(10).tolist() == [0, 0, 0, 0, 0, 1, 0, 2, 1, 1]


@pytest.mark.parametrize("most_bytes", [1, 2 * 8 * 4 * 4 * 3, 2**28])
def test_large_images_are_read_fewer_steps_at_once_and_are_the_same(
    most_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "READ_AT_ONCE_BYTES", most_bytes)
    lanes = [make_lane(0, seed=seed) for seed in range(2)]
    for lane in lanes:
        lane.training_set = dataclasses.replace(lane.training_set, images_PCHW=draw_bytes(20))
    read = list(read_batches(lanes, range(6)))
    sizes = [images_LBCHW.untyped_storage().nbytes() for images_LBCHW, _ in read]
    # Of two lanes in batches of 8, 8 and 4 items with 4 pixels each, as floats.
    assert max(sizes) == {1: 256, 768: 2 * 20 * 4 * 4}.get(most_bytes, 2 * 40 * 4 * 4)
    for step, (images_LBCHW, _) in enumerate(read):
        for lane, images_BCHW in zip(lanes, images_LBCHW, strict=True):
            positions_B = lane.training_set.items_N[lane.batches[step]]
            assert torch.equal(images_BCHW, plain_floats(draw_bytes(20))[positions_B])


def test_stack_copies_several_tensors_and_not_a_single_one() -> None:
    first, second = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    assert stack([first, second]).tolist() == [[1, 2], [3, 4]]
    assert stack([first]).tolist() == [[1, 2]]
    assert stack([first]).data_ptr() == first.data_ptr()


def make_lane(round_: int, is_diverged: bool = False, seed: int = 0) -> Lane:
    return Lane(
        seed=seed,
        training_set=make_training_set(20, seed),
        batches=make_order(seed=seed),
        round_ends=[2, 4, 6],
        round=round_,
        is_diverged=is_diverged,
    )


def test_lane_is_finished_when_its_budget_is_used_or_it_has_diverged() -> None:
    lanes = [make_lane(0), make_lane(2), make_lane(3), make_lane(1, is_diverged=True)]
    assert [lane.is_finished for lane in lanes] == [False, False, True, True]


def test_next_lanes_are_the_unfinished_ones_furthest_behind() -> None:
    lanes = [make_lane(2), make_lane(1), make_lane(0, is_diverged=True), make_lane(3), make_lane(1)]
    assert next_lanes(lanes) == [lanes[1], lanes[4]]


def test_next_lanes_of_finished_lanes_are_none() -> None:
    assert next_lanes([make_lane(3), make_lane(1, is_diverged=True)]) == []


# Precision and Adam


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_autocast_computes_in_the_precision_asked_for(precision: str, dtype: torch.dtype) -> None:
    with autocast(CPU, precision):
        outputs = nn.Linear(2, 2)(torch.ones(1, 2))
    assert outputs.dtype == dtype


@dataclass(frozen=True)
class Hyperparameters:
    """Values of Adam that are not its defaults."""

    learning_rate: float = 0.03
    beta1: float = 0.7
    beta2: float = 0.8


def test_build_adam_steps_as_the_formula_says() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)
    optimizer = build_adam(layer, Hyperparameters())
    weight, first_moment, second_moment = 2.0, 0.0, 0.0
    for step, gradient in enumerate([0.5, -2.0, 1.0], start=1):
        layer.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        first_moment = 0.7 * first_moment + 0.3 * gradient
        second_moment = 0.8 * second_moment + 0.2 * gradient**2
        corrected = (first_moment / (1 - 0.7**step), second_moment / (1 - 0.8**step))
        weight -= 0.03 * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        assert float(layer.weight.detach()) == pytest.approx(weight, rel=1e-6)


# State


class Trainee:
    """A small network in the memory format of the classifiers, with its Adam."""

    def __init__(self, seed: int) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = nn.Sequential(
                nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(12, 2)
            ).to(memory_format=torch.channels_last)
        self.optimizer = build_adam(self.network, Hyperparameters())

    def train(self, steps: range) -> None:
        """Take one step on images that the number of the step names."""
        for step in steps:
            images = torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(step))
            loss = self.network(images).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def get_state(self) -> TrainingState:
        return get_state(self.network, self.optimizer, "trainee")

    def set_state(self, state: TrainingState) -> None:
        set_state(self.network, self.optimizer, "trainee", state)


def list_differences(state: TrainingState, other: TrainingState) -> list[str]:
    assert state.keys() == other.keys()
    return [name for name in state if not torch.equal(state[name], other[name])]


def test_state_is_flat_named_and_holds_parameters_buffers_and_moments() -> None:
    trainee = Trainee(0)
    trainee.train(range(2))
    state = trainee.get_state()
    num_parameters = len(list(trainee.network.parameters()))
    num_buffers = len(list(trainee.network.buffers()))
    assert len(state) == num_parameters + num_buffers + 3 * num_parameters
    assert {name.split(".")[0] for name in state} == {"trainee"}
    assert all(tensor.is_contiguous() and tensor.device == CPU for tensor in state.values())


@pytest.mark.parametrize("num_steps", [0, 1, 3])
def test_state_set_in_another_network_is_read_back_bit_for_bit(num_steps: int) -> None:
    trainee, other = Trainee(0), Trainee(1)
    trainee.train(range(num_steps))
    state = trainee.get_state()
    other.set_state(state)
    assert list_differences(other.get_state(), state) == []


@pytest.mark.parametrize("num_steps", [0, 1, 3])
def test_training_resumed_from_state_continues_bit_for_bit(num_steps: int) -> None:
    trainee, other = Trainee(0), Trainee(1)
    trainee.train(range(num_steps))
    other.set_state(copy.deepcopy(trainee.get_state()))
    for one in (trainee, other):
        one.train(range(num_steps, num_steps + 3))
    assert list_differences(other.get_state(), trainee.get_state()) == []


def test_training_after_get_state_leaves_the_state_unchanged() -> None:
    trainee = Trainee(0)
    trainee.train(range(2))
    state = trainee.get_state()
    before = copy.deepcopy(state)
    trainee.train(range(2, 4))
    assert list_differences(state, before) == []


def test_training_after_set_state_leaves_the_state_unchanged() -> None:
    trainee, other = Trainee(0), Trainee(1)
    trainee.train(range(2))
    state = trainee.get_state()
    before = copy.deepcopy(state)
    other.set_state(state)
    other.train(range(2, 4))
    assert list_differences(state, before) == []


def test_set_state_reads_only_its_own_prefix() -> None:
    trainee, other = Trainee(0), Trainee(1)
    for one in (trainee, other):
        one.train(range(1))
    mixed = get_state(other.network, other.optimizer, "other") | trainee.get_state()
    fresh = Trainee(2)
    fresh.set_state(mixed)
    assert list_differences(fresh.get_state(), trainee.get_state()) == []
