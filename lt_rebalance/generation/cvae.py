"""Train a conditional variational autoencoder: the evidence lower bound, and one step of both networks.

Source: Kingma, Welling 2013, arXiv 1312.6114, equation 10 with one draw of the code per image, the divergence
in closed form by appendix B; Sohn, Lee, Yan 2015, NeurIPS 28, for the condition. The weight of the
divergence, beta of Higgins et al. 2017 (beta-VAE, ICLR), is `generator.kl_weight`, 1 for the bound itself.
Deviations: grey values from 0 to 1 are reconstructed, for which the cross-entropy is not a likelihood and has
their entropy as its minimum, not 0; Adam instead of Adagrad.

Shape suffixes: L lanes, B items of a batch, Z latent dimensions, C H W image, M curves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lt_rebalance.generation.training import GeneratorLane, GeneratorTraining
from lt_rebalance.training.lane import autocast
from lt_rebalance.training.stacks import LaneStack


class CVAETraining(GeneratorTraining):
    """Lanes of one conditional variational autoencoder."""

    partner_name = "encoder"
    curve_names = ("reconstruction_loss", "kl_divergence")

    def _build_step(
        self, lanes: Sequence[GeneratorLane], generator: LaneStack, partner: LaneStack
    ) -> Callable[..., Tensor]:
        return _CVAEStep(
            decoder=generator,
            encoder=partner,
            kl_weight=self._config.kl_weight,
            precision=self._precision,
        )


@dataclass(frozen=True, kw_only=True)
class _CVAEStep:
    """One update of encoder and decoder of every lane."""

    decoder: LaneStack
    encoder: LaneStack
    kl_weight: float
    precision: str

    def __call__(
        self, real_LBCHW: Tensor, real_labels_LB: Tensor, noise_LBZ: Tensor, _: Tensor, __: Tensor
    ) -> Tensor:
        """Return `curves_LM`."""
        with autocast(real_LBCHW.device, self.precision):
            moments = self.encoder(real_LBCHW, real_labels_LB).float()
        means_LBZ, log_variances_LBZ = moments.chunk(2, dim=-1)
        codes_LBZ = means_LBZ + (log_variances_LBZ / 2).exp() * noise_LBZ
        with autocast(real_LBCHW.device, self.precision):
            logits_LBCHW = self.decoder(codes_LBZ, real_labels_LB).float()
        reconstruction_L = reconstruction_loss(logits_LBCHW, real_LBCHW)
        kl_L = kl_divergence(means_LBZ, log_variances_LBZ)
        for network in (self.encoder, self.decoder):
            network.zero_grad()
        (reconstruction_L + self.kl_weight * kl_L).sum().backward()
        for network in (self.encoder, self.decoder):
            network.step()
        return torch.stack([reconstruction_L.detach(), kl_L.detach()], dim=1)


def reconstruction_loss(logits_LBCHW: Tensor, images_LBCHW: Tensor) -> Tensor:
    """Return the cross-entropy of grey values per image, in nats, averaged over the images of a lane.

    Args:
        logits_LBCHW: of grey values from 0 to 1.
        images_LBCHW: in [-1, 1].
    """
    grey_LBCHW = (images_LBCHW + 1) / 2
    losses_LBCHW = binary_cross_entropy_with_logits(logits_LBCHW, grey_LBCHW, reduction="none")
    return losses_LBCHW.flatten(2).sum(dim=2).mean(dim=1)


def kl_divergence(means_LBZ: Tensor, log_variances_LBZ: Tensor) -> Tensor:
    """Return the divergence of normal codes from standard ones, in nats: the mean over a lane's images."""
    terms_LBZ = means_LBZ.square() + log_variances_LBZ.exp() - 1 - log_variances_LBZ
    return terms_LBZ.sum(dim=2).mean(dim=1) / 2
