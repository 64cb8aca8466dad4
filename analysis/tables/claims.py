"""The table of hypotheses: each claim, its place and its verdict."""

import pandas as pd

from analysis.compare import ALPHA
from analysis.hypotheses import INTERIM
from analysis.hypotheses.evidence import (
    CONFOUNDED,
    DECIDE_NOTHING,
    NOT_RUN,
    ONLY_REFUTED,
    UNDECIDED,
    VERDICTS,
)
from analysis.leading import ACCURACY, name_metrics
from analysis.sentences import join
from analysis.significance import EXACT
from analysis.tables.formats import ABSENT, listed, number_column, text_column, whole
from analysis.tables.table import Column, Row, Table, more
from lt_rebalance.ground.text import count

_REASONS = {
    "parts of the claim that were not run": f": {NOT_RUN}",
    "seeds that were lost": DECIDE_NOTHING,
    "configurations that differ in more than the claim": CONFOUNDED,
    "a test that can only refute": ONLY_REFUTED,
}
"""of undecided verdicts, and the words of the evidence that tell them"""


def hypothesis_table(judged: pd.DataFrame) -> Table:
    """Return one row for each hypothesis and place; `judged` as `judge_hypotheses` returns it."""
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
            *more(
                text_column("comparison", "comparison", is_long=True),
                text_column("test and correction", "test", is_long=True),
            ),
            text_column("evidence", "evidence", is_long=True),
            *more(text_column("limits", "limits", is_long=True)),
        ),
        meaning=_meaning(judged),
        notes=(
            f"Supported: every part of the claim is significant in the claimed direction, p < {ALPHA:g} with "
            "the test and correction named (H10: some part, and none in the other direction). Contradicted: "
            "some part is significant in the other direction, after that correction. Undecided: neither. "
            "Not tested: no configurations for it, or too few seeds to reach that p. n is that of the "
            "smallest part. Effects are positive in the claimed direction, which was fixed beforehand. They "
            f"are in {name_metrics([ACCURACY])} unless the comparison names another measure, whichever "
            f"metric leads the other tables. Sign-flip tests: {EXACT}.",
            *_explain_interim(judged),
        ),
    )


def _say_verdict(row: Row) -> str:
    return f"{row['verdict']} ({row['registration']})" if "registration" in row else str(row["verdict"])


def _explain_interim(judged: pd.DataFrame) -> list[str]:
    if "registration" not in judged or not (judged["registration"] == INTERIM).any():
        return []
    return [
        "Interim: a study that registered the hypothesis has fewer seeds than its stopping rule asks for. "
        "Nothing can rest on such a verdict."
    ]


def count_verdicts(judged: pd.DataFrame) -> dict[str, int]:
    """Return how many rows of the hypotheses have each verdict, in the order of `VERDICTS`."""
    counts = judged["verdict"].value_counts()
    return {verdict: int(counts.get(verdict, 0)) for verdict in VERDICTS}


def _meaning(judged: pd.DataFrame) -> str:
    counts = {verdict: number for verdict, number in count_verdicts(judged).items() if number}
    said = listed([f"{number} {verdict}" for verdict, number in counts.items()])
    return join(
        [
            f"{judged['hypothesis'].nunique()} hypotheses, {len(judged)} verdicts: {said}.",
            _explain_undecided(judged.loc[judged["verdict"] == UNDECIDED, "evidence"]),
            "Supported applies to this data set and setting only.",
        ]
    )


def _explain_undecided(evidence: pd.Series) -> str:
    """Say what undecided means, by the evidence of the undecided claims; nothing if there are none."""
    if evidence.empty:
        return ""
    rest = "n is too small for the effect, or that there is no effect; the data do not show which."
    found = {reason: evidence.str.contains(words, regex=False) for reason, words in _REASONS.items()}
    counts = [f"{reason} ({int(has_it.sum())})" for reason, has_it in found.items() if has_it.any()]
    if not counts:
        return f"Undecided means that {rest}"
    number = int(pd.DataFrame(found).any(axis=1).sum())
    if number == len(evidence):
        return f"The evidence names the reason of each undecided verdict: {listed(counts)}."
    return (
        f"In {number} of {count(len(evidence), 'undecided verdict')} the evidence names another reason: "
        f"{listed(counts)}. Otherwise undecided means that {rest}"
    )
