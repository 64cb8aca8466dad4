"""Keep the synthetic images whose class a classifier predicts.

Source of the idea: Shao et al. 2024, DiffuLT, arXiv 2403.05170, who filter the output of a diffusion model in
this way. Deviations: only the network's prediction decides; rejected images are drawn again, so that classes
reach their planned size. The network is trained on the unchanged long-tailed set, so it favours large classes
and rejects most images of small ones.

Shape suffixes: S synthetic images, N of them at a time, C H W image, K classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

_AT_A_TIME = 500


@torch.no_grad()
def draw_filtered(
    draw: Callable[[Tensor], Tensor],
    network: nn.Module,
    labels_S: Tensor,
    attempts: int,
    num_classes: int,
) -> tuple[Tensor, dict[str, list[float | None]]]:
    """Return `synthetic_SCHW` of these classes, and rates of the filter by class.

    All are drawn once; images that the network classifies as another class are drawn again, up to `attempts`
    times in all. If no draw of an image was accepted, the draw with the highest probability of its class is
    kept. Returned by class, None if nothing was drawn: "filter_acceptance", the share of accepted draws, and
    "filter_agreement", the share of images with an accepted draw.

    Args:
        draw: from labels_N to images_NCHW in [-1, 1], different at each call.
        network: images_NCHW -> logits_NK; it is set to evaluation.
        labels_S: at least one.
        attempts: most draws of an image, at least 1.
    """
    network.eval()
    pending_N = torch.arange(len(labels_S), device=labels_S.device)
    num_drawn_K = torch.zeros(num_classes, dtype=torch.int64, device=labels_S.device)
    synthetic_SCHW = torch.empty(0)
    best_S = torch.full(labels_S.shape, -1.0, dtype=torch.float64, device=labels_S.device)
    for _ in range(attempts):
        labels_N = labels_S[pending_N]
        num_drawn_K += labels_N.bincount(minlength=num_classes)
        images_NCHW = draw(labels_N)
        if not len(synthetic_SCHW):
            synthetic_SCHW = torch.empty_like(images_NCHW)
        probabilities_NK = _classify(network, images_NCHW)
        score_N = probabilities_NK.gather(1, labels_N[:, None])[:, 0]
        agrees_N = (probabilities_NK.argmax(dim=1) == labels_N) & (score_N > 0)
        score_N += agrees_N  # beyond all probabilities, so that what is accepted stays
        is_best_N = score_N > best_S[pending_N]
        synthetic_SCHW[pending_N[is_best_N]] = images_NCHW[is_best_N]
        best_S[pending_N[is_best_N]] = score_N[is_best_N]
        pending_N = pending_N[~agrees_N]
        if not len(pending_N):
            break
    wanted_K = labels_S.bincount(minlength=num_classes)
    accepted_K = wanted_K - labels_S[pending_N].bincount(minlength=num_classes)
    quality = {
        "filter_acceptance": _share(accepted_K, num_drawn_K),
        "filter_agreement": _share(accepted_K, wanted_K),
    }
    return synthetic_SCHW, quality


def _classify(network: nn.Module, images_NCHW: Tensor) -> Tensor:
    """Return `probabilities_NK`; if a logit is nan, 0 for every class."""
    logits_NK = torch.cat([network(images) for images in images_NCHW.split(_AT_A_TIME)])
    return logits_NK.double().softmax(dim=1).nan_to_num(0.0)


def _share(part_K: Tensor, whole_K: Tensor) -> list[float | None]:
    parts = zip(part_K.tolist(), whole_K.tolist(), strict=True)
    return [part / whole if whole else None for part, whole in parts]
