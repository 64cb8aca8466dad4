"""Architectures of the classifiers that are trained on the rebalanced sets.

Shape suffixes: N images, C H W image, K classes.
"""

from collections.abc import Callable

from torch import nn

from lt_rebalance.ground.own_file import get_own, is_own
from lt_rebalance.ground.plain import require_known
from lt_rebalance.networks.classifiers.paper_cnn import build_paper_cnn
from lt_rebalance.networks.initialization import ImageShape

ClassifierBuilder = Callable[[int, ImageShape], nn.Module]


def build_classifier(name: str, num_classes: int, image_shape: ImageShape) -> nn.Module:
    """Build a classifier `images_NCHW -> logits_NK` with torch's own (unseeded) initial weights.

    Raises:
        ValueError: unknown name, or an image shape the architecture cannot read.
    """
    return get_classifier(name)(num_classes, image_shape)


def get_classifier(name: str) -> ClassifierBuilder:
    """Return what builds a classifier: one in CLASSIFIERS, or one in a file of a user's own that is at hand.

    Raises:
        ValueError: unknown name.
    """
    if is_own(name):
        builder: ClassifierBuilder = get_own(name)
        return builder
    require_known("classifier", name, tuple(CLASSIFIERS))
    return CLASSIFIERS[name]


CLASSIFIERS: dict[str, ClassifierBuilder] = {
    "paper_cnn": build_paper_cnn,
}
