"""Architectures of the generators of conditional GANs.

Source: Mankikar, Patel, Zhang, section 3.3, and the sizes of the weights published with it; the conditional
GAN is Mirza and Osindero 2014, arXiv 1411.1784. Shape suffixes: L lanes, N images,
Z noise dimensions, C H W image, H hidden values, W words of 64 bits.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lt_rebalance.networks.initialization import ImageShape

NOISE_DIM = 100
LABEL_DIM = 10
LEAKY_SLOPE = 0.2
GeneratorBuilder = Callable[[ImageShape], nn.Module]


class Generator(nn.Module):
    """Map noise and labels to images: `(noise_NZ, labels_N) -> images_NCHW` in [-1, 1]."""

    def __init__(self, body: nn.Module, num_classes: int) -> None:
        """`body` maps (N, NOISE_DIM + LABEL_DIM) to (N, C, H, W), before the tanh."""
        super().__init__()
        self.label_embedding = nn.Embedding(num_classes, LABEL_DIM)
        self.body = body

    @property
    def has_batch_norm(self) -> bool:
        """Whether a forward pass in training mode changes running statistics."""
        return any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in self.modules())

    def forward(self, noise_NZ: Tensor, labels_N: Tensor) -> Tensor:
        """Return `images_NCHW` in [-1, 1]."""
        inputs = torch.cat([noise_NZ, self.label_embedding(labels_N)], dim=1)
        return torch.tanh(self.body(inputs))


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


def _small_mlp_leaky(image_shape: ImageShape) -> nn.Module:
    return _mlp((256, 512), _leaky, image_shape)


def _mlp_relu(image_shape: ImageShape) -> nn.Module:
    return _mlp((256, 512, 1024), nn.ReLU, image_shape)


def _mlp_leaky(image_shape: ImageShape) -> nn.Module:
    return _mlp((256, 512, 1024), _leaky, image_shape)


def _big_mlp_leaky(image_shape: ImageShape) -> nn.Module:
    """Batch normalisation stands after the activation at 384 and before it at 1024, as published."""
    return nn.Sequential(
        *(nn.Linear(NOISE_DIM + LABEL_DIM, 256), _leaky()),
        *(nn.Linear(256, 384), _leaky(), nn.BatchNorm1d(384)),
        *(nn.Linear(384, 512), _leaky()),
        *(nn.Linear(512, 768), _leaky()),
        *(nn.Linear(768, 1024), nn.BatchNorm1d(1024), _leaky()),
        *(nn.Linear(1024, math.prod(image_shape)), nn.Unflatten(1, image_shape)),
    )


def _dccgan_leaky(image_shape: ImageShape) -> nn.Module:
    """The published code's convolutional generator, absent from the text; no batch normalisation.

    Where its activations stand is not stated: here one follows every layer but the last.
    """
    channels, height, width = image_shape
    if height % 4 or width % 4:
        raise ValueError(f"dccgan_leaky needs image sides divisible by 4, got {height}x{width}")
    return nn.Sequential(
        *(nn.Linear(NOISE_DIM + LABEL_DIM, height * width // 16), _leaky()),
        nn.Unflatten(1, (1, height // 4, width // 4)),
        *(nn.ConvTranspose2d(1, 128, 4, stride=2, padding=1), _leaky()),
        *(nn.ConvTranspose2d(128, 256, 4, stride=2, padding=1), _leaky()),
        *(nn.ConvTranspose2d(256, 128, 5, padding=2), _leaky()),
        nn.Conv2d(128, channels, 5, padding=2),
    )


def build_generator(name: str, num_classes: int, image_shape: ImageShape) -> Generator:
    """Build a generator with torch's own (unseeded) initial weights.

    Raises:
        ValueError: unknown name, or an image shape the architecture cannot make.
    """
    if name not in GENERATORS:
        raise ValueError(f"unknown generator {name!r}; known: {', '.join(GENERATORS)}")
    return Generator(GENERATORS[name](image_shape), num_classes)


# From the image shape to the body of a generator.
GENERATORS: dict[str, GeneratorBuilder] = {
    "small_mlp_cgan_leaky": _small_mlp_leaky,
    "mlp_cgan_relu": _mlp_relu,
    "mlp_cgan_leaky": _mlp_leaky,
    "big_mlp_cgan_leaky": _big_mlp_leaky,
    "dccgan_leaky": _dccgan_leaky,
}
