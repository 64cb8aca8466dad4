"""Architectures of the conditional GANs: generators and their common discriminator.

Source: Mankikar, Patel, Zhang, section 3.3, and the sizes of the weights published with it; the conditional
GAN is Mirza and Osindero 2014, arXiv 1411.1784. Shape suffixes: L lanes, N images,
Z noise dimensions, C H W image, H hidden values, W words of 64 bits.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lt_rebalance.seeding import random_words

NOISE_DIM = 100
LABEL_DIM = 10
LEAKY_SLOPE = 0.2
DROPOUT = 0.3
HIDDEN_WIDTHS = (1024, 512, 256)
"""of the discriminator; all are multiples of 4, as `draw_kept` needs"""

_KEPT_FROM = torch.iinfo(torch.int16).min + round(DROPOUT * 2**16)

ImageShape = tuple[int, int, int]
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


class Discriminator(nn.Module):
    """Judge images under their labels: `(images_NCHW, labels_N, kept_NH) -> logits_N`, positive for real."""

    def __init__(self, num_classes: int, image_shape: ImageShape) -> None:
        super().__init__()
        self.label_embedding = nn.Embedding(num_classes, LABEL_DIM)
        widths = (math.prod(image_shape) + LABEL_DIM, *HIDDEN_WIDTHS)
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths))
        self.output = nn.Linear(widths[-1], 1)

    def forward(self, images_NCHW: Tensor, labels_N: Tensor, kept_NH: Tensor) -> Tensor:
        """Return `logits_N`; dropout is always active and keeps what is true in `kept_NH`."""
        hidden = torch.cat([images_NCHW.flatten(1), self.label_embedding(labels_N)], dim=1)
        for layer, kept in zip(self.hidden, kept_NH.split(HIDDEN_WIDTHS, dim=1), strict=True):
            hidden = nn.functional.leaky_relu(layer(hidden), LEAKY_SLOPE)
            hidden = hidden * kept / (1 - DROPOUT)
        logits_N: Tensor = self.output(hidden).squeeze(1)
        return logits_N


def draw_kept(keys_L: Tensor, step: Tensor, num_items: int) -> Tensor:
    """Return `kept_LNH`, bool: what dropout keeps of all hidden layers of the discriminator, side by side.

    A counter-based stream: a mask depends on its lane's key, the step and its place, and on nothing else, so
    it needs no state and all lanes are drawn at once. Four masks of 16 bits come from each random word; the
    rate is `DROPOUT` to the nearest 2^-16.

    Args:
        keys_L: int64, from `seeding.stream_key`.
        step: int64 without axes, on the same device.
        num_items: N, below 2^21.
    """
    num_lanes, width = len(keys_L), sum(HIDDEN_WIDTHS)
    places_W = torch.arange(num_items * width // 4, device=keys_L.device)
    words_LW = random_words(keys_L.unsqueeze(1), places_W + (step << 32))
    return words_LW.view(torch.int16).view(num_lanes, num_items, width) >= _KEPT_FROM


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
