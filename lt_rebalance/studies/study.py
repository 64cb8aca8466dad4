"""Stages, cells and studies: the question, and its trainings.

A cell is a full configuration without its seed. A stage is the exact input of one training; its hash is the
key.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.long_tail import DataConfig
from lt_rebalance.ground.names import check_name
from lt_rebalance.ground.own_file import is_at_hand
from lt_rebalance.ground.plain import require_positive
from lt_rebalance.methods.checking import check_share
from lt_rebalance.methods.contract import SecondTraining
from lt_rebalance.methods.registry import METHODS, MethodConfig, get_method
from lt_rebalance.store.study_document import Comparison
from lt_rebalance.studies.stage import ClassifierStage, GeneratorStage, RepresentationStage
from lt_rebalance.training.configs import NO_STEPS, Budget, ClassifierConfig, Execution, GeneratorConfig


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Replicate indices of one run with separate sources of randomness."""

    subset: int
    """of the real images: the validation set, the class order, the subset"""
    generator: int
    """of all random draws of a CGAN, including the images that it makes"""
    classifier: int
    """of all random draws of a classifier"""

    def __post_init__(self) -> None:
        if min(self.subset, self.generator, self.classifier) < 0:
            raise ValueError(f"a seed must be at least 0, got {self}")


Seed = int | Seeds
"""one index for all sources of randomness, or one each"""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A full configuration without its seed: the unit of comparison."""

    protocol: str
    """name of its protocol, for tables; results do not depend on the name"""
    data: DataConfig
    method: MethodConfig
    generator: GeneratorConfig | None
    """None for a method that needs no generator"""
    classifier: ClassifierConfig

    def __post_init__(self) -> None:
        if is_at_hand(self.method.name):
            self._check_generator()
        if self.classifier.selection == "best_validation" and not self.data.has_validation:
            raise ValueError('selection "best_validation" needs validation_per_class above 0, got 0')
        for each in (self.classifier, self.generator):
            if each is not None:
                require_positive(steps=each.budget.steps)

    def _check_generator(self) -> None:
        needs_generator = get_method(self.method.name).needs_generator
        if needs_generator != (self.generator is not None):
            raise ValueError(
                f"method {self.method.name!r} {'needs a' if needs_generator else 'takes no'} generator"
            )

    @property
    def method_label(self) -> str:
        """Name of the method in tables: for cgan the generator's architecture, for others both."""
        name = self.method.name
        if self.generator is not None:
            architecture = self.generator.architecture
            name = architecture if name == "cgan" else f"{name} {architecture}"
        return f"{name}{self.method.settings_label}"

    def __str__(self) -> str:
        return f"{self.protocol} {self.data.label} {self.method_label}"

    def _second_budget(self, then: SecondTraining | None) -> Budget:
        if then is None:
            return NO_STEPS
        share = check_share(then.budget_share, then.budget_share(self.method.options))
        return self.classifier.budget.shorten(share)

    def unnamed(self) -> "Cell":
        """Return the cell without the name of its protocol: everything that results depend on."""
        return dataclasses.replace(self, protocol="")

    def stage(self, seed: Seed, execution: Execution, *, shares_first: bool = True) -> ClassifierStage:
        """Return the classifier stage of one seed, including the stages that it needs.

        Args:
            shares_first: whether a method that only acts after training uses the network that others start
                from; else it trains its own.
        """
        if isinstance(seed, int):
            seed = Seeds(subset=seed, generator=seed, classifier=seed)
        identity = get_dataset_spec(self.data.dataset).identity
        generator_stage = None
        if self.generator is not None:
            generator_stage = GeneratorStage(
                seed=seed.generator,
                subset_seed=None if seed.subset == seed.generator else seed.subset,
                data=self.data,
                dataset_identity=identity,
                execution=execution,
                generator=self.generator,
            )
        common: dict[str, Any] = {
            "seed": seed.classifier,
            "subset_seed": None if seed.subset == seed.classifier else seed.subset,
            "data": self.data,
            "dataset_identity": identity,
            "execution": execution,
        }
        first_stage, classifier = None, self.classifier
        method = get_method(self.method.name) if is_at_hand(self.method.name) else METHODS["none"]
        # The first training is measured at its end: what selects a round trains a network of its own.
        measures_first = shares_first and method.acts_after_training_alone and classifier.selection == "last"
        if self.method.needs_first or measures_first:
            first_stage = RepresentationStage(
                **common,
                method=MethodConfig(name="none", draw=None),
                generator_stage=None,
                classifier=classifier.unmeasured(),
            )
        if method.then is not None or measures_first:
            classifier = dataclasses.replace(classifier, budget=self._second_budget(method.then))
        return ClassifierStage(
            **common,
            method=self.method,
            generator_stage=generator_stage,
            classifier=classifier,
            first_stage=first_stage,
        )


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question: cells x seeds."""

    name: str
    """names the study in the store"""
    cells: tuple[Cell, ...]
    seeds: tuple[Seed, ...]
    comparisons: tuple[Comparison, ...] = ()
    """the answers, if the question is about certain pairs of cells"""
    tunings: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    """of the cells that have settings from a search, as `StudyDocument` has them"""
    overrides: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """changed fields of all cells, by section, after the study was built"""

    def __post_init__(self) -> None:
        check_name("a study's name", self.name)
        if not self.cells:
            raise ValueError(f"study {self.name!r} has no cells: its axes select no cell")
        if not self.seeds:
            raise ValueError(f"study {self.name!r} needs at least one seed, got 0")
        if negative := [seed for seed in self.seeds if isinstance(seed, int) and seed < 0]:
            raise ValueError(f"study {self.name!r}: a seed must be at least 0, got {negative[0]}")
        if not all(isinstance(seed, int) for seed in self.seeds) and any(
            cell.generator is None for cell in self.cells
        ):
            raise ValueError(f"study {self.name!r} has separate seeds, so every cell needs a generator")
        for name, values in {"cells": self.cells, "seeds": self.seeds}.items():
            if len(set(values)) < len(values):
                raise ValueError(f"study {self.name!r} repeats some of its {name}")
        places = range(len(self.cells))
        if any(each.cell not in places or each.reference not in places for each in self.comparisons):
            raise ValueError(f"study {self.name!r} compares cells that it does not have")
        labels = Counter((cell.data.dataset, str(cell)) for cell in self.cells)
        if repeated := [label for (_, label), count in labels.items() if count > 1]:
            raise ValueError(
                f"study {self.name!r} has different cells that tables would both name {repeated[0]!r}; "
                "give their protocols different names"
            )

    def runs(self) -> Iterator[tuple[Cell, Seed]]:
        """Yield every cell at every seed, seeds outermost, so that whole replicates complete early."""
        for seed in self.seeds:
            for cell in self.cells:
                yield cell, seed
