"""The discriminator of an ACGAN: it is not told the label, and has to tell it.

Source: Odena, Olah, Shlens 2017, arXiv 1610.09585. Its generator is that of `dcgan`. Deviations: the body
is that of the DCGAN here, without dropout and without noise on its input; the classes are logits, where
widely copied code takes a cross-entropy of their softmax.

Shape suffixes: N images, C H W image, K classes.
"""

from torch import Tensor

from lt_rebalance.networks.builders import ImageShape
from lt_rebalance.networks.generators.dcgan import (
    ConvolutionalPartner,
    NormalLinear,
    build_critic,
    count_features,
)


class ACGANDiscriminator(ConvolutionalPartner):
    """Judge images and name their classes: `(images_NCHW, labels_N) -> logits_N(1 + K)`."""

    def __init__(self, num_classes: int, image_shape: ImageShape) -> None:
        super().__init__(image_shape)
        self.body = build_critic(image_shape[0], image_shape)
        self.output = NormalLinear(count_features(image_shape), 1 + num_classes)

    def forward(self, images_NCHW: Tensor, labels_N: Tensor) -> Tensor:
        """Return logits: of being real, and of every class; the labels are not looked at."""
        logits: Tensor = self.output(self.body(images_NCHW).flatten(1))
        return logits
