"""Train lanes of a generator with its partner, round by round; the base of all such trainings.

Shape suffixes: L lanes, N images, B items of a batch, Z noise dimensions, C H W image, K classes, M curves.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.generation.diffaugment import DiffAugment
from lt_rebalance.generation.images import sample_images
from lt_rebalance.ground.seeding import stream_key, torch_stream
from lt_rebalance.networks.builders import import_place
from lt_rebalance.networks.generators.generator import Generator
from lt_rebalance.networks.generators.registry import build_generator, build_partner, find_trained
from lt_rebalance.networks.initialization import build_network
from lt_rebalance.training.batches import Batching
from lt_rebalance.training.batching import smallest_generator_batch
from lt_rebalance.training.configs import GeneratorConfig
from lt_rebalance.training.lane import (
    STEPS_READ_AT_ONCE,
    BatchOrder,
    Lane,
    TrainingSet,
    TrainingState,
    build_adam,
    get_state,
    read_batches,
    set_state,
    stack,
)
from lt_rebalance.training.rounds import Training
from lt_rebalance.training.stacks import ALONE, Fusion, LaneStack
from lt_rebalance.training.step import StepProgram

Augment = Callable[[Tensor, Tensor, int], Tensor]
"""from `images_LBCHW, step, first` to the images that a discriminator sees; see `DiffAugment`"""


def leave(images_LBCHW: Tensor, _: Tensor, __: int) -> Tensor:
    """Change nothing."""
    return images_LBCHW


@dataclass(kw_only=True, eq=False)
class GeneratorLane(Lane):
    """One seed of a generator in training."""

    generator: Generator
    partner: nn.Module
    """the partner network: the discriminator of a GAN"""
    generator_optimizer: torch.optim.Optimizer
    partner_optimizer: torch.optim.Optimizer


class GeneratorTraining(Training[GeneratorLane, StepProgram]):
    """Lanes of one generator and its partner.

    A training is a subclass with the two names and the step; the registry maps architectures to trainings.
    """

    partner_name: ClassVar[str]
    """of the partner in checkpoints, and of the stream of its initial weights: NAME_init"""
    curve_names: ClassVar[tuple[str, ...]]
    """names of the values that a step returns"""

    def __init__(
        self,
        config: GeneratorConfig,
        spec: DatasetSpec,
        device: torch.device,
        precision: str,
        seeds: Sequence[int],
        training_sets: Sequence[TrainingSet],
        fusion: Fusion = ALONE,
    ) -> None:
        """Build one lane for each seed and its training set of real images."""
        self._config = config
        self._spec = spec
        self._device = device
        self._precision = precision
        super().__init__([self._build_lane(*pair) for pair in zip(seeds, training_sets, strict=True)], fusion)

    @abstractmethod
    def _build_step(
        self, lanes: Sequence[GeneratorLane], generator: LaneStack, partner: LaneStack
    ) -> Callable[..., Tensor]:
        """Return one update of both networks of every lane.

        It takes `real_LBCHW, real_labels_LB, noise_LBZ, fake_labels_LB, step` and returns `curves_LM`. It
        draws no random numbers from torch and does not wait for the host.
        """

    def _build_lane(self, seed: int, training_set: TrainingSet) -> GeneratorLane:
        config, spec, trained = self._config, self._spec, find_trained(self._config.architecture)
        batching = Batching(
            num_items=len(training_set),
            batch_size=config.batch_size,
            smallest=smallest_generator_batch(config.architecture, spec),
        )
        generator = build_network(
            lambda: build_generator(config.architecture, spec.num_classes, spec.image_shape),
            torch_stream(seed, "generator_init"),
        ).to(self._device)
        partner = build_network(
            lambda: build_partner(trained.partner, spec.num_classes, spec.image_shape),
            torch_stream(seed, f"{self.partner_name}_init"),
        ).to(self._device)
        return GeneratorLane(
            seed=seed,
            round_ends=config.budget.round_ends(batching.steps_per_pass),
            training_set=training_set,
            generator=generator,
            partner=partner,
            generator_optimizer=build_adam(generator, config),
            partner_optimizer=build_adam(partner, config),
            batches=BatchOrder(batching, seed, "generator_batches", self._device),
        )

    def _build_augment(self, lanes: Sequence[GeneratorLane]) -> Augment:
        """Return the configured augmentation of images before a discriminator sees them."""
        if not self._config.diffaugment:
            return leave
        keys = [stream_key(lane.seed, "generator_augmentation") for lane in lanes]
        return DiffAugment(keys_L=torch.tensor(keys, device=self._device))

    def _build_program(self, lanes: Sequence[GeneratorLane]) -> StepProgram:
        generator = self.stack(
            [lane.generator for lane in lanes], [lane.generator_optimizer for lane in lanes]
        )
        partner = self.stack([lane.partner for lane in lanes], [lane.partner_optimizer for lane in lanes])
        return StepProgram(self._build_step(lanes, generator, partner), self._device)

    def _train_round(self, lanes: Sequence[GeneratorLane], program: StepProgram, steps: range) -> None:
        for lane in lanes:
            lane.generator.train()
        sums_LM = torch.zeros(len(lanes), len(self.curve_names), device=self._device)
        for inputs in self._read_steps(lanes, steps):
            sums_LM += program(*inputs)
        for lane, means_M in zip(lanes, (sums_LM / len(steps)).tolist(), strict=True):
            spoiled = lane.round == len(lane.round_ends) and not self._makes_images(lane.generator)
            if spoiled or not all(map(math.isfinite, means_M)):
                lane.is_diverged = True
            else:
                lane.curves.append({"step": lane.step} | dict(zip(self.curve_names, means_M, strict=True)))

    def _read_steps(self, lanes: Sequence[GeneratorLane], steps: range) -> Iterator[tuple[Tensor, ...]]:
        """Yield the inputs of each step of a round, which is already counted as finished."""
        streams = [torch_stream(lane.seed, "generator_noise", lane.round - 1, self._device) for lane in lanes]
        batches = read_batches(lanes, steps)
        for first in steps[::STEPS_READ_AT_ONCE]:
            near = range(first, min(first + STEPS_READ_AT_ONCE, steps.stop))
            sizes = [lanes[0].batches.size(step) for step in near]
            drawn = [self._draw_fakes(sum(sizes), lanes[0].generator.noise_dim, stream) for stream in streams]
            noise_LNZ, fake_labels_LN = (stack(tensors) for tensors in zip(*drawn, strict=True))
            indices = torch.tensor(near, device=self._device)
            fakes = zip(noise_LNZ.split(sizes, 1), fake_labels_LN.split(sizes, 1), indices, strict=True)
            for fake in fakes:
                yield *next(batches), *fake

    def _draw_fakes(self, num_items: int, noise_dim: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return `noise_NZ, labels_N` for images to draw."""
        noise_NZ = torch.randn(num_items, noise_dim, generator=stream, device=self._device)
        labels_N = torch.randint(self._spec.num_classes, (num_items,), generator=stream, device=self._device)
        return noise_NZ, labels_N

    def _makes_images(self, generator: Generator) -> bool:
        """Whether a generator's outputs are finite; no loss has checked the last update."""
        labels_K = torch.arange(self._spec.num_classes, device=self._device)
        images_KCHW = sample_images(generator, labels_K, torch.Generator(self._device))
        return bool(images_KCHW.isfinite().all())

    def get_lane_state(self, lane: GeneratorLane) -> TrainingState:
        """Return the state that a lane needs to resume, except its progress fields."""
        return get_state(lane.generator, lane.generator_optimizer, "generator") | get_state(
            lane.partner, lane.partner_optimizer, self.partner_name
        )

    def _set_lane_state(self, lane: GeneratorLane, state: TrainingState) -> None:
        set_state(lane.generator, lane.generator_optimizer, "generator", state)
        set_state(lane.partner, lane.partner_optimizer, self.partner_name, state)


def build_generator_training(
    config: GeneratorConfig,
    spec: DatasetSpec,
    device: torch.device,
    precision: str,
    seeds: Sequence[int],
    training_sets: Sequence[TrainingSet],
    fusion: Fusion = ALONE,
) -> GeneratorTraining:
    """Build one lane for each seed and training set of real images, with the architecture's training."""
    training: type[GeneratorTraining] = import_place(find_trained(config.architecture).by)
    return training(config, spec, device, precision, seeds, training_sets, fusion)
