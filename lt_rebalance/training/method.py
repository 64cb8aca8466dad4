"""Apply a method to the training of a classifier, for all lanes of a program together.

Shape suffixes: L lanes, N images or items, B items of a batch, C H W image, K classes, P labels of a mixed
item.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lt_rebalance.ground.seeding import numpy_stream, torch_stream
from lt_rebalance.methods.checking import check_chances, check_drawn, check_head, check_mixed, check_tensor
from lt_rebalance.methods.contract import Mixed
from lt_rebalance.methods.losses import LOSSES
from lt_rebalance.methods.registry import MethodConfig, get_method
from lt_rebalance.networks.heads import find_last_layer, replace_layer
from lt_rebalance.training.lane import STEPS_READ_AT_ONCE, Lane, TrainingSet

PLAIN = MethodConfig(name="none", draw=None)
_DTYPES = {"f": torch.float32, "i": torch.int64, "u": torch.int64, "b": torch.bool}
"""types of a method's random numbers, by kind of numpy type"""


class _CountedLane(Protocol):
    @property
    def counts_K(self) -> Tensor: ...


class MethodInTraining:
    """The moments of a configured method, with the loss that is used if the method has none."""

    def __init__(self, config: MethodConfig, loss: str) -> None:
        self._method = get_method(config.name)
        self._options = config.options
        self._loss = LOSSES[loss]

    @property
    def starts_again(self) -> bool:
        """Whether this is the second of two trainings."""
        return self._method.then is not None

    def prepare(self, network: nn.Module, seed: int, first_weights: Mapping[str, Tensor] | None) -> None:
        """Turn a network, on the CPU, into the start of the training, with the method's head.

        Args:
            first_weights: of the first training; None to keep the network's, for trials.
        """
        then, head = self._method.then, self._method.head
        if first_weights is not None:
            network.load_state_dict(first_weights)
        if head is not None:
            name, linear = find_last_layer(network)
            replace_layer(network, name, check_head(head, head(linear, self._options)))
        if then is not None:
            then.prepare(network, torch_stream(seed, then.stream))

    @property
    def changes_network(self) -> bool:
        """Whether a network other than the trained one is measured."""
        return self._method.after is not None

    def change(self, network: nn.Module, mean_features: Callable[[], Tensor]) -> nn.Module:
        """Return the network that is measured: a changed copy of the trained one."""
        assert self._method.after is not None
        changed = copy.deepcopy(network)
        self._method.after(changed, mean_features, self._options)
        return changed

    def weigh_items(
        self, training_set: TrainingSet, counts_K: Tensor, step: int, num_steps: int
    ) -> NDArray[np.float64]:
        """Return `chances_N`, in any unit, for the pass that begins with a step."""
        by_class_K = counts_K.cpu().numpy()
        chances_K = self.find_chances(by_class_K, step / num_steps) / by_class_K
        chances_N: NDArray[np.float64] = chances_K[training_set.labels_P[training_set.items_N].cpu().numpy()]
        return chances_N

    def find_chances(self, counts_K: NDArray[np.int64], progress: float) -> NDArray[np.float64]:
        """Return the chance of each class, in any unit, when a share of the budget is used."""
        order = self._method.order
        assert order is not None
        return check_chances(order, order(counts_K, progress, self._options), len(counts_K))

    @property
    def orders(self) -> bool:
        """Whether the method sets how often an item is shown."""
        return self._method.order is not None

    def read_extras(self, lanes: Sequence[Lane], steps: range) -> Iterator[tuple[Tensor, ...]]:
        """Yield further inputs of a step: its progress and the random numbers for mixing, on the device.

        Nearby steps are sent to the device together, so that no step waits.
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
        """Return the random numbers that mix some steps, as lists with one tensor (L, B, ...) per step."""
        if (mix := self._method.mix) is None:
            return []
        sizes = [lanes[0].batches.size(step) for step in steps]
        drawn = [
            [
                check_drawn(
                    mix.draw, mix.draw(numpy_stream(lane.seed, mix.stream, step), size, self._options), size
                )
                for step, size in zip(steps, sizes, strict=True)
            ]
            for lane in lanes
        ]
        columns = []
        for index in range(len(drawn[0][0])):
            array = np.stack([np.concatenate([each[index] for each in of_lane]) for of_lane in drawn])
            columns.append(self.to_tensor(array, device).split(sizes, dim=1))
        return columns

    @staticmethod
    def to_tensor(array: NDArray[Any], device: torch.device) -> Tensor:
        """Return random numbers for mixing, on the device in the type that `mix.apply` expects."""
        return torch.from_numpy(array).to(device, _DTYPES[array.dtype.kind])

    def mix(
        self, images_LBCHW: Tensor, labels_LB: Tensor, counts_LK: Tensor, extras: Sequence[Tensor]
    ) -> Mixed | None:
        """Return the mixed batch; None if it is unchanged."""
        if self._method.mix is None:
            return None
        drawn = extras[1:] if self._method.loss is not None else extras
        apply = self._method.mix.apply
        mixed = check_mixed(apply, apply(images_LBCHW, labels_LB, *drawn), images_LBCHW.shape)
        if (reweigh := self._method.mix.reweigh) is None:
            return mixed
        weights_LBP = reweigh(mixed.weights_LBP, mixed.labels_LBP, counts_LK, self._options)
        check_tensor(reweigh, "mix.reweigh must return weights_LBP", weights_LBP, mixed.weights_LBP.shape)
        return mixed._replace(weights_LBP=weights_LBP)

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
        if (loss := self._method.loss) is not None:
            losses_LB = loss(logits_LBK, labels_LB, counts_LK, extras[0], self._options)
            check_tensor(loss, "loss must return losses_LB", losses_LB, labels_LB.shape)
            return losses_LB
        losses_N = self._loss(logits_LBK.flatten(0, 1), labels_LB.flatten(), "none")
        return losses_N.view(labels_LB.shape)

    def adjust(self, logits_LNK: Tensor, counts_LK: Tensor) -> Tensor:
        """Return the logits that are measured."""
        if (adjust := self._method.adjust) is None:
            return logits_LNK
        adjusted_LNK = adjust(logits_LNK, counts_LK, self._options)
        check_tensor(adjust, "adjust must return logits_LNK", adjusted_LNK, logits_LNK.shape)
        return adjusted_LNK


def stack_counts(lanes: Sequence[_CountedLane]) -> Tensor:
    """Return `counts_LK` of some lanes."""
    return torch.stack([lane.counts_K for lane in lanes])
