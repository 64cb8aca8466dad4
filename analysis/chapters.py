"""The chapters of a report in a reader's order: what was found first, how it was made last."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """A part of the report; one whose tables and figures are all empty is left out, and named at the end."""

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
        title="What each method reaches",
        tables=("t0-leaders", "t1-replication-all", "t1-further", "t1-replication-healthy"),
    ),
    Chapter(
        name="differences",
        short_title="Differences",
        title="Which differences are real",
        tables=("t2-differences",),
        figures=("f2", "f3", "f4"),
    ),
    Chapter(
        name="ablations",
        short_title="Ablations",
        title="What single choices do",
        tables=("a1-ablations",),
        figures=("f9",),
    ),
    Chapter(
        name="methods",
        short_title="Methods",
        title="The methods by family, against their references",
        tables=("r1-ranking", "r2-none", "r2-oversample", "r4-tuning"),
        figures=("f10",),
    ),
    Chapter(
        name="datasets",
        short_title="Data sets",
        title="The methods over data sets",
        tables=("r5-datasets",),
    ),
    Chapter(
        name="classes",
        short_title="Classes",
        title="Which classes are recognised, and which never",
        tables=("t3-collapse", "t7-classes"),
        figures=("f5", "f6", "f7"),
    ),
    Chapter(
        name="generators",
        short_title="Generators",
        title="What the generators draw",
        tables=("t3-generators",),
        figures=("f8",),
    ),
    Chapter(
        name="cost",
        short_title="Cost",
        title="What the methods cost",
        tables=("r3-cost", "t6-cost-methods", "t6-cost"),
        figures=("f11",),
    ),
    Chapter(
        name="own-metrics",
        short_title="Your metrics",
        title="Metrics of your own",
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
        title="Comparisons that nobody declared beforehand",
        tables=("x1-other-pairs", "x2-collapse-comparison"),
    ),
    Chapter(
        name="spread",
        short_title="Spread",
        title="Where the spread comes from, and what these runs can show",
        tables=("t4-components", "t4-sources", "t5-power"),
    ),
    Chapter(name="limits", short_title="Limits", title="What this cannot say"),
    Chapter(
        name="provenance",
        short_title="Provenance",
        title="What was run, and with what",
        tables=("t6-completeness", "t6-provenance"),
    ),
)
