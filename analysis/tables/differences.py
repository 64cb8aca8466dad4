"""T2, T4 and T5: paired differences of methods, variance components, power; and X1, all other pairs."""

import math
from collections.abc import Sequence

import pandas as pd

from analysis.compare import (
    ALPHA,
    EXPLORATORY,
    MARGIN,
    MAX_SPAN,
    MIN_PAIRS,
    Family,
    components_table,
    load_families,
    power_table,
)
from analysis.leading import name_leading
from analysis.power import POWER, smallest_exact_p
from analysis.sentences import describe_pairs_left_out, join, name_what_seeds_change
from analysis.significance import EXACT
from analysis.sources import SOURCES
from analysis.tables.formats import (
    ABSENT,
    CONTRAST_COLUMN,
    DATA_COLUMN,
    decimals,
    estimate_column,
    listed,
    n_column,
    named_data,
    number_column,
    p_value,
    per_setting,
    percent,
    points,
    spread,
    text_column,
    whole,
)
from analysis.tables.table import Column, Row, Table, more
from analysis.variance import MIN_RESAMPLED
from lt_rebalance.ground.metrics import METRICS
from lt_rebalance.ground.text import count

REFERENCES = ("none", "undersample", "oversample")
_PAIRS = ("n_pairs", "pair")
_VERDICT_TESTS = {"equivalent": "TOST"}
_NO_CONTRAST = "No setting has none or oversample and another method at the same C."
_NO_OTHER_PAIR = "T2 shows all pairs."


def difference_table(contrasts: pd.DataFrame, families: Sequence[Family] | None = None) -> Table:
    """Return T2, each method against none, undersample and oversample, and all declared contrasts.

    The CSV holds every contrast.
    """
    return Table(
        name="t2-differences",
        title=f"T2. Paired differences of {name_leading(contrasts)}",
        frame=contrasts,
        shown=_against_references(contrasts),
        columns=_DIFFERENCE_COLUMNS,
        meaning=_difference_meaning(_against_references(contrasts), _NO_CONTRAST),
        sample=_PAIRS,
        notes=_difference_notes(load_families() if families is None else families, name_leading(contrasts)),
    )


def all_pairs_table(contrasts: pd.DataFrame) -> Table:
    """Return the contrasts that T2 leaves out: those of generators with each other."""
    shown = contrasts.drop(_against_references(contrasts).index)
    return Table(
        name="x1-other-pairs",
        title=f"X1. Paired differences of {name_leading(contrasts)}: the other pairs",
        frame=shown,
        columns=_DIFFERENCE_COLUMNS,
        meaning=_difference_meaning(shown, _NO_OTHER_PAIR),
        sample=_PAIRS,
        notes=("Columns, intervals and corrections as in T2.",),
    )


def _against_references(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Return the contrasts of T2: those with a reference, and all that are declared."""
    if contrasts.empty:
        return contrasts
    has_reference = contrasts["method"].isin(REFERENCES) | contrasts["comparator"].isin(REFERENCES)
    return contrasts[has_reference | (contrasts["family"] != EXPLORATORY)]


def _say_verdict(row: Row) -> str:
    verdict = str(row["verdict"])
    if verdict == "undecided":
        return verdict
    correction = "Benjamini-Hochberg" if row["family"] == EXPLORATORY else "Holm"
    return f"{verdict} ({_VERDICT_TESTS.get(verdict, correction)})"


def _corrected(row: Row) -> float:
    """Return the p value after the correction that the verdict uses."""
    return float(row["bh_q"] if row["family"] == EXPLORATORY else row["holm_p"])


_DIFFERENCE_COLUMNS = (
    DATA_COLUMN,
    CONTRAST_COLUMN,
    n_column("n_pairs", "n_expected", "pairs of planned"),
    estimate_column(
        "mean difference in points (95% t interval)",
        "mean_difference",
        "difference_low",
        "difference_high",
        points,
    ),
    *more(
        number_column("g_av", "g_av", lambda value: decimals(value, 2, "+")),
        number_column("r", "r", lambda value: decimals(value, 2, "+")),
        estimate_column(
            "P(better) (95% Clopper-Pearson interval)",
            "better_share",
            "better_share_low",
            "better_share_high",
            percent,
        ),
        Column(
            head=f"P(within ±{100 * MARGIN:g} points)",
            text=lambda row: percent(row["p_inside"]) if row["n_pairs"] >= MIN_PAIRS else ABSENT,
            value=lambda row: row["p_inside"] if row["n_pairs"] >= MIN_PAIRS else math.nan,
        ),
        number_column("sign-flip p, uncorrected", "sign_flip_p", p_value),
    ),
    Column(
        head="Holm p (declared family) or BH q (exploratory)",
        text=lambda row: p_value(_corrected(row)),
        value=lambda row: _corrected(row),
    ),
    Column(head="verdict (by)", text=_say_verdict, value=lambda row: str(row["verdict"])),
)


def _difference_meaning(shown: pd.DataFrame, nothing: str) -> str:
    if shown.empty:
        return nothing
    sentences = {
        str(setting): _describe_verdicts(rows) for setting, rows in shown.groupby("setting", sort=False)
    }
    return join(
        [
            per_setting(sentences),
            describe_pairs_left_out(shown),
            "Each interval is for its comparison alone, so it is narrower than an interval that holds for "
            "all methods together. It may exclude 0 although the test is undecided, or include 0 although "
            "the test decides. Undecided means that these runs do not decide. Only the verdict “equivalent” "
            "is evidence of equality. T0 ranks all methods of a training set jointly, which is another "
            "family of tests: it may separate a pair that is undecided here, or leave open one that is "
            "decided.",
        ]
    )


def _describe_verdicts(rows: pd.DataFrame) -> str:
    counts = rows["verdict"].value_counts()
    said = [
        f"{counts[name]} {name}{how}"
        for name, how in {
            "better": " after correction",
            "worse": " after correction",
            "equivalent": " by the TOST, uncorrected",
            "undecided": "",
        }.items()
        if name in counts
    ]
    text = f"Of {count(len(rows), 'difference')}: {listed(said)}."
    return join([text, _describe_reach(rows)])


def _describe_reach(rows: pd.DataFrame) -> str:
    """Say if no difference of any size can have a verdict."""
    num_pairs = int(rows["n_pairs"].max())
    if num_pairs == 0:
        return ""
    smallest = smallest_exact_p(num_pairs)
    if smallest >= ALPHA:
        return (
            f"With at most {count(num_pairs, 'pair')} the exact sign-flip test cannot give p below "
            f"{smallest:.3g}, so no difference of any size can be called better or worse at the level of "
            f"{ALPHA:g}."
        )
    sizes = {family.name: family.size for family in load_families()}
    declared = rows[rows["family"].isin(list(sizes))]
    reached = [
        smallest_exact_p(int(row.n_pairs)) * sizes[row.family] < ALPHA
        for row in declared[declared["n_pairs"] > 0].itertuples()
    ]
    if not reached or any(reached):
        return ""
    return (
        f"With at most {count(int(declared['n_pairs'].max()), 'pair')} no declared difference of any size "
        f"can reach {ALPHA:g} after Holm's correction over its whole family."
    )


def _difference_notes(families: Sequence[Family], metric: str) -> tuple[str, ...]:
    declared = listed(
        [
            f"“{family.name}” ({family.size} contrasts of {METRICS[family.metric].label} in each setting, "
            "run or not)"
            for family in families
        ]
    )
    return (
        "First method minus second, paired by seed: both share the subset and the classifier's initial "
        f"weights. One point is 0.01 of {metric}. Mean with Student's t interval over pairs. g_av: Hedges' "
        "standardised difference. r: correlation of the pairs; the higher, the more pairing helps. "
        "P(better): share of pairs in which the first method is better; ties count half. P(within): "
        "posterior probability (Student t, flat prior) that the mean difference lies within "
        f"±{100 * MARGIN:g} points, from {MIN_PAIRS} pairs on.",
        f"The p value is that of the two-sided sign-flip test ({EXACT}). Holm's correction runs over "
        f"{declared}, as declared in analysis/families.toml; members that were not run count as p = 1. "
        "Benjamini-Hochberg runs over all other contrasts of the setting. No contrast has both. Equivalent: "
        f"two one-sided t tests (TOST) within ±{100 * MARGIN:g} points, each at {ALPHA:g} and uncorrected. "
        f"Below {MIN_PAIRS} pairs there is no verdict. The CSV file adds the paired t and Wilcoxon tests, "
        "d_z and all pairs.",
    )


def components(runs: pd.DataFrame, cells: pd.DataFrame) -> Table:
    """Return T4; `cells` of `Results`."""
    frame = components_table(runs)
    return Table(
        name="t4-components",
        title=f"T4a. Sources of variance of {name_leading(frame)}",
        frame=frame,
        columns=_COMPONENT_COLUMNS,
        meaning=_component_meaning(frame),
        sample=("n_seeds", "seed"),
        notes=(
            "Two-way analysis of variance, seeds by methods, methods fixed; negative estimates are set to "
            "0. Standard deviations in points with 90% percentile bootstrap intervals over seeds. The "
            f"intervals are too narrow for few seeds and are omitted below {MIN_RESAMPLED}. A seed changes "
            f"{listed(name_what_seeds_change(cells))} together; T4b separates these sources where a study "
            "has seeds for each.",
        ),
    )


_COMPONENT_COLUMNS = (
    DATA_COLUMN,
    number_column("seeds", "n_seeds", whole),
    number_column("methods", "num_methods", whole),
    estimate_column(
        "shared by all methods of a seed: sd in points (90% bootstrap interval)",
        "seed_sd",
        "seed_low",
        "seed_high",
        spread,
    ),
    estimate_column(
        "specific to each run: sd in points (90% bootstrap interval)",
        "residual_sd",
        "residual_low",
        "residual_high",
        spread,
    ),
)


def _component_meaning(frame: pd.DataFrame) -> str:
    if frame.empty:
        return "The components need two seeds at which two methods are complete; there are none yet."
    shared = int((frame["seed_sd"] > frame["residual_sd"]).sum())
    left_out = [
        f"{methods} of {named_data(data)}"
        for data, methods in zip(frame["data"], frame.get("left_out", [""] * len(frame)), strict=True)
        if methods
    ]
    but = f" Left out, with other seeds than the rest: {'; '.join(left_out)}." if left_out else ""
    return (
        f"In {shared} of {count(len(frame), 'row')} the spread shared by all methods of a seed is larger "
        "than the spread specific to each run. The larger the shared part, the more pairing by seed helps. "
        f"Every estimate uses at least {count(int(frame['n_seeds'].min()), 'seed')}.{but}"
    )


_SAID = {each: f"the {each}" for each in SOURCES} | {"residual": "the pair of generator and classifier"}


def sources(frame: pd.DataFrame) -> Table:
    """Return T4b; `frame` as `sources_table` returns it."""
    columns = (
        DATA_COLUMN,
        text_column("method", "method", is_row_head=True),
        *more(
            n_column("n_subsets", "n_expected", "subsets of planned"),
            number_column("generators of each", "num_generators", whole),
            number_column("classifiers of each", "num_classifiers", whole),
        ),
        *(
            estimate_column(
                f"{source}: sd in points (90% bootstrap interval)",
                f"{source}_sd",
                f"{source}_low",
                f"{source}_high",
                spread,
            )
            for source in SOURCES
        ),
    )
    return Table(
        name="t4-sources",
        title="T4b. Sources of variance, from separate seeds",
        frame=frame,
        columns=columns,
        meaning=describe_sources(frame)
        or "No study has separate seeds for subset, generator and classifier, or none has enough of them.",
        sample=("n_subsets", "subset"),
        notes=(
            "Within each subset every classifier uses every generator. Each value is the standard deviation "
            f"of {name_leading(frame)} due to one source alone, in points, estimated by equating mean "
            "squares with their expectations; negative estimates are set to 0. Residual: the interaction of "
            "generator and classifier. Intervals are 90% percentile bootstrap intervals over subsets. They "
            f"are too narrow for few subsets and are omitted below {MIN_RESAMPLED}. Only subsets with all "
            "runs complete count.",
        ),
    )


def describe_sources(frame: pd.DataFrame, most: int | None = None) -> str:
    """Say the largest source of variance of each cell, as in T4b; empty if none can be estimated.

    Args:
        most: the largest number of cells that are named; None for all.
    """
    known = frame.dropna(subset=["subset_sd"]) if len(frame) else frame
    if known.empty:
        return ""
    is_one_set = known["dataset"].nunique() == 1
    said: dict[str, list[str]] = {}
    for row in known.head(len(known) if most is None else most).to_dict("records"):
        place = named_data(row["data"]) if is_one_set else f"{row['dataset']}, {named_data(row['data'])}"
        said.setdefault(row["setting"], []).append(f"{place}, {row['method']}: {_say_largest(row)}.")
    more = "" if most is None or len(known) <= most else f" {len(known) - most} more in T4b."
    return per_setting({setting: " ".join(sentences) for setting, sentences in said.items()}) + more


def _say_largest(row: Row) -> str:
    """Say which source has the largest estimate, and whether its interval overlaps others."""
    sds = {source: sd for source in SOURCES if not math.isnan(sd := row[f"{source}_sd"])}
    most, subsets = max(sds.values()), count(int(row["n_subsets"]), "subset")
    if not most:
        return f"no source varies, over {subsets}"
    largest = [source for source, sd in sds.items() if sd == most]
    named, points_of = listed([_SAID[source] for source in largest]), METRICS[row["metric"]].label
    has = "has" if len(largest) == 1 else "have"
    found = f"{named} {has} the largest estimate ({spread(most)} points of {points_of}, {subsets})"
    if len(largest) > 1:
        return found
    low = row[f"{largest[0]}_low"]
    highs = {source: row[f"{source}_high"] for source in SOURCES if source != largest[0]}
    if any(map(math.isnan, (low, *highs.values()))):
        return f"{found}; too few subsets to rank the sources"
    overlapping = [_SAID[source] for source, high in highs.items() if high >= low]
    if not overlapping:
        return f"{found}; its 90% interval overlaps no other"
    whose = "that" if len(overlapping) == 1 else "those"
    return f"{found}; its 90% interval overlaps {whose} of {listed(overlapping)}, so their order is open"


def power(contrasts: pd.DataFrame) -> Table:
    """Return T5."""
    frame = power_table(contrasts)
    shown = _against_references(frame)
    return Table(
        name="t5-power",
        title="T5. Statistical power",
        frame=frame,
        shown=shown,
        columns=_POWER_COLUMNS,
        meaning=_power_meaning(shown),
        sample=_PAIRS,
        notes=(
            f"For the sign-flip test ({EXACT}) at {ALPHA:g} with power {POWER:.0%}, assuming normal "
            "differences. In brackets: the values at both ends of the 95% chi-square interval of the "
            "standard deviation, which is estimated from these pairs. Under Holm: at the first step of the "
            "declared family's correction. Exploratory contrasts have no such value, because their "
            "correction depends on how many others are significant. Not possible: with so few pairs the test "
            "cannot reach the level, or the difference would exceed 100 points. Unknown: the two ends of the "
            f"interval differ more than {MAX_SPAN}-fold in seeds, or the differences do not vary.",
        ),
    )


def _not_known(row: Row) -> str:
    if row["difference_sd"] == 0:
        return "unknown: no variation"
    return f"unknown from n = {row['n_pairs']}"


def _say_detectable(name: str) -> Column:
    def text(row: Row) -> str:
        if row["family"] == EXPLORATORY and name != "detectable":
            return ABSENT
        if math.isinf(row[name]):
            return "not possible"
        if not row["is_sd_known"]:
            return _not_known(row)
        low, high = (row[f"{name}_{end}"] for end in ("low", "high"))
        return f"{spread(row[name])} ({spread(low)} to {_possible(high)})"

    head = "detectable difference in points" if name == "detectable" else "detectable under Holm"
    return Column(head=head, text=text, value=lambda row: row[name] if row["is_sd_known"] else math.nan)


def _possible(value: float) -> str:
    return "not possible" if math.isinf(value) else spread(value)


def _say_seeds(name: str) -> Column:
    def text(row: Row) -> str:
        if row["family"] == EXPLORATORY and name != "seeds":
            return ABSENT
        if not row["is_sd_known"]:
            return _not_known(row)
        return f"{whole(row[name])} ({whole(row[f'{name}_low'])} to {whole(row[f'{name}_high'])})"

    head = f"seeds for {100 * MARGIN:g} points" if name == "seeds" else "seeds under Holm"
    return Column(head=head, text=text, value=lambda row: row[name] if row["is_sd_known"] else math.nan)


_POWER_COLUMNS = (
    DATA_COLUMN,
    CONTRAST_COLUMN,
    number_column("pairs", "n_pairs", whole),
    *more(
        estimate_column(
            "sd of differences in points (95% chi-square interval)",
            "difference_sd",
            "sd_low",
            "sd_high",
            spread,
        ),
        number_column("r", "r", lambda value: decimals(value, 2, "+")),
    ),
    _say_detectable("detectable"),
    *more(_say_detectable("detectable_in_family")),
    _say_seeds("seeds"),
    _say_seeds("seeds_in_family"),
)


def _power_meaning(shown: pd.DataFrame) -> str:
    if shown.empty or shown["n_pairs"].max() < 2:
        return "Power needs two pairs of complete runs; there are none yet."
    known, is_flat = shown[shown["is_sd_known"]], shown["difference_sd"] == 0
    few = shown[~shown["is_sd_known"] & ~is_flat]
    parts = []
    for suffix, kind, rows, how in (
        ("_in_family", "declared", known[known["family"] != EXPLORATORY], "after Holm's correction"),
        ("", "exploratory", known[known["family"] == EXPLORATORY], "before any correction"),
    ):
        if len(rows):
            parts.append(_describe_power(rows, suffix, f"{kind} contrast", how))
    fewest, most = few["n_pairs"].min(), few["n_pairs"].max()
    ns = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    for rows, reason in (
        (few, f"n = {ns} pairs are too few to estimate the standard deviation"),
        (shown[is_flat], "the differences do not vary"),
    ):
        if len(rows):
            of = f"{len(rows)} of {count(len(shown), 'contrast')}"
            parts.append(f"For {of} the number of seeds is unknown: {reason}.")
    return join([*parts, "A smaller difference may be real and remain undetected."])


def _describe_power(rows: pd.DataFrame, suffix: str, noun: str, how: str) -> str:
    seeds = f"{whole(rows[f'seeds{suffix}_low'].min())} to {whole(rows[f'seeds{suffix}_high'].max())} seeds"
    text = (
        f"Detecting {100 * MARGIN:g} points {how} takes {seeds}, depending on the contrast and the interval "
        "of its sd."
    )
    possible = rows[rows[f"detectable{suffix}"] < math.inf]
    if possible.empty:
        return f"With this number of pairs no difference of any size can be detected {how}. {text}"
    low, middle, high = (spread(value) for value in possible[f"detectable{suffix}"].quantile([0, 0.5, 1]))
    return (
        f"In {len(possible)} of {count(len(rows), noun)} a true difference is detected {how} with "
        f"probability {POWER:.0%} if it is at least {low} to {high} points, depending on the contrast "
        f"(median {middle}). {text}"
    )
