"""What a rebalancing method is: one object that acts at named moments of a training, each of them optional.

A method is a file of its own with an object `Method`, listed in `registry.METHODS`. It needs no torch to be
imported: what works on tensors imports torch inside. Shape suffixes: L lanes, B items of a batch, N images or
items, C H W image, K classes, P labels of a mixed item.
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
"""the frozen dataclass that a method names as its `options`, filled in; None for a method without"""
PLAN_TAKES = ("counts_K", "draw", "rng", "options")
"""what a method's `plan` is called with"""
MOMENTS_TAKE = {
    "synthesize": ("images_by_class", "num_synthetic_K", "rng", "options"),
    "order": ("counts_K", "progress", "options"),
    "loss": ("logits_LBK", "labels_LB", "counts_LK", "progress", "options"),
    "adjust": ("logits_LNK", "counts_LK", "options"),
    "head": ("linear", "options"),
    "after": ("network", "mean_features", "options"),
}
"""what the other moments that are functions are called with"""
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
    """Plan the set as it is: every image once."""
    return without_synthesis(keep_all(counts_K))


class Mixed(NamedTuple):
    """Images made of others, each with several labels that share its loss."""

    images_LBCHW: Tensor
    labels_LBP: Tensor
    weights_LBP: Tensor
    """the share of each label; those of an item add up to 1"""


def _require_parameters(moment: str, function: object, takes: Sequence[str]) -> None:
    """Raise a ValueError unless a moment is a function that can be called with what it is given."""
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
    """Raise a ValueError unless options are a frozen dataclass of numbers and words with good defaults."""
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
    """What becomes of a batch before it is learned from."""

    stream: str
    """names the random stream, the method's name before a slash: "mixup/pairs\""""
    draw: Callable[[np.random.Generator, int, Options], tuple[NDArray[Any], ...]]
    """from the stream of a step, the items B of its batch and the options to arrays whose first axis is B"""
    apply: Callable[..., Mixed]
    """from images_LBCHW, labels_LB and what was drawn, on the device as float32 or int64 with a first axis L,
    to what is learned from"""
    reweigh: Callable[[Tensor, Tensor, Tensor, Options], Tensor] | None = None
    """from weights_LBP, labels_LBP, counts_LK and the options to the shares of the labels in the loss, where
    these are not those of the images"""

    def __post_init__(self) -> None:
        _require_parameters("mix.draw", self.draw, ("rng", "num_items", "options"))
        if self.reweigh is not None:
            taken = ("weights_LBP", "labels_LBP", "counts_LK", "options")
            _require_parameters("mix.reweigh", self.reweigh, taken)
        if not callable(self.apply):
            raise ValueError(f"mix.apply of a method must be a function, got {self.apply!r}")


@dataclass(frozen=True, kw_only=True)
class SecondTraining:
    """A training after the first, which starts from the weights that the first ended with.

    The first is that of the method "none", and is done once for all that start from it. The method's other
    moments act in the second.
    """

    stream: str
    """names the random stream of `prepare`, the method's name before a slash: "crt/classifier\""""
    prepare: Callable[[nn.Module, torch.Generator], None]
    """changes the trained network in place: gives some of it new weights from the stream, and takes
    `requires_grad` from what is to stay as it is; what the stream draws is on the CPU, as the network is"""
    budget_share: Callable[[Options], float]
    """how long it lasts, as a share of the first, above 0 and at most 1"""

    def __post_init__(self) -> None:
        _require_parameters("then.prepare", self.prepare, ("network", "generator"))
        _require_parameters("then.budget_share", self.budget_share, ("options",))


@dataclass(frozen=True, kw_only=True)
class Method:
    """A rebalancing method: what it is, and what it does at which moment. What it leaves out stays as it is.

    Counts of classes are those of the items trained on, at least 1 each. What works on batches gets all lanes
    at once, each with counts of its own. It runs in every step, so nothing may be read back from a tensor.
    """

    description: str
    draws: tuple[str, ...] = ()
    """named ways of choosing images, of which a configuration names one; empty when there is no choice"""
    options: type | None = None
    """a frozen dataclass of numbers and words with defaults that checks itself; part of a result's key"""
    may_train_less: bool = False
    """whether its set may be so small that a search should try a part of the budget, too"""
    needs_generator: bool = False
    """whether `plan` asks for images that a generator makes"""
    plan: Callable[[Sequence[int], str | None, np.random.Generator, Options], RebalancePlan] = plan_all
    """which items: from counts_K, the draw, the stream "resampling" and the options to a plan"""
    synthesize: (
        Callable[
            [Sequence[NDArray[np.float32]], Sequence[int], np.random.Generator, Options], NDArray[np.float32]
        ]
        | None
    ) = None
    """makes the synthetic images that `plan` asks for, where no generator does: from K arrays `images_NCHW`
    in [-1, 1], how many to make of each class, the method's stream "NAME/synthesis" and the options to
    `synthetic_SCHW` in [-1, 1], class by class; a NotApplicableError, of `ground.errors`, ends the run as not
    applicable, a ValueError as failed, with its text"""
    order: Callable[[NDArray[np.int64], float, Options], NDArray[np.float64]] | None = None
    """how often: from counts_K, the share of the budget that is used when a pass begins, and the options to
    the chance of each class, in any unit, that the next item is of it; items are drawn with replacement, all
    of a class alike. None: a pass shows every item once"""
    mix: Mix | None = None
    """batches: what becomes of images and labels"""
    loss: Callable[[Tensor, Tensor, Tensor, Tensor, Options], Tensor] | None = None
    """from logits_LBK, labels_LB, counts_LK, the share of the budget that is used (a scalar) and the options
    to losses_LB; in training alone: what is measured is the loss that the classifier names. None: that one"""
    adjust: Callable[[Tensor, Tensor, Options], Tensor] | None = None
    """logits after training: from logits_LNK, counts_LK and the options to what is measured in their place"""
    head: Callable[[nn.Linear, Options], nn.Module] | None = None
    """what takes the place of the network's last linear layer: from that, on the CPU and with the weights it
    begins with, and the options to a module `features_NF -> logits_NK`"""
    after: Callable[[nn.Module, Callable[[], Tensor], Options], None] | None = None
    """the network after training: changes a copy of it, which is measured, in place; `mean_features()` gives
    `means_KF` of what the last linear layer is given for the items of each class, in float32"""
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
        if not isinstance(self.draws, tuple) or not all(isinstance(each, str) for each in self.draws):
            raise ValueError(f"draws of a method must be a tuple of words, got {self.draws!r}")

    @property
    def makes_images(self) -> bool:
        """Whether some of what is learned from is made, by a generator or by itself."""
        return self.needs_generator or self.synthesize is not None

    @property
    def family(self) -> str:
        """What tables group it under: the moment that tells it apart, or "none"."""
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
        """Whether it chooses the set and leaves training as it is, so that it can serve any network."""
        return not (self._acts_in_training or self.adjust or self.after)

    @property
    def acts_after_training_alone(self) -> bool:
        """Whether the network is trained as that of the method "none" is, so that one can serve both."""
        is_plain = self.plan is plan_all and not (self.makes_images or self._acts_in_training)
        return is_plain and (self.adjust is not None or self.after is not None)

    @property
    def _acts_in_training(self) -> bool:
        return any((self.order, self.mix, self.loss, self.head, self.then))
