"""A DCGAN, a projection GAN and an ACGAN: their losses, and their common step.

Sources: cross-entropy in the non-saturating form, Goodfellow et al. 2014, arXiv 1406.2661, as in Radford et
al. 2015 (arXiv 1511.06434); hinge, Miyato, Koyama 2018, arXiv 1802.05637, equations 19 and 20 of Miyato et
al. 2018, arXiv 1802.05957; auxiliary classifier, Odena et al. 2017, arXiv 1610.09585, equations 2 and 3. As
there, sums over real and fake are not halved. Both updates use one draw of noise and fake labels, and the
generator's output is computed once. Real and fake images pass the discriminator separately, so its batch
normalisation sees each alone.

Shape suffixes: L lanes, B items of a batch, Z noise dimensions, C H W image, K classes, M curves.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from lt_rebalance.generation.training import Augment, GeneratorLane, GeneratorTraining
from lt_rebalance.training.lane import autocast
from lt_rebalance.training.stacks import LaneStack


class GANTraining(GeneratorTraining):
    """Lanes of one GAN; a kind of GAN is defined by its two losses."""

    partner_name = "discriminator"
    curve_names = ("discriminator_loss", "generator_loss", "probability_real", "probability_fake")

    @staticmethod
    @abstractmethod
    def discriminator_loss(
        real: Tensor, fake: Tensor, real_labels_LB: Tensor, fake_labels_LB: Tensor
    ) -> Tensor:
        """Return the loss of every lane, from the discriminator's outputs for real and for fake images."""

    @staticmethod
    @abstractmethod
    def generator_loss(fake: Tensor, fake_labels_LB: Tensor) -> Tensor:
        """Return the loss of every lane."""

    @staticmethod
    def real_logits(outputs: Tensor) -> Tensor:
        """Return `logits_LB` of the discriminator, positive for real."""
        return outputs

    def _build_step(
        self, lanes: Sequence[GeneratorLane], generator: LaneStack, partner: LaneStack
    ) -> Callable[..., Tensor]:
        return _GANStep(
            kind=type(self),
            generator=generator,
            discriminator=partner,
            augment=self._build_augment(lanes),
            precision=self._precision,
        )


class CrossEntropyTraining(GANTraining):
    """A GAN with a cross-entropy discriminator loss."""

    @staticmethod
    def discriminator_loss(real: Tensor, fake: Tensor, _: Tensor, __: Tensor) -> Tensor:
        """Return `-log sigmoid(real) - log(1 - sigmoid(fake))`, each its mean."""
        return _tell(real, is_real=True) + _tell(fake, is_real=False)

    @staticmethod
    def generator_loss(fake: Tensor, _: Tensor) -> Tensor:
        """Return `-log sigmoid(fake)`, its mean."""
        return _tell(fake, is_real=True)


class HingeTraining(GANTraining):
    """A GAN with the hinge loss. Its logits are not log odds; curves still show their sigmoid."""

    @staticmethod
    def discriminator_loss(real: Tensor, fake: Tensor, _: Tensor, __: Tensor) -> Tensor:
        """Return `max(0, 1 - real) + max(0, 1 + fake)`, each its mean."""
        return (1 - real).relu().mean(dim=1) + (1 + fake).relu().mean(dim=1)

    @staticmethod
    def generator_loss(fake: Tensor, _: Tensor) -> Tensor:
        """Return the mean of `-fake`."""
        return -fake.mean(dim=1)


class ACGANTraining(GANTraining):
    """A GAN whose discriminator also predicts the class of real and fake images."""

    @staticmethod
    def discriminator_loss(
        real: Tensor, fake: Tensor, real_labels_LB: Tensor, fake_labels_LB: Tensor
    ) -> Tensor:
        """Return the cross-entropies of source and class, of real and of fake images."""
        source = _tell(real[..., 0], is_real=True) + _tell(fake[..., 0], is_real=False)
        return source + _name(real, real_labels_LB) + _name(fake, fake_labels_LB)

    @staticmethod
    def generator_loss(fake: Tensor, fake_labels_LB: Tensor) -> Tensor:
        """Return the cross-entropy of being judged real, and of the class."""
        return _tell(fake[..., 0], is_real=True) + _name(fake, fake_labels_LB)

    @staticmethod
    def real_logits(outputs: Tensor) -> Tensor:
        """Return the first of the logits of an image; those of the classes follow."""
        return outputs[..., 0]


def _tell(logits_LB: Tensor, *, is_real: bool) -> Tensor:
    targets_LB = torch.full_like(logits_LB, float(is_real))
    return binary_cross_entropy_with_logits(logits_LB, targets_LB, reduction="none").mean(dim=1)


def _name(outputs: Tensor, labels_LB: Tensor) -> Tensor:
    return cross_entropy(outputs[..., 1:].movedim(2, 1), labels_LB, reduction="none").mean(dim=1)


@dataclass(frozen=True, kw_only=True)
class _GANStep:
    """One update of discriminator and generator of every lane."""

    kind: type[GANTraining]
    generator: LaneStack
    discriminator: LaneStack
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
        kind, discriminator, size = self.kind, self.discriminator, real_labels_LB.shape[1]
        with autocast(real_LBCHW.device, self.precision):
            fake_LBCHW = self.generator(noise_LBZ, fake_labels_LB)
            seen = self.augment(real_LBCHW, step, 0), self.augment(fake_LBCHW.detach().float(), step, size)
            real = discriminator(seen[0], real_labels_LB).float()
            fake = discriminator(seen[1], fake_labels_LB).float()
        discriminator_loss_L = kind.discriminator_loss(real, fake, real_labels_LB, fake_labels_LB)
        discriminator.zero_grad()
        discriminator_loss_L.sum().backward()
        discriminator.step()

        discriminator.requires_grad_(False)
        with autocast(real_LBCHW.device, self.precision):
            fooling = discriminator(self.augment(fake_LBCHW, step, 2 * size), fake_labels_LB).float()
        generator_loss_L = kind.generator_loss(fooling, fake_labels_LB)
        self.generator.zero_grad()
        generator_loss_L.sum().backward()
        self.generator.step()
        discriminator.requires_grad_(True)

        losses = (discriminator_loss_L.detach(), generator_loss_L.detach())
        logits = (kind.real_logits(each.detach()) for each in (real, fake))
        return torch.stack([*losses, *(torch.sigmoid(each).mean(dim=1) for each in logits)], dim=1)
