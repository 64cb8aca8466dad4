"""The tables of the report: T0 to T7, R1 to R5, the hypotheses, and what is exploratory."""

from dataclasses import dataclass

import pandas as pd

from analysis.ablations import compare_with_references
from analysis.aggregate import aggregate, collapse_table, generator_table
from analysis.classes import recall_table
from analysis.collect import Results
from analysis.compare import compare, compare_collapse
from analysis.datasets import datasets_frame
from analysis.hypotheses import judge_hypotheses
from analysis.leaders import leaders_frame
from analysis.leading import leading_of
from analysis.methods import methods_frame
from analysis.sources import sources_table
from analysis.tables.ablations import ablation_table
from analysis.tables.claims import count_verdicts, hypothesis_table
from analysis.tables.classes import class_table, has_classes_to_tell
from analysis.tables.collapse import collapse_comparison, collapsed_generators, collapsed_runs
from analysis.tables.completeness import account, completeness_table, count_gaps, provenance_table
from analysis.tables.cost import cost_tables
from analysis.tables.datasets import datasets_table
from analysis.tables.differences import all_pairs_table, components, difference_table, power, sources
from analysis.tables.latex import to_latex
from analysis.tables.leaders import leaders_table
from analysis.tables.methods import methods_tables
from analysis.tables.own_metrics import compare_own, own_table
from analysis.tables.replication import further_table, replication_tables
from analysis.tables.searches import search_tables
from analysis.tables.table import Block, Cell, Column, Table
from analysis.tables.writers import to_csv, to_markdown
from lt_rebalance.ground.metrics import list_own

__all__ = [
    "Block",
    "Cell",
    "Column",
    "Frames",
    "Table",
    "account",
    "build_tables",
    "compute_frames",
    "count_gaps",
    "count_verdicts",
    "search_tables",
    "to_csv",
    "to_latex",
    "to_markdown",
]


@dataclass(frozen=True, kw_only=True)
class Frames:
    """The frames that tables, figures and sentences share, computed once."""

    estimates: pd.DataFrame
    """as `aggregate` returns them"""
    leaders: pd.DataFrame
    """as `leaders_frame` returns them"""
    contrasts: pd.DataFrame
    """of the leading metric, as `compare` returns them"""
    collapse: pd.DataFrame
    generators: pd.DataFrame
    compared_collapse: pd.DataFrame
    judged: pd.DataFrame
    """hypotheses"""
    ablations: pd.DataFrame
    """of the leading metric, as `compare_with_references` returns them"""
    methods: pd.DataFrame
    """as `methods_frame` returns them"""
    datasets: pd.DataFrame
    """as `datasets_frame` returns them"""
    sources: pd.DataFrame
    """of the leading metric, as `sources_table` returns them"""
    own: pd.DataFrame
    """of the user's metrics, as `compare` returns them"""


def compute_frames(results: Results) -> Frames:
    """Return the frames of all tables."""
    contrasts = compare(results.runs)
    return Frames(
        estimates=aggregate(results.runs),
        leaders=leaders_frame(results.runs),
        contrasts=contrasts,
        collapse=collapse_table(results.runs, results.classes),
        generators=generator_table(results.generators, results.generator_classes),
        compared_collapse=compare_collapse(results.runs),
        judged=judge_hypotheses(results),
        ablations=compare_with_references(results.runs, results.comparisons),
        methods=methods_frame(results.runs, results.cells, results.comparisons, results.tunings),
        datasets=datasets_frame(results.runs),
        sources=sources_table(results.nested_runs),
        own=compare_own(results.runs),
    )


def build_tables(results: Results, frames: Frames) -> dict[str, Table]:
    """Return every table by name, in the order of the report."""
    tables = [
        leaders_table(frames.leaders),
        *replication_tables(frames.estimates, frames.collapse, results.cells, results.runs),
        further_table(frames.estimates, leading_of(results.runs)),
        difference_table(frames.contrasts),
        collapsed_runs(frames.collapse),
        collapsed_generators(frames.generators),
        components(results.runs, results.cells),
        sources(frames.sources),
        ablation_table(frames.ablations),
        power(frames.contrasts),
        hypothesis_table(frames.judged),
        all_pairs_table(frames.contrasts),
        collapse_comparison(frames.compared_collapse),
        *cost_tables(results.planned, results.generator_costs),
        completeness_table(results.planned, results.notes),
        provenance_table(results.planned),
    ]
    if len(frames.methods):
        tables += methods_tables(frames.methods)
    if len(frames.datasets):
        tables.append(datasets_table(frames.datasets))
    if list_own():
        tables.append(own_table(frames.own))
    if has_classes_to_tell(results.cells, results.class_names):
        tables.append(class_table(recall_table(results.classes), results.class_names))
    return {table.name: table for table in tables}
