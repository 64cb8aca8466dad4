"""The chapters of a report in order: results first, provenance last."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """A part of the report; left out if all its tables and figures are empty."""

    name: str
    """anchor"""
    short_title: str
    """in the navigation"""
    title: str
    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    """prefixes of their names"""


CHAPTERS = (
    Chapter(
        name="results",
        short_title="Results",
        title="Results of each method",
        tables=("t0-leaders", "t1-replication-all", "t1-further", "t1-replication-healthy"),
    ),
    Chapter(
        name="differences",
        short_title="Differences",
        title="Differences between methods",
        tables=("t2-differences",),
        figures=("f2", "f3", "f4"),
    ),
    Chapter(
        name="ablations",
        short_title="Ablations",
        title="Effects of single choices",
        tables=("a1-ablations",),
        figures=("f9",),
    ),
    Chapter(
        name="methods",
        short_title="Methods",
        title="Methods by family, compared with their references",
        tables=("r1-ranking", "r2-none", "r2-oversample", "r4-tuning"),
        figures=("f10",),
    ),
    Chapter(
        name="datasets",
        short_title="Data sets",
        title="Methods across data sets",
        tables=("r5-datasets",),
    ),
    Chapter(
        name="classes",
        short_title="Classes",
        title="Recall of classes, and dead classes",
        tables=("t3-collapse", "t7-classes"),
        figures=("f5", "f6", "f7"),
    ),
    Chapter(
        name="generators",
        short_title="Generators",
        title="Generated images",
        tables=("t3-generators",),
        figures=("f8",),
    ),
    Chapter(
        name="cost",
        short_title="Cost",
        title="Cost of the methods",
        tables=("r3-cost", "t6-cost-methods", "t6-cost"),
        figures=("f11",),
    ),
    Chapter(
        name="own-metrics",
        short_title="Your metrics",
        title="Your own metrics",
        tables=("m1-own-metrics",),
    ),
    Chapter(
        name="claims",
        short_title="Hypotheses",
        title="Hypotheses",
        tables=("hypotheses",),
    ),
    Chapter(
        name="exploratory",
        short_title="Exploratory",
        title="Exploratory comparisons",
        tables=("x1-other-pairs", "x2-collapse-comparison"),
    ),
    Chapter(
        name="spread",
        short_title="Variance",
        title="Sources of variance and statistical power",
        tables=("t4-components", "t4-sources", "t5-power"),
    ),
    Chapter(name="limits", short_title="Limits", title="Limitations"),
    Chapter(
        name="provenance",
        short_title="Provenance",
        title="Runs, code and environment",
        tables=("t6-completeness", "t6-provenance"),
    ),
)
