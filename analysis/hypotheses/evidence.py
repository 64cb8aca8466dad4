"""What a claim rests on: its parts, and the verdict that they give together.

A claim of several parts, say one for each C, is supported when every part is significant in its direction (an
intersection-union test, which needs no further correction), and contradicted when any part is significant the
other way after Holm's correction over the parts. Neither: undecided.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from analysis.collect import Results
from analysis.compare import ALPHA, compare
from analysis.naming import data_rank, matched_cells
from analysis.significance import holm, page_trend_p, sign_flip_p
from lt_rebalance.paper import PAPER_CS

SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTED = "supported", "contradicted", "undecided", "not tested"
VERDICTS = (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTED)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One comparison that a claim rests on."""

    name: str
    effect: float
    """positive where it points as the claim says; in the unit of the comparison"""
    p_value: float
    """two-sided, or of the one direction that `effect` has"""
    n: int
    """pairs, clusters or runs of the smaller side"""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the cells at hand say about one hypothesis."""

    where: str
    """the setting, or what the matched cells share"""
    verdict: str
    n: int
    """smallest n of its parts"""
    evidence: str
    """a sentence with the numbers"""


class Evidence:
    """Results, with what several judges need of them computed once."""

    def __init__(self, results: Results, contrasts: pd.DataFrame | None = None) -> None:
        """Judge these results; `contrasts` of accuracy as `compare` returns them, where they are at hand."""
        self.results = results
        self._contrasts = contrasts
        self.cells = results.cells
        self.runs = results.runs

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """All contrasts of accuracy."""
        return compare(self.runs) if self._contrasts is None else self._contrasts

    @property
    def settings(self) -> list[str]:
        """The settings, in order."""
        return list(dict.fromkeys(self.cells["setting"]))

    def cell(self, setting: str, data: str, method: str) -> str | None:
        """Return the id of a cell, or None where the study has none."""
        cells = self.cells
        found = cells[(cells["setting"] == setting) & (cells["data"] == data) & (cells["method"] == method)]
        return None if found.empty else str(found["cell"].iloc[0])

    def matched(self, column: str) -> list[tuple[str, list[tuple[object, str]]]]:
        """Return groups of cells that differ in one dotted column alone; none where no cell has it."""
        return matched_cells(self.cells, column) if column in self.cells else []

    def claimed(self, setting: str) -> list[str]:
        """Return the Cs that a claim of the paper speaks of, and others of a setting."""
        return sorted({*PAPER_CS, *self.imbalanced(setting)}, key=data_rank)

    def imbalanced(self, setting: str) -> list[str]:
        """Return the Cs of a setting, mild imbalance first."""
        cells = self.cells
        return [
            data
            for data in dict.fromkeys(cells.loc[cells["setting"] == setting, "data"])
            if data != "original"
        ]


def conclude(
    where: str, parts: Sequence[Part], unit: str = "points", *, is_corrected: bool = False
) -> list[Finding]:
    """Return the finding that all parts together give; none without parts.

    Args:
        is_corrected: the p values have been corrected for a family that holds the parts.
    """
    tested = [part for part in parts if part.n > 0 and not np.isnan(part.effect)]
    if not tested:
        return []
    against = np.array([part.p_value if part.effect < 0 else 1.0 for part in tested])
    if not is_corrected:
        against = holm(against)
    if len(tested) == len(parts) and all(part.effect > 0 and part.p_value < ALPHA for part in tested):
        verdict = SUPPORTED
    elif (against < ALPHA).any():
        verdict = CONTRADICTED
    else:
        verdict = UNDECIDED
    label = "corrected p" if is_corrected else "p"
    evidence = "; ".join(_describe(part, unit, label) for part in parts)
    return [Finding(where=where, verdict=verdict, n=min(part.n for part in tested), evidence=evidence)]


def _describe(part: Part, unit: str, label: str) -> str:
    if part.n == 0:
        return f"{part.name}: not at hand"
    if np.isnan(part.effect):
        return f"{part.name}: not estimable (n = {part.n})"
    effect = f"{100 * part.effect:+.2f} points" if unit == "points" else f"{part.effect:+.3g} {unit}"
    p_value = "p not estimable" if np.isnan(part.p_value) else f"{label} = {part.p_value:.3g}"
    return f"{part.name}: {effect}, {p_value}, n = {part.n}"


def missing_part(name: str) -> Part:
    """Return a part that the cells at hand cannot speak of; a claim that has one is never supported."""
    return Part(name=name, effect=np.nan, p_value=np.nan, n=0)


def paired_part(name: str, differences: pd.Series | np.ndarray, sign: int = 1) -> Part:
    """Return the part of a claim that differences have this sign; sign-flip test."""
    values = np.asarray(differences, dtype=np.float64)
    effect = sign * float(values.mean()) if len(values) else np.nan
    return Part(name=name, effect=effect, p_value=sign_flip_p(values), n=len(values))


def trend_part(name: str, table: pd.DataFrame) -> Part:
    """Return the part that values rise along the columns of a table with seeds as rows."""
    values = table.to_numpy(dtype=np.float64)
    if len(values) < 2:
        return Part(name=name, effect=np.nan, p_value=np.nan, n=len(values))
    effect = float((values[:, -1] - values[:, 0]).mean())
    blocks = values if effect >= 0 else values[:, ::-1]
    return Part(name=name, effect=effect, p_value=page_trend_p(blocks), n=len(values))
