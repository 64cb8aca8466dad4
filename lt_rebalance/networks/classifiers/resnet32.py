"""ResNet-32 for small images, used in comparisons of long-tailed methods.

Source: He, Zhang, Ren, Sun 2016, arXiv 1512.03385, section 4.2, n = 5, with shortcuts of option A: 464,154
parameters for ten classes of colour images. Deviations as `resnet20`.
"""

from torch import nn

from lt_rebalance.networks.builders import ImageShape
from lt_rebalance.networks.classifiers.resnet20 import build_resnet20

BLOCKS = 5


def build_resnet32(num_classes: int, image_shape: ImageShape) -> nn.Module:
    """Build the network; errors as `build_resnet20`."""
    return build_resnet20(num_classes, image_shape, name="resnet32", num_blocks=BLOCKS)
