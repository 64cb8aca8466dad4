"""The first screen of a report: the leading method, its lead and certainty, and what is missing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.compare import EXPLORATORY, MARGIN, MIN_PAIRS
from analysis.sentences import ORACLE, describe_choice, describe_left_out, join
from analysis.tables.differences import describe_sources
from analysis.tables.formats import (
    all_of,
    count_between,
    estimate,
    interval,
    listed,
    named_data,
    p_value,
    percent,
    points,
    say_lead,
    share,
    some,
)
from lt_rebalance.ground.imbalance import is_c
from lt_rebalance.ground.metrics import METRICS
from lt_rebalance.ground.text import count

_REFERENCES = {"none": "no rebalancing (none)", "oversample": "oversampling (oversample)"}
_MOST_NAMED = 4
"""largest number of places in a headline, and of methods in a sentence"""
Row = Mapping[str, Any]  # Any: names and numbers


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer for one place: a setting and its training data."""

    place: str
    leader: str
    reached: str
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FirstScreen:
    """Everything above the first table."""

    scope: str
    headline: str
    answers: tuple[Answer, ...]
    """for places with at least two methods, in the order of the report"""
    lines: tuple[str, ...]
    """further answers"""
    facts: Mapping[str, str]
    """by a heading of one or two words"""


def make_first_screen(
    cells: pd.DataFrame,
    runs: pd.DataFrame,
    leaders: pd.DataFrame,
    contrasts: pd.DataFrame,
    collapse: pd.DataFrame,
    ablations: pd.DataFrame,
    sources: pd.DataFrame,
    facts: Mapping[str, str] | None = None,
) -> FirstScreen:
    """Return the first screen; all its numbers are also in T0, T2, T3, T4b, T6, T7 or A1.

    Args:
        cells, runs: of `Results`. leaders: as `leaders_frame` returns them. contrasts: as `compare` does.
            collapse: as `collapse_table` does. ablations: as `compare_with_references` does. sources: as
            `sources_table` does. facts: further ones, by a heading.
    """
    ranked = leaders[leaders["rank"].notna()]
    blocks = [block for _, block in ranked.groupby(["setting", "data"], sort=False, observed=True)]
    is_one_setting = leaders["setting"].nunique() == 1
    compared = [block for block in blocks if len(block) > 1]
    alone = [block for block in blocks if len(block) == 1]
    spread = describe_sources(sources, _MOST_NAMED)
    lines = [
        f"The spread between runs (T4b): {spread}" if spread else "",
        describe_choice(cells) if (cells["classifier.selection"] == ORACLE).any() else "",
        *_describe_changes(ablations, leaders),
        join(
            _describe_alone(block.iloc[0], _rows_of(leaders, block), is_one_setting=is_one_setting)
            for block in alone[:_MOST_NAMED]
        ),
        f"{len(alone) - _MOST_NAMED} more have one method only (T0)." if len(alone) > _MOST_NAMED else "",
    ]
    told = {"Dead classes": describe_collapse(collapse), "Left out": describe_left_out(runs)}
    return FirstScreen(
        scope=_describe_scope(cells, runs),
        headline=_describe_leads(compared, is_one_setting=is_one_setting, has_runs=len(ranked) > 0),
        answers=tuple(
            _answer(
                block,
                _rows_of(leaders, block),
                _rows_of(contrasts, block).to_dict("records"),
                is_one_setting=is_one_setting,
            )
            for block in compared
        ),
        lines=tuple(line for line in lines if line),
        facts={heading: text for heading, text in (told | dict(facts or {})).items() if text},
    )


def _describe_scope(cells: pd.DataFrame, runs: pd.DataFrame) -> str:
    seeds = runs.groupby("cell")["seed"].nunique()
    settings = list(dict.fromkeys(cells["setting"]))
    parts = [
        listed(list(dict.fromkeys(map(str, cells["dataset"])))),
        listed([named_data(each) for each in dict.fromkeys(cells["data"])]),
        count(cells["method"].nunique(), "method"),
        count_between(int(seeds.min()), int(seeds.max()), "seed"),
        str(settings[0]) if len(settings) == 1 else count(len(settings), "setting"),
    ]
    return " · ".join(parts)


def _rows_of(frame: pd.DataFrame, block: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a place, those without a run with them."""
    first = block.iloc[0]
    return frame[(frame["setting"] == first["setting"]) & (frame["data"] == first["data"])]


def _name_place(row: Row, *, is_one_setting: bool) -> str:
    place = named_data(row["data"])
    return place if is_one_setting else f"{row['setting']}, {place}"


def _label(row: Row) -> str:
    return METRICS[row["metric"]].label


# The headline


def _describe_leads(compared: list[pd.DataFrame], *, is_one_setting: bool, has_runs: bool) -> str:
    """Say which method has the highest mean, and where."""
    if not compared:
        return "No two methods can be compared." if has_runs else "No run is complete yet."
    if len(compared) == 1:
        return _describe_lead(compared[0])
    places: dict[tuple[str, ...], list[str]] = {}
    for block in compared:
        places.setdefault(tuple(_leading(block)), []).append(named_data(block["data"].iloc[0]))
    labels = list(dict.fromkeys(_label(block.iloc[0]) for block in compared))
    what = f"highest mean {' or '.join(labels)}"
    if is_one_setting and len(compared) <= _MOST_NAMED:
        first, *others = places
        said = [say_lead([*first], what), *(some([*methods], _MOST_NAMED) for methods in others)]
        on = [f"{each} on {listed(found)}" for each, found in zip(said, places.values(), strict=True)]
        return f"{'; '.join(on)}."
    num_settings = len({block["setting"].iloc[0] for block in compared})
    scope = f"comparisons ({count(num_settings, 'setting')})"
    if len(places) == 1:
        return f"{say_lead([*next(iter(places))], what)} in {all_of(len(compared))} {scope}."
    if len(compared) <= _MOST_NAMED:
        leads = f"{what[0].upper()}{what[1:]} {'; '.join(_list_leads(compared))}."
        num_sure = sum(len(_may_be_best(block)) == 1 for block in compared)
        return f"{leads} In {num_sure} of these {len(compared)} the tests rule out all other methods."
    most, *others = sorted(places, key=lambda methods: -len(places[methods]))
    named = [f"{some([*each], _MOST_NAMED)} in {len(places[each])}" for each in others[: _MOST_NAMED - 1]]
    rest = ["other methods in the rest"] if len(others) > len(named) else []
    is_everywhere = set.intersection(*map(set, places))
    return (
        f"{'' if is_everywhere else 'No method leads everywhere. '}{say_lead([*most], what)} in "
        f"{len(places[most])} of {len(compared)} {scope}, {listed([*named, *rest])}."
    )


def _list_leads(compared: list[pd.DataFrame]) -> Iterator[str]:
    """Yield the leading methods of each setting, which is named by how it differs from the others."""
    leads: dict[str, dict[str, list[str]]] = {}
    for block in compared:
        row = block.iloc[0]
        of_setting = leads.setdefault(row["setting"], {})
        of_setting.setdefault(some(_leading(block), _MOST_NAMED), []).append(named_data(row["data"]))
    names = _name_by_difference(leads)
    for setting, places in leads.items():
        said = [f"{methods} on {listed(data)}" for methods, data in places.items()]
        yield f"with {names[setting]}: {', '.join(said)}"


def _name_by_difference(settings: Iterable[str]) -> dict[str, str]:
    """Return the parts of the name of each setting that not all of them share."""
    parts = {setting: setting.split(", ") for setting in settings}
    shared = set.intersection(*map(set, parts.values()))
    own = {setting: ", ".join(part for part in of if part not in shared) for setting, of in parts.items()}
    return {setting: name or setting for setting, name in own.items()}


def _describe_lead(block: pd.DataFrame) -> str:
    row, firsts, leading = block.iloc[0], _may_be_best(block), _leading(block)
    place, num_seeds = named_data(row["data"]), int(block["n"].max())
    highest = f"{say_lead(leading, f'highest mean {_label(row)}')} on {place}"
    if num_seeds < MIN_PAIRS:
        return f"{highest}; {count(num_seeds, 'seed')} cannot show whether this is significant."
    if len(firsts) == 1:
        return f"{row['method']} has the best {_label(row)} of {len(block)} methods on {place}."
    but = ";" if leading == firsts else ", but"
    return f"{highest}{but} {len(firsts)} of {len(block)} methods may be the best."


def _leading(block: pd.DataFrame) -> list[str]:
    """Return the methods with the highest mean of a place."""
    return list(block.loc[block["rank"] == 1, "method"])


def _may_be_best(block: pd.DataFrame) -> list[str]:
    return list(block.loc[block["rank_low"] == 1, "method"])


# One place


def _answer(
    block: pd.DataFrame, planned: pd.DataFrame, contrasts: Sequence[Row], *, is_one_setting: bool
) -> Answer:
    first, leading = block.iloc[0], _leading(block)
    mean = _say_mean(first) if len(leading) == 1 else f"{share(first['mean'])} each, intervals in T0"
    return Answer(
        place=_name_place(first, is_one_setting=is_one_setting),
        leader=some(leading, _MOST_NAMED),
        reached=f"mean {_label(first)} {mean}",
        lines=tuple(
            line
            for line in (
                *_describe_differences(block, set(planned["method"]), contrasts),
                _describe_certainty(block),
                _describe_unequal(planned),
            )
            if line
        ),
    )


def _say_mean(row: Row) -> str:
    planned = "" if row["n"] == row["n_expected"] else f" of {row['n_expected']}"
    seeds = f"{row['n']}{planned} seed{'s' if max(row['n'], row['n_expected']) > 1 else ''}"
    within = interval(row["mean_low"], row["mean_high"], share) if row["n"] > 1 else "no interval"
    return f"{share(row['mean'])} ({within}; {seeds})"


def _say_difference(
    row: Row, reference: str, contrasts: Sequence[Row], *, is_reference_ahead: bool = False
) -> str:
    """Return a method's lead over a reference, or the reference's over it, and whether it is significant."""
    name = f"minus_{reference}"
    n = int(row[f"{name}_n"])
    if n == 0:
        return "no seed with both runs complete"
    mean, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if is_reference_ahead:
        mean, low, high = 0.0 - mean, 0.0 - high, 0.0 - low
    pairs = "" if n == row["n"] else f"; {count(n, 'pair')}"
    within = interval(low, high, points) if n > 1 else "no interval"
    said = f"{points(mean)} points ({within}{pairs})"
    if n < MIN_PAIRS:
        return said
    pair = {row["method"], reference}
    (contrast,) = (each for each in contrasts if {each["method"], each["comparator"]} == pair)
    return f"{said}; {_say_verdict(contrast, includes_0=low <= 0 <= high)}"


def _say_verdict(contrast: Row, *, includes_0: bool) -> str:
    """Return the verdict of T2 in a sentence on a difference whose joint interval may include 0."""
    if contrast["verdict"] == "equivalent":
        return f"equivalent, within ±{100 * MARGIN:g} points"
    name, value = (
        ("q", contrast["bh_q"]) if contrast["family"] == EXPLORATORY else ("Holm p", contrast["holm_p"])
    )
    text = p_value(value)
    corrected = f"{name} {text}" if text.startswith("<") else f"{name} = {text}"
    if contrast["verdict"] == "undecided":
        return f"not significant ({corrected})"
    though = ", although the interval, which holds for all methods together, includes 0" if includes_0 else ""
    return f"significant ({corrected}){though}"


def _describe_differences(block: pd.DataFrame, planned: set[str], contrasts: Sequence[Row]) -> Iterator[str]:
    """Yield the lead over each reference; if the leader is one, over the next that is none."""
    first, second = block.iloc[0], block.iloc[1]
    is_shared = len(_leading(block)) > 1
    against = f"{first['method']} against" if is_shared else "Against"
    for reference, words in _REFERENCES.items():
        if reference == first["method"]:
            if second["method"] in _REFERENCES:
                continue  # the other turn says this difference
            lead = _say_difference(second, reference, contrasts, is_reference_ahead=True)
            yield f"{against} {'' if is_shared else 'the next method, '}{second['method']}: {lead}."
        elif reference in planned:
            yield f"{against} {words}: {_say_difference(first, reference, contrasts)}."
    absent = [name for name in _REFERENCES if name not in planned]
    if absent:
        yield f"Not in this comparison: {listed(absent)}."
    if len(absent) == len(_REFERENCES):
        yield f"{'' if is_shared else 'Next, '}{second['method']}: {_say_mean(second)}."


def _describe_certainty(block: pd.DataFrame) -> str:
    firsts, num_seeds = _may_be_best(block), int(block["n"].max())
    if num_seeds < MIN_PAIRS:
        return (
            f"{count(num_seeds, 'seed')} cannot distinguish methods: with fewer than {MIN_PAIRS} no paired "
            "test can be significant."
        )
    if len(firsts) == 1:
        others = "the other method" if len(block) == 2 else f"the other {len(block) - 1} methods"
        return f"The tests rule out {others} as the best."
    return f"{len(firsts)} of {len(block)} methods may be the best: {some(firsts, _MOST_NAMED)}."


def _describe_unequal(planned: pd.DataFrame) -> str:
    """Say that methods have no run, or different numbers of runs."""
    known = planned[planned["rank"].notna()]
    without = len(planned) - len(known)
    said = f"Without a complete run: {without} of {len(planned)} methods. " if without else ""
    fewest, most = int(known["n"].min()), int(known["n"].max())
    unequal = f"Means are over {count_between(fewest, most, 'seed')}." if fewest < most else ""
    return (said + unequal).strip()


def _describe_alone(row: Row, of_place: pd.DataFrame, *, is_one_setting: bool) -> str:
    """Say the result of the only method of a place that has complete runs."""
    place = _name_place(row, is_one_setting=is_one_setting)
    result = f"{_label(row)} {_say_mean(row)}."
    if len(of_place) == 1:
        return f"On {place} only {row['method']} was run: {result}"
    return (
        f"On {place} the only one of {len(of_place)} methods with complete runs is {row['method']}: {result}"
    )


# All places


def describe_collapse(collapse: pd.DataFrame) -> str:
    """Say in how many runs a class is never recognised, and where most often, as in T3a."""
    n, num_collapsed = int(collapse["n"].sum()), int(collapse["num_collapsed"].sum())
    if n == 0:
        return ""
    if num_collapsed == 0:
        runs = "the complete run" if n == 1 else f"{all_of(n)} complete runs"
        return f"Every class is recognised in {runs}."
    worst = collapse[collapse["collapse_rate"] == collapse["collapse_rate"].max()]
    counts = {f"{row.num_collapsed} of {row.n}" for row in worst.itertuples()}
    rate = counts.pop() if len(counts) == 1 else percent(worst["collapse_rate"].iloc[0])
    return (
        f"In {num_collapsed:,} of {count(n, 'complete run')} ({percent(num_collapsed / n)}) at least one "
        f"class is never recognised{_describe_collapse_by_setting(collapse)}; most often {_name_rows(worst)} "
        f"({rate}{' each' if len(worst) > 1 else ''})."
    )


def _describe_collapse_by_setting(collapse: pd.DataFrame) -> str:
    sums = collapse.groupby("setting", sort=False)[["num_collapsed", "n"]].sum()
    if not 1 < len(sums) <= _MOST_NAMED:
        return ""
    names = _name_by_difference(sums.index)
    said = [f"{row.num_collapsed} of {row.n} with {names[row.Index]}" for row in sums.itertuples()]
    return f": {listed(said)}"


def describe_data(classes: pd.DataFrame) -> str:
    """Say how many images the largest and the smallest class have, if all are of one data set.

    Args:
        classes: of `Results`.
    """
    if classes["dataset"].nunique() != 1:
        return ""
    sizes = classes.groupby("data", sort=False, observed=True)["class_count"].agg(["max", "min"])
    said = [
        f"{row.max:,} and {row.min:,} on {named_data(row.Index)}"
        for row in sizes.head(_MOST_NAMED).itertuples()
    ]
    classes_of = count(int(classes["class"].nunique()), "class", "classes")
    has_c = any(map(is_c, sizes.index))
    return f"{classes_of}; training images of the largest and of the smallest: {', '.join(said)}." + (
        " C is the size of each class over that of the class before it." if has_c else ""
    )


def _name_rows(rows: pd.DataFrame) -> str:
    """Return "with none and focal on C = 1/2"; of more than `_MOST_NAMED` in several places their number."""
    is_one_place = len(rows[["setting", "data"]].drop_duplicates()) == 1
    if len(rows) > _MOST_NAMED and not is_one_place:
        return f"in {len(rows)} rows of T3a"
    places = [
        _name_place(row, is_one_setting=rows["setting"].nunique() == 1) for row in rows.to_dict("records")
    ]
    named = list(rows["method"])
    if not is_one_place:
        named = [f"{method} on {place}" for method, place in zip(named, places, strict=True)]
    more = [count(len(named) - _MOST_NAMED, "other row")] if len(named) > _MOST_NAMED else []
    return f"with {listed([*named[:_MOST_NAMED], *more])}" + (f" on {places[0]}" if is_one_place else "")


def _describe_changes(ablations: pd.DataFrame, leaders: pd.DataFrame) -> Iterator[str]:
    """Yield the result and largest difference of each study that compares cells of different settings."""
    if ablations.empty:
        return
    place = leaders.set_index("cell")[["setting", "data"]].agg(tuple, axis=1)
    is_other = ablations["cell"].map(place) != ablations["reference"].map(place)
    for study, rows in ablations[is_other].groupby("study", sort=False):
        counts = rows["verdict"].value_counts()
        said = [
            f"{counts[name]} {name}"
            for name in ("better", "worse", "equivalent", "undecided")
            if name in counts
        ]
        text = (
            f"{study}: {count(len(rows), 'comparison')} with a reference that differs in a choice or a few: "
            f"{listed(said)} (A1, with an interval for each alone)."
        )
        known = rows[rows["mean_difference"].notna()]
        if len(known):
            row = known.loc[known["mean_difference"].abs().idxmax()]
            low, high = row["difference_low"], row["difference_high"]
            text += (
                f" Largest difference: {row['change']}, on {named_data(row['data'])} with {row['method']}: "
                f"{estimate(row['mean_difference'], low, high, points)} points of {_label(row)}."
            )
        yield text
