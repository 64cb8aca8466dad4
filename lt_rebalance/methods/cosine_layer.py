"""A last layer that answers with scaled cosines: the angle between features and a class counts, no length.

Shape suffixes: N images, F features, K classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class CosineLinear(nn.Module):
    """`features_NF -> logits_NK`: scale times the cosine of the features and the weights of each class."""

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


def make_cosine_layer(linear: nn.Linear, scale: float) -> nn.Module:
    """Return the layer that takes the place of a linear one."""
    with torch.no_grad():
        return CosineLinear(linear, scale)
