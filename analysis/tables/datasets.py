"""R5: methods ranked over data sets."""

import pandas as pd

from analysis.compare import MIN_PAIRS
from analysis.datasets import FEWEST
from analysis.methods import RANKED
from analysis.tables.formats import (
    decimals,
    number_column,
    p_value,
    per_setting,
    say_lead,
    share,
    text_column,
    whole,
)
from analysis.tables.table import Column, Table
from lt_rebalance.ground.metrics import METRICS
from lt_rebalance.ground.text import count


def datasets_table(frame: pd.DataFrame) -> Table:
    """Return R5; `frame` as `datasets_frame` returns it."""
    label = METRICS[RANKED].label
    return Table(
        name="r5-datasets",
        title=f"R5. Methods by {label} across data sets",
        frame=frame,
        columns=(
            text_column("method", "method", is_row_head=True),
            number_column("data sets", "num_datasets", whole),
            number_column(f"mean {label}", "mean", share, is_higher_better=True),
            number_column(
                "mean of the ranks within data sets",
                "mean_rank",
                lambda rank: decimals(rank, 2),
                is_higher_better=False,
            ),
            Column(
                head="rank by the mean (95% intervals of all ranks together)",
                text=lambda row: f"{row['rank']} ({row['rank_low']} to {row['rank_high']})",
                value=lambda row: row["rank"],
            ),
        ),
        meaning=per_setting(
            {str(setting): _describe(rows) for setting, rows in frame.groupby("setting", sort=False)}
        ),
        sample=("num_datasets", "data set"),
        notes=(
            "Each data set is one block. A method's value on it is the mean over seeds, averaged over its "
            "Cs or profiles, which are not blocks. Intervals as in R1, from differences of these values "
            "with the signs of a data set flipped together. Nemenyi's intervals are not used, because their "
            "verdict on two methods depends on all others. Friedman's test permutes within data sets. Data "
            "sets were chosen, not sampled: the table applies to these only.",
        ),
    )


def _describe(rows: pd.DataFrame) -> str:
    first, num_datasets = rows.iloc[0], int(rows["num_datasets"].iloc[0])
    lead = say_lead(list(rows.loc[rows["rank"] == 1, "method"]), "best mean")
    text = f"Over {count(num_datasets, 'data set')} ({first['datasets']}) {lead}."
    if first["num_left_out"]:
        num_left_out = count(int(first["num_left_out"]), "method")
        text += f" Left out, because not complete on every data set: {num_left_out}."
    if num_datasets < FEWEST:
        return f"{text} Fewer than {FEWEST} data sets are described, not tested."
    text += f" Friedman's test of equal methods: p {p_value(first['friedman_p'])}."
    if num_datasets < MIN_PAIRS:
        text += f" Distinguishing two methods takes {MIN_PAIRS} data sets."
    return text
