"""The cells of a study in the form in which its plan registers them."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lt_rebalance.ground.values import canonical
from lt_rebalance.store.study_document import StudyCell

NUM_DIGITS = 12
_NAMED = 5

Cells = Mapping[str, str]
"""by name of the cell, the first digits of the sha256 of its configuration"""


def register_cells(cells: Iterable[StudyCell]) -> dict[str, str]:
    """Return the cells of a study in the form in which a plan registers them."""
    return {
        f"{cell.dataset} {cell.protocol} {cell.data} {cell.method}": _digest(cell.config) for cell in cells
    }


def _digest(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(config).encode()).hexdigest()[:NUM_DIGITS]


def describe_difference(registered: Cells, found: Cells) -> str:
    """Return the difference between a study's cells and registered ones, in words; empty if they agree."""
    parts = {
        "not registered": [each for each in found if each not in registered],
        "registered and missing": [each for each in registered if each not in found],
        "configured otherwise": [each for each in found if registered.get(each, found[each]) != found[each]],
    }
    return "; ".join(f"{what}: {_name_some(cells)}" for what, cells in parts.items() if cells)


def _name_some(cells: Sequence[str]) -> str:
    more = f" and {len(cells) - _NAMED} more" if len(cells) > _NAMED else ""
    return ", ".join(cells[:_NAMED]) + more
