"""The paper's classifier."""

from torch import nn

from lt_rebalance.networks.builders import ImageShape


def build_paper_cnn(num_classes: int, image_shape: ImageShape) -> nn.Module:
    """Mankikar, Patel, Zhang, section 3.4: four convolutions, two linear layers; softmax is in the loss.

    Max-pooling comes before the ReLU, not after it as published. The two commute exactly, forward and
    backward, and the ReLU then has a quarter of the values.
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
