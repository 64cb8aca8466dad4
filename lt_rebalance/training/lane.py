"""Shared by the training of generators and classifiers: lanes, data on the device, batch order, state.

Shape suffixes: L lanes, P images in the pool, S synthetic ones, N items (images with repetition), B items of
a batch, C H W image.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lt_rebalance.ground.seeding import numpy_stream
from lt_rebalance.networks.optimizers import SGD, Adam
from lt_rebalance.training.batches import Batching
from lt_rebalance.training.recipe import Recipe, is_scheduled

TrainingState = dict[str, Tensor]

STEPS_READ_AT_ONCE = 32


READ_AT_ONCE_BYTES = 2**28
"""largest size of the images of several steps as floats; those of one step may be larger"""


def to_floats(images: Tensor) -> Tensor:
    """Return images as float32 in [-1, 1]: bytes x become x / 127.5 - 1, floats stay as they are."""
    return images.float().div_(127.5).sub_(1) if images.dtype == torch.uint8 else images


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """Items to train on: a pool of images on the device, and which of them each item is.

    Lanes share the pool of real images. Each lane has its own synthetic images, whose positions follow the
    pool.
    """

    images_PCHW: Tensor
    """uint8, or float32 in [-1, 1]"""
    labels_P: Tensor
    """int64; those of synthetic images follow"""
    items_N: Tensor
    """int64 positions in the pool and beyond; an image may be several items"""
    synthetic_SCHW: Tensor | None = None
    """float32 in [-1, 1]"""

    def __len__(self) -> int:
        return len(self.items_N)

    def batch(self, items_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return `images_BCHW`, float32 in [-1, 1], and `labels_B` of the items with these numbers."""
        positions_B = self.items_N[items_B]
        return self._images(positions_B), self.labels_P[positions_B]

    def _images(self, positions_B: Tensor) -> Tensor:
        if self.synthetic_SCHW is None:
            return to_floats(self.images_PCHW[positions_B])
        num_real = len(self.images_PCHW)
        real_BCHW = to_floats(self.images_PCHW[positions_B.clamp(max=num_real - 1)])
        synthetic_BCHW = self.synthetic_SCHW[(positions_B - num_real).clamp(min=0)]
        # By a mask of fixed shape, as its count would make the host wait for the device.
        return torch.where((positions_B < num_real)[:, None, None, None], real_BCHW, synthetic_BCHW)

    def weigh_items(self, items_B: Tensor, synthetic_weight: float) -> Tensor:
        """Return `weights_B` of the items with these numbers in the loss, those of real ones 1."""
        is_real_B = self.items_N[items_B] < len(self.images_PCHW)
        return torch.where(is_real_B, 1.0, synthetic_weight)

    def count_classes(self, num_classes: int) -> Tensor:
        """Return `counts_K`, the items of each class, as int64 on the device."""
        return torch.bincount(self.labels_P[self.items_N], minlength=num_classes)


class BatchOrder:
    """The endless sequence of batches of one seed: each pass is a fresh permutation of all items.

    If items have chances, a pass is the same number of draws with replacement. Any step can be computed
    directly, so a resumed run needs no state.
    """

    def __init__(
        self,
        batching: Batching,
        seed: int,
        purpose: str,
        device: torch.device,
        chances: Callable[[int], NDArray[np.float64]] | None = None,
    ) -> None:
        """Set the stream by seed and purpose, and the function from a step to the chance of each item."""
        self.batching = batching
        self._chances = chances
        self._seed = seed
        self._purpose = purpose
        self._device = device
        self._pass = -1
        self._order_N = torch.empty(0, dtype=torch.int64)

    def size(self, step: int) -> int:
        """Return how many items the batch of this step has."""
        return len(self.batching.items_of(step % self.batching.steps_per_pass))

    def __getitem__(self, step: int) -> Tensor:
        """Return `items_B`, the item numbers of the batch of this step."""
        pass_index, position = divmod(step, self.batching.steps_per_pass)
        if pass_index != self._pass:
            self._order_N = torch.from_numpy(self._draw(pass_index)).to(self._device)
            self._pass = pass_index
        items = self.batching.items_of(position)
        return self._order_N[items.start : items.stop]

    def _draw(self, pass_index: int) -> NDArray[np.int64]:
        rng, num_items = numpy_stream(self._seed, self._purpose, pass_index), self.batching.num_items
        if self._chances is None:
            return rng.permutation(num_items)
        chances_N = self._chances(pass_index * self.batching.steps_per_pass)
        return rng.choice(num_items, size=num_items, p=chances_N / chances_N.sum())


@dataclass(kw_only=True, eq=False)
class Lane:
    """One seed in training: its budget and its progress."""

    progress_fields: ClassVar[tuple[str, ...]] = ("round", "step", "curves", "is_diverged", "train_s")
    """fields that a checkpoint keeps in addition to tensors, as JSON values"""

    seed: int
    training_set: TrainingSet
    batches: BatchOrder
    round_ends: Sequence[int]
    """the step at which each round ends; a round is an epoch, or a fixed share of a budget in steps"""
    round: int = 0
    """rounds finished"""
    step: int = 0
    """steps finished"""
    curves: list[dict[str, Any]] = field(default_factory=list)
    """one row per round; values are numbers, or lists of one number per class"""
    is_diverged: bool = False
    """a loss was not finite; the lane is not trained further"""
    train_s: float = 0.0
    """seconds spent in rounds"""

    @property
    def is_finished(self) -> bool:
        """Whether the lane has used its budget or has diverged."""
        return self.is_diverged or self.round == len(self.round_ends)


LaneT = TypeVar("LaneT", bound=Lane)


def next_lanes(lanes: Sequence[LaneT]) -> list[LaneT]:
    """Return the unfinished lanes with the fewest rounds, which train in the next round."""
    unfinished = [lane for lane in lanes if not lane.is_finished]
    first = min((lane.round for lane in unfinished), default=0)
    return [lane for lane in unfinished if lane.round == first]


def read_batches(lanes: Sequence[Lane], steps: range) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield `images_LBCHW`, as floats, and `labels_LB` of each step; the lanes' sets have one size."""
    at_once = _count_read_at_once(lanes)
    for first in steps[::at_once]:
        near = range(first, min(first + at_once, steps.stop))
        sizes = [lanes[0].batches.size(step) for step in near]
        read = [lane.training_set.batch(torch.cat([lane.batches[step] for step in near])) for lane in lanes]
        images, labels = (stack(tensors) for tensors in zip(*read, strict=True))
        yield from zip(images.split(sizes, dim=1), labels.split(sizes, dim=1), strict=True)


def _count_read_at_once(lanes: Sequence[Lane]) -> int:
    """Return how many steps are read together: at least one, fewer for large images."""
    image_bytes = 4 * lanes[0].training_set.images_PCHW[0].numel()
    step_bytes = len(lanes) * lanes[0].batches.batching.batch_size * image_bytes
    return min(STEPS_READ_AT_ONCE, max(1, READ_AT_ONCE_BYTES // step_bytes))


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors stacked along a new first axis; a single tensor is not copied."""
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tuple(tensors))


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[None]:
    """Return the context in which forward passes run."""
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


class AdamConfig(Protocol):
    """The hyperparameters of Adam that generators and classifiers have."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def beta1(self) -> float: ...
    @property
    def beta2(self) -> float: ...


def build_adam(network: nn.Module, config: AdamConfig) -> torch.optim.Optimizer:
    """Return fused Adam over all parameters of a network."""
    betas = (config.beta1, config.beta2)
    parameters = list(network.parameters())
    # A CUDA graph cannot hold an optimizer that counts its steps on the host.
    on_gpu = parameters[0].is_cuda
    return Adam(parameters, config.learning_rate, betas, fused=True, capturable=on_gpu)


def build_optimizer(network: nn.Module, config: Recipe) -> torch.optim.Optimizer:
    """Return the fused optimizer of a recipe over all parameters of a network.

    A learning rate that is scheduled is a tensor on the device, which a captured step can set.
    """
    parameters = list(network.parameters())
    device = parameters[0].device
    rate: float | Tensor = config.learning_rate
    if is_scheduled(config):
        rate = torch.tensor(rate, dtype=torch.float32, device=device)
    if config.optimizer == "sgd":
        return SGD(
            parameters,
            rate,
            config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
            fused=True,
        )
    betas = (config.beta1, config.beta2)
    return Adam(
        parameters,
        rate,
        betas,
        weight_decay=config.weight_decay,
        fused=True,
        capturable=device.type == "cuda",
    )


def get_state(network: nn.Module, optimizer: torch.optim.Optimizer, prefix: str) -> TrainingState:
    """Return parameters, buffers and optimizer moments as flat, named, contiguous copies on the CPU."""
    state = {f"{prefix}.network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        for name, tensor in moments.items():
            if tensor is not None:  # SGD names its momentum also where it has none
                state[f"{prefix}.optimizer.{index}.{name}"] = tensor
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def set_state(
    network: nn.Module, optimizer: torch.optim.Optimizer, prefix: str, state: Mapping[str, Tensor]
) -> None:
    """Restore what `get_state` returned."""
    network.load_state_dict(dict(_below(f"{prefix}.network.", state)))
    parameters = list(network.parameters())
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below(f"{prefix}.optimizer.", state):
        index, _, moment = name.partition(".")
        parameter = parameters[int(index)]
        # The fused optimizer walks through memory, so moments must have the memory layout of their parameter.
        like = parameter if tensor.shape == parameter.shape else tensor
        moments.setdefault(int(index), {})[moment] = torch.empty_like(like).copy_(tensor)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})


def _below(prefix: str, state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    return ((name.removeprefix(prefix), tensor) for name, tensor in state.items() if name.startswith(prefix))
