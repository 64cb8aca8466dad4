"""What of a training depends on its total length, so that a shorter one is not its first part."""

import numpy as np

from lt_rebalance.methods.registry import MethodConfig, get_method
from lt_rebalance.studies.study import Cell
from lt_rebalance.training.recipe import is_scheduled

COUNTS_K = (5, 3, 2, 1)
PROGRESS = np.linspace(0, 1, 1000, endpoint=False)


def find_dependence(cell: Cell) -> str | None:
    """Return what of a cell's classifier depends on the length of its training; None if nothing does."""
    if is_scheduled(cell.classifier):
        return f"the learning rate (schedule {cell.classifier.schedule!r}, warm_up {cell.classifier.warm_up})"
    return f"method {cell.method.label!r}" if _follows_progress(cell.method) else None


def _follows_progress(config: MethodConfig) -> bool:
    """Whether some moment of a method changes with the progress of the training, found by trying."""
    method = get_method(config.name)
    found: set[bytes] = set()
    if method.order is not None:
        counts_K = np.array(COUNTS_K)
        found |= {method.order(counts_K, float(at), config.options).tobytes() for at in PROGRESS}
    if len(found) > 1 or method.loss is None:
        return len(found) > 1
    import torch  # here, since few searches are of a method with a loss

    counts_LK = torch.tensor([COUNTS_K])
    labels_LB = torch.arange(len(COUNTS_K))[None]
    logits_LBK = torch.randn(1, len(COUNTS_K), len(COUNTS_K), generator=torch.Generator().manual_seed(0))
    tried = (torch.tensor(float(at)) for at in PROGRESS)
    losses = [method.loss(logits_LBK, labels_LB, counts_LK, at, config.options) for at in tried]
    return any(not torch.equal(each, losses[0]) for each in losses)
