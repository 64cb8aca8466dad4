"""From committed records to tables, figures and reports; imports neither torch nor ray.

Some functions bear the name of their module: `analysis.collect` is the function, and `from analysis.collect
import ...` gives the rest of its module. They are imported at once, so that this holds whoever comes first.
"""

import analysis.beside  # noqa: F401  # before anything of lt_rebalance is imported
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
