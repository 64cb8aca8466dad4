"""ResNet-20 with group normalisation: the outputs of an image do not depend on the rest of its batch.

Source: Wu, He 2018, arXiv 1803.08494. Deviation: 8 groups instead of their 32 in networks that begin with 64
channels; this one begins with 16.
"""

from torch import nn

from lt_rebalance.networks.builders import ImageShape
from lt_rebalance.networks.classifiers.resnet20 import build_resnet20

GROUPS = 8


def build_resnet20_group_norm(num_classes: int, image_shape: ImageShape) -> nn.Module:
    """Build the network; errors as `build_resnet20`."""
    return build_resnet20(
        num_classes, image_shape, lambda channels: nn.GroupNorm(GROUPS, channels), "resnet20_group_norm"
    )
