"""The discriminator of an ACGAN: it predicts the label instead of getting it as input.

Source: Odena, Olah, Shlens 2017, arXiv 1610.09585. Its generator is that of `dcgan`. Deviations: the body is
that of the DCGAN here, without dropout and without noise on its input; the class outputs are logits, while
widely copied code applies the cross-entropy to their softmax.

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
    """Judge images and predict their classes: `(images_NCHW, labels_N) -> logits_N(1 + K)`."""

    def __init__(self, num_classes: int, image_shape: ImageShape) -> None:
        super().__init__(image_shape)
        self.body = build_critic(image_shape[0], image_shape)
        self.output = NormalLinear(count_features(image_shape), 1 + num_classes)

    def forward(self, images_NCHW: Tensor, labels_N: Tensor) -> Tensor:
        """Return logits: of being real, and of every class; the labels are ignored."""
        logits: Tensor = self.output(self.body(images_NCHW).flatten(1))
        return logits
