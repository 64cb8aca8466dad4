"""The axes that sweeps share: their presets, and the cells they span."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lt_rebalance.ground.imbalance import CUT_PROFILES
from lt_rebalance.ground.paper import PAPER_CS, PAPER_GENERATORS, PAPER_METHODS
from lt_rebalance.studies.protocols import NATURAL, Protocol, grid
from lt_rebalance.studies.study import Cell
from lt_rebalance.training.configs import Budget

PROFILES = (NATURAL, *CUT_PROFILES)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Defaults of a study's axes."""

    dataset: str
    protocols: tuple[str, ...] = ("sound",)
    methods: tuple[str, ...] = PAPER_METHODS
    generators: tuple[str, ...] = PAPER_GENERATORS
    cs: tuple[str, ...] = PAPER_CS
    num_seeds: int = 10
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """fields of every protocol that the preset changes"""


QUICK = Preset(
    dataset="fashion_mnist_mini",
    num_seeds=3,
    overrides={
        "classifier_budget": Budget(steps=200, rounds=2),
        "classifier_batch_size": 32,
        # At the paper's rate of 2e-4 and beta1 of 0.9 a CGAN still draws noise after as many steps.
        "generator_budget": Budget(steps=600, rounds=2),
        "generator_batch_size": 32,
        "generator_learning_rate": 1e-3,
        "generator_beta1": 0.5,
    },
)
"""minutes on two CPU cores, on the sample that comes with the package"""
FULL = Preset(dataset="fashion_mnist")


def make_presets(**axes: Any) -> dict[str, Preset]:
    """Return the presets "quick" and "full" with these axes."""
    presets = {"quick": QUICK, "full": FULL}
    return {name: dataclasses.replace(preset, **axes) for name, preset in presets.items()}


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The values of the axes that a sweep runs over."""

    name: str
    """of the study"""
    dataset: str
    protocols: tuple[Protocol, ...]
    """with the requested budgets"""
    cs: tuple[str | None, ...]
    """as `protocols.read_level` takes them; None is the original set as a reference, under none alone"""
    methods: tuple[str, ...]
    generators: tuple[str, ...]
    seeds: tuple[int, ...]

    def cells(self, **axes: Any) -> tuple[Cell, ...]:
        """Return the cells of their product, with some axes replaced; errors as `grid`."""
        asked = {"cs": self.cs, "methods": self.methods, "generators": self.generators} | axes
        return grid(self.protocols, dataset=self.dataset, **asked)

    def points(self) -> Iterator["Axes"]:
        """Yield the axes of each protocol at each C alone."""
        for protocol in self.protocols:
            for c in self.cs:
                yield dataclasses.replace(self, protocols=(protocol,), cs=(c,))
