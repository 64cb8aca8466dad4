"""The table of hypotheses: each claim, its place and its verdict."""

from collections.abc import Sequence

import pandas as pd

from analysis.compare import ALPHA
from analysis.hypotheses.evidence import VERDICTS
from analysis.tables.formats import ABSENT, listed, number_column, text_column, whole
from analysis.tables.table import Column, Row, Table, more


def hypothesis_table(judged: pd.DataFrame, confirmatory: Sequence[str]) -> Table:
    """Return one row for each hypothesis and place.

    Args:
        judged: as `judge_hypotheses` returns it.
        confirmatory: of `Results`. If any are registered, the others are marked as exploratory.
    """
    if confirmatory:
        is_registered = judged["hypothesis"].isin(list(confirmatory))
        judged = judged.assign(registration=is_registered.map({True: "registered", False: "exploratory"}))
    return Table(
        name="hypotheses",
        title="Hypotheses H1 to H18",
        frame=judged,
        columns=(
            Column(
                head="hypothesis",
                text=lambda row: str(row["hypothesis"]),
                value=lambda row: float(row["hypothesis"][1:].replace("b", ".5")),
                is_row_head=True,
            ),
            Column(
                head="claim (section of the paper)",
                text=lambda row: f"{row['claim']} ({row['source']})",
                value=lambda row: str(row["claim"]),
                is_long=True,
            ),
            Column(head="verdict", text=_say_verdict, value=lambda row: str(row["verdict"])),
            number_column("n", "n", lambda n: whole(n) if n else ABSENT),
            text_column("where", "where", is_long=True),
            *more(text_column("test and correction", "test", is_long=True)),
            text_column("evidence", "evidence", is_long=True),
        ),
        meaning=_meaning(judged),
        notes=(
            f"Supported: every part of the claim is significant in the claimed direction, p < {ALPHA:g} with "
            "the test and correction named (H10: some part, and none in the other direction). Contradicted: "
            "some part is significant in the other direction, after that correction. Undecided: neither. "
            "Not tested: no configurations for it, or too few seeds to reach that p. n is that of the "
            "smallest part. Effects are positive in the claimed direction, which was fixed beforehand.",
        ),
    )


def _say_verdict(row: Row) -> str:
    return f"{row['verdict']} ({row['registration']})" if "registration" in row else str(row["verdict"])


def count_verdicts(judged: pd.DataFrame) -> dict[str, int]:
    """Return how many rows of the hypotheses have each verdict, in the order of `VERDICTS`."""
    counts = judged["verdict"].value_counts()
    return {verdict: int(counts.get(verdict, 0)) for verdict in VERDICTS}


def _meaning(judged: pd.DataFrame) -> str:
    counts = {verdict: number for verdict, number in count_verdicts(judged).items() if number}
    said = listed([f"{number} {verdict}" for verdict, number in counts.items()])
    return (
        f"{judged['hypothesis'].nunique()} hypotheses, {len(judged)} verdicts: {said}. Undecided means that "
        "n is too small for the effect, or that there is no effect; the data do not show which. Supported "
        "applies to this data set and setting only."
    )
