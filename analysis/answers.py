"""The tables that a sweep prints at its end, read from the store as for a report.

Sweeps import this module before they read their options, so its functions import pandas and scipy themselves.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.collect import Results
    from analysis.tables.table import Table


def answer_differences(location: str, study: str, width: int) -> tuple[str, str]:
    """Return the paired differences from the reference cells of a study, as text and as CSV.

    Args:
        width: characters a line.
    """
    from analysis.ablations import compare_with_references
    from analysis.tables.ablations import ablation_table

    results = _read(location, study)
    return _write(
        results, [ablation_table(compare_with_references(results.runs, results.comparisons))], width
    )


def answer_methods(location: str, study: str, width: int) -> tuple[str, str]:
    """Return how the methods of a study rank, differ from its references and cost; as `answer_differences`.

    The CSV has one row per method with all of it.
    """
    from analysis.methods import methods_frame
    from analysis.tables.methods import methods_tables

    results = _read(location, study)
    methods = methods_frame(results.runs, results.cells, results.comparisons, results.tunings)
    return _write(results, methods_tables(methods), width)


def answer_sources(location: str, study: str, width: int) -> tuple[str, str]:
    """Return the sources of variance of a study with separate seeds; as `answer_differences`."""
    from analysis.sources import sources_table
    from analysis.tables.differences import sources

    results = _read(location, study)
    return _write(results, [sources(sources_table(results.nested_runs))], width)


def answer_search(location: str, study: str) -> Sequence[str]:
    """Return one line per metric on the study that confirms a search: the difference of its two cells."""
    from analysis.confirmation import describe_confirmation

    return describe_confirmation(location, study)


def _read(location: str, study: str) -> "Results":
    from analysis.collect import read_results

    return read_results(location, studies=[study], allow=["gaps"])


def _write(results: "Results", tables: "Sequence[Table]", width: int) -> tuple[str, str]:
    """Return tables as text, after a warning where a study has too few seeds; and the first as CSV."""
    from analysis.sentences import describe_interim
    from analysis.tables.writers import to_csv, to_text

    interim = describe_interim(results.registered_seeds)
    head = [f"INTERIM: {interim}\n"] if interim else []
    return "\n".join([*head, *(to_text(table, width) for table in tables)]), to_csv(tables[0])
