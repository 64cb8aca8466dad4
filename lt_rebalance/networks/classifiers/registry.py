"""Architectures of the classifiers that are trained on the rebalanced sets.

Shape suffixes: N images, C H W image, K classes.
"""

from collections.abc import Callable

from torch import nn

from lt_rebalance.networks.classifiers.paper_cnn import build_paper_cnn
from lt_rebalance.networks.initialization import ImageShape

ClassifierBuilder = Callable[[int, ImageShape], nn.Module]


def build_classifier(name: str, num_classes: int, image_shape: ImageShape) -> nn.Module:
    """Build a classifier `images_NCHW -> logits_NK` with torch's own (unseeded) initial weights.

    Raises:
        ValueError: unknown name, or an image shape the architecture cannot read.
    """
    if name not in CLASSIFIERS:
        raise ValueError(f"unknown classifier {name!r}; known: {', '.join(CLASSIFIERS)}")
    return CLASSIFIERS[name](num_classes, image_shape)


CLASSIFIERS: dict[str, ClassifierBuilder] = {
    "paper_cnn": build_paper_cnn,
}
