"""R1 to R4: ranking of methods, differences from none and oversample, device time and tuning."""

import math
from collections.abc import Callable

import pandas as pd

from analysis.compare import ALPHA, MARGIN, MIN_PAIRS
from analysis.methods import DIFFERENCES, MATCHED, RANKED, REFERENCES, STANDINGS, TESTED, name_difference
from analysis.power import fewest_seeds, smallest_exact_p
from analysis.ranking import MAX_JOINT
from analysis.sentences import describe_pairs_left_out, join
from analysis.significance import EXACT
from analysis.tables.formats import (
    ABSENT,
    DATA_COLUMN,
    decimals,
    estimate,
    estimate_column,
    listed,
    n_column,
    named_data,
    number_column,
    p_value,
    per_setting,
    points,
    say_lead,
    share,
    some,
    text_column,
    whole,
)
from analysis.tables.table import Column, Row, Table, more
from lt_rebalance.ground.metrics import METRICS
from lt_rebalance.ground.statements import count_used
from lt_rebalance.ground.text import count

LABELS = {"recall_tail": "tail recall"} | {name: metric.label for name, metric in METRICS.items()}
_RANKED = LABELS[RANKED]
_MOST_DIFFERENCES = 3
"""metrics of R2 that a page shows by default"""
MINUS_MARGIN = points(-MARGIN)
_PLURALS = {"beats": "beat", "matches": "match", "falls short": "fall short"}
_NOTHING = f"No study compares methods with {listed(list(REFERENCES)).replace(' and ', ' or ')}."
_FAMILY_COLUMN = text_column("family", "family", is_row_head=True)
_METHOD_COLUMN = Column(
    head="method",
    text=lambda row: str(row["method"]),
    value=lambda row: str(row["method"]),
    is_row_head=True,
)


def methods_tables(frame: pd.DataFrame) -> tuple[Table, ...]:
    """Return R1, R2 for each reference, R3 and R4; `frame` as `methods_frame` returns it."""
    differences = (_differences(frame, reference) for reference in REFERENCES)
    return (_ranking(frame), *differences, _costs(frame), _tuning(frame))


# R1


def _say_rank(row: Row) -> str:
    if math.isnan(row["rank"]):
        return "not applicable" if row["reason"] else ABSENT
    return f"{row['rank']:.0f} ({row['rank_low']:.0f} to {row['rank_high']:.0f})"


def _ranking(frame: pd.DataFrame) -> Table:
    return Table(
        name="r1-ranking",
        title=f"R1. Methods by {_RANKED}, grouped by family",
        frame=frame,
        columns=(
            DATA_COLUMN,
            _FAMILY_COLUMN,
            _METHOD_COLUMN,
            *more(n_column("n", "n_expected")),
            Column(
                head="rank (95% intervals of all ranks together)",
                text=_say_rank,
                value=lambda row: row["rank"],
            ),
            Column(
                head=f"mean {_RANKED} (95% intervals of all means together)",
                text=lambda row: (
                    estimate(row["mean"], row["mean_low"], row["mean_high"], share) if row["n"] else ABSENT
                ),
                value=lambda row: row["mean"],
                is_higher_better=True,
            ),
            *more(
                *(
                    number_column(LABELS[metric], metric, share, is_optional=True)
                    for metric in TESTED
                    if metric in frame
                )
            ),
            Column(
                head="runs with a dead class",
                text=lambda row: f"{row['num_collapsed']} of {row['n']}",
                value=lambda row: row["num_collapsed"],
                is_higher_better=False,
            ),
        ),
        meaning=_meaning(frame, _describe_ranks),
        notes=(
            "Families are ordered by their best method. Ranks are by mean over seeds. All pairs of methods "
            "are tested jointly by flipping the signs of all differences of a seed together (exact up to "
            f"{MAX_JOINT} seeds, random signs above; each pair is compared with the largest standardised sum "
            "of any pair). The probability of any false difference among the pairs of a training set is at "
            f"most {100 * ALPHA:g} %. A rank interval excludes the ranks that contradict a significant "
            "difference; all intervals of a training set hold jointly. Means: Student t intervals with "
            "Bonferroni's correction. Methods share seeds, so ranks can separate methods whose intervals of "
            "means overlap.",
        )
        if len(frame)
        else (),
    )


def _meaning(frame: pd.DataFrame, describe: Callable[[pd.DataFrame], str]) -> str:
    """Return what is said of the methods of each setting and C."""
    if frame.empty:
        return _NOTHING
    sentences = {
        _name_place(frame, block): describe(block)
        for _, block in frame.groupby(["setting", "data"], sort=False)
    }
    return per_setting(sentences)


def _name_place(frame: pd.DataFrame, block: pd.DataFrame) -> str:
    first = block.iloc[0]
    is_one = frame["setting"].nunique() == 1
    return named_data(first["data"]) if is_one else f"{first['setting']}, {named_data(first['data'])}"


def _describe_ranks(block: pd.DataFrame) -> str:
    ranked = block[block["rank"].notna()].sort_values("rank", kind="stable")
    sentences = []
    if len(ranked):
        firsts = list(ranked.loc[ranked["rank_low"] == 1, "method"])
        leading, first = list(ranked.loc[ranked["rank"] == 1, "method"]), ranked.iloc[0]
        standing = (
            "the tests rule out all others as the best."
            if len(firsts) == 1
            else f"{count(len(firsts), 'method')} of {len(ranked)} may be the best: {some(firsts, 5)}."
        )
        sentences.append(
            f"{say_lead(leading, 'highest mean')} ({share(first['mean'])}); {standing}"
            if len(ranked) > 1
            else f"Only {first['method']} has a complete run (mean {share(first['mean'])})."
        )
        num_seeds = int(ranked["n"].max())
        if num_seeds < MIN_PAIRS:
            sentences.append(
                f"With {count(num_seeds, 'seed')} no two methods can be distinguished; that takes "
                f"{MIN_PAIRS}."
            )
    for row in block[block["reason"] != ""].to_dict("records"):
        sentences.append(
            f"{row['method']} is not applicable in {row['num_not_applicable']} of "
            f"{count(row['n_expected'], 'run')}: "
            f"{row['reason']}."
        )
    return join(sentences)


# R2


def _differences(frame: pd.DataFrame, reference: str) -> Table:
    metrics = [metric for metric in TESTED if name_difference(metric, reference, "verdict") in frame]
    lead = name_difference(metrics[0], reference, "n_pairs") if metrics else ""
    shown = frame[frame[lead].notna()] if metrics else frame.iloc[:0]
    return Table(
        name=f"r2-{reference}",
        title=f"{DIFFERENCES}. Methods minus {reference}: paired differences",
        frame=frame,
        shown=shown,
        columns=(
            DATA_COLUMN,
            *more(_FAMILY_COLUMN),
            _METHOD_COLUMN,
            *([_pairs_column(metrics[0], reference)] if metrics else []),
            *(_difference_column(metric, reference) for metric in metrics[:_MOST_DIFFERENCES]),
            *more(*(_difference_column(metric, reference) for metric in metrics[_MOST_DIFFERENCES:])),
        ),
        meaning=_difference_meaning(shown, metrics, reference),
        sample=(lead, "pair"),
        notes=_difference_notes() if len(shown) else (),
    )


def _pairs_column(metric: str, reference: str) -> Column:
    """Return the number of pairs as a whole number; the column has nan for the reference."""
    names = [name_difference(metric, reference, name) for name in ("n_pairs", "n_expected", "n_diverged")]
    return Column(
        head="pairs of planned",
        text=lambda row: count_used(*(int(row[name]) for name in names)),
        value=lambda row: row[names[0]],
    )


def _difference_column(metric: str, reference: str) -> Column:
    names = {
        column: name_difference(metric, reference, column)
        for column in ("mean_difference", "difference_low", "difference_high", "holm_p", "verdict")
    }

    def say(row: Row) -> str:
        difference, low, high, holm_p, verdict = (row[name] for name in names.values())
        by = {"better": "Holm ", "worse": "Holm ", "equivalent": "TOST; Holm ", "undecided": "Holm "}
        said = "not applicable" if row["reason"] and not row["n"] else estimate(difference, low, high, points)
        return said if math.isnan(holm_p) else f"{said}: {verdict} ({by[verdict]}p {p_value(holm_p)})"

    return Column(
        head=f"{LABELS[metric]}: points (95% t interval), verdict",
        text=say,
        value=lambda row: row[names["mean_difference"]],
        is_higher_better=METRICS[metric].is_higher_better if metric in METRICS else True,
    )


def _difference_meaning(shown: pd.DataFrame, metrics: list[str], reference: str) -> str:
    if shown.empty:
        return _NOTHING
    sentences = {
        str(setting): " ".join(_count_verdicts(rows, metric, reference) for metric in metrics)
        for setting, rows in shown.groupby("setting", sort=False)
    }
    n_columns = {name_difference(metrics[0], reference, name): name for name in ("n_expected", "n_diverged")}
    pairs = shown[list(n_columns)].rename(columns=n_columns)
    return join(
        [
            per_setting(sentences),
            describe_pairs_left_out(pairs),
            "Undecided means that these runs do not decide.",
        ]
    )


def _count_verdicts(rows: pd.DataFrame, metric: str, reference: str) -> str:
    counts = rows[name_difference(metric, reference, "verdict")].value_counts()
    said = [
        f"{counts[name]} {name}" for name in ("better", "worse", "equivalent", "undecided") if name in counts
    ]
    text = f"In {LABELS[metric]}, of {count(len(rows), 'method')}: {listed(said)}."
    return text if metric != TESTED[0] else join([text, _describe_reach(rows, metric, reference)])


def _describe_reach(rows: pd.DataFrame, metric: str, reference: str) -> str:
    """Say if no difference of any size can be significant after Holm's correction."""
    num_pairs = int(rows[name_difference(metric, reference, "n_pairs")].max())
    size = int(rows["family_size"].iloc[0])
    if num_pairs == 0 or size * smallest_exact_p(num_pairs) < ALPHA:
        return ""
    return (
        f"With at most {count(num_pairs, 'pair')}, no difference of any size can be significant after Holm's "
        f"correction over {count(size, 'difference')}; that takes {fewest_seeds(family_size=size)} pairs."
    )


def _difference_notes() -> tuple[str, ...]:
    tested = listed([LABELS[metric] for metric in TESTED])
    return (
        f"Method minus reference, paired by seed; one point is 0.01. Each of {tested} is one family: "
        "all differences from both references that the study names, with two-sided sign-flip tests "
        f"({EXACT}) and Holm's correction. Tail: the rarest 30 % of the classes. Equivalent: two "
        f"one-sided t tests (TOST) within ±{100 * MARGIN:g} points, uncorrected. Below {MIN_PAIRS} pairs "
        "there is no verdict. The CSV file is that of R1.",
    )


# R4


def _tuning(frame: pd.DataFrame) -> Table:
    shown = frame[frame["num_trials"].notna()] if len(frame) else frame
    return Table(
        name="r4-tuning",
        title="R4. Tuning: budget and chosen hyperparameters",
        frame=shown,
        columns=(
            DATA_COLUMN,
            *more(_FAMILY_COLUMN),
            _METHOD_COLUMN,
            number_column("trials", "num_trials", whole),
            number_column("seeds of each", "num_trial_seeds", whole),
            text_column("chosen on validation", "chosen", is_long=True),
            text_column("untuned", "untuned", is_long=True),
        ),
        meaning=_tuning_meaning(frame, shown),
        notes=(
            "Every method had its own search space: the learning rate and its own options; for a CGAN also "
            "the CGAN's learning rate, for undersampling also the steps. All trials run to their end. The "
            "trial with the best mean macro F1 on validation images, set aside before the long-tailed cut, "
            "is chosen. The first trial is the untuned configuration. A method without a complete trial "
            "stays untuned. No test image and no seed of this comparison was used.",
        )
        if len(shown)
        else (),
    )


def _tuning_meaning(frame: pd.DataFrame, shown: pd.DataFrame) -> str:
    if frame.empty:
        return _NOTHING
    if shown.empty:
        return "Nothing was tuned: options are those in the names, all else is the protocol's."
    budgets = shown[["num_trials", "num_trial_seeds"]].drop_duplicates().astype(int)
    said = listed(
        [
            f"{count(num_trials, 'trial')} of {count(seeds, 'seed')}"
            for num_trials, seeds in budgets.itertuples(index=False, name=None)
        ]
    )
    is_equal = "Budgets were equal" if len(budgets) == 1 else "Budgets were not equal"
    num_kept = int((shown["chosen"] == shown["untuned"]).sum())
    rest = "" if len(shown) == len(frame) else f" Not tuned: {count(len(frame) - len(shown), 'method')}."
    return (
        f"{is_equal}: {said} for each of {count(len(shown), 'method')}. For {num_kept} of them no trial was "
        f"better than the untuned configuration.{rest}"
    )


# R3


def _costs(frame: pd.DataFrame) -> Table:
    return Table(
        name="r3-cost",
        title=f"R3. {_RANKED[0].upper()}{_RANKED[1:]} against device time, compared with {MATCHED}",
        frame=frame,
        shown=frame[frame["n"] > 0] if len(frame) else frame,
        columns=(
            DATA_COLUMN,
            *more(_FAMILY_COLUMN),
            _METHOD_COLUMN,
            number_column(
                "device time of a run, s",
                "device_s",
                lambda value: decimals(value, 1),
                is_higher_better=False,
            ),
            *more(number_column("relative to none", "device_ratio", lambda value: decimals(value, 2))),
            estimate_column(
                f"mean {_RANKED} (95% intervals as in R1)",
                *("mean", "mean_low", "mean_high"),
                share,
                is_higher_better=True,
            ),
            Column(
                head="on the Pareto front",
                text=lambda row: "yes" if row["is_on_front"] else ABSENT,
                value=lambda row: "yes" if row["is_on_front"] else "",
            ),
            *more(
                number_column(
                    f"falls short of {MATCHED} by less than {100 * MARGIN:g} points: Holm p",
                    "non_inferiority_p",
                    p_value,
                    is_optional=True,
                ),
                number_column(f"differs from {MATCHED}: Holm p", "superiority_p", p_value, is_optional=True),
            ),
            text_column(f"beside {MATCHED}", "standing"),
        ),
        meaning=_meaning(frame, _describe_costs),
        notes=(
            "Device time of a run is its own training plus the full cost of the generator or first training "
            "that it builds on, even where other runs use it too. T6c splits the cost of what runs share, "
            "but charges a first training to none if a run of none has trained it as well. The cost of "
            "hyperparameter search is not included. Times vary where machines do other work. On the Pareto "
            "front: no other method has a mean as high in less time, or a higher mean in no more time.",
            f"As H14, in {_RANKED} and for every method: “matches” is non-inferiority, a difference from "
            f"{MATCHED} above {MINUS_MARGIN} points; “beats” is that and superiority, a difference above 0; "
            f"“falls short” is a difference below {MINUS_MARGIN}. Sign-flip tests ({EXACT}), paired by seed, "
            "each with Holm's correction over the methods on the same training data. A method is tested for "
            "superiority only if it matches. The probability of any false “matches” or “beats” on a training "
            f"set is at most {100 * ALPHA:g} %, {50 * ALPHA:g} % for the upper side of each test; “falls "
            f"short” is not counted in it. Below {MIN_PAIRS} pairs there is no verdict.",
        )
        if len(frame)
        else (),
    )


def _describe_costs(block: pd.DataFrame) -> str:
    front = block[block["is_on_front"]].sort_values("device_s")
    text = f"On the Pareto front, cheapest first: {some(list(front['method']), 8)}." if len(front) else ""
    compared = block[block["standing"] != ""]
    if compared.empty:
        return text
    counts = compared["standing"].value_counts()
    said = [count(counts[name], name, _PLURALS.get(name, name)) for name in STANDINGS if name in counts]
    return join([text, f"Compared with {MATCHED}, of {count(len(compared), 'method')}: {listed(said)}."])
