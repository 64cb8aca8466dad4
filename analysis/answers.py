"""The table that a sweep's run ends with: what its study answers, read from the store like any report."""

from analysis.ablations import compare_with_references
from analysis.collect import Results, read_results
from analysis.sources import sources_table
from analysis.tables.ablations import ablation_table
from analysis.tables.differences import sources
from analysis.tables.table import Table
from analysis.tables.writers import to_csv, to_text


def answer_differences(location: str, study: str, width: int) -> tuple[str, str]:
    """Return the paired differences from the reference cells of a study, as text and as CSV.

    Args:
        width: characters a line.
    """
    results = _read(location, study)
    return _write(ablation_table(compare_with_references(results.runs, results.comparisons)), width)


def answer_sources(location: str, study: str, width: int) -> tuple[str, str]:
    """Return where the spread of a study comes from that takes seeds apart; as `answer_differences`."""
    return _write(sources(sources_table(_read(location, study).nested_runs)), width)


def _read(location: str, study: str) -> Results:
    return read_results(location, studies=[study], allow=["gaps"])


def _write(table: Table, width: int) -> tuple[str, str]:
    return to_text(table, width), to_csv(table)
