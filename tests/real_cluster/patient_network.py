"""A classifier that takes time and no processor: its stages last while hosts break, beside other tests."""

import time
from pathlib import Path

import torch
from torch import nn

NAME = "tests/real_cluster/patient_network.py:patient"
"""from the root of the checkout"""
STEP_S = 0.04
HOLD = Path("/tmp/patient_hold")
"""While a host has this file, its processes wait in a stage of which they have trained `STEPS_BEFORE_HOLD`
steps: so a host is broken in the midst of one, on any machine. A stage with fewer steps to go ends there."""
STEPS_BEFORE_HOLD = 150
"""of one process: past the first round of 100 steps, and so past a checkpoint"""


class _Pause(nn.Module):
    """Waits in each step of a training."""

    def __init__(self) -> None:
        super().__init__()
        self.num_steps = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            time.sleep(STEP_S)
            self.num_steps += 1
            while self.num_steps > STEPS_BEFORE_HOLD and HOLD.exists():
                time.sleep(STEP_S)
        return images


def patient(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """Return a linear classifier."""
    channels, height, width = image_shape
    return nn.Sequential(_Pause(), nn.Flatten(), nn.Linear(channels * height * width, num_classes))
