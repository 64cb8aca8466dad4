"""Stages: the exact input of one training, and its key."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

from lt_rebalance.data.long_tail import DataConfig
from lt_rebalance.ground.own_file import is_at_hand
from lt_rebalance.ground.plain import LATER, config_from_dict, require_known, to_plain
from lt_rebalance.methods.registry import MethodConfig, get_method
from lt_rebalance.store.records import name_seeds
from lt_rebalance.studies.keys import key_of
from lt_rebalance.training.configs import ClassifierConfig, Execution, GeneratorConfig

RESULTS_VERSION = 4
"""Raised by hand whenever any result may change; part of every key."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The exact input of one training."""

    kind: ClassVar[str]
    seed: int
    """replicate index; every random stream except those of `subset_seed` derives from it"""
    data: DataConfig
    dataset_identity: str
    """hash of the content of the data set"""
    execution: Execution
    results_version: int = RESULTS_VERSION
    subset_seed: int | None = field(default=None, metadata=LATER)
    """replicate index of the real images, if it differs from `seed`"""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"a seed must be at least 0, got {self.seed}")
        if self.subset_seed == self.seed:
            raise ValueError(f"a subset_seed must differ from the seed, got {self.seed} twice")

    @property
    def data_seed(self) -> int:
        """The replicate index from which the real images are drawn."""
        return self.seed if self.subset_seed is None else self.subset_seed

    @property
    def seeds_label(self) -> str:
        """The name of its replicate in tables and progress."""
        return name_seeds(self.seed, self.subset_seed)

    @property
    def upstreams(self) -> "tuple[AnyStage, ...]":
        """The stages that must be complete before this one starts; they may need others."""
        return ()

    @cached_property
    def key(self) -> str:
        """Its address in the store."""
        return key_of(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the stage as plain JSON values, with its kind."""
        return {"kind": self.kind, **to_plain(self)}


@dataclass(frozen=True, kw_only=True)
class GeneratorStage(Stage):
    """Train a conditional GAN."""

    kind: ClassVar[str] = "generator"
    generator: GeneratorConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.generator.budget.steps == 0:
            raise ValueError("a generator needs steps above 0, got 0")

    def __str__(self) -> str:
        return f"generator {self.data.label} {self.generator.architecture} {self.seeds_label}"

    @property
    def training_method(self) -> MethodConfig:
        """How its training set is rebalanced."""
        return self.generator.training_method

    def with_seed(self, seed: int) -> "GeneratorStage":
        """Return the same stage with one seed for all its sources of randomness."""
        return dataclasses.replace(self, seed=seed, subset_seed=None)


@dataclass(frozen=True, kw_only=True)
class ClassifierStage(Stage):
    """Train and test a classifier on a rebalanced set."""

    kind: ClassVar[str] = "classifier"
    method: MethodConfig
    generator_stage: GeneratorStage | None
    """the stage whose generator makes images; None for a method that needs none"""
    classifier: ClassifierConfig
    first_stage: "RepresentationStage | None" = field(default=None, metadata=LATER)
    """the training from whose weights this one starts, whose network it measures, or whose network filters
    its synthetic images; None if there is none"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_first()
        if self.generator_stage is not None and self.generator_stage.data_seed != self.data_seed:
            raise ValueError(
                f"a generator and its classifier must learn from the same subset, {self.data_seed}, got "
                f"{self.generator_stage.data_seed}"
            )

    def _check_first(self) -> None:
        has_first = self.first_stage is not None
        if is_at_hand(self.method.name):
            method, needs_first = get_method(self.method.name), self.method.needs_first
            if needs_first != has_first and not (has_first and method.acts_after_training_alone):
                needs = "needs a" if needs_first else "takes no"
                raise ValueError(f"method {self.method.label!r} {needs} first training")
        if self.classifier.budget.steps == 0 and (not has_first or self.method.filter != "none"):
            raise ValueError("a training without a first training needs steps above 0, got 0")
        if self.first_stage is not None and self.first_stage.data_seed != self.data_seed:
            raise ValueError(
                f"a first training and the second must use the same subset, {self.data_seed}, got "
                f"{self.first_stage.data_seed}"
            )

    @property
    def seeds_label(self) -> str:
        """The name of its replicate in tables and progress."""
        generator_seed = None if self.generator_stage is None else self.generator_stage.seed
        return name_seeds(self.seed, self.subset_seed, generator_seed)

    @property
    def upstreams(self) -> "tuple[AnyStage, ...]":
        """The generator stage and the first training, if any."""
        return tuple(stage for stage in (self.generator_stage, self.first_stage) if stage is not None)

    def __str__(self) -> str:
        name = self.generator_stage.generator.architecture if self.generator_stage else self.method.name
        return f"classifier {self.data.label} {name}{self.method.settings_label} {self.seeds_label}"

    @property
    def training_method(self) -> MethodConfig:
        """How its training set is rebalanced."""
        return self.method

    def with_seed(self, seed: int) -> Self:
        """Return the same stage with one seed for all its sources of randomness."""
        generator_stage = self.generator_stage and self.generator_stage.with_seed(seed)
        first_stage = self.first_stage and self.first_stage.with_seed(seed)
        return dataclasses.replace(
            self, seed=seed, subset_seed=None, generator_stage=generator_stage, first_stage=first_stage
        )

    def as_representation(self) -> "RepresentationStage | None":
        """Return the same training as a representation for others.

        None unless its method is "none" and its tests leave no statistics of their images in the network.
        """
        if self.kind != ClassifierStage.kind or self.method.name != "none":
            return None
        if self.classifier.uses_batch_statistics:
            return None
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return RepresentationStage(**values | {"classifier": self.classifier.unmeasured()})

    def on_validation(self) -> "ValidationStage":
        """Return the same training, measured only on its validation set."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return ValidationStage(**values)


@dataclass(frozen=True, kw_only=True)
class ValidationStage(ClassifierStage):
    """Train a classifier and measure it on its validation set; test images are not used."""

    kind: ClassVar[str] = "validation"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.data.has_validation:
            raise ValueError("a validation stage needs validation_per_class above 0, got 0")
        if self.classifier.selection == "oracle_best_test":
            raise ValueError(
                'a validation stage cannot use selection "oracle_best_test", which reads the test'
            )

    def __str__(self) -> str:
        return f"{super().__str__()} on validation"


@dataclass(frozen=True, kw_only=True)
class RepresentationStage(ClassifierStage):
    """Train a classifier for others to start from; it is not measured, and its weights are stored."""

    kind: ClassVar[str] = "representation"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classifier.selection != "last":
            raise ValueError(f'a first training needs selection "last", got {self.classifier.selection!r}')

    def __str__(self) -> str:
        return f"representation {super().__str__().removeprefix('classifier ')}"


AnyStage = GeneratorStage | ClassifierStage

STAGE_TYPES: tuple[type[AnyStage], ...] = (
    GeneratorStage,
    ClassifierStage,
    ValidationStage,
    RepresentationStage,
)


def stage_from_dict(values: Mapping[str, Any]) -> AnyStage:
    """Return the stage that `Stage.to_dict` described.

    Raises:
        ValueError: unknown kind, or unknown or missing keys at any level.
    """
    known: dict[str, type[AnyStage]] = {cls.kind: cls for cls in STAGE_TYPES}
    kind = str(values.get("kind"))
    require_known("kind of stage", kind, tuple(known))
    return config_from_dict(known[kind], {name: value for name, value in values.items() if name != "kind"})
