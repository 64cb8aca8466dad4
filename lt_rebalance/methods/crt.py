"""cRT: after a training on the unchanged set, the last layer is retrained with equally likely classes.

Source: Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis 2020, Decoupling Representation and Classifier for
Long-Tailed Recognition, arXiv 1910.09217, section 4.1 (classifier re-training), sampling by equation 1 with q
= 0: all classes are equally likely. Deviations: the second training has the learning rate of the first and
comes on top of it, as long as the first unless set (10 epochs after 90 in the paper, at a far higher learning
rate: a new layer needs more steps); items of a class are drawn with replacement; a network with dropout is
retrained without it, except where tests use the statistics of their batches.

Shape suffix: K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.methods.contract import Method, Options, SecondTraining
from lt_rebalance.methods.domains import Range, searched

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class CrtOptions:
    """Options of cRT."""

    budget_share: float = searched(1.0, Range(low=0.1, high=1.0, unit="share of the first"))
    """length of the retraining of the last layer, as a share of the first training; at most 1"""

    def __post_init__(self) -> None:
        if not 0 < self.budget_share <= 1:
            raise ValueError(f"budget_share must be above 0 and at most 1, got {self.budget_share}")


def show_alike(counts_K: NDArray[np.int64], progress: float, options: Options) -> NDArray[np.float64]:
    """Give all classes equal chances."""
    return np.ones(len(counts_K))


def _prepare(network: nn.Module, generator: torch.Generator) -> None:
    """Keep everything except the last linear layer, which gets new weights from torch's distribution."""
    import torch

    from lt_rebalance.networks.heads import find_last_layer

    network.requires_grad_(False)
    _, last = find_last_layer(network)
    last.requires_grad_()
    bound = 1 / math.sqrt(last.in_features)
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.uniform_(-bound, bound, generator=generator)


def share_of_first(options: Options) -> float:
    """Return the length of the second training as a share of the first."""
    return float(options.budget_share)


CRT = Method(
    description="train, then retrain the last layer with equally likely classes",
    options=CrtOptions,
    order=show_alike,
    then=SecondTraining(stream="crt/classifier", prepare=_prepare, budget_share=share_of_first),
)
