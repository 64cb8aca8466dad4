"""ResNet-18 with a stem for small images.

Source: He, Zhang, Ren, Sun 2016, arXiv 1512.03385, table 1, with shortcuts of option B, with the structure of
torchvision's `resnet18`. Deviations: the stem is a 3x3 convolution of stride 1 without max-pooling, so that
an image of 32 pixels is halved three times and not five; initial weights are torch's own.

Shape suffixes: N images, C channels, H W image.
"""

from torch import Tensor, nn

from lt_rebalance.networks.builders import ImageShape

WIDTHS = (64, 128, 256, 512)
"""channels of the four parts"""
BLOCKS = 2
"""residual blocks of a part"""
SMALLEST_SIDE = 8
"""pixels; a side is halved three times"""


class Block(nn.Module):
    """Two convolutions with a shortcut around them, which has weights if the shape changes."""

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        """If the number of channels grows, the sides are halved."""
        super().__init__()
        stride = 1 if num_inputs == num_outputs else 2
        self.residual = nn.Sequential(
            nn.Conv2d(num_inputs, num_outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(num_outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(num_outputs, num_outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(num_outputs),
        )
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(num_inputs, num_outputs, 1, stride, bias=False), nn.BatchNorm2d(num_outputs)
            )

    def forward(self, values_NCHW: Tensor) -> Tensor:
        """Return the rectified sum of both paths."""
        return nn.functional.relu(self.shortcut(values_NCHW) + self.residual(values_NCHW), inplace=True)


def build_resnet18(num_classes: int, image_shape: ImageShape) -> nn.Module:
    """Build the network; ValueError for images too small to be halved three times."""
    channels, height, width = image_shape
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(
            f"resnet18 needs images of at least {SMALLEST_SIDE}x{SMALLEST_SIDE}, got {height}x{width}"
        )
    num_inputs = WIDTHS[0]
    layers: list[nn.Module] = [
        nn.Conv2d(channels, num_inputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(num_inputs),
        nn.ReLU(inplace=True),
    ]
    for num_outputs in WIDTHS:
        for _ in range(BLOCKS):
            layers.append(Block(num_inputs, num_outputs))
            num_inputs = num_outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(num_inputs, num_classes))
