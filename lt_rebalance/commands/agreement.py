"""Refuse contradictory options: one option chooses a value, and --set or --config replaces it."""

import argparse
from collections.abc import Iterable, Mapping

from lt_rebalance.ground.paper import flatten
from lt_rebalance.ground.plain import to_plain
from lt_rebalance.methods.knobs import KNOBS
from lt_rebalance.methods.registry import split_options
from lt_rebalance.studies.overrides import Overrides
from lt_rebalance.studies.study import Cell

_CUT = ("data.c", "data.profile", "data.ratio")
_BUDGET = ("classifier.budget.steps", "classifier.budget.epochs")
_GENERATOR_BUDGET = ("generator.budget.steps", "generator.budget.epochs")
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "dataset": ("data.dataset",),
    **dict.fromkeys(("c", "profile", "ratio", "rho"), _CUT),
    **dict.fromkeys(("method", "methods"), ("method.name",)),
    **dict.fromkeys(("generator", "generators"), ("generator.architecture",)),
    **dict.fromkeys(("steps", "epochs", "classifier_steps"), _BUDGET),
    **dict.fromkeys(("generator_steps", "generator_epochs"), _GENERATOR_BUDGET),
}
"""by option, the fields of cells that it sets"""

Asked = Mapping[str, str]
"""by field, the option that sets it"""


def list_asked(options: argparse.Namespace) -> Asked:
    """Return the fields that a user's options set, before presets fill in the rest."""
    asked: dict[str, str] = {}
    for option, fields in _FIELDS.items():
        if getattr(options, option, None) is not None:
            asked |= dict.fromkeys(fields, f"--{option.replace('_', '-')}")
    for method in getattr(options, "methods", None) or ():
        named = split_options(method)[1]
        asked |= {
            f"method.{name}" if name in KNOBS else f"method.options.{name}": "--methods" for name in named
        }
    return asked


def require_agreement(asked: Asked, overrides: Overrides, cells: Iterable[Cell]) -> None:
    """Raise a ValueError if a field that an option sets would get a value that no cell has."""
    replaced = flatten(overrides.tables)
    if not asked.keys().isdisjoint(replaced):
        chosen = [flatten(to_plain(cell)) for cell in cells]
        for field, option in asked.items():
            values = list(dict.fromkeys(each.get(field) for each in chosen))
            if field in replaced and replaced[field] not in values:
                raise ValueError(
                    f"{option} chooses {field}, which is {', '.join(map(str, values))} by it and "
                    f"{replaced[field]} by --set or --config; give one of the two"
                )
