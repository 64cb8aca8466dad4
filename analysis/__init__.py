"""Make tables, figures and reports of committed records; imports neither torch nor ray.

Public names are imported on first use, so `python -m analysis --help` does not import pandas.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

import analysis.beside  # noqa: F401  # before anything of lt_rebalance is imported

if TYPE_CHECKING:
    from analysis.aggregate import aggregate, collapse_table, generator_table
    from analysis.collect import Results, collect, read_results
    from analysis.compare import compare, compare_collapse, components_table, power_table
    from analysis.hypotheses import judge_hypotheses

__all__ = [
    "Results",
    "aggregate",
    "collapse_table",
    "collect",
    "compare",
    "compare_collapse",
    "components_table",
    "generator_table",
    "judge_hypotheses",
    "power_table",
    "read_results",
]

_MODULES = {
    "aggregate": ("aggregate", "collapse_table", "generator_table"),
    "collect": ("Results", "collect", "read_results"),
    "compare": ("compare", "compare_collapse", "components_table", "power_table"),
    "hypotheses": ("judge_hypotheses",),
}
_HOMES = {name: f"analysis.{module}" for module, names in _MODULES.items() for name in names}


class _Analysis(types.ModuleType):
    """A module that imports its public functions on first use.

    Some functions have the name of their module. `analysis.collect` is the function, even after the module of
    that name has been imported, which would otherwise replace it.
    """

    def __getattribute__(self, name: str) -> Any:  # Any: what a module holds
        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        return super().__getattribute__(name)


sys.modules[__name__].__class__ = _Analysis
