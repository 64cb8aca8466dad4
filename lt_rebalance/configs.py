"""Typed, frozen configuration of data, methods, trainings and execution, checked when it is made."""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lt_rebalance.classifiers import CLASSIFIERS
from lt_rebalance.datasets import get_dataset_spec
from lt_rebalance.generators import GENERATORS
from lt_rebalance.imbalance import CLASS_ORDERS, SUBSET_DRAWS, parse_c
from lt_rebalance.losses import LOSSES
from lt_rebalance.methods import check_draw, check_fill_fraction, get_method
from lt_rebalance.option_types import MOST, MOST_REPEATS
from lt_rebalance.search_spaces import Choice, Range, SearchSpace

DEVICES = ("cpu", "cuda")
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
EVALUATION_MODES = ("running_statistics", "batch_statistics")
SELECTIONS = ("last", "best_validation", "oracle_best_test")

LATER = {"is_later": True}
"""metadata of a field that came after results were kept: at its default it stays out of the plain form, so
that earlier results keep their keys"""


ConfigT = TypeVar("ConfigT")


def require_known(rule: str, value: str, known: Sequence[str]) -> None:
    """Raise a ValueError naming the known values unless `value` is one of them."""
    if value not in known:
        raise ValueError(f"unknown {rule} {value!r}; known: {', '.join(known)}")


def require_positive(**values: float | None) -> None:
    """Raise a ValueError unless every given value that is not None is above 0."""
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")


def require_numbers(config: Any) -> None:  # Any: a configuration, whatever its fields
    """Raise a ValueError when a number in a configuration is infinite, none at all or beyond all use."""
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{each.name} must be a finite number, got {value}")
        if isinstance(value, int) and abs(value) > MOST:
            raise ValueError(f"{each.name} must be at most {MOST:,}, got a larger one")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long to train: passes over the training set, or a number of steps whatever its size."""

    epochs: int | None = None
    """passes over the training set; each is a round, tested at its end"""
    steps: int | None = None
    """optimizer steps"""
    rounds: int | None = None
    """tests spread evenly over a budget in steps; None for a budget in epochs"""

    def __post_init__(self) -> None:
        require_numbers(self)
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"a budget is in epochs or in steps, got epochs={self.epochs} steps={self.steps}"
            )
        if (self.steps is None) != (self.rounds is None):
            raise ValueError("rounds belong to a budget in steps, and such a budget needs them")
        require_positive(epochs=self.epochs, steps=self.steps, rounds=self.rounds)
        for name, count in {"epochs": self.epochs, "rounds": self.rounds}.items():
            if count is not None and count > MOST_REPEATS:
                raise ValueError(f"{name} must be at most {MOST_REPEATS:,}, got {count}")
        if self.steps is not None and self.rounds is not None and self.rounds > self.steps:
            raise ValueError(f"rounds must be at most steps, got {self.rounds} rounds in {self.steps} steps")

    def round_ends(self, steps_per_pass: int) -> list[int]:
        """Return the step at which each round ends, where a pass over the training set takes so many."""
        if self.epochs is not None:
            return [steps_per_pass * (index + 1) for index in range(self.epochs)]
        assert self.steps is not None and self.rounds is not None
        return [self.steps * (index + 1) // self.rounds for index in range(self.rounds)]

    def __str__(self) -> str:
        return f"{self.epochs} epochs" if self.epochs is not None else f"{self.steps} steps"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The real images a run may see."""

    dataset: str
    """a name in DATASETS"""
    c: str | None
    """ratio between consecutive classes as an exact fraction, "7/9"; None for the original set"""
    subset_draw: str | None
    """"paper": the published fixed draw; "per_seed": drawn anew; None for the original set"""
    class_order: str | None
    """"label": class 0 is the head; "permuted" per seed; None for the original set"""
    validation_per_class: int
    """balanced images per class set aside before the long-tailed cut"""

    def __post_init__(self) -> None:
        require_numbers(self)
        smallest = min(get_dataset_spec(self.dataset).train_counts_K)
        if self.c is None:
            if self.subset_draw is not None or self.class_order is not None:
                raise ValueError("the original set has neither a subset draw nor a class order")
        else:
            c = parse_c(self.c)
            if self.c != str(c):
                raise ValueError(f"C must be given in lowest terms, {str(c)!r}, got {self.c!r}")
            require_known("subset draw", str(self.subset_draw), SUBSET_DRAWS)
            require_known("class order", str(self.class_order), CLASS_ORDERS)
        if not 0 <= self.validation_per_class < smallest:
            raise ValueError(
                f"validation_per_class must be at least 0 and below the smallest class of {self.dataset} "
                f"({smallest} images), so that some are left to learn from, got {self.validation_per_class}"
            )

    @property
    def label(self) -> str:
        """How tables name the training data: C, or "original"."""
        return self.c or "original"


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """A rebalancing method and how it chooses images."""

    name: str
    """a name in METHODS"""
    draw: str | None
    """one of the method's draws; None for a method without any"""
    fill_fraction: float = field(default=1.0, metadata=LATER)
    """share of each class's gap to the largest that synthetic images fill; 1 for a method that makes none"""

    def __post_init__(self) -> None:
        require_numbers(self)
        check_draw(self.name, self.draw)
        check_fill_fraction(self.name, self.fill_fraction)


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """A conditional GAN and its training."""

    architecture: str
    """a name in GENERATORS"""
    training_method: MethodConfig
    """how the set that the CGAN itself learns from is rebalanced; must not need a generator"""
    budget: Budget
    batch_size: int
    learning_rate: float
    """Adam's, for both networks"""
    beta1: float
    beta2: float

    def __post_init__(self) -> None:
        require_numbers(self)
        require_known("generator", self.architecture, tuple(GENERATORS))
        if get_method(self.training_method.name).needs_generator:
            raise ValueError(f"a CGAN cannot learn from a set made by method {self.training_method.name!r}")
        _check_optimization(self.batch_size, self.learning_rate, self.beta1, self.beta2)


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """A classifier, its training and its test."""

    architecture: str
    """a name in CLASSIFIERS"""
    loss: str
    """a name in LOSSES"""
    budget: Budget
    batch_size: int
    learning_rate: float
    """Adam's"""
    beta1: float
    beta2: float
    evaluation_mode: str
    """"running_statistics": evaluation mode; "batch_statistics": batch normalisation as in training"""
    selection: str
    """which round is reported: "last", "best_validation", or "oracle_best_test", which peeks at the test"""

    def __post_init__(self) -> None:
        require_numbers(self)
        require_known("classifier", self.architecture, tuple(CLASSIFIERS))
        require_known("loss", self.loss, tuple(LOSSES))
        require_known("evaluation mode", self.evaluation_mode, EVALUATION_MODES)
        require_known("selection", self.selection, SELECTIONS)
        _check_optimization(self.batch_size, self.learning_rate, self.beta1, self.beta2)


def _check_optimization(batch_size: int, learning_rate: float, beta1: float, beta2: float) -> None:
    require_positive(batch_size=batch_size, learning_rate=learning_rate)
    for name, beta in {"beta1": beta1, "beta2": beta2}.items():
        if not 0 <= beta < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, got {beta}")


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How the arithmetic is done: results of different executions agree only within rounding."""

    device: str
    """"cpu" or "cuda\""""
    precision: str
    """of products in forward and backward passes; weights are always float32"""
    num_threads: int
    """CPU threads of one training"""
    torch_version: str

    def __post_init__(self) -> None:
        require_numbers(self)
        require_known("device", self.device, DEVICES)
        require_known("precision", self.precision, PRECISIONS)
        if self.precision == "tensorfloat32" and self.device != "cuda":
            raise ValueError(f"precision tensorfloat32 is arithmetic of a GPU, got device {self.device!r}")
        require_positive(num_threads=self.num_threads)


@functools.cache
def field_types(cls: type) -> dict[str, Any]:  # Any: an annotation may be a class or a union
    """Return the type of each field of a configuration."""
    return typing.get_type_hints(cls)


def to_plain(value: Any) -> Any:  # Any: walks configurations down to JSON values
    """Return a configuration, and all configurations inside it, as dicts of plain JSON values.

    Equal configurations give equal JSON: a whole number in a field of floats becomes a float.
    """
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    types_of = field_types(type(value))
    plain = {
        each.name: to_plain(getattr(value, each.name))
        for each in dataclasses.fields(value)
        if not (each.metadata == LATER and getattr(value, each.name) == each.default)
    }
    return {name: float(each) if types_of[name] is float else each for name, each in plain.items()}


def config_from_dict(cls: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Return the configuration dataclass `cls` from plain values.

    Raises:
        ValueError: unknown or missing keys, or something other than a mapping, here or in a nested one.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{cls.__name__} is made from a mapping of its fields, got {values!r}")
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # ConfigT is always a dataclass
    known = [each.name for each in fields]
    for name in values:
        require_known(f"key of {cls.__name__}", name, known)
    missing = [
        each.name for each in fields if each.name not in values and each.default is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{cls.__name__} needs {', '.join(missing)}")
    types_of = field_types(typing.cast(Hashable, cls))
    return cls(**{name: _from_plain(types_of[name], value) for name, value in values.items()})


def _from_plain(annotation: Any, value: Any) -> Any:  # Any: follows the annotations of configurations
    if isinstance(annotation, types.UnionType):
        if value is None:
            return None
        annotation = next(member for member in typing.get_args(annotation) if member is not types.NoneType)
    if dataclasses.is_dataclass(annotation):
        return config_from_dict(typing.cast(type, annotation), value)
    return value


# What a search may choose, by field. A batch never holds more images than the protocols' own: at a budget in
# steps it would be more work, not a better setting.
CLASSIFIER_SPACE: SearchSpace = {
    "learning_rate": Range(low=5e-5, high=1e-2, is_log=True, unit="Adam's step size"),
    "beta1": Range(low=0.5, high=0.99, unit="share of the mean gradient kept at a step"),
    "beta2": Choice(values=(0.9, 0.99, 0.999), unit="share of the mean squared gradient kept at a step"),
    "batch_size": Choice(values=(25, 50, 100), unit="images a step"),
}
GENERATOR_SPACE: SearchSpace = {
    "learning_rate": Range(low=2e-5, high=2e-3, is_log=True, unit="Adam's step size, for both networks"),
    "beta1": Range(low=0.0, high=0.95, unit="share of the mean gradient kept at a step"),
    "beta2": Choice(values=(0.9, 0.99, 0.999), unit="share of the mean squared gradient kept at a step"),
    "batch_size": Choice(values=(64, 128, 256), unit="real images a step"),
}
SEARCH_SPACES = {"classifier": CLASSIFIER_SPACE, "generator": GENERATOR_SPACE}
