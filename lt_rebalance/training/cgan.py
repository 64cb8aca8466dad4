"""Train lanes of a conditional GAN and sample from it; plain torch.

Source: Mirza and Osindero 2014, arXiv 1411.1784, in the form of Mankikar, Patel, Zhang: binary
cross-entropy, discriminator loss (real + fake) / 2, non-saturating generator loss, one draw of noise and fake
labels serving both updates. Deviations, none of which changes the arithmetic beyond rounding: the losses take
logits, not sigmoids; real and fake images share one pass through the discriminator; the generator's output
is computed once a step unless batch normalisation makes a second pass change its statistics.

Shape suffixes: L lanes, N images, B items of a batch, Z noise dimensions, C H W image, K classes, M curves.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.ground.seeding import stream_key, torch_stream
from lt_rebalance.networks.discriminator import Discriminator, draw_kept
from lt_rebalance.networks.generators.generator import NOISE_DIM, Generator
from lt_rebalance.networks.generators.registry import build_generator
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
    autocast,
    build_adam,
    get_state,
    read_batches,
    set_state,
    stack,
)
from lt_rebalance.training.rounds import Training
from lt_rebalance.training.stacks import ALONE, Fusion, LaneStack
from lt_rebalance.training.step import StepProgram

SAMPLING_BATCH = 1000
CURVES = ("discriminator_loss", "generator_loss", "probability_real", "probability_fake")


@dataclass(kw_only=True, eq=False)
class CGANLane(Lane):
    """One seed of a CGAN in training."""

    generator: Generator
    discriminator: Discriminator
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer


class CGANTraining(Training[CGANLane, StepProgram]):
    """Lanes of one CGAN."""

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

    def _build_lane(self, seed: int, training_set: TrainingSet) -> CGANLane:
        config, spec = self._config, self._spec
        batching = Batching(
            num_items=len(training_set),
            batch_size=config.batch_size,
            smallest=smallest_generator_batch(config.architecture, spec),
        )
        generator = build_network(
            lambda: build_generator(config.architecture, spec.num_classes, spec.image_shape),
            torch_stream(seed, "generator_init"),
        ).to(self._device)
        discriminator = build_network(
            lambda: Discriminator(spec.num_classes, spec.image_shape),
            torch_stream(seed, "discriminator_init"),
        ).to(self._device)
        return CGANLane(
            seed=seed,
            round_ends=config.budget.round_ends(batching.steps_per_pass),
            training_set=training_set,
            generator=generator,
            discriminator=discriminator,
            generator_optimizer=build_adam(generator, config),
            discriminator_optimizer=build_adam(discriminator, config),
            batches=BatchOrder(batching, seed, "generator_batches", self._device),
        )

    def _build_program(self, lanes: Sequence[CGANLane]) -> StepProgram:
        step = _CGANStep(
            generator=self.stack(
                [lane.generator for lane in lanes], [lane.generator_optimizer for lane in lanes]
            ),
            discriminator=self.stack(
                [lane.discriminator for lane in lanes], [lane.discriminator_optimizer for lane in lanes]
            ),
            needs_second_pass=lanes[0].generator.has_batch_norm,
            dropout_keys_L=torch.tensor(
                [stream_key(lane.seed, "discriminator_dropout") for lane in lanes], device=self._device
            ),
            precision=self._precision,
        )
        return StepProgram(step, self._device)

    def _train_round(self, lanes: Sequence[CGANLane], program: StepProgram, steps: range) -> None:
        for lane in lanes:
            lane.generator.train()
        sums_LM = torch.zeros(len(lanes), len(CURVES), device=self._device)
        for inputs in self._read_steps(lanes, steps):
            sums_LM += program(*inputs)
        for lane, means_M in zip(lanes, (sums_LM / len(steps)).tolist(), strict=True):
            spoiled = lane.round == len(lane.round_ends) and not self._makes_images(lane.generator)
            if spoiled or not all(map(math.isfinite, means_M)):
                lane.is_diverged = True
            else:
                lane.curves.append({"step": lane.step} | dict(zip(CURVES, means_M, strict=True)))

    def _read_steps(self, lanes: Sequence[CGANLane], steps: range) -> Iterator[tuple[Tensor, ...]]:
        """Yield the inputs of each step of a round that has been counted."""
        streams = [torch_stream(lane.seed, "generator_noise", lane.round - 1, self._device) for lane in lanes]
        batches = read_batches(lanes, steps)
        for first in steps[::STEPS_READ_AT_ONCE]:
            near = range(first, min(first + STEPS_READ_AT_ONCE, steps.stop))
            sizes = [lanes[0].batches.size(step) for step in near]
            drawn = [self._draw_fakes(sum(sizes), stream) for stream in streams]
            noise_LNZ, fake_labels_LN = (stack(tensors) for tensors in zip(*drawn, strict=True))
            indices = torch.tensor(near, device=self._device)
            fakes = zip(noise_LNZ.split(sizes, 1), fake_labels_LN.split(sizes, 1), indices, strict=True)
            for fake in fakes:
                yield *next(batches), *fake

    def _draw_fakes(self, num_items: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return `noise_NZ, labels_N` of images to be drawn."""
        noise_NZ = torch.randn(num_items, NOISE_DIM, generator=stream, device=self._device)
        labels_N = torch.randint(self._spec.num_classes, (num_items,), generator=stream, device=self._device)
        return noise_NZ, labels_N

    def _makes_images(self, generator: Generator) -> bool:
        """Whether a generator still draws numbers; no loss has seen the last update, which may spoil it."""
        labels_K = torch.arange(self._spec.num_classes, device=self._device)
        images_KCHW = sample_images(generator, labels_K, torch.Generator(self._device))
        return bool(images_KCHW.isfinite().all())

    def get_lane_state(self, lane: CGANLane) -> TrainingState:
        """Return all that a lane needs to go on, but for its progress fields."""
        return get_state(lane.generator, lane.generator_optimizer, "generator") | get_state(
            lane.discriminator, lane.discriminator_optimizer, "discriminator"
        )

    def _set_lane_state(self, lane: CGANLane, state: TrainingState) -> None:
        set_state(lane.generator, lane.generator_optimizer, "generator", state)
        set_state(lane.discriminator, lane.discriminator_optimizer, "discriminator", state)


@dataclass(frozen=True, kw_only=True)
class _CGANStep:
    """One update of discriminator and generator of every lane."""

    generator: LaneStack
    discriminator: LaneStack
    needs_second_pass: bool
    """whether the generator's output must be computed anew for its own update"""
    dropout_keys_L: Tensor
    precision: str

    def __call__(
        self,
        real_LBCHW: Tensor,
        real_labels_LB: Tensor,
        noise_LBZ: Tensor,
        fake_labels_LB: Tensor,
        step: Tensor,
    ) -> Tensor:
        """Return `curves_LM`."""
        generator, discriminator = self.generator, self.discriminator
        size = real_labels_LB.shape[1]
        kept_LNH = draw_kept(self.dropout_keys_L, step, 3 * size)
        labels_L2B = torch.cat([real_labels_LB, fake_labels_LB], dim=1)
        with autocast(real_LBCHW.device, self.precision):
            fake_LBCHW = generator(noise_LBZ, fake_labels_LB)
            images = torch.cat([real_LBCHW, fake_LBCHW.detach().float()], dim=1)
            logits_L2B = discriminator(images, labels_L2B, kept_LNH[:, : 2 * size]).float()
        is_real_L2B = torch.zeros_like(logits_L2B)
        is_real_L2B[:, :size] = 1
        discriminator_loss_L = _mean_cross_entropy(logits_L2B, is_real_L2B)
        discriminator.zero_grad()
        discriminator_loss_L.sum().backward()
        discriminator.step()

        discriminator.requires_grad_(False)
        with autocast(real_LBCHW.device, self.precision):
            if self.needs_second_pass:
                fake_LBCHW = generator(noise_LBZ, fake_labels_LB)
            fooling_logits_LB = discriminator(fake_LBCHW, fake_labels_LB, kept_LNH[:, 2 * size :]).float()
        generator_loss_L = _mean_cross_entropy(fooling_logits_LB, torch.ones_like(fooling_logits_LB))
        generator.zero_grad()
        generator_loss_L.sum().backward()
        generator.step()
        discriminator.requires_grad_(True)

        probability_L2B = torch.sigmoid(logits_L2B.detach())
        probabilities = (probability_L2B[:, :size].mean(dim=1), probability_L2B[:, size:].mean(dim=1))
        return torch.stack([discriminator_loss_L.detach(), generator_loss_L.detach(), *probabilities], dim=1)


def _mean_cross_entropy(logits_LN: Tensor, targets_LN: Tensor) -> Tensor:
    losses_LN = nn.functional.binary_cross_entropy_with_logits(logits_LN, targets_LN, reduction="none")
    return losses_LN.mean(dim=1)


@torch.no_grad()
def sample_images(generator: Generator, labels_N: Tensor, noise_stream: torch.Generator) -> Tensor:
    """Return `images_NCHW`, float32 in [-1, 1], one for each label, in evaluation mode."""
    generator.eval()
    chunks = []
    for labels_B in labels_N.split(SAMPLING_BATCH):
        noise_BZ = torch.randn(len(labels_B), NOISE_DIM, generator=noise_stream, device=labels_N.device)
        chunks.append(generator(noise_BZ, labels_B))
    if not chunks:
        return torch.empty(0, device=labels_N.device)
    return torch.cat(chunks)
