"""Tables S1 and S2: the trials of a search, and the confirmation of its choice on fresh seeds."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from analysis.compare import ALPHA, MARGIN, MIN_PAIRS
from analysis.confirmation import DECISIVE
from analysis.searches import SearchResults
from analysis.sentences import (
    describe_fresh_seeds,
    describe_pairs_left_out,
    describe_trial_ends,
    describe_trials,
    join,
)
from analysis.significance import EXACT
from analysis.tables.formats import (
    ABSENT,
    estimate_column,
    listed,
    n_column,
    number_column,
    p_value,
    points,
    share,
    text_column,
    whole,
)
from analysis.tables.table import Column, Table, more

_MOST_SHOWN = 6
"""columns that a page shows unasked"""
_STATES = ("complete", "pruned", "diverged", "failed", "running")


def search_tables(search: SearchResults) -> tuple[Table, Table]:
    """Return the tables of a search."""
    return trials_table(search), confirmation_table(search)


def trials_table(search: SearchResults) -> Table:
    """Return S1: every trial with its values, its state and its last objectives."""
    counts = Counter(search.trials["state"])
    ends = listed([f"{counts[state]} {state}" for state in _STATES if counts[state]])
    objectives = [
        Column(
            head=label,
            text=_mean_sd(name),
            value=lambda row, name=name: row[name],  # type: ignore[misc]
            is_higher_better=True,
        )
        for name, label in search.objectives.items()
    ]
    settings = [Column(head=name, text=_setting(name), value=_value(name)) for name in search.space]
    num_shown = _MOST_SHOWN - 2 - len(objectives)
    return Table(
        name=f"s1-trials-{search.name}",
        title="S1. Trials",
        frame=search.trials,
        columns=(
            Column(
                head="trial",
                text=lambda row: f"{row['number']}{' (choice)' if row['number'] == search.best else ''}",
                value=lambda row: row["number"],
                is_row_head=True,
            ),
            text_column("end", "state"),
            *settings[:num_shown],
            *more(*settings[num_shown:]),
            *objectives,
            *more(
                number_column("rounds", "round", whole, is_optional=True),
                number_column("steps", "total_steps", whole, is_optional=True),
                text_column("reason", "reason", is_long=True),
            ),
        ),
        meaning=describe_trials(len(search.trials), ends, len(search.seeds)),
        notes=(
            *([told] if (told := describe_trial_ends(search.trials["state"])) else []),
            *(f"{name}: {_describe_domain(domain)}." for name, domain in search.space.items()),
        ),
    )


def confirmation_table(search: SearchResults) -> Table:
    """Return S2: the choice minus the untuned configuration, on seeds that the search has not used."""
    frame = pd.DataFrame(
        [
            {
                "metric": each.metric,
                "n_pairs": len(each.seeds),
                "n_expected": each.num_planned,
                "n_diverged": each.num_diverged,
                "untuned": np.mean(each.untuned) if each.seeds else np.nan,
                "tuned": np.mean(each.tuned) if each.seeds else np.nan,
                "difference": np.mean(each.differences) if each.seeds else np.nan,
                "difference_low": each.interval.low,
                "difference_high": each.interval.high,
                "sign_flip_p": each.p_value,
                "verdict": each.verdict,
            }
            for each in search.confirmation
        ],
        columns=[
            *("metric", "n_pairs", "n_expected", "n_diverged", "untuned", "tuned"),
            *("difference", "difference_low", "difference_high", "sign_flip_p", "verdict"),
        ],
    )
    is_untuned = (
        search.best is not None
        and search.best in search.trials.loc[_has_untuned_values(search), "number"].to_list()
    )
    return Table(
        name=f"s2-confirmation-{search.name}",
        title="S2. Confirmation on fresh seeds",
        frame=frame,
        columns=(
            text_column("metric", "metric", is_row_head=True),
            n_column("n_pairs", "n_expected", "pairs of planned"),
            *more(number_column("untuned", "untuned", share)),
            number_column("tuned", "tuned", share),
            estimate_column(
                "difference in points (95% t interval)",
                "difference",
                "difference_low",
                "difference_high",
                points,
            ),
            number_column("sign-flip p", "sign_flip_p", p_value, is_optional=True),
            text_column("verdict", "verdict"),
        ),
        sample=("n_pairs", "pair"),
        meaning=_confirmation_meaning(search, frame, is_untuned=bool(is_untuned)),
        notes=(
            "Differences are tuned minus untuned, paired by seed, with Student's t interval at 95 %. The "
            f"verdict uses {DECISIVE} only, by the rule of T2: better or worse if the two-sided "
            f"sign-flip test ({EXACT}) has p < {ALPHA:g}, equivalent if two one-sided t tests (TOST) within "
            f"±{100 * MARGIN:g} points do, none below {MIN_PAIRS} pairs. The other metrics are shown, not "
            "tested.",
        )
        if len(frame)
        else (),
    )


def _has_untuned_values(search: SearchResults) -> Any:  # Any: a mask of pandas
    return np.logical_and.reduce([search.trials[name] == value for name, value in search.untuned.items()])


def _confirmation_meaning(search: SearchResults, frame: pd.DataFrame, *, is_untuned: bool) -> str:
    if is_untuned:
        return (
            "The choice is the untuned configuration: no complete trial had a better mean, so there is no "
            "difference to confirm."
        )
    if frame.empty:
        return "The choice has not been confirmed yet."
    seeds = {seed for each in search.confirmation for seed in each.seeds}
    (decisive,) = (each for each in search.confirmation if each.decides)
    few = f"With fewer than {MIN_PAIRS} pairs there is no verdict, whatever the difference."
    return join(
        [
            describe_fresh_seeds(search.seeds, seeds),
            few if len(decisive.seeds) < MIN_PAIRS else "",
            describe_pairs_left_out(frame[frame["metric"] == DECISIVE]),
        ]
    )


def _mean_sd(name: str) -> Any:  # Any: a function of a row
    def text(row: Any) -> str:
        mean, sd = row[name], row[f"{name}_sd"]
        if pd.isna(mean):
            return ABSENT
        return share(mean) if pd.isna(sd) else f"{share(mean)} ± {share(sd)}"

    return text


def _setting(name: str) -> Any:  # Any: a function of a row
    return lambda row: f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name])


def _value(name: str) -> Any:  # Any: a function of a row
    return lambda row: row[name]


def _describe_domain(domain: Any) -> str:  # Any: as the account has it
    if domain["kind"] == "choice":
        values = f"one of {listed([str(value) for value in domain['values']])}"
    else:
        scale = ", on a log scale" if domain.get("is_log") else ""
        values = f"{domain['low']:g} to {domain['high']:g}{scale}"
    return f"{values}; {domain['unit']}" if domain.get("unit") else values
