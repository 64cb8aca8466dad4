"""DeepSMOTE: SMOTE between the features of an autoencoder, decoded to images.

Source: Dablain, Krawczyk, Chawla 2021, DeepSMOTE: Fusing Deep Learning and SMOTE for Imbalanced Data, arXiv
2105.02340, algorithm 1: each step adds the squared error of a batch and that of images of one class, drawn at
random, which are decoded from features in another order, so that the output fits the class and not only the
image; then SMOTE with k = 5 neighbours fills every class in the space of features. Features 300, width 64,
Adam 2e-4, batches of 100 are theirs. Deviations: `steps` instead of 200 epochs; the last layer is a tanh, as
pixels are in [-1, 1]; sides are halved down to at least 4, for images of any size; the decoder enlarges and
convolves instead of using transposed convolutions, which leave a grid.

The autoencoder learns from the long-tailed set only, on the CPU and in float32, before a run's training, and
again whenever the run is resumed.

Shape suffixes: N images of a class, S synthetic images, Z features, C H W image, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lt_rebalance.ground.plain import require_positive
from lt_rebalance.methods.contract import Method, Options
from lt_rebalance.methods.domains import Range, searched
from lt_rebalance.methods.filling import fill_up
from lt_rebalance.methods.interpolation import FloatImages, resample_points
from lt_rebalance.methods.smote import SmoteOptions

if TYPE_CHECKING:
    from lt_rebalance.networks.autoencoder import Autoencoder

SMOTE = "imblearn.over_sampling.SMOTE"
BATCH_SIZE = 100
AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class DeepSmoteOptions(SmoteOptions):
    """Options of DeepSMOTE."""

    steps: int = 2000
    """of the autoencoder"""
    num_features: int = 300
    """features of an image"""
    width: int = 64
    """channels of its first convolution"""
    learning_rate: float = searched(2e-4, Range(low=2e-5, high=2e-3, is_log=True, unit="step size"))
    """of its Adam"""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = {"steps": self.steps, "num_features": self.num_features, "width": self.width}
        require_positive(learning_rate=self.learning_rate, **sizes)


def _learn(images_by_class: Sequence[FloatImages], rng: np.random.Generator, options: Options) -> Autoencoder:
    """Return an autoencoder trained on the images of all classes, in evaluation mode."""
    import torch
    from torch.nn.functional import mse_loss

    from lt_rebalance.networks.autoencoder import Autoencoder
    from lt_rebalance.networks.initialization import build_network
    from lt_rebalance.networks.optimizers import Adam

    channels, height, width = images_by_class[0].shape[1:]
    network = build_network(
        lambda: Autoencoder((channels, height, width), options.num_features, options.width),
        torch.Generator().manual_seed(int(rng.integers(2**63))),
    )
    optimizer = Adam(network.parameters(), options.learning_rate)
    pool = np.concatenate(images_by_class)
    counts_K = [len(images) for images in images_by_class]
    firsts_K = np.cumsum([0, *counts_K])
    filled = [label for label, count in enumerate(counts_K) if count > 1]
    with torch.enable_grad():
        for _ in range(options.steps):
            batch = torch.from_numpy(pool[rng.choice(len(pool), min(BATCH_SIZE, len(pool)), replace=False)])
            loss = mse_loss(network(batch), batch)
            if filled:
                label = int(rng.choice(filled))
                drawn = rng.permutation(counts_K[label])[:BATCH_SIZE] + firsts_K[label]
                of_class = torch.from_numpy(pool[drawn])
                in_other_order = torch.from_numpy(rng.permutation(len(drawn)))
                loss = loss + mse_loss(network.decode(network.encode(of_class)[in_other_order]), of_class)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def _synthesize(
    images_by_class: Sequence[FloatImages],
    num_synthetic_K: Sequence[int],
    rng: np.random.Generator,
    options: Options,
) -> FloatImages:
    import torch

    if not any(num_synthetic_K):
        return np.empty((0, *images_by_class[0].shape[1:]), np.float32)
    network = _learn(images_by_class, rng, options)
    with torch.no_grad():
        features_by_class = []
        for images_NCHW in images_by_class:
            parts = torch.from_numpy(images_NCHW).split(AT_ONCE)
            features_by_class.append(torch.cat([network.encode(part) for part in parts]).numpy())
        parameters = {"k_neighbors": options.k_neighbors}
        made_SZ = resample_points(SMOTE, parameters, features_by_class, num_synthetic_K, rng)
        parts = torch.from_numpy(made_SZ).split(AT_ONCE)
        synthetic_SCHW: FloatImages = torch.cat([network.decode(part) for part in parts]).numpy()
    return synthetic_SCHW


DEEP_SMOTE = Method(
    description="fill every class with images between neighbours in the features of an autoencoder",
    options=DeepSmoteOptions,
    plan=fill_up,
    synthesize=_synthesize,
)
