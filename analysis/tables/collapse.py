"""T3: rates of collapse of classifiers and generators, and their comparison."""

from typing import Any

import pandas as pd

from analysis.aggregate import SATURATION_TOLERANCE, is_saturated, saturation_sum
from analysis.compare import ALPHA
from analysis.estimates import rate_interval
from analysis.power import first_significant_count
from analysis.sentences import join
from analysis.tables.formats import (
    ABSENT,
    DATA_COLUMN,
    METHOD_COLUMN,
    decimals,
    listed,
    n_column,
    named_data,
    number_column,
    p_value,
    per_setting,
    percent,
    rate,
    rate_column,
    share,
    text_column,
    whole,
)
from analysis.tables.table import Column, Row, Table, more
from lt_rebalance.ground.metrics import COLLAPSED_BELOW
from lt_rebalance.ground.paper import TABLE_1
from lt_rebalance.ground.statements import describe_diverged
from lt_rebalance.ground.text import count

_MOST_NAMED, _LONGEST_CLASSES = 4, 60
"""rows in a sentence, and characters of the names of classes in it"""
_RATE = ("num_collapsed", "n", "rate_low", "rate_high")


def collapsed_runs(collapse: pd.DataFrame) -> Table:
    """Return T3 of classifiers; `collapse` as `collapse_table` returns it."""
    return Table(
        name="t3-collapse",
        title="T3a. Collapse of classifiers",
        frame=collapse,
        columns=(
            DATA_COLUMN,
            METHOD_COLUMN,
            n_column("n", "n_expected"),
            rate_column(
                "runs with a dead class (95% Clopper-Pearson interval)", *_RATE, is_higher_better=False
            ),
            number_column(
                "mean number of dead classes",
                "mean_dead_classes",
                lambda x: decimals(x, 2),
                is_higher_better=False,
            ),
            *more(
                number_column("runs that predict one class", "num_constant", whole),
                number_column("saturated runs", "num_saturated", whole),
            ),
            text_column("dead classes, with counts", "dead_classes", is_long=True),
        ),
        meaning=per_setting(
            {
                str(name): join([_rate_meaning(rows), _left_out(rows, "runs", "every rate")])
                for name, rows in collapse.groupby("setting", sort=False)
            }
        ),
        notes=(
            "A class is dead if none of its test images is recognised. Where collapsed and other runs both "
            "occur, the means in T1 describe neither. Overlapping intervals do not rank methods.",
            "Saturated: under double softmax over K classes, loss and accuracy sum to log(e + K − 1), "
            f"{saturation_sum(10)} for ten, within {SATURATION_TOLERANCE} / K, so the loss adds nothing "
            f"to the accuracy. This holds in {_count_saturated_rows()} of the paper's {len(TABLE_1)} rows.",
        ),
    )


def _count_saturated_rows() -> int:
    paper = pd.DataFrame([{"loss": row.loss, "accuracy": row.accuracy} for row in TABLE_1.values()])
    return int(is_saturated(paper["loss"], paper["accuracy"]).sum())


def _rate_meaning(rows: pd.DataFrame) -> str:
    num_collapsed, n = int(rows["num_collapsed"].sum()), int(rows["n"].sum())
    if n == 0:
        return "No run is complete."
    if num_collapsed == 0:
        ends = [
            percent(rate_interval(0, int(size)).high)
            for size in (rows["n"].max(), rows.loc[rows["n"] > 0, "n"].min())
        ]
        up_to = ends[0] if ends[0] == ends[1] else f"{ends[0]}, and {ends[1]} where runs are fewest"
        return (
            f"None of {count(n, 'complete run')} has a dead class. For a single row this is compatible with "
            f"a true rate of up to {up_to}."
        )
    rates = rows["num_collapsed"] / rows["n"].where(rows["n"] > 0)
    worst = rows[rates == rates.max()]
    first = worst.iloc[0]
    others = f" and {count(len(worst) - 1, 'other row')}" if len(worst) > 1 else ""
    return (
        f"At least one class is never recognised in {num_collapsed} of {count(n, 'complete run')}. The "
        f"highest rate is that of {first['method']} on {named_data(first['data'])}{others}: "
        f"{rate(*(first[name] for name in _RATE))}."
    )


def _left_out(rows: pd.DataFrame, noun: str, what: str) -> str:
    """Say how many planned runs or generators diverged, and the consequence for their rates."""
    diverged = describe_diverged(int(rows["n_diverged"].sum()), what)
    return f"Of {int(rows['n_expected'].sum()):,} planned {noun}, {diverged}." if diverged else ""


def collapsed_generators(generators: pd.DataFrame) -> Table:
    """Return T3 of generators; `generators` as `generator_table` returns it."""
    return Table(
        name="t3-generators",
        title="T3b. Collapse of generators",
        frame=generators,
        columns=(
            DATA_COLUMN,
            METHOD_COLUMN,
            n_column("n", "n_expected"),
            rate_column(
                f"generators with a class of diversity < {COLLAPSED_BELOW:g} (95% Clopper-Pearson interval)",
                *_RATE,
                is_higher_better=False,
            ),
            number_column("mean diversity", "mean_diversity", share),
            *more(
                number_column(
                    "distinct nearest images of 200", "mean_distinct_nearest", lambda x: decimals(x, 1)
                )
            ),
            text_column("classes that collapsed, with counts", "collapsed_classes", is_long=True),
        ),
        meaning=_generator_meaning(generators),
        sample=("n", "generator"),
        notes=(
            "Diversity of a class: standard deviation between samples, averaged over pixels, divided by "
            f"that of its real training images. Below {COLLAPSED_BELOW:g} the generator produces nearly one "
            "image for the class. Distinct nearest images: number of real training images of the class that "
            "are the nearest to any of its 200 samples. Both are means over classes and generators.",
        ),
    )


def _name_collapsed(row: Any) -> str:  # Any: a row of the frame
    """Return "mlp_cgan_relu on C = 1/2 (Sandal 1)", without the classes if they are many."""
    classes = row.collapsed_classes if len(row.collapsed_classes) <= _LONGEST_CLASSES else "many classes"
    return f"{row.method} on {named_data(row.data)} ({classes})"


def describe_generators(generators: pd.DataFrame) -> str:
    """Say how many generators have collapsed, and which; empty if there are none."""
    if generators.empty:
        return ""
    num_collapsed, n = int(generators["num_collapsed"].sum()), int(generators["n"].sum())
    rows = generators[generators["num_collapsed"] > 0]
    is_one_setting = generators["setting"].nunique() == 1
    named = [
        _name_collapsed(row) + ("" if is_one_setting else f" under {row.setting}")
        for row in rows.head(_MOST_NAMED).itertuples()
    ]
    if len(rows) > _MOST_NAMED:
        named.append(count(len(rows) - _MOST_NAMED, "other row"))
    where = f": {listed(named)}" if named else ""
    return (
        f"{num_collapsed} of {count(n, 'complete generator')} produce{'s' if num_collapsed == 1 else ''} "
        f"nearly one image for at least one class{where}."
    )


def _generator_meaning(generators: pd.DataFrame) -> str:
    if generators.empty:
        return "These studies train no generator."
    return join(
        [
            describe_generators(generators),
            "A generator that does not may still copy its training images; see the nearest real images and "
            "their number. This table does not show the effect on the classifier; hypothesis H13 tests it.",
            _left_out(generators, "generators", "every rate"),
        ]
    )


def collapse_comparison(compared: pd.DataFrame) -> Table:
    """Return collapse rates against method none; `compared` as `compare_collapse` returns it."""
    return Table(
        name="x2-collapse-comparison",
        title="X2. Collapse rates against method none",
        frame=compared,
        columns=(
            DATA_COLUMN,
            METHOD_COLUMN,
            _counts_column("collapsed", "collapsed", "n"),
            _counts_column("collapsed of none", "collapsed_none", "n_none"),
            number_column("Fisher p, uncorrected", "fisher_p", p_value),
            number_column("BH q over the setting", "bh_q", p_value, is_optional=True),
        ),
        meaning=_comparison_meaning(compared),
        notes=(
            "Fisher's exact test, two-sided, on counts of runs with a dead class; Benjamini-Hochberg over "
            "all rows of a setting. Exploratory. The test does not use the pairing by seed.",
        ),
    )


def _counts_column(head: str, num_events: str, n: str) -> Column:
    def text(row: Row) -> str:
        return f"{row[num_events]}/{row[n]}" if row[n] else ABSENT

    return Column(head=head, text=text, value=lambda row: row[num_events] / row[n] if row[n] else None)


def _comparison_meaning(compared: pd.DataFrame) -> str:
    if compared.empty:
        return "No C has complete runs of none and of another method, so no rates can be compared."
    different = int((compared["bh_q"] < ALPHA).sum())
    smallest = int(compared[["n", "n_none"]].min(axis=None))
    first = first_significant_count(smallest)
    seen = (
        "cannot distinguish 0 from all of them collapsed"
        if first is None
        else f"distinguishes 0 collapsed from {first} and more, but not from fewer"
    )
    return (
        f"After Benjamini-Hochberg, {different} of {count(len(compared), 'row')} differ from none at the "
        f"level of {ALPHA:g}. At n = {smallest}, the smallest here, Fisher's test {seen}, even uncorrected."
    )
