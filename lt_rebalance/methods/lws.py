"""LWS: after a training on the unchanged set, learn a scale of each class's logits, classes equally likely.

Source: Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis 2020, Decoupling Representation and Classifier for
Long-Tailed Recognition, arXiv 1910.09217, section 4.1 (learnable weight scaling, equation 6), sampling by
equation 1 with q = 0. Deviations: the bias is scaled with the weights; the second training has the learning
rate of the first and comes on top of it, as long as the first unless set; items of a class are drawn with
replacement; dropout is off as in cRT.

Shape suffix: K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lt_rebalance.methods.contract import Method, Options, SecondTraining
from lt_rebalance.methods.crt import CrtOptions, share_of_first, show_alike

if TYPE_CHECKING:
    import torch
    from torch import nn


class LwsOptions(CrtOptions):
    """Options of LWS: how long the scales are learned."""


def _head(linear: nn.Linear, options: Options) -> nn.Module:
    from lt_rebalance.networks.heads import ScaledLinear

    return ScaledLinear(linear)


def _prepare(network: nn.Module, generator: torch.Generator) -> None:
    """Keep everything except the scales."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.endswith("scales_K"))


LWS = Method(
    description="train, then learn a scale for the logits of each class with equally likely classes",
    options=LwsOptions,
    order=show_alike,
    head=_head,
    then=SecondTraining(stream="lws/scales", prepare=_prepare, budget_share=share_of_first),
)
