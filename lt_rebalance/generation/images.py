"""Draw images with a trained generator.

Shape suffixes: N images, B images at a time, Z noise dimensions, C H W image.
"""

import torch
from torch import Tensor

from lt_rebalance.networks.generators.generator import Generator

SAMPLING_BATCH = 1000


@torch.no_grad()
def sample_images(generator: Generator, labels_N: Tensor, noise_stream: torch.Generator) -> Tensor:
    """Return `images_NCHW`, float32 in [-1, 1], one for each label, in evaluation mode."""
    generator.eval()
    chunks = []
    for labels_B in labels_N.split(SAMPLING_BATCH):
        noise_BZ = torch.randn(
            len(labels_B), generator.noise_dim, generator=noise_stream, device=labels_N.device
        )
        chunks.append(generator(noise_BZ, labels_B))
    if not chunks:
        return torch.empty(0, device=labels_N.device)
    return torch.cat(chunks)
