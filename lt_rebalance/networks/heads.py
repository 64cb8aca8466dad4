"""The last linear layer of a classifier: where it is, and what methods put in its place.

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
            f"{type(network).__name__} without"
        )
    return layers[-1]


def replace_layer(network: nn.Module, name: str, layer: nn.Module) -> None:
    """Put another layer where the one of this name is."""
    above, _, own = name.rpartition(".")
    setattr(network.get_submodule(above), own, layer)


class CosineLinear(nn.Module):
    """`features_NF -> logits_NK`: a scale times the cosine of the features and the weights of a class."""

    def __init__(self, linear: nn.Linear, scale: float) -> None:
        """Take the directions of a linear layer's weights, at length 1, and no bias."""
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(functional.normalize(linear.weight.detach(), dim=1))

    def forward(self, features_NF: Tensor) -> Tensor:
        """Return the logits, from -scale to scale."""
        cosines_NK: Tensor = functional.linear(
            functional.normalize(features_NF.float(), dim=-1), functional.normalize(self.weight, dim=-1)
        )
        return self.scale * cosines_NK


class ScaledLinear(nn.Module):
    """`features_NF -> logits_NK`: those of a linear layer, times a scale for each class, 1 at first."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.scales_K = nn.Parameter(torch.ones(linear.out_features))

    def forward(self, features_NF: Tensor) -> Tensor:
        """Return the logits."""
        logits_NK: Tensor = self.linear(features_NF)
        return self.scales_K * logits_NK
