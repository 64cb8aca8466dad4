"""T2, T4 and T5: paired differences of methods, where spread comes from, what n can show; and all pairs."""

import math
from collections.abc import Sequence

import pandas as pd

from analysis.compare import (
    ALPHA,
    EXPLORATORY,
    MARGIN,
    Family,
    components_table,
    load_families,
    power_table,
)
from analysis.power import POWER, smallest_exact_p
from analysis.sources import SOURCES
from analysis.tables.formats import (
    CONTRAST_COLUMN,
    DATA_COLUMN,
    count,
    decimals,
    estimate_column,
    listed,
    n_column,
    number_column,
    p_value,
    per_setting,
    percent,
    points,
    spread,
    text_column,
    whole,
)
from analysis.tables.table import Column, Row, Table
from analysis.variance import MIN_RESAMPLED

REFERENCES = ("none", "undersample", "oversample")
_VERDICT_TESTS = {"equivalent": "TOST"}
_NO_CONTRAST = "No setting and C holds none or oversample beside another method."
_NO_OTHER_PAIR = "There is no pair that T2 does not show."


def difference_table(contrasts: pd.DataFrame, families: Sequence[Family] | None = None) -> Table:
    """Return T2, each method against none, undersample and oversample; the CSV holds every contrast."""
    return Table(
        name="t2-differences",
        title="T2. Paired differences of accuracy",
        frame=contrasts,
        shown=_against_references(contrasts),
        columns=_DIFFERENCE_COLUMNS,
        meaning=_difference_meaning(_against_references(contrasts), _NO_CONTRAST),
        notes=_difference_notes(load_families() if families is None else families),
    )


def all_pairs_table(contrasts: pd.DataFrame) -> Table:
    """Return the contrasts that T2 leaves out: those of generators with each other."""
    shown = contrasts.drop(_against_references(contrasts).index)
    return Table(
        name="x1-other-pairs",
        title="X1. Paired differences of accuracy: the other pairs",
        frame=shown,
        columns=_DIFFERENCE_COLUMNS,
        meaning=_difference_meaning(shown, _NO_OTHER_PAIR),
        notes=("Columns, intervals and corrections as in T2.",),
    )


def _against_references(contrasts: pd.DataFrame) -> pd.DataFrame:
    if contrasts.empty:
        return contrasts
    return contrasts[contrasts["method"].isin(REFERENCES) | contrasts["comparator"].isin(REFERENCES)]


def _say_verdict(row: Row) -> str:
    verdict = str(row["verdict"])
    if verdict == "undecided":
        return verdict
    correction = "Benjamini-Hochberg" if row["family"] == EXPLORATORY else "Holm"
    return f"{verdict} ({_VERDICT_TESTS.get(verdict, correction)})"


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
    number_column("g_av", "g_av", lambda value: decimals(value, 2, "+")),
    number_column("r", "r", lambda value: decimals(value, 2, "+")),
    estimate_column(
        "P(better) (95% Clopper-Pearson interval)",
        "better_share",
        "better_share_low",
        "better_share_high",
        percent,
    ),
    number_column(f"P(within ±{100 * MARGIN:g} points)", "p_inside", percent),
    number_column("sign-flip p, uncorrected", "sign_flip_p", p_value),
    number_column("Holm p (declared family)", "holm_p", p_value, is_optional=True),
    number_column("BH q (exploratory)", "bh_q", p_value, is_optional=True),
    Column(head="verdict (by)", text=_say_verdict, value=lambda row: str(row["verdict"])),
)


def _difference_meaning(shown: pd.DataFrame, nothing: str) -> str:
    if shown.empty:
        return nothing
    sentences = {
        str(setting): _describe_verdicts(rows) for setting, rows in shown.groupby("setting", sort=False)
    }
    return (
        f"{per_setting(sentences)} Undecided means that these runs cannot tell; it is not a sign of "
        "equality, which only the verdict “equivalent” claims."
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
    num_pairs = int(rows["n_pairs"].max())
    smallest = smallest_exact_p(num_pairs) if num_pairs else math.nan
    if smallest >= ALPHA:
        text += (
            f" With at most {count(num_pairs, 'pair')} the exact sign-flip test cannot go below p = "
            f"{smallest:.3g}, so no difference, however large, can be called better or worse at the level "
            f"of {ALPHA:g}."
        )
    return text


def _difference_notes(families: Sequence[Family]) -> tuple[str, ...]:
    declared = listed([f"“{family.name}” ({family.size} contrasts a setting)" for family in families])
    return (
        "First method minus second, paired by seed: both share the subset and the classifier's initial "
        "weights. One point is 0.01 of accuracy. Mean with Student's t interval over pairs. g_av: Hedges' "
        "standardised difference. r: correlation of the pairs; the higher, the more pairing helps. "
        "P(better): share of pairs won, ties half. P(within): posterior probability (Student t, flat "
        "prior) that the mean difference is practically nil.",
        f"The p value is that of the exact two-sided sign-flip test. Corrections: Holm over {declared}, "
        "declared before results were read, members that were not run counted as p = 1; Benjamini-Hochberg "
        "over all other contrasts of the setting. No contrast has both. Equivalent: two one-sided t tests "
        f"(TOST) within ±{100 * MARGIN:g} points, each at {ALPHA:g}. The CSV file adds the paired t and "
        "Wilcoxon tests, d_z and all pairs.",
    )


def components(runs: pd.DataFrame) -> Table:
    """Return T4."""
    frame = components_table(runs)
    return Table(
        name="t4-components",
        title="T4a. Where the spread of accuracy comes from",
        frame=frame,
        columns=_COMPONENT_COLUMNS,
        meaning=_component_meaning(frame),
        notes=(
            "Two-way analysis of variance, seeds by methods, methods fixed; a negative estimate is 0. "
            "Standard deviations in points with 90% percentile bootstrap intervals over seeds, which are "
            "too narrow for few seeds. What a seed shares is the subset and the classifier's initial "
            "weights together; T4b takes sources apart where a study has seeds for each.",
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
        "each run's own: sd in points (90% bootstrap interval)",
        "residual_sd",
        "residual_low",
        "residual_high",
        spread,
    ),
)


def _component_meaning(frame: pd.DataFrame) -> str:
    if frame.empty:
        return "Components take two seeds at which two methods are complete; there are none yet."
    shared = int((frame["seed_sd"] > frame["residual_sd"]).sum())
    return (
        f"In {shared} of {count(len(frame), 'row')} the spread that all methods of a seed share is larger "
        "than what each run has for itself; the larger the shared part, the more pairing by seed gains. "
        f"The estimates rest on as few as {count(int(frame['n_seeds'].min()), 'seed')}."
    )


def sources(frame: pd.DataFrame) -> Table:
    """Return T4b; `frame` as `sources_table` returns it."""
    columns = (
        DATA_COLUMN,
        text_column("method", "method", is_row_head=True),
        n_column("n_subsets", "n_expected", "subsets of planned"),
        number_column("generators of each", "num_generators", whole),
        number_column("classifiers of each", "num_classifiers", whole),
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
        title="T4b. Where the spread comes from, with seeds taken apart",
        frame=frame,
        columns=columns,
        meaning=_sources_meaning(frame),
        notes=(
            "Within each subset every generator is used by every classifier. Standard deviations of accuracy "
            "that each source makes alone, in points, by equating mean squares with their expectations; a "
            "negative estimate is 0. Residual: what depends on the pair of generator and classifier. "
            "Intervals are 90% percentile bootstraps over subsets, which are too narrow for few subsets, and "
            f"are not given below {MIN_RESAMPLED}. Only subsets with all their runs count.",
        ),
    )


def _sources_meaning(frame: pd.DataFrame) -> str:
    known = frame.dropna(subset=["subset_sd"]) if len(frame) else frame
    if known.empty:
        return (
            "No study at hand takes the seeds of subset, generator and classifier apart, or none has enough."
        )
    sentences = []
    for row in known.to_dict("records"):
        largest = max(SOURCES, key=lambda source: row[f"{source}_sd"])
        sentences.append(
            f"C = {row['data']}, {row['method']}: the largest share comes from the {largest} "
            f"({spread(row[f'{largest}_sd'])} points), on {count(int(row['n_subsets']), 'subset')}."
        )
    return " ".join(sentences) + " Intervals that overlap leave the order of the sources open."


def power(contrasts: pd.DataFrame) -> Table:
    """Return T5."""
    frame = power_table(contrasts)
    shown = _against_references(frame)
    return Table(
        name="t5-power",
        title="T5. What these runs can show",
        frame=frame,
        shown=shown,
        columns=_POWER_COLUMNS,
        meaning=_power_meaning(shown),
        notes=(
            f"For a paired t test at {ALPHA:g}, power {POWER:.0%}, with the standard deviation of "
            "differences observed here, itself an estimate. Under Holm: at the first step of the declared "
            "family's correction; the same as alone for exploratory contrasts. Not possible: with so few "
            "pairs the exact sign-flip test cannot reach the level, or it would take more than 100 points.",
        ),
    )


def _possible(value: float) -> str:
    return "not possible" if math.isinf(value) else spread(value)


_POWER_COLUMNS = (
    DATA_COLUMN,
    CONTRAST_COLUMN,
    number_column("pairs", "n_pairs", whole),
    number_column("sd of differences in points", "difference_sd", spread),
    number_column("r", "r", lambda value: decimals(value, 2, "+")),
    number_column("detectable difference in points", "detectable", _possible),
    number_column("detectable under Holm", "detectable_in_family", _possible),
    number_column(f"seeds for {100 * MARGIN:g} points", "seeds", whole),
    number_column("seeds under Holm", "seeds_in_family", whole),
)


def _power_meaning(shown: pd.DataFrame) -> str:
    known = shown.dropna(subset=["detectable"]) if len(shown) else shown
    if known.empty:
        return "Power takes two pairs of complete runs; there are none yet."
    possible = known[known["detectable_in_family"] < math.inf]
    seeds = _range(known["seeds_in_family"])
    text = f"To find {100 * MARGIN:g} points takes {seeds} seeds, corrected as declared."
    if possible.empty:
        return f"At this number of pairs no difference can be found after correction, however large. {text}"
    middle = spread(possible["detectable_in_family"].median())
    low, high = (spread(value) for value in possible["detectable_in_family"].quantile([0, 1]))
    return (
        f"In {len(possible)} of {count(len(known), 'contrast')} a true difference is found after "
        f"correction with probability {POWER:.0%} if it is at least {low} to {high} points, depending on "
        f"the contrast (median {middle}). {text} A smaller difference may be real and stay unseen."
    )


def _range(values: pd.Series) -> str:
    return f"{whole(values.min())} to {whole(values.max())}"
