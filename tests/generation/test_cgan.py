"""Checks of the conditional GAN on toy images: one step by an independent recipe, lanes, samples."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.generation.cgan import CGANTraining
from lt_rebalance.generation.images import SAMPLING_BATCH, sample_images
from lt_rebalance.generation.training import GeneratorLane
from lt_rebalance.ground.seeding import STREAMS, stream_key, torch_stream
from lt_rebalance.methods.registry import MethodConfig
from lt_rebalance.networks.discriminator import Discriminator, draw_kept
from lt_rebalance.networks.generators.generator import Generator
from lt_rebalance.networks.generators.registry import build_generator
from lt_rebalance.networks.initialization import build_network
from lt_rebalance.training.batches import Batching
from lt_rebalance.training.configs import Budget, GeneratorConfig
from lt_rebalance.training.lane import BatchOrder, TrainingSet, TrainingState

CPU = torch.device("cpu")
K = 4
SPEC = DatasetSpec(
    name="toy",
    num_classes=K,
    image_shape=(1, 8, 8),
    class_names=("a", "b", "c", "d"),
    train_counts_K=(10,) * K,
    test_counts_K=(10,) * K,
    licence="none",
    sha256_by_file={"toy.npz": "0" * 64},
)
SMALL, BIG = "small_mlp_cgan_leaky", "big_mlp_cgan_leaky"


pytestmark = pytest.mark.usefixtures("one_thread")


def make_config(**changes: Any) -> GeneratorConfig:
    values: dict[str, Any] = {
        "architecture": SMALL,
        "training_method": MethodConfig(name="none", draw=None),
        "budget": Budget(steps=6, rounds=3),
        "batch_size": 8,
        "learning_rate": 2e-4,
        "beta1": 0.9,
        "beta2": 0.999,
    }
    return GeneratorConfig(**(values | changes))


def make_training_set(seed: int = 0, num_images: int = 20) -> TrainingSet:
    generator = torch.Generator().manual_seed(seed)
    images_PCHW = torch.rand(num_images, 1, 8, 8, generator=generator) * 2 - 1
    labels_P = torch.arange(num_images) % K
    return TrainingSet(images_PCHW=images_PCHW, labels_P=labels_P, items_N=torch.arange(num_images))


def make_training(
    config: GeneratorConfig,
    seeds: Sequence[int] = (0,),
    training_sets: Sequence[TrainingSet] | None = None,
    precision: str = "float32",
) -> CGANTraining:
    training_sets = training_sets or [make_training_set(seed) for seed in seeds]
    return CGANTraining(config, SPEC, CPU, precision, seeds, training_sets)


def finish(training: CGANTraining) -> CGANTraining:
    while training.run_round():
        pass
    return training


def list_differences(state: TrainingState, other: TrainingState) -> list[str]:
    assert state.keys() == other.keys()
    return [name for name in state if not torch.equal(state[name], other[name])]


def get_progress(lane: GeneratorLane) -> dict[str, Any]:
    """Return what a checkpoint keeps of a lane beside tensors, as a copy."""
    return copy.deepcopy({name: getattr(lane, name) for name in lane.progress_fields})


def assert_same_result(training: CGANTraining, index: int, other: CGANTraining, at: int) -> None:
    """Check that two lanes agree bit for bit in everything but time."""
    lane, twin = training.lanes[index], other.lanes[at]
    assert list_differences(training.get_lane_state(lane), other.get_lane_state(twin)) == []
    assert get_progress(lane) | {"train_s": 0} == get_progress(twin) | {"train_s": 0}


# One step, by the published recipe


def judge(discriminator: Discriminator, images: Tensor, labels: Tensor, masks: list[Tensor]) -> Tensor:
    """Return the probability of being real, with the dropout masks given."""
    hidden = torch.cat([images.flatten(1), discriminator.label_embedding(labels)], dim=1)
    for layer, mask in zip(discriminator.hidden, masks, strict=True):
        hidden = nn.functional.leaky_relu(layer(hidden), 0.2) * mask / 0.7
    return torch.sigmoid(discriminator.output(hidden)).squeeze(1)


def draw_masks(seed: int, step: int, num_images: int) -> list[Tensor]:
    keys_L = torch.tensor([stream_key(seed, "discriminator_dropout")])
    (kept_NH,) = draw_kept(keys_L, torch.tensor(step), num_images)
    return [kept_NH[:, :1024], kept_NH[:, 1024:1536], kept_NH[:, 1536:]]


class Recipe:
    """A plain CGAN: real and fake apart, sigmoid and BCELoss, the generator run twice a step."""

    def __init__(self, lane: GeneratorLane, learning_rate: float) -> None:
        self.generator = copy.deepcopy(lane.generator).train()
        self.discriminator = copy.deepcopy(lane.partner)
        self.generator_adam, self.discriminator_adam = (
            torch.optim.Adam(network.parameters(), lr=learning_rate, betas=(0.9, 0.999), foreach=False)
            for network in (self.generator, self.discriminator)
        )
        self.seed = lane.seed
        self.num_steps = 0

    def start_round(self, index: int, num_items: int) -> None:
        """Draw the noise and the labels of a round."""
        stream = torch_stream(self.seed, "generator_noise", index)
        self.noise = torch.randn(num_items, 100, generator=stream)
        self.fake_labels = torch.randint(K, (num_items,), generator=stream)

    def step(self, real: Tensor, real_labels: Tensor) -> tuple[float, float]:
        """Take one step of both networks; return the losses of discriminator and generator."""
        size = len(real)
        noise, self.noise = self.noise[:size], self.noise[size:]
        fake_labels, self.fake_labels = self.fake_labels[:size], self.fake_labels[size:]
        ones, zeros = torch.ones(size), torch.zeros(size)
        loss = nn.BCELoss()

        all_masks = draw_masks(self.seed, self.num_steps, 3 * size)
        self.num_steps += 1
        masks = [mask[: 2 * size] for mask in all_masks]
        fake = self.generator(noise, fake_labels).detach()
        loss_real = loss(judge(self.discriminator, real, real_labels, [mask[:size] for mask in masks]), ones)
        loss_fake = loss(judge(self.discriminator, fake, fake_labels, [mask[size:] for mask in masks]), zeros)
        discriminator_loss = (loss_real + loss_fake) / 2
        self.discriminator_adam.zero_grad()
        discriminator_loss.backward()
        self.discriminator_adam.step()
        discriminator_gradients = [parameter.grad.clone() for parameter in self.discriminator.parameters()]

        masks = [mask[2 * size :] for mask in all_masks]
        fake = self.generator(noise, fake_labels)
        generator_loss = loss(judge(self.discriminator, fake, fake_labels, masks), ones)
        self.generator_adam.zero_grad()
        generator_loss.backward()
        self.generator_adam.step()
        # The generator's loss has passed through the discriminator, which must not keep a trace of it.
        for parameter, gradient in zip(self.discriminator.parameters(), discriminator_gradients, strict=True):
            parameter.grad = gradient
        return discriminator_loss.item(), generator_loss.item()


@pytest.mark.parametrize(
    ("architecture", "num_rounds", "steps_per_round"),
    [(SMALL, 1, 1), (SMALL, 1, 3), (SMALL, 2, 1), (BIG, 1, 1)],
)
def test_step_equals_the_published_recipe(architecture: str, num_rounds: int, steps_per_round: int) -> None:
    budget = Budget(steps=num_rounds * steps_per_round, rounds=num_rounds)
    config = make_config(architecture=architecture, budget=budget)
    training = make_training(config, seeds=[3])
    (lane,) = training.lanes
    recipe, start = Recipe(lane, config.learning_rate), copy.deepcopy(training.get_lane_state(lane))
    order = BatchOrder(Batching(num_items=20, batch_size=8, smallest=1), 3, "generator_batches", CPU)
    for index in range(num_rounds):
        steps = range(index * steps_per_round, (index + 1) * steps_per_round)
        recipe.start_round(index, sum(len(order[step]) for step in steps))
        losses = [recipe.step(*lane.training_set.batch(order[step])) for step in steps]
    finish(training)
    for network, expected in [(lane.generator, recipe.generator), (lane.partner, recipe.discriminator)]:
        for name, parameter in expected.named_parameters():
            found = network.get_parameter(name)
            assert found.requires_grad
            torch.testing.assert_close(found.grad, parameter.grad, atol=1e-6, rtol=1e-3)
            # Biases before batch normalisation have no gradient but rounding, which Adam makes a step of.
            is_certain = parameter.grad.abs() > (1e-6 if architecture == BIG else -1)
            torch.testing.assert_close(found[is_certain], parameter[is_certain], atol=1e-5, rtol=0)
        for name, buffer in expected.named_buffers():
            torch.testing.assert_close(network.get_buffer(name), buffer, atol=1e-6, rtol=1e-5)
    moved = training.get_lane_state(lane)
    for name in ("generator.network.body.0.weight", "discriminator.network.hidden.0.weight"):
        assert (moved[name] - start[name]).abs().max() > 1e-4
    row = lane.curves[-1]
    expected_losses = [row["discriminator_loss"], row["generator_loss"]]
    assert expected_losses == pytest.approx(np.mean(losses, axis=0).tolist(), rel=1e-4)


def test_generator_with_batch_norm_runs_twice_a_step() -> None:
    training = finish(make_training(make_config(architecture=BIG, budget=Budget(steps=5, rounds=2))))
    counts = [
        int(tensor)
        for name, tensor in training.lanes[0].generator.state_dict().items()
        if name.endswith("num_batches_tracked")
    ]
    assert counts == [10, 10]


@pytest.mark.parametrize(
    "purpose", ["generator_noise", "discriminator_dropout", "generator_batches", "generator_init"]
)
def test_every_stream_changes_the_result(purpose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = finish(make_training(make_config()))
    monkeypatch.setitem(STREAMS, purpose, 1000)
    other = finish(make_training(make_config()))
    states = [training.get_lane_state(training.lanes[0]) for training in (first, other)]
    differences = list_differences(*states)
    assert "generator.network.body.0.weight" in differences
    assert "discriminator.network.hidden.0.weight" in differences


# Learning


@pytest.mark.parametrize("brightness", [-0.9, 0.9])
def test_training_teaches_the_generator_the_brightness_of_its_images(brightness: float) -> None:
    training_set = TrainingSet(
        images_PCHW=torch.full((20, 1, 8, 8), brightness),
        labels_P=torch.arange(20) % K,
        items_N=torch.arange(20),
    )
    config = make_config(budget=Budget(steps=60, rounds=3), batch_size=16, beta1=0.5)
    training = finish(make_training(config, training_sets=[training_set]))
    images_NCHW = sample_images(training.lanes[0].generator, torch.arange(K), torch.Generator())
    assert (images_NCHW.flatten(1).mean(dim=1) / brightness).min() > 0.5


def test_discriminator_tells_real_from_fake_at_first() -> None:
    (lane,) = finish(make_training(make_config(budget=Budget(steps=20, rounds=2)))).lanes
    last = lane.curves[-1]
    assert 0 <= last["probability_fake"] < last["probability_real"] <= 1
    assert last["discriminator_loss"] < lane.curves[0]["discriminator_loss"]


def test_training_in_bfloat16_keeps_weights_in_float32_and_finite() -> None:
    (lane,) = finish(make_training(make_config(architecture=BIG), precision="bfloat16")).lanes
    assert not lane.is_diverged
    for network in (lane.generator, lane.partner):
        assert all(p.dtype == torch.float32 and p.isfinite().all() for p in network.parameters())


def test_curves_have_one_row_a_round() -> None:
    (lane,) = finish(make_training(make_config(budget=Budget(epochs=2)))).lanes
    assert [row["step"] for row in lane.curves] == [3, 6]  # 20 images in batches of 8
    columns = {"step", "discriminator_loss", "generator_loss", "probability_real", "probability_fake"}
    assert all(set(row) == columns for row in lane.curves)


@pytest.mark.parametrize("architecture", [SMALL, BIG])
def test_training_twice_gives_the_same_bits(architecture: str) -> None:
    config = make_config(architecture=architecture)
    assert_same_result(finish(make_training(config)), 0, finish(make_training(config)), 0)


def test_training_with_another_seed_gives_other_weights() -> None:
    training_sets = [make_training_set(0)]
    trainings = [finish(make_training(make_config(), [seed], training_sets)) for seed in (0, 1)]
    states = [training.get_lane_state(training.lanes[0]) for training in trainings]
    assert "generator.network.body.0.weight" in list_differences(*states)


def test_training_leaves_global_generators_untouched() -> None:
    before = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    finish(make_training(make_config(architecture=BIG)))
    after = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]


def test_training_does_not_depend_on_the_global_generator() -> None:
    trainings = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        trainings.append(finish(make_training(make_config())))
    assert_same_result(trainings[0], 0, trainings[1], 0)


# Lanes and resumption


@pytest.mark.parametrize("architecture", [SMALL, BIG])
def test_lanes_together_give_the_bits_of_each_alone_in_any_order(architecture: str) -> None:
    config = make_config(architecture=architecture, budget=Budget(steps=4, rounds=2))
    together, turned = finish(make_training(config, [0, 1])), finish(make_training(config, [1, 0]))
    for index, seed in enumerate([0, 1]):
        alone = finish(make_training(config, [seed]))
        assert_same_result(together, index, alone, 0)
        assert_same_result(turned, 1 - index, alone, 0)


@pytest.mark.parametrize("architecture", [SMALL, BIG])
@pytest.mark.parametrize("num_rounds", [0, 1, 2, 3])
def test_training_resumed_at_a_round_boundary_gives_the_same_bits(architecture: str, num_rounds: int) -> None:
    config = make_config(architecture=architecture)
    first = make_training(config)
    for _ in range(num_rounds):
        first.run_round()
    resumed = make_training(config)
    for name, value in get_progress(first.lanes[0]).items():
        setattr(resumed.lanes[0], name, value)
    resumed.set_lane_state(resumed.lanes[0], copy.deepcopy(first.get_lane_state(first.lanes[0])))
    finish(first)
    finish(resumed)
    assert first.lanes[0].round == 3
    assert_same_result(resumed, 0, first, 0)


def test_training_goes_on_after_samples_were_drawn_as_if_they_were_not() -> None:
    trainings = [make_training(make_config(architecture=BIG)) for _ in range(2)]
    while trainings[0].run_round():
        sample_images(trainings[0].lanes[0].generator, torch.arange(K), torch.Generator())
    assert_same_result(trainings[0], 0, finish(trainings[1]), 0)


@pytest.mark.parametrize("position", [0, 1])
def test_lane_with_a_damaged_image_diverges_and_leaves_the_other_alone(position: int) -> None:
    damaged = make_training_set(5)
    step_two = BatchOrder(Batching(num_items=20, batch_size=8, smallest=1), 5, "generator_batches", CPU)[2]
    damaged.images_PCHW[damaged.items_N[step_two[0]]] = float("nan")
    seeds, training_sets = [1], [make_training_set(1)]
    seeds.insert(position, 5)
    training_sets.insert(position, damaged)
    training = finish(make_training(make_config(), seeds, training_sets))
    diverged = training.lanes[position]
    # Steps 0 and 1 are round 0; the image comes in step 2, so that round 1 does not count.
    assert (diverged.is_diverged, diverged.round, diverged.step) == (True, 2, 4)
    assert len(diverged.curves) == 1
    assert not training.lanes[1 - position].is_diverged
    assert_same_result(training, 1 - position, finish(make_training(make_config(), [1])), 0)


def test_lane_with_an_absurd_learning_rate_diverges() -> None:
    training = finish(make_training(make_config(learning_rate=1e30)))
    assert training.lanes[0].is_diverged
    assert training.run_round() == []


def test_lane_whose_last_update_spoils_the_generator_diverges() -> None:
    # Both losses of the only step come before the generator's update, and are finite.
    training = make_training(make_config(budget=Budget(steps=1, rounds=1)))
    (lane,) = training.lanes
    lane.generator_optimizer.param_groups[0]["lr"] = 1e30
    finish(training)
    images_NCHW = sample_images(lane.generator, torch.arange(K), torch.Generator())
    assert not images_NCHW.isfinite().all()
    assert lane.is_diverged


# Samples


def make_generator(architecture: str = SMALL, seed: int = 0) -> Generator:
    return build_network(
        lambda: build_generator(architecture, K, (1, 8, 8)), torch_stream(seed, "generator_init")
    )


@pytest.mark.parametrize("num_images", [1, 7, SAMPLING_BATCH, SAMPLING_BATCH + 1])
def test_sample_images_are_one_a_label_in_range(num_images: int) -> None:
    labels_N = torch.arange(num_images) % K
    images_NCHW = sample_images(make_generator(), labels_N, torch.Generator())
    assert images_NCHW.shape == (num_images, 1, 8, 8)
    assert images_NCHW.dtype == torch.float32
    assert images_NCHW.abs().max() <= 1
    assert not images_NCHW.requires_grad


def test_sample_images_of_no_label_can_be_joined_to_others() -> None:
    images = sample_images(make_generator(), torch.empty(0, dtype=torch.int64), torch.Generator())
    assert torch.cat([torch.zeros(2, 1, 8, 8), images]).shape == (2, 1, 8, 8)


def test_sample_images_are_equal_for_equal_streams_and_differ_for_different() -> None:
    generator, labels_N = make_generator(), torch.arange(8) % K
    samples = [sample_images(generator, labels_N, torch_stream(seed, "sampling_noise")) for seed in (0, 0, 1)]
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], samples[2])


def test_sample_images_use_running_statistics_and_leave_them_alone() -> None:
    generator = finish(make_training(make_config(architecture=BIG))).lanes[0].generator
    generator.train()
    before = copy.deepcopy(generator.state_dict())
    labels_N = torch.arange(6) % K
    images_NCHW = sample_images(generator, labels_N, torch.Generator().manual_seed(1))
    assert all(torch.equal(before[name], tensor) for name, tensor in generator.state_dict().items())
    noise_NZ = torch.randn(6, 100, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = generator.eval()(noise_NZ, labels_N)
        in_training_mode = generator.train()(noise_NZ, labels_N)
    assert torch.equal(images_NCHW, expected)
    assert not torch.allclose(images_NCHW, in_training_mode, atol=1e-3)
