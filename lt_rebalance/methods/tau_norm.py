"""Tau-normalisation: after training, make the lengths of the classes' weights in the last layer more equal.

Source: Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis 2020, Decoupling Representation and Classifier for
Long-Tailed Recognition, arXiv 1910.09217, paragraph "tau-normalized classifier" of section 4: w_c /
|w_c|^tau, without a bias. Deviation: tau is 1 unless set; they choose it on a validation set.

Shape suffix: K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lt_rebalance.methods.contract import Method, Options
from lt_rebalance.methods.domains import Range, searched

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class TauNormOptions:
    """Options of tau-normalisation."""

    tau: float = searched(1.0, Range(low=0.0, high=2.0, unit="power"))
    """0: unchanged weights; 1: all of one length"""

    def __post_init__(self) -> None:
        if self.tau < 0:
            raise ValueError(f"tau must be at least 0, got {self.tau}")


def _normalise(network: nn.Module, mean_features: Callable[[], Tensor], options: Options) -> None:
    import torch

    from lt_rebalance.networks.heads import find_last_layer

    _, last = find_last_layer(network)
    with torch.no_grad():
        lengths_K1 = last.weight.norm(dim=1, keepdim=True).clamp(min=torch.finfo(last.weight.dtype).tiny)
        last.weight /= lengths_K1**options.tau
        if last.bias is not None:
            last.bias.zero_()


TAU_NORM = Method(
    description="predict with the last layer's weights divided by a power of their length",
    options=TauNormOptions,
    after=_normalise,
)
