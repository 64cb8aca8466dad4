"""Generators, which map noise and a label to an image, and their partners in training.

Source: Mirza and Osindero 2014, arXiv 1411.1784. Shape suffixes: N images, Z noise dimensions, C H W image.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

NOISE_DIM = 100
LABEL_DIM = 10
LEAKY_SLOPE = 0.2


class Generator(nn.Module):
    """Map noise and labels to images: `(noise_NZ, labels_N) -> images_NCHW` in [-1, 1]."""

    noise_dim: ClassVar[int] = NOISE_DIM
    """Z"""

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


class Partner(nn.Module):
    """A network that a generator is trained with, built from the number of classes and the image shape."""

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Return meaningless inputs of two items; the output is always one tensor."""
        raise NotImplementedError
