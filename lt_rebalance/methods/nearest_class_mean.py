"""Nearest class mean: after training, predict the class whose mean features are nearest to an image's.

Source: Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis 2020, Decoupling Representation and Classifier for
Long-Tailed Recognition, arXiv 1910.09217, section 4.2, by cosine or by Euclidean distance. Features are the
inputs of the last linear layer; means are over the training set, in evaluation mode and without augmentation.
Deviations: Euclidean distances are of features and means as they are, while theirs are of means at length 1
and, in their code, of features that are centred and at length 1; distances become logits by a scale, which
changes no prediction; the probabilities, and so the measured loss, depend on that scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lt_rebalance.ground.plain import require_known, require_positive
from lt_rebalance.methods.contract import Method, Options
from lt_rebalance.methods.domains import Choice, Range, searched

if TYPE_CHECKING:
    from torch import Tensor, nn

DISTANCES = ("cosine", "euclidean")


@dataclass(frozen=True, kw_only=True)
class NearestClassMeanOptions:
    """Options of the nearest class mean."""

    distance: str = searched("cosine", Choice(values=DISTANCES, unit="distance"))
    """"cosine" or "euclidean\""""
    scale: float = searched(30.0, Range(low=5.0, high=60.0, is_log=True, unit="factor"))
    """factor from cosines, or from minus half the squared distances, to logits"""

    def __post_init__(self) -> None:
        require_known("distance", self.distance, DISTANCES)
        require_positive(scale=self.scale)


def _take_means(network: nn.Module, mean_features: Callable[[], Tensor], options: Options) -> None:
    from lt_rebalance.networks.heads import NearestMean, find_last_layer, replace_layer

    name, _ = find_last_layer(network)
    is_cosine = options.distance == "cosine"
    replace_layer(network, name, NearestMean(mean_features(), options.scale, at_length_1=is_cosine))


NEAREST_CLASS_MEAN = Method(
    description="predict the class whose mean features are nearest",
    options=NearestClassMeanOptions,
    after=_take_means,
)
