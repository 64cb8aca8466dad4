"""The three tables of a manuscript: what methods reach, how they differ, and what happens to classes."""

import math
from collections.abc import Mapping

import pandas as pd

from analysis.compare import EXPLORATORY
from analysis.manuscript.choice import Choice
from analysis.methods import REFERENCES
from analysis.significance import MAX_EXACT
from analysis.tables.formats import (
    ABSENT,
    DATA_COLUMN,
    Format,
    decimals,
    number_column,
    p_value,
    points,
    share,
    spread,
    text_column,
)
from analysis.tables.table import Column, Row, Table
from lt_rebalance.ground.imbalance import say_data
from lt_rebalance.ground.metrics import METRICS, is_higher_better

_HALF_WIDTH = "± half of the 95% t interval"
_METHOD_COLUMN = text_column("method", "method", is_row_head=True)


def main_table(choice: Choice, estimates: pd.DataFrame) -> Table:
    """Return the means of the leading metric: one row per method, one column per training set.

    Args:
        estimates: as `analysis.aggregate.aggregate` returns them.
    """
    metric = choice.metric
    found = choice.select(estimates)
    found = found[(found["metric"] == metric) & (found["subset"] == "all")]
    rows = []
    for method in choice.methods:
        row: dict[str, object] = {"method": method}
        of_method = found[found["method"] == method].set_index("data")
        for index, data in enumerate(choice.data):
            cell = of_method.loc[data] if data in of_method.index else {}
            row |= {f"data_{index}": data}
            row |= {f"{name}_{index}": cell.get(name, math.nan) for name in ("mean", "mean_low", "mean_high")}
            row |= {f"n_{index}": int(cell.get("n", 0))}
        rows.append(row)
    label = METRICS[metric].label
    return Table(
        name="table1-main",
        title=f"{label[0].upper()}{label[1:]} of each method on the test set, mean over seeds",
        frame=pd.DataFrame(rows),
        columns=(
            _METHOD_COLUMN,
            *(
                _plus_minus(
                    f"{say_data(data).removeprefix('the ')} ({_HALF_WIDTH})",
                    f"mean_{index}",
                    f"mean_low_{index}",
                    f"mean_high_{index}",
                    share,
                    is_higher_better=is_higher_better(metric),
                )
                for index, data in enumerate(choice.data)
            ),
        ),
        meaning=f"Setting: {choice.setting}; data set {choice.dataset}.",
        sizes=tuple(f"n_{index}" for index in range(len(choice.data))),
    )


def difference_table(choice: Choice, contrasts: pd.DataFrame) -> Table:
    """Return paired differences of the leading metric from each reference, with their corrected p values.

    Args:
        contrasts: as `analysis.compare.compare` returns them.
    """
    found = choice.select(contrasts)
    references = [name for name in REFERENCES if name in choice.methods]
    rows = []
    for data in choice.compared if len(found) else ():
        for method in choice.best(data):
            row: dict[str, object] = {"data": data, "method": method}
            for reference in references:
                row |= _difference(found[found["data"] == data], method, reference)
            if any(row[f"n_{reference}"] for reference in references):
                rows.append(row)
    columns: list[Column] = [DATA_COLUMN, _METHOD_COLUMN]
    for reference in references:
        columns += [
            _plus_minus(
                f"minus {reference}, points ({_HALF_WIDTH})",
                f"minus_{reference}",
                f"low_{reference}",
                f"high_{reference}",
                points,
                is_higher_better=is_higher_better(choice.metric),
            ),
            number_column("p", f"p_{reference}", p_value, is_optional=True),
        ]
    return Table(
        name="table2-differences",
        title=f"Paired differences of {METRICS[choice.metric].label} from {' and from '.join(references)}",
        frame=pd.DataFrame(rows, columns=None if rows else ["data", "method"]),
        columns=tuple(columns),
        meaning="Differences of runs of one seed, in points of 0.01. " + say_correction(choice, contrasts),
        sample=("n_pairs", "pair"),
        sizes=tuple(f"n_{reference}" for reference in references),
    )


def say_correction(choice: Choice, contrasts: pd.DataFrame) -> str:
    """Return how the p values of the differences are corrected."""
    found = choice.select(contrasts)
    is_declared = found["family"] != EXPLORATORY if len(found) else pd.Series(dtype=bool)
    by = "Benjamini and Hochberg over all differences that no family declares"
    if len(is_declared) and is_declared.all():
        by = "Holm over the declared family"
    elif is_declared.any():
        by = f"Holm over the declared family, or else {by}"
    exact = "exact " if not len(found) or found["n_pairs"].max() <= MAX_EXACT else ""
    return f"p: {exact}two-sided sign-flip test, corrected by {by}."


def _difference(contrasts: pd.DataFrame, method: str, reference: str) -> dict[str, object]:
    """Return the difference of a method from a reference, whichever of the two a contrast names first."""
    names = {"minus": "mean_difference", "low": "difference_low", "high": "difference_high"}
    absent: dict[str, object] = {f"{name}_{reference}": math.nan for name in (*names, "p")}
    pair = contrasts[contrasts["method"].isin([method, reference])]
    pair = pair[pair["comparator"].isin([method, reference])]
    if pair.empty or not pair["n_pairs"].iloc[0]:
        return absent | {f"n_{reference}": 0}
    row = pair.iloc[0]
    minus, low, high = (float(row[name]) for name in names.values())
    if row["method"] == reference:
        minus, low, high = -minus, -high, -low
    p = row["bh_q"] if row["family"] == EXPLORATORY else row["holm_p"]
    p = p if row["n_pairs"] > 1 else math.nan  # that of one pair is 1, whatever the difference
    values = {"minus": minus, "low": low, "high": high, "p": float(p), "n": int(row["n_pairs"])}
    return {f"{name}_{reference}": value for name, value in values.items()}


def class_table(
    choice: Choice, collapse: pd.DataFrame, estimates: pd.DataFrame, generators: pd.DataFrame
) -> Table:
    """Return what happens to classes: collapsed runs, dead classes, the tail, and how images are generated.

    Args:
        collapse: as `collapse_table` returns it. estimates: as `aggregate` does.
        generators: as `generator_table` does.
    """
    found = choice.select(collapse)
    every = choice.select(estimates).query("subset == 'all'")
    drawn = choice.select(generators)
    has_generators = len(drawn) > 0
    last = "mean_diversity" if has_generators else "worst_class_recall"
    rows = []
    for data in choice.compared:
        for method in choice.best(data):
            of_cell = found[(found["data"] == data) & (found["method"] == method)]
            if of_cell.empty or not of_cell["n"].iloc[0]:
                continue
            cell = of_cell.iloc[0]
            row: dict[str, object] = {name: cell[name] for name in _COLLAPSE}
            for metric in ("recall_tail", *(() if has_generators else (last,))):
                of_metric = every[(every["metric"] == metric) & (every["cell"] == cell["cell"])]
                values: Mapping[str, float] = of_metric.iloc[0] if len(of_metric) else {}
                row |= {f"{metric}{end}": values.get(f"mean{end}", math.nan) for end in ("", "_low", "_high")}
            if has_generators:
                of_method = drawn[(drawn["data"] == data) & (drawn["method"] == method)]
                row[last] = of_method["mean_diversity"].iloc[0] if len(of_method) else math.nan
            rows.append(row)
    if has_generators:
        closing = number_column("diversity of generated images", last, share, is_optional=True)
    else:
        closing = _plus_minus(
            f"worst-class recall ({_HALF_WIDTH})",
            *(last, f"{last}_low", f"{last}_high"),
            share,
            is_higher_better=True,
        )
    return Table(
        name="table3-classes",
        title="Classes that are never recognised, and the rarest classes",
        frame=pd.DataFrame(rows, columns=None if rows else [*_COLLAPSE]),
        columns=(
            DATA_COLUMN,
            _METHOD_COLUMN,
            Column(
                head="runs with a dead class",
                text=lambda row: f"{row['num_collapsed']} of {row['n']}",
                value=lambda row: row["num_collapsed"],
                is_higher_better=False,
            ),
            number_column(
                "dead classes per run",
                "mean_dead_classes",
                lambda value: decimals(value, 2),
                is_higher_better=False,
            ),
            _plus_minus(
                f"recall of the tail ({_HALF_WIDTH})",
                *("recall_tail", "recall_tail_low", "recall_tail_high"),
                share,
                is_higher_better=True,
            ),
            closing,
        ),
        meaning="A class is dead if none of its test images is recognised. Tail: the rarest 30 % of classes."
        + (
            " Diversity: spread of the generated images of a class over that of its real training images, "
            "mean over classes and generators."
            if has_generators
            else ""
        ),
    )


_COLLAPSE = ("data", "method", "n", "num_collapsed", "rate_low", "rate_high", "mean_dead_classes")


def _plus_minus(head: str, name: str, low: str, high: str, text: Format, *, is_higher_better: bool) -> Column:
    """Return a column of means with half of their interval, which is symmetrical."""
    half_text = share if text is share else spread

    def say(row: Row) -> str:
        if math.isnan(row[name]):
            return ABSENT
        half = (row[high] - row[low]) / 2
        return text(row[name]) if math.isnan(half) else f"{text(row[name])} ± {half_text(half)}"

    return Column(head=head, text=say, value=lambda row: row[name], is_higher_better=is_higher_better)


def make_tables(
    choice: Choice,
    estimates: pd.DataFrame,
    contrasts: pd.DataFrame,
    collapse: pd.DataFrame,
    generators: pd.DataFrame,
) -> list[Table]:
    """Return the tables that have a row; frames as `Frames` has them."""
    tables = (
        main_table(choice, estimates),
        difference_table(choice, contrasts),
        class_table(choice, collapse, estimates, generators),
    )
    return [table for table in tables if not table.is_empty]
