"""Find and replace the last linear layer of a classifier.

Shape suffixes: N images, F features, K classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def find_last_layer(network: nn.Module) -> tuple[str, nn.Linear]:
    """Return the name and the module of the last linear layer.

    Raises:
        ValueError: there is none.
    """
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ValueError(
            "a method that acts on the last linear layer needs a classifier that has one, got a "
            f"{type(network).__name__} without; end the network with nn.Linear, or take another method"
        )
    return layers[-1]


def replace_layer(network: nn.Module, name: str, layer: nn.Module) -> None:
    """Replace the layer of this name."""
    above, _, own = name.rpartition(".")
    setattr(network.get_submodule(above), own, layer)


class CosineLinear(nn.Module):
    """`features_NF -> logits_NK`: a scale times the cosine of the features and the weights of a class."""

    def __init__(self, linear: nn.Linear, scale: float) -> None:
        """Copy the directions of a linear layer's weights, at length 1, without bias."""
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(functional.normalize(linear.weight.detach(), dim=1))

    def forward(self, features_NF: Tensor) -> Tensor:
        """Return the logits, from -scale to scale."""
        cosines_NK: Tensor = functional.linear(
            functional.normalize(features_NF.float(), dim=-1), functional.normalize(self.weight, dim=-1)
        )
        return self.scale * cosines_NK


class NearestMean(nn.Module):
    """`features_NF -> logits_NK`: minus the squared distance to the mean of each class, times half a scale.

    Always in float32, because distances of near means are small differences of large numbers. Features and
    means keep their lengths, unless `at_length_1`.
    """

    def __init__(self, means_KF: Tensor, scale: float, *, at_length_1: bool) -> None:
        """Set the means; if means and features have length 1, logits are scaled cosines up to a constant."""
        super().__init__()
        self.scale = scale
        self.at_length_1 = at_length_1
        self.register_buffer("means_KF", self._measured(means_KF))

    def _measured(self, features_NF: Tensor) -> Tensor:
        features_NF = features_NF.float()
        return functional.normalize(features_NF, dim=-1) if self.at_length_1 else features_NF

    def forward(self, features_NF: Tensor) -> Tensor:
        """Return the logits, at most 0."""
        means_KF = self.get_buffer("means_KF")
        by_differences = "donot_use_mm_for_euclid_dist"
        distances_NK = torch.cdist(self._measured(features_NF), means_KF, compute_mode=by_differences)
        return -self.scale / 2 * distances_NK.square()


class ScaledLinear(nn.Module):
    """`features_NF -> logits_NK`: those of a linear layer, times a scale for each class, initially 1."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.scales_K = nn.Parameter(torch.ones(linear.out_features))

    def forward(self, features_NF: Tensor) -> Tensor:
        """Return the logits."""
        logits_NK: Tensor = self.linear(features_NF)
        return self.scales_K * logits_NK
