"""The paper's conditional GAN: one discriminator with dropout for all generators, and their step.

Source: Mirza and Osindero 2014, arXiv 1411.1784, in the form of Mankikar, Patel, Zhang: binary cross-entropy,
discriminator loss (real + fake) / 2, non-saturating generator loss, one draw of noise and fake labels for
both updates. Deviations, none of which changes results beyond rounding: the losses take logits, not sigmoids;
real and fake images share one pass through the discriminator; the generator's output is computed once per
step unless a second pass would change the statistics of its batch normalisation.

Shape suffixes: L lanes, N images, H hidden values of the discriminator, B items of a batch, Z noise
dimensions, C H W image, M curves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lt_rebalance.generation.training import Augment, GeneratorLane, GeneratorTraining
from lt_rebalance.ground.seeding import stream_key
from lt_rebalance.networks.discriminator import draw_kept
from lt_rebalance.training.lane import autocast
from lt_rebalance.training.stacks import LaneStack


class CGANTraining(GeneratorTraining):
    """Lanes of one CGAN."""

    partner_name = "discriminator"
    curve_names = ("discriminator_loss", "generator_loss", "probability_real", "probability_fake")

    def _build_step(
        self, lanes: Sequence[GeneratorLane], generator: LaneStack, partner: LaneStack
    ) -> Callable[..., Tensor]:
        return _CGANStep(
            generator=generator,
            discriminator=partner,
            needs_second_pass=lanes[0].generator.has_batch_norm,
            dropout_keys_L=torch.tensor(
                [stream_key(lane.seed, "discriminator_dropout") for lane in lanes], device=self._device
            ),
            augment=self._build_augment(lanes),
            precision=self._precision,
        )


@dataclass(frozen=True, kw_only=True)
class _CGANStep:
    """One update of discriminator and generator of every lane."""

    generator: LaneStack
    discriminator: LaneStack
    needs_second_pass: bool
    """whether the generator's output must be computed again for its own update"""
    dropout_keys_L: Tensor
    augment: Augment
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
            images = self.augment(images, step, 0)
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
            seen_LBCHW = self.augment(fake_LBCHW, step, 2 * size)
            fooling_logits_LB = discriminator(seen_LBCHW, fake_labels_LB, kept_LNH[:, 2 * size :]).float()
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
