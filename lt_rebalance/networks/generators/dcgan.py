"""A conditional DCGAN, and the convolutional bodies that other GANs share with it.

Source: Radford, Metz, Chintala 2015, arXiv 1511.06434, section 3: transposed convolutions of 4 x 4 and stride
2 with batch normalisation and ReLU in the generator, except at its output; convolutions of stride 2 with
batch normalisation and LeakyReLU(0.2) in the discriminator, except at its input; no pooling, no hidden linear
layer; weights from N(0, 0.02). Conditioned as Mirza, Osindero 2014, arXiv 1411.1784: both networks get an
embedding of the label with their input, the discriminator as planes.

Deviations: sides are halved until the smallest map is 4 to 7 on its shorter side, so any image size works
(theirs is 64 x 64); half their channels, as in PyTorch's example, at most 512; sides that do not divide are
rounded up, and cropped at the end; embeddings are standard normal, batch normalisation starts at ones.

Shape suffixes: N images, C H W image, Z noise dimensions, F features.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lt_rebalance.networks.builders import ImageShape
from lt_rebalance.networks.generators.generator import LABEL_DIM, LEAKY_SLOPE, NOISE_DIM, Partner
from lt_rebalance.networks.generators.paper_gans import Cut

WEIGHT_DEVIATION = 0.02
SMALLEST_SIDE = 4
"""side of the smallest map, unless an image is less than twice as large"""
BASE_WIDTH = 64
MOST_WIDTH = 512
KERNEL = (4, 2, 1)
"""size, stride, padding"""


class _DrawsNormal:
    """Weights from N(0, `WEIGHT_DEVIATION`), biases 0."""

    weight: Tensor
    bias: Any  # Tensor, or None if there is none

    def draw_weights(self, generator: torch.Generator) -> None:
        """Set the parameters."""
        self.weight.normal_(0, WEIGHT_DEVIATION, generator=generator)
        if self.bias is not None:
            self.bias.zero_()


class NormalLinear(_DrawsNormal, nn.Linear):
    """A linear layer with the paper's initial weights."""


class NormalConv2d(_DrawsNormal, nn.Conv2d):
    """A convolution with the paper's initial weights."""


class NormalConvTranspose2d(_DrawsNormal, nn.ConvTranspose2d):
    """A transposed convolution with the paper's initial weights."""


def list_widths(image_shape: ImageShape) -> list[int]:
    """Return the channels of the maps from an image to the smallest map, which is included.

    Raises:
        ValueError: an image too small to be halved.
    """
    _, height, width = image_shape
    if min(height, width) < 2:
        raise ValueError(
            f"a convolutional GAN needs images of at least 2 x 2, got {height} x {width}; use a generator of "
            "linear layers, such as mlp_cgan_leaky"
        )
    num_levels = max(1, math.floor(math.log2(min(height, width) / SMALLEST_SIDE)))
    return [min(BASE_WIDTH * 2**level, MOST_WIDTH) for level in range(num_levels)]


def smallest_map(image_shape: ImageShape) -> tuple[int, int, int]:
    """Return channels, rows and columns of the map that a generator begins with."""
    widths = list_widths(image_shape)
    _, height, width = image_shape
    scale = 2 ** len(widths)
    return widths[-1], math.ceil(height / scale), math.ceil(width / scale)


def build_output(image_shape: ImageShape) -> nn.Sequential:
    """Return the last layer of a generator: from the first of the widths, at half the size, to an image."""
    channels, height, width = image_shape
    _, rows, columns = smallest_map(image_shape)
    scale = 2 ** len(list_widths(image_shape))
    cuts = [] if (scale * rows, scale * columns) == (height, width) else [Cut(height, width)]
    return nn.Sequential(NormalConvTranspose2d(BASE_WIDTH, channels, *KERNEL), *cuts)


def build_dcgan(image_shape: ImageShape) -> nn.Module:
    """Return the body of the generator."""
    widths, smallest = list_widths(image_shape), smallest_map(image_shape)
    layers: list[nn.Module] = [
        NormalLinear(NOISE_DIM + LABEL_DIM, math.prod(smallest), bias=False),
        *(nn.Unflatten(1, smallest), nn.BatchNorm2d(smallest[0]), nn.ReLU()),
    ]
    for inputs, outputs in itertools.pairwise(widths[::-1]):
        layers += [NormalConvTranspose2d(inputs, outputs, *KERNEL, bias=False)]
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, build_output(image_shape))


def build_critic(
    channels: int,
    image_shape: ImageShape,
    convolution: Callable[..., nn.Module] = NormalConv2d,
    *,
    normalises: bool = True,
) -> nn.Sequential:
    """Return the body of a discriminator, from (N, channels, H, W) to the smallest map."""
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(itertools.pairwise([channels, *list_widths(image_shape)])):
        has_norm = normalises and index > 0
        layers.append(convolution(inputs, outputs, *KERNEL, bias=not has_norm))
        layers += [nn.BatchNorm2d(outputs)] if has_norm else []
        layers.append(nn.LeakyReLU(LEAKY_SLOPE))
    return nn.Sequential(*layers)


def count_features(image_shape: ImageShape) -> int:
    """Return how many values the smallest map of a discriminator has."""
    widths = list_widths(image_shape)
    _, height, width = image_shape
    return widths[-1] * (height >> len(widths)) * (width >> len(widths))


class ConvolutionalPartner(Partner):
    """A discriminator of images given their labels: `(images_NCHW, labels_N) -> logits_N`."""

    def __init__(self, image_shape: ImageShape) -> None:
        super().__init__()
        self.image_shape = image_shape

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Return images and labels."""
        return torch.zeros(2, *self.image_shape), torch.zeros(2, dtype=torch.int64)


class DCGANDiscriminator(ConvolutionalPartner):
    """The discriminator; the label's embedding forms further channels of the image, each value a plane."""

    def __init__(self, num_classes: int, image_shape: ImageShape) -> None:
        super().__init__(image_shape)
        self.label_embedding = nn.Embedding(num_classes, LABEL_DIM)
        self.body = build_critic(image_shape[0] + LABEL_DIM, image_shape)
        self.output = NormalLinear(count_features(image_shape), 1)

    def forward(self, images_NCHW: Tensor, labels_N: Tensor) -> Tensor:
        """Return `logits_N`, positive for real."""
        planes_NFHW = self.label_embedding(labels_N)[:, :, None, None].expand(-1, -1, *images_NCHW.shape[2:])
        features = self.body(torch.cat([images_NCHW, planes_NFHW], dim=1))
        logits_N: Tensor = self.output(features.flatten(1)).squeeze(1)
        return logits_N
