"""A classifier that takes time and no processor: its stages last while hosts break, beside other tests."""

import time

import torch
from torch import nn

NAME = "tests/real_cluster/patient_network.py:patient"
"""from the root of the checkout"""
STEP_S = 0.04


class _Pause(nn.Module):
    """Waits in each step of a training."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            time.sleep(STEP_S)
        return images


def patient(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """Return a linear classifier."""
    channels, height, width = image_shape
    return nn.Sequential(_Pause(), nn.Flatten(), nn.Linear(channels * height * width, num_classes))
