"""mixup: learn from weighted means of two images, with both labels.

Source: Zhang, Cisse, Dauphin, Lopez-Paz 2018, mixup: Beyond Empirical Risk Minimization, arXiv 1710.09412,
equations in section 1 and figure 1: x = w x_i + (1 - w) x_j, y = w y_i + (1 - w) y_j, w from Beta(alpha,
alpha), partners from a permutation of the batch. The loss is linear in y, so it is the weighted mean of the
losses under both labels. Deviation: each pair has a weight of its own, as the paper's text has it; its code
draws one for the batch.

Shape suffixes: L lanes, B items of a batch, C H W image, P labels of a mixed item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.ground.plain import require_positive
from lt_rebalance.methods.contract import Method, Mix, Mixed, Options

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MixupOptions:
    """What can be set of mixup."""

    alpha: float = 1.0
    """of the Beta distribution; the smaller, the nearer are means to one of their images"""

    def __post_init__(self) -> None:
        require_positive(alpha=self.alpha)


def _draw(rng: np.random.Generator, num_items: int, options: Options) -> tuple[NDArray[Any], ...]:
    return rng.beta(options.alpha, options.alpha, size=num_items), rng.permutation(num_items)


def _apply(images_LBCHW: Tensor, labels_LB: Tensor, weights_LB: Tensor, partners_LB: Tensor) -> Mixed:
    import torch

    lanes_L1 = torch.arange(len(labels_LB), device=labels_LB.device).unsqueeze(1)
    weights_LB111 = weights_LB[..., None, None, None]
    others_LBCHW = images_LBCHW[lanes_L1, partners_LB]
    return Mixed(
        images_LBCHW=weights_LB111 * images_LBCHW + (1 - weights_LB111) * others_LBCHW,
        labels_LBP=torch.stack([labels_LB, labels_LB.gather(1, partners_LB)], dim=-1),
        weights_LBP=torch.stack([weights_LB, 1 - weights_LB], dim=-1),
    )


MIXUP = Method(
    description="learn from weighted means of two images, with both labels",
    options=MixupOptions,
    mix=Mix(stream="mixup/pairs", draw=_draw, apply=_apply),
)
