"""Architectures of the classifiers that are trained on the rebalanced sets.

Shape suffixes: N images, C H W image, K classes.
"""

from collections.abc import Callable

from torch import nn

ImageShape = tuple[int, int, int]
ClassifierBuilder = Callable[[int, ImageShape], nn.Module]


def _paper_cnn(num_classes: int, image_shape: ImageShape) -> nn.Module:
    """Mankikar, Patel, Zhang, section 3.4: four convolutions, two linear layers; softmax is in the loss.

    Max-pooling comes before the ReLU, not after it as published: the two commute exactly, forward and
    backward, and a quarter of the values is left to the second.
    """
    channels, height, width = image_shape
    if height < 4 or width < 4:
        raise ValueError(f"paper_cnn needs images of at least 4x4, got {height}x{width}")
    return nn.Sequential(
        *(nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(inplace=True), nn.BatchNorm2d(32)),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(inplace=True)),
        *(nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(48, 64, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(inplace=True)),
        nn.Flatten(),
        *(nn.Linear(64 * (height // 4) * (width // 4), 128), nn.ReLU(inplace=True)),
        nn.Linear(128, num_classes),
    )


def build_classifier(name: str, num_classes: int, image_shape: ImageShape) -> nn.Module:
    """Build a classifier `images_NCHW -> logits_NK` with torch's own (unseeded) initial weights.

    Raises:
        ValueError: unknown name, or an image shape the architecture cannot read.
    """
    if name not in CLASSIFIERS:
        raise ValueError(f"unknown classifier {name!r}; known: {', '.join(CLASSIFIERS)}")
    return CLASSIFIERS[name](num_classes, image_shape)


CLASSIFIERS: dict[str, ClassifierBuilder] = {
    "paper_cnn": _paper_cnn,
}
