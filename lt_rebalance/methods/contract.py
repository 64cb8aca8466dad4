"""The contract of a rebalancing method: one object with optional functions for moments of a training.

A method is a file with an object `Method`, listed in `registry.METHODS`. Its import needs no torch: functions
on tensors import torch inside. Shape suffixes: L lanes, B items of a batch, N images or items, C H W image, K
classes, P labels of a mixed item.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.ground.plain import field_types

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

PositionArray = NDArray[np.int64]
Options = Any
"""an instance of the frozen dataclass that a method names as its `options`; None for a method without
options"""
PLAN_TAKES = ("counts_K", "draw", "rng", "options")
"""arguments of a method's `plan`"""
MOMENTS_TAKE = {
    "synthesize": ("images_by_class", "num_synthetic_K", "rng", "options"),
    "order": ("counts_K", "progress", "options"),
    "loss": ("logits_LBK", "labels_LB", "counts_LK", "progress", "options"),
    "adjust": ("logits_LNK", "counts_LK", "options"),
    "head": ("linear", "options"),
    "after": ("network", "mean_features", "options"),
}
"""arguments of the other moments that are functions"""
WRITTEN = "@dataclass(frozen=True, kw_only=True)"
OPTION_TYPES = (int, float, bool, str)


@dataclass(frozen=True, kw_only=True)
class RebalancePlan:
    """Which training items a classifier sees, class by class."""

    positions_by_class: tuple[PositionArray, ...]
    """K arrays of positions into the class's drawn images; a repeated position is a repeated image."""
    num_synthetic_K: tuple[int, ...]
    """Generated images to add to each class."""

    @property
    def counts_K(self) -> list[int]:
        """Training items of each class, real and synthetic."""
        return [
            len(positions) + synthetic
            for positions, synthetic in zip(self.positions_by_class, self.num_synthetic_K, strict=True)
        ]


def keep_all(counts_K: Sequence[int]) -> list[PositionArray]:
    """Return the positions of every image once."""
    return [np.arange(count) for count in counts_K]


def without_synthesis(positions_by_class: Sequence[PositionArray]) -> RebalancePlan:
    """Return the plan of these real images alone."""
    return RebalancePlan(
        positions_by_class=tuple(positions_by_class), num_synthetic_K=(0,) * len(positions_by_class)
    )


def plan_all(
    counts_K: Sequence[int], draw: str | None, rng: np.random.Generator, options: Options
) -> RebalancePlan:
    """Plan the unchanged set: every image once."""
    return without_synthesis(keep_all(counts_K))


class Mixed(NamedTuple):
    """Images mixed from others, each with several labels that share its loss."""

    images_LBCHW: Tensor
    labels_LBP: Tensor
    weights_LBP: Tensor
    """the share of each label; those of an item add up to 1"""


def _require_parameters(moment: str, function: object, takes: Sequence[str]) -> None:
    """Raise a ValueError unless a moment is a function that accepts its arguments."""
    if not callable(function):
        raise ValueError(
            f"{moment} of a method must be a function, got one of type {type(function).__name__}"
        )
    try:
        taken = inspect.signature(function)
    except ValueError:  # of a function in C, which tells none
        return
    try:
        taken.bind(*takes)
    except TypeError:
        raise ValueError(
            f"a method's {moment} takes ({', '.join(takes)}), got one that takes {taken}; write it so, "
            "also for a method without options, where they are None"
        ) from None


def _require_options(options: Any) -> None:  # Any: whatever a user gave in place of a dataclass
    """Raise a ValueError unless options are a frozen dataclass of numbers and words with valid defaults."""
    if options is None:
        return
    rule = "options of a method must be a frozen dataclass of numbers and words with defaults"
    if not isinstance(options, type):
        raise ValueError(f"{rule}, got a value of type {type(options).__name__}; give the class itself")
    name = options.__name__
    if not dataclasses.is_dataclass(options):
        raise ValueError(f"{rule}, got the class {name}; write {WRITTEN} over it")
    if not options.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise ValueError(
            f"{rule}, got {name}, which is not frozen; write @dataclass(frozen=True, kw_only=True)"
        )
    try:
        types_of = field_types(options)
    except NameError as error:
        raise ValueError(f"{rule}, got {name}, of which a type is not known: {error}") from None
    for each in dataclasses.fields(options):
        kind = types_of[each.name]
        if kind not in OPTION_TYPES:
            raise ValueError(
                f"{rule}, got {name}.{each.name} of type {getattr(kind, '__name__', kind)}; write it as "
                f"{', '.join(known.__name__ for known in OPTION_TYPES)}, one value a field"
            )
        accepted = (int, float) if kind is float else (kind,)
        if not isinstance(each.default, accepted) or isinstance(each.default, bool) > (kind is bool):
            got = "none" if each.default is dataclasses.MISSING else repr(each.default)
            raise ValueError(
                f"{rule}, got {got} for {name}.{each.name}; write {each.name}: {kind.__name__} = ..."
            )
    options()  # which checks itself


@dataclass(frozen=True, kw_only=True)
class Mix:
    """How a batch is mixed before a training step."""

    stream: str
    """name of the random stream, the method's name before a slash: "mixup/pairs\""""
    draw: Callable[[np.random.Generator, int, Options], tuple[NDArray[Any], ...]]
    """from the stream of a step, the items B of its batch and the options to arrays whose first axis is B"""
    apply: Callable[..., Mixed]
    """from images_LBCHW, labels_LB and the draws, on the device as float32 or int64 with a first axis L, to
    the mixed batch"""
    reweigh: Callable[[Tensor, Tensor, Tensor, Options], Tensor] | None = None
    """from weights_LBP, labels_LBP, counts_LK and the options to the shares of the labels in the loss, if
    these differ from those of the images"""

    def __post_init__(self) -> None:
        _require_parameters("mix.draw", self.draw, ("rng", "num_items", "options"))
        if self.reweigh is not None:
            taken = ("weights_LBP", "labels_LBP", "counts_LK", "options")
            _require_parameters("mix.reweigh", self.reweigh, taken)
        if not callable(self.apply):
            raise ValueError(f"mix.apply of a method must be a function, got {self.apply!r}")


@dataclass(frozen=True, kw_only=True)
class SecondTraining:
    """A second training, which starts from the final weights of the first.

    The first training is that of the method "none", and is done once for all methods that start from it. The
    method's other moments act in the second training.
    """

    stream: str
    """name of the random stream of `prepare`, the method's name before a slash: "crt/classifier\""""
    prepare: Callable[[nn.Module, torch.Generator], None]
    """changes the trained network in place: draws new weights of some parts from the stream, and clears
    `requires_grad` of parts to keep; network and draws are on the CPU"""
    budget_share: Callable[[Options], float]
    """its length as a share of the first training, above 0 and at most 1"""

    def __post_init__(self) -> None:
        _require_parameters("then.prepare", self.prepare, ("network", "generator"))
        _require_parameters("then.budget_share", self.budget_share, ("options",))


@dataclass(frozen=True, kw_only=True)
class Method:
    """A rebalancing method: its description, and its functions for moments of a training, all optional.

    Counts of classes are those of the training items, at least 1 each. Functions on batches get all lanes
    together, each with its own counts. They run in every step, so they must not read values back from a
    tensor.
    """

    description: str
    draws: tuple[str, ...] = ()
    """named ways to choose images, of which a configuration names one; empty if there is no choice"""
    options: type | None = None
    """a frozen dataclass of numbers and words with defaults that checks itself; part of a result's key"""
    may_train_less: bool = False
    """whether its set may be so small that a search should also try a part of the budget"""
    needs_generator: bool = False
    """whether `plan` requests images from a generator"""
    plan: Callable[[Sequence[int], str | None, np.random.Generator, Options], RebalancePlan] = plan_all
    """selects items: from counts_K, the draw, the stream "resampling" and the options to a plan"""
    synthesize: (
        Callable[
            [Sequence[NDArray[np.float32]], Sequence[int], np.random.Generator, Options], NDArray[np.float32]
        ]
        | None
    ) = None
    """makes the synthetic images that `plan` requests, if no generator does: from K arrays `images_NCHW` in
    [-1, 1], how many to make of each class, the method's stream "NAME/synthesis" and the options to
    `synthetic_SCHW` in [-1, 1], class by class; a NotApplicableError, of `ground.errors`, ends the run as not
    applicable, a ValueError as failed, with its text"""
    order: Callable[[NDArray[np.int64], float, Options], NDArray[np.float64]] | None = None
    """sampling: from counts_K, the share of the budget that is used when a pass begins, and the options to
    the chance of each class, in any unit, for the next item; items are drawn with replacement, equally within
    a class. None: a pass shows every item once"""
    mix: Mix | None = None
    """mixing of images and labels in batches"""
    loss: Callable[[Tensor, Tensor, Tensor, Tensor, Options], Tensor] | None = None
    """from logits_LBK, labels_LB, counts_LK, the share of the budget that is used (a scalar) and the options
    to losses_LB; in training only: the measured loss is the one that the classifier names. None: that loss"""
    adjust: Callable[[Tensor, Tensor, Options], Tensor] | None = None
    """logits after training: from logits_LNK, counts_LK and the options to the logits that are measured"""
    head: Callable[[nn.Linear, Options], nn.Module] | None = None
    """replacement of the network's last linear layer: from that layer, on the CPU with its initial weights,
    and the options to a module `features_NF -> logits_NK`"""
    after: Callable[[nn.Module, Callable[[], Tensor], Options], None] | None = None
    """the network after training: changes in place a copy of it, which is measured; `mean_features()` gives
    `means_KF` of the inputs of the last linear layer for the items of each class, in float32"""
    then: SecondTraining | None = None
    """a second training"""

    def __post_init__(self) -> None:
        _require_parameters("plan", self.plan, PLAN_TAKES)
        _require_options(self.options)
        for moment, takes in MOMENTS_TAKE.items():
            if (function := getattr(self, moment)) is not None:
                _require_parameters(moment, function, takes)
        for moment, kind in {"mix": Mix, "then": SecondTraining}.items():
            if not isinstance(getattr(self, moment), kind | None):
                got = type(getattr(self, moment)).__name__
                raise ValueError(f"{moment} of a method must be a {kind.__name__}, or left out, got {got}")
        if self.needs_generator and self.synthesize is not None:
            raise ValueError(
                "synthetic images of a method come from a generator or from its synthesize, got both; leave "
                "out needs_generator or synthesize"
            )
        if self.makes_images and self.plan is plan_all:
            raise ValueError(
                "a method that makes images has a plan that asks for some, got none; give plan=fill_up, of "
                "lt_rebalance.methods.filling, or one of your own"
            )
        if not isinstance(self.draws, tuple) or not all(isinstance(each, str) for each in self.draws):
            raise ValueError(f"draws of a method must be a tuple of words, got {self.draws!r}")

    @property
    def makes_images(self) -> bool:
        """Whether some training images are synthetic, from a generator or from the method."""
        return self.needs_generator or self.synthesize is not None

    @property
    def family(self) -> str:
        """Its group in tables: the moment that distinguishes it, or "none"."""
        moments = {
            "second training": self.then,
            "augmentation": self.mix,
            "head": self.head,
            "after training": self.adjust or self.after,
            "made images": self.makes_images,
            "loss": self.loss,
            "sampling": self.order,
            "resampling": self.plan is not plan_all,
        }
        return next((family for family, acts in moments.items() if acts), "none")

    @property
    def only_plans(self) -> bool:
        """Whether it only chooses the set and does not change training, so that any network can use it."""
        return not (self._acts_in_training or self.adjust or self.after)

    @property
    def acts_after_training_alone(self) -> bool:
        """Whether the network is trained as for the method "none", so that both can share it."""
        is_plain = self.plan is plan_all and not (self.makes_images or self._acts_in_training)
        return is_plain and (self.adjust is not None or self.after is not None)

    @property
    def _acts_in_training(self) -> bool:
        return any((self.order, self.mix, self.loss, self.head, self.then))
