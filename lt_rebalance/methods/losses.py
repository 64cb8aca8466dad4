"""Losses of the classifiers, each a function of logits. Shape suffixes: B items of a batch, K classes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a loss has a name before anything is trained with it
    from torch import Tensor


def _cross_entropy(logits_BK: "Tensor", labels_B: "Tensor", reduction: str) -> "Tensor":
    from torch.nn import functional

    return functional.cross_entropy(logits_BK, labels_B, reduction=reduction)


def _double_softmax(logits_BK: "Tensor", labels_B: "Tensor", reduction: str) -> "Tensor":
    """Cross-entropy of a softmax of a softmax, as in the paper's code, kept for its reproduction.

    For ten classes it is between 1.4612 and 2.4612, and its gradient vanishes once outputs saturate.
    """
    from torch.nn import functional

    return functional.cross_entropy(logits_BK.softmax(dim=1), labels_B, reduction=reduction)


# From (logits_BK, labels_B, reduction) to a scalar for "mean", to one value per item for "none".
LOSSES: dict[str, "Callable[[Tensor, Tensor, str], Tensor]"] = {
    "cross_entropy": _cross_entropy,
    "double_softmax": _double_softmax,
}
