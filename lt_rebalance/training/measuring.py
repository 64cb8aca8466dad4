"""Compute the metrics, predictions and probabilities of a round from logits.

Shape suffixes: N images, K classes.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lt_rebalance.ground.confusion import MAX_DETAILED, Confusion
from lt_rebalance.ground.metrics import confusion_metrics, probability_metrics

MEASURED_AT_ONCE = 2**22
"""number of logits whose loss and softmax are computed together, so that large arrays are not kept three
times"""

Measured = tuple[dict[str, Any], NDArray[np.int64], NDArray[np.float64]]
"""columns of the curves, `predictions_N`, `probabilities_NK`"""


def measure(logits_NK: Tensor, labels_N: Tensor, loss: Callable[[Tensor, Tensor, str], Tensor]) -> Measured:
    """Measure the predictions on images; the logits are overwritten by the probabilities.

    If the loss is not finite, only the loss is returned, without predictions.

    Args:
        logits_NK: in double precision.
        loss: of logits, labels and reduction, as in `LOSSES`.
    """
    num_items, num_classes = logits_NK.shape
    size = max(1, MEASURED_AT_ONCE // num_classes)
    spans = [slice(first, min(first + size, num_items)) for first in range(0, num_items, size)]
    losses = [float(loss(logits_NK[span], labels_N[span], "mean")) for span in spans]
    weights = [span.stop - span.start for span in spans]
    mean = losses[0] if len(spans) == 1 else float(np.average(losses, weights=weights))
    if not math.isfinite(mean):  # nothing else can be computed of such logits
        return {"loss": mean}, np.empty(0, dtype=np.int64), np.empty((0, num_classes))
    predictions_N = logits_NK.argmax(dim=1).cpu().numpy()
    for span in spans:
        logits_NK[span] = logits_NK[span].softmax(dim=1)
    probabilities_NK, true_N = logits_NK.cpu().numpy(), labels_N.cpu().numpy()
    confusion = Confusion.of_predictions(true_N, predictions_N, num_classes)
    values: dict[str, Any] = {"loss": mean}
    if num_classes <= MAX_DETAILED:
        values["recall_K"] = confusion.recall_K.tolist()
    values |= confusion_metrics(confusion) | probability_metrics(probabilities_NK, true_N)
    return values, predictions_N, probabilities_NK
