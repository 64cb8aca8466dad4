"""Ablations: reference cells, changes to them, and comparisons.

A change is a mapping with the fields of `--set`: {"classifier.loss": "double_softmax"}. A factor is a list of
changes, its levels; the unchanged reference is a further level that is not listed.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lt_rebalance.store.study_document import Comparison
from lt_rebalance.studies.overrides import change_cell, make_overrides
from lt_rebalance.studies.study import Cell, Seed, Seeds, Study

MAX_SUBSETS = 1000
"""of a nested design; the step between the seeds of one subset"""

Change = Mapping[str, Any]  # Any: plain values of fields


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Cells, each configuration once, and the pairs that are compared."""

    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]

    def study(self, name: str, seeds: Sequence[Seed]) -> Study:
        """Return the study that runs it."""
        return Study(name=name, cells=self.cells, comparisons=self.comparisons, seeds=tuple(seeds))


def one_at_a_time(*factors: Sequence[Change]) -> list[Change]:
    """Return every level of every factor as a separate change."""
    return [change for factor in factors for change in factor]


def full_factorial(*factors: Sequence[Change]) -> list[Change]:
    """Return every combination of levels that changes something."""
    combinations = itertools.product(*([{}, *factor] for factor in factors))
    merged = [{name: value for change in levels for name, value in change.items()} for levels in combinations]
    return [change for change in merged if change]


def ablate(references: Iterable[Cell], changes: Sequence[Change]) -> Ablation:
    """Pair each reference with each of its changed cells; changes without effect are left out.

    Raises:
        ValueError: an unknown field, a value of another type, values that do not go together, or no effect.
    """
    overrides, references = [make_overrides(change) for change in changes], list(references)
    ablation = combine(
        beside(reference, {each.label: change_cell(reference, each) for each in overrides})
        for reference in references
    )
    if references and overrides and not ablation.comparisons:
        labels, others = ", ".join(each.label for each in overrides), len(references) - 1
        raise ValueError(
            f"{labels} changes nothing in {references[0]}{f' and {others} other cells' * bool(others)}: "
            "there is nothing to compare; choose cells that it changes"
        )
    return ablation


def nested_seeds(num_subsets: int, num_generators: int, num_classifiers: int) -> tuple[Seeds, ...]:
    """Return every generator with every classifier within every subset.

    No two subsets share a generator's seed or a classifier's, so that shared effects are in the means only.
    The first of each is the subset's seed: a run that other studies have too. A larger design contains the
    runs of a smaller one.

    Raises:
        ValueError: fewer than two of any, or more subsets than `MAX_SUBSETS`.
    """
    if min(num_subsets, num_generators, num_classifiers) < 2 or num_subsets > MAX_SUBSETS:
        raise ValueError(
            f"a nested design needs 2 to {MAX_SUBSETS} subsets, and at least 2 generators and 2 classifiers "
            f"of each, got {num_subsets}, {num_generators} and {num_classifiers}"
        )
    return tuple(
        Seeds(
            subset=subset,
            generator=subset + MAX_SUBSETS * generator,
            classifier=subset + MAX_SUBSETS * classifier,
        )
        for subset in range(num_subsets)
        for generator in range(num_generators)
        for classifier in range(num_classifiers)
    )


def beside(reference: Cell, others: Mapping[str, Cell]) -> Ablation:
    """Compare other cells with a reference, by the label of each difference."""
    named = {change: cell for change, cell in others.items() if cell.unnamed() != reference.unnamed()}
    comparisons = [
        Comparison(cell=index, reference=0, change=change) for index, change in enumerate(named, start=1)
    ]
    return Ablation(cells=(reference, *named.values()), comparisons=tuple(comparisons))


def combine(ablations: Iterable[Ablation]) -> Ablation:
    """Return several ablations as one; of cells that differ only in name, the first represents all."""
    cells: dict[Cell, Cell] = {}
    comparisons: dict[tuple[int, int], Comparison] = {}
    for ablation in ablations:
        for cell in ablation.cells:
            cells.setdefault(cell.unnamed(), cell)
        place = {cell: index for index, cell in enumerate(cells)}
        for each in ablation.comparisons:
            first, second = (place[ablation.cells[index].unnamed()] for index in (each.cell, each.reference))
            comparison = Comparison(cell=first, reference=second, change=each.change)
            comparisons.setdefault((first, second), comparison)
    return Ablation(cells=tuple(cells.values()), comparisons=tuple(comparisons.values()))
