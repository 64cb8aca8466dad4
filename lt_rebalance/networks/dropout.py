"""Dropout with masks from a named random stream of the lane, independent of other lanes.

Shape suffixes: N items, V values of an item.
"""

import torch
from torch import Tensor, nn

from lt_rebalance.ground.seeding import random_words, stream_key

MOST_VALUES = 2**32
"""values of all items of a batch together, the size of a step in the stream"""


class Dropout(nn.Module):
    """Drop values of each item in training steps, and scale up the kept values.

    Hinton et al. 2012, arXiv 1207.0580, in the form that does not change evaluation. A mask is a function of
    the key, the number of training steps made and the place in the batch. Key and number are buffers: a
    checkpoint keeps them, and fused lanes have their own. Without gradients nothing is dropped, even in
    training mode, which tests use for the statistics of a batch.
    """

    key: Tensor
    num_steps: Tensor

    def __init__(self, rate: float) -> None:
        """`rate` is the share of the values that is dropped.

        Raises:
            ValueError: a rate that is not at least 0 and below 1.
        """
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"a rate of dropout must be at least 0 and below 1, got {rate}")
        self.rate = rate
        self.register_buffer("key", torch.zeros((), dtype=torch.int64))
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return values in the shape of the inputs, whose first axis is the items."""
        if not (self.training and torch.is_grad_enabled()):
            return inputs
        assert inputs.numel() < MOST_VALUES
        places = torch.arange(inputs.numel(), device=inputs.device).view(inputs.shape)
        words = random_words(self.key, places + (self.num_steps << 32))
        self.num_steps += 1
        return inputs * (words >= _KEPT_FROM + round(self.rate * 2**64)) / (1 - self.rate)

    def extra_repr(self) -> str:
        """Return the description that `repr` prints."""
        return f"rate={self.rate}"


def name_masks(network: nn.Module, seed: int) -> None:
    """Give every dropout of a network its own stream of a seed."""
    layers = [module for module in network.modules() if isinstance(module, Dropout)]
    for index, layer in enumerate(layers):
        layer.key.fill_(stream_key(seed, "classifier_dropout", index))


_KEPT_FROM = torch.iinfo(torch.int64).min
