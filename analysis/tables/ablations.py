"""A1: differences of changed cells from reference cells, for every study that names such pairs."""

import pandas as pd

from analysis.compare import ALPHA, MARGIN, MIN_PAIRS
from analysis.leading import name_leading
from analysis.power import smallest_exact_p
from analysis.sentences import describe_pairs_left_out, join
from analysis.significance import EXACT
from analysis.tables.formats import (
    DATA_COLUMN,
    decimals,
    estimate_column,
    listed,
    n_column,
    number_column,
    p_value,
    per_setting,
    points,
    share,
    text_column,
)
from analysis.tables.table import Column, Row, Table, more
from lt_rebalance.ground.text import count


def ablation_table(compared: pd.DataFrame) -> Table:
    """Return A1; `compared` as `compare_with_references` returns it. A study is a block."""
    frame = compared.rename(columns={"study": "setting"})
    return Table(
        name="a1-ablations",
        title=f"A1. Changes to reference configurations: paired differences of {name_leading(compared)}",
        frame=frame,
        columns=_columns(name_leading(compared)),
        meaning=_meaning(frame),
        sample=("n_pairs", "pair"),
        notes=_notes(name_leading(compared)) if len(frame) else (),
    )


def _say_accuracies(row: Row) -> str:
    return f"{share(row['reference_mean'])}, {share(row['cell_mean'])}"


def _say_dead(row: Row) -> str:
    roles = ("reference", "cell")
    counts = (f"{row[f'{role}_collapsed']}/{row[f'{role}_n']}" for role in roles)
    means = (decimals(row[f"{role}_dead_classes"], 1) for role in roles)
    return ", ".join(f"{rate} ({mean})" for rate, mean in zip(counts, means, strict=True))


def _say_verdict(row: Row) -> str:
    by = {"better": " (Holm)", "worse": " (Holm)", "equivalent": " (TOST)"}
    return f"{row['verdict']}{by.get(str(row['verdict']), '')}"


def _columns(metric: str) -> tuple[Column, ...]:
    return (
        DATA_COLUMN,
        text_column("method", "method", is_row_head=True),
        text_column("change to the reference", "change", is_row_head=True),
        *more(
            n_column("n_pairs", "n_expected", "pairs of planned"),
            Column(
                head=f"{metric}: reference, changed", text=_say_accuracies, value=lambda row: row["cell_mean"]
            ),
        ),
        estimate_column(
            "mean difference in points (95% t interval)",
            "mean_difference",
            "difference_low",
            "difference_high",
            points,
        ),
        *more(number_column("sign-flip p", "sign_flip_p", p_value)),
        number_column("Holm p", "holm_p", p_value),
        *more(
            Column(
                head="runs with dead classes (classes a run): reference, changed",
                text=_say_dead,
                value=lambda row: row["cell_dead_classes"],
            ),
            number_column("Fisher p", "fisher_p", p_value),
        ),
        Column(head="verdict (by)", text=_say_verdict, value=lambda row: str(row["verdict"])),
    )


def _notes(metric: str) -> tuple[str, ...]:
    return (
        "Changed minus reference configuration, paired by seed: both share the subset and the classifier's "
        f"initial weights unless the change concerns these. One point is 0.01 of {metric}. Mean with "
        "Student's t interval over pairs. The p value is that of the two-sided sign-flip test "
        f"({EXACT}), with Holm's correction over all comparisons of the study. Equivalent: two one-sided "
        f"t tests (TOST) within ±{100 * MARGIN:g} points, uncorrected. Below {MIN_PAIRS} pairs there is no "
        "verdict. A class is dead if none of its test images is recognised. Rates of runs with dead classes "
        "are compared by Fisher's exact test, uncorrected.",
    )


def _meaning(frame: pd.DataFrame) -> str:
    if frame.empty:
        return "No study compares configurations with a reference."
    sentences = {str(name): _describe_study(rows) for name, rows in frame.groupby("setting", sort=False)}
    undecided = (
        "Undecided means that these runs do not decide." if (frame["verdict"] == "undecided").any() else ""
    )
    return join([per_setting(sentences), describe_pairs_left_out(frame), undecided])


def _describe_study(rows: pd.DataFrame) -> str:
    counts = rows["verdict"].value_counts()
    said = [
        f"{counts[name]} {name}" for name in ("better", "worse", "equivalent", "undecided") if name in counts
    ]
    text = f"Of {count(len(rows), 'change')}: {listed(said)}."
    num_pairs = int(rows["n_pairs"].max())
    smallest = len(rows) * smallest_exact_p(num_pairs) if num_pairs else 0.0
    if smallest >= ALPHA:
        corrected = f", corrected over {len(rows)} changes" if len(rows) > 1 else ""
        text += (
            f" With at most {count(num_pairs, 'pair')} the sign-flip test{corrected} cannot give p below "
            f"{min(1.0, smallest):.3g}, whatever the difference."
        )
    return text
