"""Balanced softmax: the loss has the classes' shares of the training set in its softmax.

Source: Ren, Yu, Sheng, Ma, Zhao, Yi, Li 2020, Balanced Meta-Softmax for Long-Tailed Visual Recognition, arXiv
2007.10740, equation 4: the loss of an item of class y is -log(n_y exp(z_y) / sum_i n_i exp(z_i)), and
predictions use the logits z unchanged. Deviation: the meta sampler of the same paper is left out.

Shape suffixes: L lanes, B items of a batch, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lt_rebalance.methods.contract import Method, Options
from lt_rebalance.methods.weighing import cross_entropy

if TYPE_CHECKING:
    from torch import Tensor


def _loss(
    logits_LBK: Tensor, labels_LB: Tensor, counts_LK: Tensor, progress: Tensor, options: Options
) -> Tensor:
    prior_L1K = counts_LK.to(logits_LBK.dtype).log().unsqueeze(1)
    return cross_entropy(logits_LBK + prior_L1K, labels_LB)


BALANCED_SOFTMAX = Method(
    description="learn with the classes' counts in the softmax, predict without them", loss=_loss
)
