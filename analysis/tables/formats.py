"""Format numbers for readers; what cannot be estimated is a word, what does not apply is a dash."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from analysis.naming import method_rank
from analysis.significance import say_p
from analysis.tables.table import Column
from lt_rebalance.ground.imbalance import data_rank, say_data
from lt_rebalance.ground.statements import count_used
from lt_rebalance.ground.text import count

ABSENT = "–"
NOT_ESTIMABLE = "not estimable"
MINUS = "−"
Format = Callable[[float], str]


def share(value: float) -> str:
    """Return a share between 0 and 1, or a loss."""
    return decimals(value, 3)


def decimals(value: float, digits: int, sign: str = "") -> str:
    """Return a number with a fixed number of digits; sign "+" shows it always."""
    if math.isnan(value):
        return NOT_ESTIMABLE
    if math.isinf(value):
        return "too large to state" if value > 0 else "too small to state"
    return f"{value:{sign}.{digits}f}".replace("-", MINUS)


def points(value: float) -> str:
    """Return a difference of shares in points, a hundredth each, with its sign."""
    return decimals(100 * value, 2, "+")


def spread(value: float) -> str:
    """Return a standard deviation or a size of shares in points."""
    return decimals(100 * value, 2)


def percent(value: float) -> str:
    """Return a share in whole percent; shares close to 0 or 1 are not rounded to them."""
    if math.isnan(value):
        return NOT_ESTIMABLE
    if 0 < value < 0.01:
        return "< 1%"
    return "> 99%" if 0.99 < value < 1 else f"{100 * value:.0f}%"


def p_value(value: float) -> str:
    """Return a p value."""
    if math.isnan(value):
        return NOT_ESTIMABLE
    return "< 0.001" if value < 0.001 else say_p(value)


def whole(value: float) -> str:
    """Return a count."""
    return decimals(value, 0) if math.isnan(value) or math.isinf(value) else f"{value:,.0f}"


def interval(low: float, high: float, text: Format) -> str:
    """Return the two ends of an interval."""
    return f"{text(low)} to {text(high)}" if not math.isnan(low) else NOT_ESTIMABLE


def estimate(value: float, low: float, high: float, text: Format) -> str:
    """Return an estimate with its interval."""
    if math.isnan(value):
        return NOT_ESTIMABLE
    ends = "interval not estimable" if math.isnan(low) else interval(low, high, text)
    return f"{text(value)} ({ends})"


def rate(num_events: int, n: int, low: float, high: float) -> str:
    """Return a rate with its counts and interval."""
    if n == 0:
        return NOT_ESTIMABLE
    return f"{num_events}/{n} = {estimate(num_events / n, low, high, percent)}"


def count_between(fewest: int, most: int, noun: str) -> str:
    """Return a range of counts with its noun."""
    return count(most, noun) if fewest == most else f"{fewest:,} to {count(most, noun)}"


def named_data(data: str) -> str:
    """Return the name of training data in a sentence."""
    return say_data(data)


def listed(names: list[str]) -> str:
    """Return names as a list in a sentence."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def some(names: list[str], num_named: int) -> str:
    """Return names as a list in a sentence; of more than `num_named` the number of the rest."""
    more = [f"{len(names) - num_named} more"] if len(names) > num_named else []
    return listed([*names[:num_named], *more])


def all_of(number: int) -> str:
    """Return "both" for two, else "all" and the number, of which there are at least two."""
    return "both" if number == 2 else f"all {number:,}"


def say_lead(methods: list[str], what: str) -> str:
    """Return "oversample has the highest mean", or of several that they share it."""
    return f"{some(methods, 4)} {'has' if len(methods) == 1 else 'share'} the {what}"


# Columns


def text_column(head: str, name: str, *, is_row_head: bool = False, is_long: bool = False) -> Column:
    """Return a column of names."""
    return Column(
        head=head,
        text=lambda row: str(row[name]) or ABSENT,
        value=lambda row: str(row[name]),
        is_row_head=is_row_head,
        is_long=is_long,
    )


def number_column(
    head: str, name: str, text: Format, *, is_optional: bool = False, is_higher_better: bool | None = None
) -> Column:
    """Return a column of numbers; nan is a dash where it means that the number does not apply."""
    return Column(
        head=head,
        text=lambda row: ABSENT if is_optional and _is_absent(row[name]) else text(float(row[name])),
        value=lambda row: row[name],
        is_higher_better=is_higher_better,
    )


def _is_absent(value: Any) -> bool:  # Any: a number, or nothing
    return value is None or math.isnan(value)


def estimate_column(
    head: str, name: str, low: str, high: str, text: Format, *, is_higher_better: bool | None = None
) -> Column:
    """Return a column of estimates with their intervals."""
    return Column(
        head=head,
        text=lambda row: estimate(row[name], row[low], row[high], text),
        value=lambda row: row[name],
        is_higher_better=is_higher_better,
    )


def n_column(n: str, n_expected: str, head: str = "n of planned") -> Column:
    """Return a column with the number used of those planned, and of those diverged."""
    return Column(
        head=head,
        text=lambda row: count_used(row[n], row[n_expected], row.get("n_diverged", 0)),
        value=lambda row: row[n],
    )


def rate_column(
    head: str, num_events: str, n: str, low: str, high: str, *, is_higher_better: bool | None = None
) -> Column:
    """Return a column of rates with counts and intervals."""
    return Column(
        head=head,
        text=lambda row: rate(row[num_events], row[n], row[low], row[high]),
        value=lambda row: row[num_events] / row[n] if row[n] else math.nan,
        is_higher_better=is_higher_better,
    )


DATA_COLUMN = Column(
    head="data",
    text=lambda row: str(row["data"]),
    value=lambda row: data_rank(row["data"]),
    is_row_head=True,
)
METHOD_COLUMN = Column(
    head="method",
    text=lambda row: str(row["method"]),
    value=lambda row: _method_key(row["method"]),
    is_row_head=True,
)
CONTRAST_COLUMN = Column(
    head="difference",
    text=lambda row: f"{row['method']} {MINUS} {row['comparator']}",
    value=lambda row: f"{_method_key(row['method'])} {_method_key(row['comparator'])}",
    is_row_head=True,
)


def _method_key(method: str) -> str:
    return f"{method_rank(method):03d} {method}"


def per_setting(sentences: Mapping[str, str]) -> str:
    """Join the sentences of settings, with their names if there are several."""
    if len(sentences) == 1:
        return next(iter(sentences.values()))
    return " ".join(f"{setting}: {sentence}" for setting, sentence in sentences.items())
