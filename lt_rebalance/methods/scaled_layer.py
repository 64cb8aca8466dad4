"""A linear layer whose outputs have a scale each. Shape suffixes: N images, F features, K classes."""

import torch
from torch import Tensor, nn


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
