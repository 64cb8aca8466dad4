"""The classifiers that are trained on the rebalanced sets, by name; listed without importing torch.

Shape suffixes: N images, C H W image, K classes.
"""

from typing import TYPE_CHECKING

from lt_rebalance.networks.builders import ImageShape, find_builder

if TYPE_CHECKING:
    from torch import nn


def build_classifier(name: str, num_classes: int, image_shape: ImageShape) -> "nn.Module":
    """Build a classifier `images_NCHW -> logits_NK` with torch's own (unseeded) initial weights.

    Raises:
        ValueError: unknown name, or an image shape that the architecture does not accept.
    """
    network: nn.Module = find_builder("classifier", CLASSIFIERS, name)(num_classes, image_shape)
    return network


# From the number of classes and the image shape to a network: the module and the function that builds it.
CLASSIFIERS: dict[str, str] = {
    "paper_cnn": "lt_rebalance.networks.classifiers.paper_cnn:build_paper_cnn",
    "paper_cnn_dropout": "lt_rebalance.networks.classifiers.paper_cnn_dropout:build_paper_cnn_dropout",
    "resnet18": "lt_rebalance.networks.classifiers.resnet18:build_resnet18",
    "resnet20": "lt_rebalance.networks.classifiers.resnet20:build_resnet20",
    "resnet20_group_norm": "lt_rebalance.networks.classifiers.resnet20_group_norm:build_resnet20_group_norm",
    "resnet32": "lt_rebalance.networks.classifiers.resnet32:build_resnet32",
}
