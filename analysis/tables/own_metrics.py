"""M1: paired differences in a user's metrics, each in its own direction."""

import pandas as pd

from analysis.compare import ALPHA, MARGIN, compare, margin_of
from analysis.sentences import UNCUT
from analysis.significance import EXACT
from analysis.tables.formats import (
    CONTRAST_COLUMN,
    DATA_COLUMN,
    decimals,
    estimate_column,
    listed,
    n_column,
    number_column,
    p_value,
    percent,
    text_column,
)
from analysis.tables.table import Table, more
from lt_rebalance.ground.metrics import METRICS, is_higher_better, list_own


def compare_own(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the contrasts of all of a user's metrics, with their `label`; none is declared."""
    frames = [compare(runs, name, margin_of(name), families=()) for name in list_own()]
    labelled = [
        frame.assign(label=METRICS[name].label) for name, frame in zip(list_own(), frames, strict=True)
    ]
    return pd.concat(labelled, ignore_index=True) if labelled else pd.DataFrame()


def own_table(contrasts: pd.DataFrame) -> Table:
    """Return M1; `contrasts` as `compare_own` returns them."""
    return Table(
        name="m1-own-metrics",
        title="M1. Paired differences of your own metrics",
        frame=contrasts,
        columns=_COLUMNS,
        meaning=_describe_directions(),
        sample=("n_pairs", "pair"),
        notes=(
            "First method minus second, paired by seed, in the unit of the metric; mean with Student's t "
            f"interval over pairs. {UNCUT} P(better): share of pairs in which the first method is better, in "
            "the direction of the metric; ties count half. The p value is that of the two-sided "
            f"sign-flip test ({EXACT}), with Benjamini-Hochberg's correction over all contrasts of a metric "
            f"in a setting, at {ALPHA:g}. Equivalent: TOST within {100 * MARGIN:g}% of the metric's range, "
            "never for a metric without a range. All are exploratory: no declared family contains such a "
            "metric.",
        ),
    )


def _describe_directions() -> str:
    rising = [METRICS[name].label for name in list_own() if is_higher_better(name)]
    falling = [METRICS[name].label for name in list_own() if not is_higher_better(name)]
    said = [f"Higher is better for {listed(rising)}."] if rising else []
    return " ".join([*said, *([f"Lower is better for {listed(falling)}."] if falling else [])])


_COLUMNS = (
    text_column("metric", "label"),
    DATA_COLUMN,
    CONTRAST_COLUMN,
    *more(n_column("n_pairs", "n_expected", "pairs of planned")),
    estimate_column(
        "mean difference (95% t interval)",
        "mean_difference",
        "difference_low",
        "difference_high",
        lambda value: decimals(value, 4, "+"),
    ),
    *more(
        number_column("P(better)", "better_share", percent),
        number_column("sign-flip p, uncorrected", "sign_flip_p", p_value),
    ),
    number_column("BH q (exploratory)", "bh_q", p_value),
    text_column("verdict", "verdict"),
)
