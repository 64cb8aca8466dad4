"""The table that a sweep's run ends with: what its study answers, read from the store like any report."""

from analysis.ablations import compare_with_references
from analysis.collect import read_results
from analysis.tables.ablations import ablation_table
from analysis.tables.writers import to_csv, to_text


def answer_differences(location: str, study: str, width: int) -> tuple[str, str]:
    """Return the paired differences from the reference cells of a study, as text and as CSV.

    Args:
        width: characters a line.
    """
    results = read_results(location, studies=[study], allow=["gaps"])
    table = ablation_table(compare_with_references(results.runs, results.comparisons))
    return to_text(table, width), to_csv(table)
