"""A convolutional autoencoder for images of any size, for methods that interpolate features.

Shape suffixes: N images, Z features, C H W image.
"""

import itertools
import math

from torch import Tensor, nn

SLOPE = 0.2
SMALLEST_SIDE = 4
"""images are halved while no side of the half is smaller than this"""


class Autoencoder(nn.Module):
    """`images_NCHW -> images_NCHW`, in [-1, 1], through `features_NZ`."""

    def __init__(self, image_shape: tuple[int, int, int], num_features: int, width: int) -> None:
        """Build encoder and decoder; the first convolution has `width` channels, later ones double them."""
        super().__init__()
        channels, height, width_px = image_shape
        self._size = height, width_px
        num_halvings = max(1, int(math.log2(min(height, width_px) / SMALLEST_SIDE)))
        sizes = [channels, *(width * 2**index for index in range(num_halvings))]
        small = [math.ceil(side / 2**num_halvings) for side in self._size]
        pairs = list(itertools.pairwise(sizes))
        encoder: list[nn.Module] = []
        for index, (taken, given) in enumerate(pairs):
            encoder.append(nn.Conv2d(taken, given, 3, stride=2, padding=1))
            encoder += [nn.BatchNorm2d(given)] if index else []
            encoder.append(nn.LeakyReLU(SLOPE))
        flat = sizes[-1] * math.prod(small)
        self.encoder = nn.Sequential(*encoder, nn.Flatten(), nn.Linear(flat, num_features))
        decoder: list[nn.Module] = [nn.Linear(num_features, flat), nn.ReLU()]
        decoder.append(nn.Unflatten(1, (sizes[-1], *small)))
        for index, (given, taken) in reversed(list(enumerate(pairs))):
            # A transposed convolution leaves a grid in what it draws.
            decoder += [nn.Upsample(scale_factor=2), nn.Conv2d(taken, given, 3, padding=1)]
            decoder += [nn.BatchNorm2d(given), nn.ReLU()] if index else [nn.Tanh()]
        self.decoder = nn.Sequential(*decoder)

    def encode(self, images_NCHW: Tensor) -> Tensor:
        """Return `features_NZ`."""
        features_NZ: Tensor = self.encoder(images_NCHW)
        return features_NZ

    def decode(self, features_NZ: Tensor) -> Tensor:
        """Return `images_NCHW` in [-1, 1]."""
        height, width = self._size
        images_NCHW: Tensor = self.decoder(features_NZ)
        return images_NCHW[:, :, :height, :width]

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return the images decoded from their features."""
        return self.decode(self.encode(images_NCHW))
