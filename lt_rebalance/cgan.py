"""Train lanes of a conditional GAN and sample from it; plain torch.

Source: Mirza and Osindero 2014, arXiv 1411.1784, in the form of Mankikar, Patel, Zhang: binary
cross-entropy, discriminator loss (real + fake) / 2, non-saturating generator loss, one draw of noise and fake
labels serving both updates. Deviations, none of which changes the arithmetic beyond rounding: the losses take
logits, not sigmoids; real and fake images share one pass through the discriminator; the generator's output
is computed once a step unless batch normalisation makes a second pass change its statistics.

Shape suffixes: N images, B items of a batch, Z noise dimensions, C H W image, K classes.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lt_rebalance.configs import GeneratorConfig
from lt_rebalance.datasets import DatasetSpec
from lt_rebalance.generators import NOISE_DIM, Discriminator, Generator, build_generator
from lt_rebalance.initialization import build_network
from lt_rebalance.seeding import torch_stream
from lt_rebalance.training import (
    BatchOrder,
    Lane,
    TrainingSet,
    TrainingState,
    autocast,
    build_adam,
    get_state,
    next_lanes,
    set_state,
)

SAMPLING_BATCH = 1000

_binary_cross_entropy = nn.functional.binary_cross_entropy_with_logits


@dataclass(kw_only=True, eq=False)
class CGANLane(Lane):
    """One seed of a CGAN in training."""

    training_set: TrainingSet
    generator: Generator
    discriminator: Discriminator
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    batches: BatchOrder


class CGANTraining:
    """Lanes of one CGAN; a `Training`."""

    def __init__(
        self,
        config: GeneratorConfig,
        spec: DatasetSpec,
        device: torch.device,
        precision: str,
        seeds: Sequence[int],
        training_sets: Sequence[TrainingSet],
    ) -> None:
        """Build one lane for each seed and its training set of real images."""
        self._config = config
        self._spec = spec
        self._device = device
        self._precision = precision
        self.lanes = [self._build_lane(*pair) for pair in zip(seeds, training_sets, strict=True)]

    def _build_lane(self, seed: int, training_set: TrainingSet) -> CGANLane:
        config, spec = self._config, self._spec
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
            round_ends=config.budget.round_ends(len(training_set), config.batch_size),
            training_set=training_set,
            generator=generator,
            discriminator=discriminator,
            generator_optimizer=build_adam(generator, config),
            discriminator_optimizer=build_adam(discriminator, config),
            batches=BatchOrder(len(training_set), config.batch_size, seed, "generator_batches", self._device),
        )

    def run_round(self) -> list[CGANLane]:
        """Train the lanes that are furthest behind for one more round; return those lanes."""
        lanes = next_lanes(self.lanes)
        for lane in lanes:
            self._train_lane(lane)
        return lanes

    def _train_lane(self, lane: CGANLane) -> None:
        start = time.perf_counter()
        lane.generator.train()
        device = self._device
        noise_stream = torch_stream(lane.seed, "generator_noise", lane.round, device)
        dropout_stream = torch_stream(lane.seed, "discriminator_dropout", lane.round, device)
        sums = torch.zeros(4, device=device)
        first_step, end = lane.step, lane.round_ends[lane.round]
        for step in range(first_step, end):
            real_BCHW, real_labels_B = lane.training_set.batch(lane.batches[step])
            sums += self._train_step(lane, real_BCHW, real_labels_B, noise_stream, dropout_stream)
        means = (sums / (end - first_step)).tolist()
        lane.step = end
        lane.round += 1
        lane.train_s += time.perf_counter() - start
        is_last = lane.round == len(lane.round_ends)
        if not all(map(math.isfinite, means)) or (is_last and not self._makes_images(lane.generator)):
            lane.is_diverged = True
            return
        names = ("discriminator_loss", "generator_loss", "probability_real", "probability_fake")
        lane.curves.append({"step": end} | dict(zip(names, means, strict=True)))

    def _makes_images(self, generator: Generator) -> bool:
        """Whether a generator still draws numbers; no loss has seen the last update, which may spoil it."""
        labels_K = torch.arange(self._spec.num_classes, device=self._device)
        images_KCHW = sample_images(generator, labels_K, torch.Generator(self._device))
        return bool(images_KCHW.isfinite().all())

    def _train_step(
        self,
        lane: CGANLane,
        real_BCHW: Tensor,
        real_labels_B: Tensor,
        noise_stream: torch.Generator,
        dropout_stream: torch.Generator,
    ) -> Tensor:
        device, num_classes = self._device, self._spec.num_classes
        size = len(real_labels_B)
        noise_BZ = torch.randn(size, NOISE_DIM, generator=noise_stream, device=device)
        fake_labels_B = torch.randint(num_classes, (size,), generator=noise_stream, device=device)
        ones_B = torch.ones(size, device=device)
        is_real_2B = torch.cat([ones_B, torch.zeros_like(ones_B)])

        with autocast(device, self._precision):
            fake_BCHW = lane.generator(noise_BZ, fake_labels_B)
            images = torch.cat([real_BCHW, fake_BCHW.detach().float()])
            logits_2B = lane.discriminator(images, torch.cat([real_labels_B, fake_labels_B]), dropout_stream)
        logits_2B = logits_2B.float()
        discriminator_loss = _binary_cross_entropy(logits_2B, is_real_2B)
        lane.discriminator_optimizer.zero_grad()
        discriminator_loss.backward()
        lane.discriminator_optimizer.step()

        lane.discriminator.requires_grad_(False)
        with autocast(device, self._precision):
            if lane.generator.has_batch_norm:
                fake_BCHW = lane.generator(noise_BZ, fake_labels_B)
            fooling_logits_B = lane.discriminator(fake_BCHW, fake_labels_B, dropout_stream)
        generator_loss = _binary_cross_entropy(fooling_logits_B.float(), ones_B)
        lane.generator_optimizer.zero_grad()
        generator_loss.backward()
        lane.generator_optimizer.step()
        lane.discriminator.requires_grad_(True)

        probability_2B = torch.sigmoid(logits_2B.detach())
        return torch.stack(
            [
                discriminator_loss.detach(),
                generator_loss.detach(),
                probability_2B[:size].mean(),
                probability_2B[size:].mean(),
            ]
        )

    def get_lane_state(self, lane: CGANLane) -> TrainingState:
        """Return all that a lane needs to go on, but for its progress fields."""
        return get_state(lane.generator, lane.generator_optimizer, "generator") | get_state(
            lane.discriminator, lane.discriminator_optimizer, "discriminator"
        )

    def set_lane_state(self, lane: CGANLane, state: TrainingState) -> None:
        """Restore what `get_lane_state` returned."""
        set_state(lane.generator, lane.generator_optimizer, "generator", state)
        set_state(lane.discriminator, lane.discriminator_optimizer, "discriminator", state)


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
