"""Weights of classes in a loss, and the time from which they act; shared by weighting methods.

A weighted loss of a batch is the mean of the items' weighted losses: it is not divided by the weights of the
batch, so that the size of a step does not depend on the classes in its batch.

Shape suffixes: L lanes, B items of a batch, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lt_rebalance.methods.domains import Choice, Range, searched

if TYPE_CHECKING:
    from torch import Tensor


def require_share(**values: float) -> None:
    """Raise a ValueError unless every given value is at least 0 and at most 1."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be at least 0 and at most 1, got {value}")


def require_beta(beta: float) -> None:
    """Raise a ValueError unless beta, of effective numbers, is at least 0 and below 1."""
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be at least 0 and below 1, got {beta}")


@dataclass(frozen=True, kw_only=True)
class Deferred:
    """Options of a method that can be deferred, as in DRW (Cao et al. 2019, arXiv 1906.07413)."""

    deferred: float = searched(0.0, Range(low=0.0, high=0.95, unit="share of the budget"))
    """share of the budget after which the method acts; 0: from the first step on"""

    def __post_init__(self) -> None:
        require_share(deferred=self.deferred)


@dataclass(frozen=True, kw_only=True)
class LateWeights:
    """Options of a method that weights classes late, by the inverse of effective numbers (DRW)."""

    deferred: float = searched(0.8, Range(low=0.5, high=0.95, unit="share of the budget"))
    """share of the budget after which items are weighted"""
    beta: float = searched(0.9999, Choice(values=(0.9, 0.99, 0.999, 0.9999), unit="share"))
    """of effective numbers"""

    def __post_init__(self) -> None:
        require_share(deferred=self.deferred)
        require_beta(self.beta)


def weigh_late(
    losses_LB: Tensor, labels_LB: Tensor, counts_LK: Tensor, progress: Tensor, options: LateWeights
) -> Tensor:
    """Return the losses, weighted by the inverse of effective numbers once a share of the budget is used."""
    weights_LK = effective_number(counts_LK, options.beta)
    return weigh(losses_LB, labels_LB, weights_LK, progress, options.deferred)


def cross_entropy(logits_LBK: Tensor, labels_LB: Tensor) -> Tensor:
    """Return `losses_LB`, the cross-entropy of every item."""
    from torch.nn import functional

    losses_N = functional.cross_entropy(logits_LBK.flatten(0, 1), labels_LB.flatten(), reduction="none")
    return losses_N.view(labels_LB.shape)


def inverse_frequency(counts_LK: Tensor, exponent: float) -> Tensor:
    """Return `weights_LK` in proportion to n^-exponent, with mean 1, as float32."""
    weights_LK = counts_LK.double().pow(-exponent)
    return (weights_LK / weights_LK.mean(dim=1, keepdim=True)).float()


def effective_number(counts_LK: Tensor, beta: float) -> Tensor:
    """Return `weights_LK` in proportion to (1 - beta) / (1 - beta^n), with mean 1, as float32.

    Source: Cui, Jia, Lin, Song, Belongie 2019, arXiv 1901.05555, equation 4 and the normalisation below it.
    """
    weights_LK = (1 - beta) / (1 - beta ** counts_LK.double())
    return (weights_LK / weights_LK.mean(dim=1, keepdim=True)).float()


def weigh(
    losses_LB: Tensor, labels_LB: Tensor, weights_LK: Tensor, progress: Tensor, deferred: float
) -> Tensor:
    """Return the losses times the weights of their classes, once a share of the budget is used."""
    import torch

    weighted_LB = losses_LB * weights_LK.gather(1, labels_LB)
    return torch.where(progress < deferred, losses_LB, weighted_LB)
