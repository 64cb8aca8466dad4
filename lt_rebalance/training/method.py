"""What a method does to the training of a classifier, for all lanes of a program at once.

Shape suffixes: L lanes, N images or items, B items of a batch, C H W image, K classes, P labels of a mixed
item.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lt_rebalance.ground.seeding import numpy_stream, torch_stream
from lt_rebalance.methods.contract import Mixed
from lt_rebalance.methods.losses import LOSSES
from lt_rebalance.methods.registry import MethodConfig, get_method
from lt_rebalance.training.lane import STEPS_READ_AT_ONCE, Lane, TrainingSet

PLAIN = MethodConfig(name="none", draw=None)
_DTYPES = {"f": torch.float32, "i": torch.int64, "u": torch.int64, "b": torch.bool}
"""of what a method draws, by kind of numpy's types"""


class _CountedLane(Protocol):
    @property
    def counts_K(self) -> Tensor: ...


class MethodInTraining:
    """The moments of a configured method, with the loss that holds where it brings none."""

    def __init__(self, config: MethodConfig, loss: str) -> None:
        self._method = get_method(config.name)
        self._options = config.options
        self._loss = LOSSES[loss]

    @property
    def starts_again(self) -> bool:
        """Whether this is the second of two trainings."""
        return self._method.then is not None

    def prepare(self, network: nn.Module, seed: int, first_weights: Mapping[str, Tensor] | None) -> None:
        """Make a network, on the CPU, what a second training starts from; leave that of a first as it is.

        Args:
            first_weights: of the first training; None for those that the network has, to try things with.
        """
        if self._method.then is None:
            return
        if first_weights is not None:
            network.load_state_dict(first_weights)
        self._method.then.prepare(network, torch_stream(seed, self._method.then.stream))

    def weigh_items(
        self, training_set: TrainingSet, counts_K: Tensor, step: int, num_steps: int
    ) -> NDArray[np.float64]:
        """Return `chances_N`, in any unit, for the pass that begins with a step."""
        assert self._method.order is not None
        by_class_K = counts_K.cpu().numpy()
        chances_K = self._method.order(by_class_K, step / num_steps, self._options) / by_class_K
        chances_N: NDArray[np.float64] = chances_K[training_set.labels_P[training_set.items_N].cpu().numpy()]
        return chances_N

    @property
    def orders(self) -> bool:
        """Whether it says how often an item is shown."""
        return self._method.order is not None

    def read_extras(self, lanes: Sequence[Lane], steps: range) -> Iterator[tuple[Tensor, ...]]:
        """Yield what a step needs beside its batch: its progress, and what is drawn to mix it, on the device.

        Steps near each other are sent to the device together, so that none of them waits.
        """
        device = lanes[0].training_set.items_N.device
        for first in steps[::STEPS_READ_AT_ONCE]:
            near = range(first, min(first + STEPS_READ_AT_ONCE, steps.stop))
            columns: list[Sequence[Tensor]] = []
            if self._method.loss is not None:
                progress = torch.tensor([step / lanes[0].round_ends[-1] for step in near])
                columns.append(progress.to(device).unbind())
            columns += self._draw_near(lanes, near, device)
            yield from zip(*columns, strict=True) if columns else [()] * len(near)

    def _draw_near(self, lanes: Sequence[Lane], steps: range, device: torch.device) -> list[Sequence[Tensor]]:
        """Return what is drawn to mix some steps, as lists of one tensor (L, B, ...) a step."""
        if (mix := self._method.mix) is None:
            return []
        sizes = [lanes[0].batches.size(step) for step in steps]
        drawn = [
            [
                mix.draw(numpy_stream(lane.seed, mix.stream, step), size, self._options)
                for step, size in zip(steps, sizes, strict=True)
            ]
            for lane in lanes
        ]
        columns = []
        for index in range(len(drawn[0][0])):
            array = np.stack([np.concatenate([each[index] for each in of_lane]) for of_lane in drawn])
            tensor = torch.from_numpy(array).to(device, _DTYPES[array.dtype.kind])
            columns.append(tensor.split(sizes, dim=1))
        return columns

    def mix(self, images_LBCHW: Tensor, labels_LB: Tensor, extras: Sequence[Tensor]) -> Mixed | None:
        """Return what a batch becomes; None where it stays as it is."""
        if self._method.mix is None:
            return None
        drawn = extras[1:] if self._method.loss is not None else extras
        return self._method.mix.apply(images_LBCHW, labels_LB, *drawn)

    def losses(
        self,
        logits_LBK: Tensor,
        labels_LB: Tensor,
        counts_LK: Tensor,
        extras: Sequence[Tensor],
        mixed: Mixed | None,
    ) -> Tensor:
        """Return `losses_LB` of a batch in training."""
        if mixed is None:
            return self._losses(logits_LBK, labels_LB, counts_LK, extras)
        shares = zip(mixed.labels_LBP.unbind(-1), mixed.weights_LBP.unbind(-1), strict=True)
        parts = [
            weights_LB * self._losses(logits_LBK, of_LB, counts_LK, extras) for of_LB, weights_LB in shares
        ]
        return torch.stack(parts).sum(dim=0)

    def _losses(
        self, logits_LBK: Tensor, labels_LB: Tensor, counts_LK: Tensor, extras: Sequence[Tensor]
    ) -> Tensor:
        if self._method.loss is not None:
            return self._method.loss(logits_LBK, labels_LB, counts_LK, extras[0], self._options)
        losses_N = self._loss(logits_LBK.flatten(0, 1), labels_LB.flatten(), "none")
        return losses_N.view(labels_LB.shape)

    def adjust(self, logits_LNK: Tensor, counts_LK: Tensor) -> Tensor:
        """Return the logits that are measured."""
        if self._method.adjust is None:
            return logits_LNK
        return self._method.adjust(logits_LNK, counts_LK, self._options)


def stack_counts(lanes: Sequence[_CountedLane]) -> Tensor:
    """Return `counts_LK` of some lanes."""
    return torch.stack([lane.counts_K for lane in lanes])
