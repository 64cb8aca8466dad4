"""The paper's generators.

Source: Mankikar, Patel, Zhang, section 3.3, and the sizes of the weights published with it. Each function
returns the body of a generator: from noise and embedded label, (N, NOISE_DIM + LABEL_DIM), to (N, C, H, W).
"""

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from lt_rebalance.networks.builders import ImageShape
from lt_rebalance.networks.generators.generator import LABEL_DIM, LEAKY_SLOPE, NOISE_DIM


class Cut(nn.Module):
    """Keep the first rows and columns: `values_NCHW -> values_NCHW`."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, values_NCHW: Tensor) -> Tensor:
        """Return the upper left region."""
        return values_NCHW[:, :, : self.height, : self.width]


def _leaky() -> nn.Module:
    return nn.LeakyReLU(LEAKY_SLOPE)


def _mlp(
    widths: Sequence[int], activation: Callable[[], nn.Module], image_shape: ImageShape
) -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = NOISE_DIM + LABEL_DIM
    for width in widths:
        layers += [nn.Linear(inputs, width), activation()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, math.prod(image_shape)), nn.Unflatten(1, image_shape))


def build_small_mlp_leaky(image_shape: ImageShape) -> nn.Module:
    """Three linear layers."""
    return _mlp((256, 512), _leaky, image_shape)


def build_mlp_relu(image_shape: ImageShape) -> nn.Module:
    """Four linear layers with ReLU."""
    return _mlp((256, 512, 1024), nn.ReLU, image_shape)


def build_mlp_leaky(image_shape: ImageShape) -> nn.Module:
    """Four linear layers."""
    return _mlp((256, 512, 1024), _leaky, image_shape)


def build_big_mlp_leaky(image_shape: ImageShape) -> nn.Module:
    """Batch normalisation comes after the activation at 384 and before it at 1024, as published."""
    return nn.Sequential(
        *(nn.Linear(NOISE_DIM + LABEL_DIM, 256), _leaky()),
        *(nn.Linear(256, 384), _leaky(), nn.BatchNorm1d(384)),
        *(nn.Linear(384, 512), _leaky()),
        *(nn.Linear(512, 768), _leaky()),
        *(nn.Linear(768, 1024), nn.BatchNorm1d(1024), _leaky()),
        *(nn.Linear(1024, math.prod(image_shape)), nn.Unflatten(1, image_shape)),
    )


def build_dccgan_leaky(image_shape: ImageShape) -> nn.Module:
    """The convolutional generator of the published code, absent from the text; no batch normalisation.

    The places of its activations are not stated: here one follows every layer but the last. Sides that 4 does
    not divide are rounded up, and cropped at the end.
    """
    channels, height, width = image_shape
    rows, columns = math.ceil(height / 4), math.ceil(width / 4)
    cuts = [] if (4 * rows, 4 * columns) == (height, width) else [Cut(height, width)]
    return nn.Sequential(
        *(nn.Linear(NOISE_DIM + LABEL_DIM, rows * columns), _leaky()),
        nn.Unflatten(1, (1, rows, columns)),
        *(nn.ConvTranspose2d(1, 128, 4, stride=2, padding=1), _leaky()),
        *(nn.ConvTranspose2d(128, 256, 4, stride=2, padding=1), _leaky()),
        *(nn.ConvTranspose2d(256, 128, 5, padding=2), _leaky()),
        nn.Conv2d(128, channels, 5, padding=2),
        *cuts,
    )
