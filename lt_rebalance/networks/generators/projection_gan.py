"""A projection GAN: conditional batch normalisation, and a projection in a spectrally normalised critic.

Source: Miyato, Koyama 2018, arXiv 1802.05637, equation 3: D(x, y) = v_y . phi(x) + psi(phi(x)), phi summed
over the map; Miyato et al. 2018, arXiv 1802.05957, algorithm 1: each weight W, as a matrix with one row per
output, is divided by its largest singular value, estimated by one step of power iteration in each forward
pass of training; conditional batch normalisation has a scale and a shift for each class, initially 1 and 0
(Dumoulin et al. 2017, arXiv 1610.07629).

Deviations: the bodies are those of the DCGAN here instead of residual networks; one critic update per
generator update instead of five; LeakyReLU(0.2) in the critic instead of ReLU.

Shape suffixes: N images, C H W image, Z noise dimensions, F features, O I rows and columns of a weight.
"""

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from lt_rebalance.networks.builders import ImageShape
from lt_rebalance.networks.generators.dcgan import (
    KERNEL,
    ConvolutionalPartner,
    NormalConv2d,
    NormalConvTranspose2d,
    NormalLinear,
    build_critic,
    build_output,
    list_widths,
    smallest_map,
)
from lt_rebalance.networks.generators.generator import NOISE_DIM, Generator


class ConditionalBatchNorm2d(nn.Module):
    """Normalise over the batch, then scale and shift by the class: `(maps_NCHW, labels_N) -> maps_NCHW`."""

    def __init__(self, num_channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(num_channels, affine=False)
        self.scale = nn.Parameter(torch.ones(num_classes, num_channels))
        self.shift = nn.Parameter(torch.zeros(num_classes, num_channels))

    def draw_weights(self, _: torch.Generator) -> None:
        """Set scales to 1 and shifts to 0."""
        self.scale.fill_(1)
        self.shift.zero_()

    def forward(self, maps_NCHW: Tensor, labels_N: Tensor) -> Tensor:
        """Return `maps_NCHW`."""
        scale_NCHW, shift_NCHW = (
            nn.functional.embedding(labels_N, each)[:, :, None, None] for each in (self.scale, self.shift)
        )
        normed_NCHW: Tensor = self.norm(maps_NCHW)
        return normed_NCHW * scale_NCHW + shift_NCHW


class ProjectionGenerator(Generator):
    """The DCGAN's generator; only its batch normalisation gets the label."""

    def __init__(self, num_classes: int, image_shape: ImageShape) -> None:
        nn.Module.__init__(self)
        widths, smallest = list_widths(image_shape), smallest_map(image_shape)
        self.input = NormalLinear(NOISE_DIM, math.prod(smallest), bias=False)
        self.unflatten = nn.Unflatten(1, smallest)
        self.norms = nn.ModuleList(ConditionalBatchNorm2d(each, num_classes) for each in widths[::-1])
        self.convolutions = nn.ModuleList(
            NormalConvTranspose2d(*pair, *KERNEL, bias=False) for pair in itertools.pairwise(widths[::-1])
        )
        self.output = build_output(image_shape)

    def forward(self, noise_NZ: Tensor, labels_N: Tensor) -> Tensor:
        """Return `images_NCHW` in [-1, 1]."""
        maps_NCHW = self.unflatten(self.input(noise_NZ))
        for norm, layer in zip(self.norms, [*self.convolutions, self.output], strict=True):
            maps_NCHW = layer(norm(maps_NCHW, labels_N).relu())
        return torch.tanh(maps_NCHW)


class _SpectralNorm:
    """Base of layers whose weight is divided by its largest singular value.

    The left singular vector is a buffer: a checkpoint keeps it, and fused lanes have their own.
    """

    weight: Tensor
    left_O: Tensor
    training: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("left_O", torch.ones(len(self.weight)))  # type: ignore[attr-defined]  # of nn.Module

    def draw_weights(self, generator: torch.Generator) -> None:
        """Draw the weight and the vector."""
        super().draw_weights(generator)  # type: ignore[misc]  # of the layer beside it
        self.left_O.normal_(generator=generator)

    def normalised_weight(self) -> Tensor:
        """Return the weight over its largest singular value; training updates the vector by one step."""
        with torch.autocast(self.weight.device.type, enabled=False):
            weight_OI = self.weight.flatten(1)
            with torch.no_grad():
                right_I = nn.functional.normalize(self.left_O @ weight_OI, dim=0)
                left_O = nn.functional.normalize(weight_OI @ right_I, dim=0)
                if self.training:
                    self.left_O.copy_(left_O)
            return self.weight / (left_O @ (weight_OI @ right_I))


class SpectralConv2d(_SpectralNorm, NormalConv2d):
    """A convolution of spectral norm 1."""

    def forward(self, inputs_NCHW: Tensor) -> Tensor:
        """Return the convolved inputs."""
        return nn.functional.conv2d(
            inputs_NCHW, self.normalised_weight(), self.bias, self.stride, self.padding
        )


class SpectralLinear(_SpectralNorm, NormalLinear):
    """A linear layer of spectral norm 1."""

    def forward(self, inputs_NF: Tensor) -> Tensor:
        """Return the mapped inputs."""
        return nn.functional.linear(inputs_NF, self.normalised_weight(), self.bias)


class ProjectionDiscriminator(ConvolutionalPartner):
    """The critic: `(images_NCHW, labels_N) -> logits_N`, of any size, positive for real."""

    def __init__(self, num_classes: int, image_shape: ImageShape) -> None:
        super().__init__(image_shape)
        num_features = list_widths(image_shape)[-1]
        self.body = build_critic(image_shape[0], image_shape, SpectralConv2d, normalises=False)
        self.output = SpectralLinear(num_features, 1)
        self.projection = SpectralLinear(num_features, num_classes, bias=False)
        """one row per class: the embedding v_y"""

    def forward(self, images_NCHW: Tensor, labels_N: Tensor) -> Tensor:
        """Return `logits_N`."""
        features_NF = self.body(images_NCHW).sum(dim=(2, 3))
        embedded_NF = nn.functional.embedding(labels_N, self.projection.normalised_weight())
        logits_N: Tensor = self.output(features_NF).squeeze(1) + (embedded_NF * features_NF).sum(dim=1)
        return logits_N
