"""ResNet-20 for small images, and the parts that deeper ones share.

Source: He, Zhang, Ren, Sun 2016, arXiv 1512.03385, section 4.2, n = 3, with shortcuts of option A: if a block
halves the sides and doubles the channels, the shortcut takes every second pixel and pads with zeros, without
weights. Deviations: initial weights are torch's own, which for convolutions is a uniform distribution, not
that of He et al. 2015; augmentation, optimizer and budget are those of the configuration.

Shape suffixes: N images, C channels, H W image.
"""

from collections.abc import Callable

from torch import Tensor, nn

from lt_rebalance.networks.builders import ImageShape

WIDTHS = (16, 32, 64)
"""channels of the three parts"""
BLOCKS = 3
"""n, residual blocks of a part, of two convolutions each: 6 x 3 + 2 = 20 layers with weights"""
SMALLEST_SIDE = 4
"""pixels; a side is halved twice"""

MakeNorm = Callable[[int], nn.Module]


class Block(nn.Module):
    """Two convolutions with a shortcut around them: `values_NCHW -> values_NCHW`."""

    def __init__(self, num_inputs: int, num_outputs: int, make_norm: MakeNorm) -> None:
        """If the number of channels grows, the sides are halved."""
        super().__init__()
        self.stride = 1 if num_inputs == num_outputs else 2
        self.num_new = num_outputs - num_inputs
        self.residual = nn.Sequential(
            *(
                _convolution(num_inputs, num_outputs, self.stride),
                make_norm(num_outputs),
                nn.ReLU(inplace=True),
            ),
            *(_convolution(num_outputs, num_outputs), make_norm(num_outputs)),
        )

    def forward(self, values_NCHW: Tensor) -> Tensor:
        """Return the rectified sum of both paths."""
        shortcut = values_NCHW
        if self.stride > 1:
            shortcut = shortcut[:, :, :: self.stride, :: self.stride]
            shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, 0, self.num_new))
        return nn.functional.relu(shortcut + self.residual(values_NCHW), inplace=True)


def _convolution(num_inputs: int, num_outputs: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(num_inputs, num_outputs, 3, stride, padding=1, bias=False)


def build_resnet20(
    num_classes: int,
    image_shape: ImageShape,
    make_norm: MakeNorm = nn.BatchNorm2d,
    name: str = "resnet20",
    num_blocks: int = BLOCKS,
) -> nn.Module:
    """Build the network of 6 x `num_blocks` + 2 layers, with the normalisation of `make_norm`.

    Raises:
        ValueError: images too small to be halved twice.
    """
    channels, height, width = image_shape
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(
            f"{name} needs images of at least {SMALLEST_SIDE}x{SMALLEST_SIDE}, got {height}x{width}"
        )
    layers = [_convolution(channels, WIDTHS[0]), make_norm(WIDTHS[0]), nn.ReLU(inplace=True)]
    num_inputs = WIDTHS[0]
    for width in WIDTHS:
        for _ in range(num_blocks):
            layers.append(Block(num_inputs, width, make_norm))
            num_inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(num_inputs, num_classes))
