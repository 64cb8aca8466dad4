"""The discriminator of the paper's generators."""

import itertools
import math

import torch
from torch import Tensor, nn

from lt_rebalance.ground.seeding import random_words
from lt_rebalance.networks.builders import ImageShape
from lt_rebalance.networks.generators.generator import LABEL_DIM, LEAKY_SLOPE, Partner

DROPOUT = 0.3

HIDDEN_WIDTHS = (1024, 512, 256)
"""of the discriminator; all are multiples of 4, as `draw_kept` requires"""

KEPT_FROM = torch.iinfo(torch.int16).min + round(DROPOUT * 2**16)


class Discriminator(Partner):
    """Judge images given their labels: `(images_NCHW, labels_N, kept_NH) -> logits_N`, positive for real."""

    def __init__(self, num_classes: int, image_shape: ImageShape) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.label_embedding = nn.Embedding(num_classes, LABEL_DIM)
        widths = (math.prod(image_shape) + LABEL_DIM, *HIDDEN_WIDTHS)
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths))
        self.output = nn.Linear(widths[-1], 1)

    def forward(self, images_NCHW: Tensor, labels_N: Tensor, kept_NH: Tensor) -> Tensor:
        """Return `logits_N`; dropout is always active and keeps the values that are 1 in `kept_NH`."""
        hidden = torch.cat([images_NCHW.flatten(1), self.label_embedding(labels_N)], dim=1)
        for layer, kept in zip(self.hidden, kept_NH.split(HIDDEN_WIDTHS, dim=1), strict=True):
            hidden = nn.functional.leaky_relu(layer(hidden), LEAKY_SLOPE)
            hidden = hidden * kept.to(hidden.dtype) / (1 - DROPOUT)
        logits_N: Tensor = self.output(hidden).squeeze(1)
        return logits_N

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Return images, labels and masks that keep everything."""
        kept_NH = torch.ones(2, sum(HIDDEN_WIDTHS), dtype=torch.int16)
        return torch.zeros(2, *self.image_shape), torch.zeros(2, dtype=torch.int64), kept_NH


def draw_kept(keys_L: Tensor, step: Tensor, num_items: int) -> Tensor:
    """Return `kept_LNH`, int16: 1 where dropout keeps a value, in all hidden layers, concatenated.

    A counter-based stream: a mask depends only on its lane's key, the step and its place, so it needs no
    state and all lanes are drawn together. Four masks of 16 bits come from each random word; the rate is
    `DROPOUT` to the nearest 2^-16.

    Args:
        keys_L: int64, from `seeding.stream_key`.
        step: int64 without axes, on the same device.
        num_items: N, below 2^21.
    """
    num_lanes, width = len(keys_L), sum(HIDDEN_WIDTHS)
    places_W = torch.arange(num_items * width // 4, device=keys_L.device)
    words_LW = random_words(keys_L.unsqueeze(1), places_W + (step << 32))
    # int16, because torch draws a bool in four times the time and converts it to a float in six times.
    return words_LW.view(torch.int16).view(num_lanes, num_items, width).ge_(KEPT_FROM)
