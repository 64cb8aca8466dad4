"""The evidence for a claim: its parts, and their joint verdict.

Only `conclude` gives verdicts, by these rules:

- The unit of replication is the seed: a part has one value per seed, or one run per seed and cell.
- The direction is that of the claim, fixed beforehand (see `directed`).
- A claim of several parts, say one for each C, is supported when every part is significant in its direction
  (an intersection-union test, which needs no further correction), and contradicted when any part is
  significant the other way after Holm's correction over the parts. Neither: undecided.
- A claim is not tested where even the smallest p values that its tests can give at these numbers of seeds
  would leave it undecided. Each test has its own.
- A part that lost seeds for a reason that depends on the outcome, such as divergence, decides nothing either.
- Cells that differ in more than what is claimed give no verdict.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.collect import Results
from analysis.compare import ALPHA, Family, load_families
from analysis.hypotheses.directed import FloatArray, Outcome, Test, lead
from analysis.naming import compared_data, matched_cells
from analysis.power import smallest_exact_p
from analysis.significance import holm, say_p
from lt_rebalance.ground.imbalance import ORIGINAL, data_rank, say_data
from lt_rebalance.ground.paper import PAPER_CS

SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTED = "supported", "contradicted", "undecided", "not tested"
VERDICTS = (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTED)
NOT_RUN = "not run"
DECIDE_NOTHING = "the remaining seeds decide nothing"
CONFOUNDED = "no verdict, because the configurations differ in more than the claim"
ONLY_REFUTED = "the test can refute the claim and cannot support it"
"""words of the evidence that name a reason of an undecided claim"""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One comparison that is part of a claim."""

    name: str
    effect: float = np.nan
    """positive where it points as the claim says; in the unit of the comparison"""
    p_value: float = np.nan
    """two-sided, or of the one direction that a claim can be tested in"""
    least_p: float = np.nan
    """the smallest p value that the test can give at this n; nan if it gives none"""
    n: int = 0
    """seeds, or runs of the smaller side"""
    num_planned: int = 0
    num_lost: int = 0
    """planned seeds or runs without a value for a reason that depends on the outcome"""
    lost_because: str = "diverged"
    """that reason"""
    finding: str = ""
    """the effect in words, where it is not a number in a unit"""
    cells: tuple[str, ...] = ()
    """those that are compared"""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one hypothesis in one place."""

    where: str
    """the setting, or what the matched cells share"""
    verdict: str
    n: int
    """smallest n of its parts"""
    evidence: str
    """a sentence with the numbers"""
    cells: frozenset[str] = frozenset()
    """those of its parts"""
    is_without_values: bool = False
    """no seed has what a part compares"""


@dataclass(frozen=True, kw_only=True)
class Replicates:
    """Values of the seeds at which every cell of a comparison has one."""

    seeds: tuple[int, ...]
    values_SM: FloatArray
    num_planned: int
    """seeds at which every cell is planned"""
    num_lost: int
    """of these, seeds without a value for a reason that depends on the outcome"""


@dataclass(frozen=True, kw_only=True)
class MatchedPair:
    """Two cells that differ in nothing but one choice."""

    where: str
    """their settings"""
    data: str
    method: str
    first: str
    second: str


class Evidence:
    """Results, with the intermediate values that several judges need."""

    def __init__(self, results: Results) -> None:
        """Judge these results."""
        self.results = results
        self.cells = results.cells
        self.runs = results.runs
        self._metrics: dict[str, pd.DataFrame] = {}
        self._matched: dict[str, list[tuple[str, list[tuple[object, str]]]]] = {}

    @cached_property
    def settings(self) -> list[str]:
        """The settings, in order."""
        return list(dict.fromkeys(self.cells["setting"]))

    @cached_property
    def by_id(self) -> dict[str, dict[str, str]]:
        """Setting, data and method of each cell."""
        names = self.cells[["cell", "dataset", "setting", "data", "method"]].astype(str)
        return {row["cell"]: row for row in names.to_dict("records")}

    @cached_property
    def _by_name(self) -> dict[tuple[str, str, str], str]:
        return {
            (row["setting"], row["data"], row["method"]): cell
            for cell, row in reversed(list(self.by_id.items()))
        }

    def cell(self, setting: str, data: str, method: str) -> str | None:
        """Return the id of a cell, or None if the study has none."""
        return self._by_name.get((setting, data, method))

    def methods(self, setting: str) -> list[str]:
        """Return the methods of a setting, in order."""
        return list(dict.fromkeys(method for name, _, method in reversed(self._by_name) if name == setting))

    def matched(self, column: str) -> list[tuple[str, list[tuple[object, str]]]]:
        """Return groups of cells that differ in one dotted column alone; none if no cell has it."""
        if column not in self._matched:
            self._matched[column] = matched_cells(self.cells, column) if column in self.cells else []
        return self._matched[column]

    def matched_pairs(self, column: str, first: object, second: object) -> list[MatchedPair]:
        """Return pairs of cells with two values of a dotted column that differ in nothing else."""
        return [
            self.pair_of(cell, other)
            for _, cells in self.matched(column)
            for value, cell in cells
            for other_value, other in cells
            if value == first and other_value == second
        ]

    def pair_of(self, first: str, second: str) -> MatchedPair:
        """Return two cells as a pair."""
        names = self.by_id[first], self.by_id[second]
        settings, methods = ([row[key] for row in names] for key in ("setting", "method"))
        return MatchedPair(
            where=" against ".join(dict.fromkeys(settings)),
            data=names[0]["data"],
            method=" minus ".join(dict.fromkeys(methods)),
            first=first,
            second=second,
        )

    def claimed(self, setting: str) -> list[str]:
        """Return the Cs of the paper's claims, and the other Cs of a setting."""
        return sorted({*PAPER_CS, *self.imbalanced(setting)}, key=data_rank)

    def imbalanced(self, setting: str) -> list[str]:
        """Return the unbalanced training data of a setting on which methods are compared, in order."""
        return [
            data
            for data in compared_data(self.cells[self.cells["setting"] == setting])
            if data != ORIGINAL or self._is_uneven(setting)
        ]

    @cached_property
    def unbalanced(self) -> set[str]:
        """Names of training data that is `imbalanced` in some setting."""
        return {data for setting in self.settings for data in self.imbalanced(setting)}

    def _is_uneven(self, setting: str) -> bool:
        """Whether the classes of the original set have several sizes, by its complete runs."""
        classes = self.results.classes
        of_set = classes[(classes["data"] == ORIGINAL) & (classes["setting"] == setting)]
        return bool((of_set.groupby("key", observed=True)["class_count"].nunique() > 1).any())

    @cached_property
    def _states(self) -> pd.DataFrame:
        return self.runs.pivot(index="seed", columns="cell", values="state")

    @cached_property
    def _column_of(self) -> dict[str, int]:
        return {cell: column for column, cell in enumerate(self._states.columns)}

    @cached_property
    def _masks_SC(self) -> dict[str, NDArray[np.bool_]]:
        """Which runs are planned, complete and diverged, with seeds as rows and cells as columns."""
        states_SC = self._states.to_numpy(dtype=object)
        return {
            "planned": ~pd.isna(states_SC),
            "complete": states_SC == "complete",
            "diverged": states_SC == "diverged",
        }

    def metric(self, name: str) -> pd.DataFrame:
        """Return a metric of the runs, with seeds as rows and cells as columns."""
        if name not in self._metrics:
            wide = self.runs.pivot(index="seed", columns="cell", values=name)
            self._metrics[name] = wide.astype(np.float64)
        return self._metrics[name]

    def replicates(self, cells: Sequence[str], values: pd.DataFrame | None = None) -> Replicates:
        """Return values, accuracy by default, at the seeds at which all cells are complete and have one.

        Args:
            values: seeds as rows, cells as columns. Absent without an outcome; infinite if the outcome is not
                a number, and then the seed counts as lost.
        """
        wide = self.metric("accuracy") if values is None else values
        if not (wide.index.equals(self._states.index) and wide.columns.equals(self._states.columns)):
            wide = wide.reindex(index=self._states.index, columns=self._states.columns)
        columns = [self._column_of[cell] for cell in cells]
        values_SM = wide.to_numpy(dtype=np.float64)[:, columns]
        masks_SM = {state: mask_SC[:, columns] for state, mask_SC in self._masks_SC.items()}
        is_planned = masks_SM["planned"].all(axis=1)
        is_known = masks_SM["complete"].all(axis=1) & ~np.isnan(values_SM).any(axis=1)
        is_used = is_known & np.isfinite(values_SM).all(axis=1)
        is_lost = masks_SM["diverged"].any(axis=1) | (is_known & ~is_used)
        return Replicates(
            seeds=tuple(self._states.index[is_used]),
            values_SM=values_SM[is_used],
            num_planned=int(is_planned.sum()),
            num_lost=int((is_planned & is_lost).sum()),
        )

    def part(
        self,
        name: str,
        cells: Sequence[str | None],
        test: Test = lead,
        values: pd.DataFrame | None = None,
        lost_because: str = "diverged",
    ) -> Part:
        """Return the part that a test of cells gives, paired by seed; a part that was not run if one is None.

        Args:
            values: as in `replicates`. lost_because: why seeds are lost.
        """
        known = [cell for cell in cells if cell is not None]
        if len(known) < len(cells):
            return Part(name=name, cells=tuple(known))
        found = self.replicates(known, values)
        n = len(found.values_SM)
        outcome = test(found.values_SM) if n else Outcome(np.nan, np.nan, np.nan)
        return Part(
            name=name,
            effect=outcome.effect,
            p_value=outcome.p_value,
            least_p=outcome.least_p,
            n=n,
            num_planned=found.num_planned,
            num_lost=found.num_lost,
            lost_because=lost_because,
            cells=tuple(known),
        )

    def declared_parts(self, family: Family, setting: str) -> dict[tuple[str, str, str], Part]:
        """Return the contrasts of a family by C, method and comparator, after its Holm correction."""
        parts = {
            (data, method, comparator): self.part(
                f"{say_data(data)}, {method} minus {comparator}",
                [self.cell(setting, data, name) for name in (method, comparator)],
            )
            for data in family.data
            for method in family.methods
            for comparator in family.comparators
        }
        p_values, least_p = (
            holm([getattr(part, name) for part in parts.values()], family.size)
            for name in ("p_value", "least_p")
        )
        return {
            contrast: replace(part, p_value=float(p_value), least_p=float(least))
            for (contrast, part), p_value, least in zip(parts.items(), p_values, least_p, strict=True)
        }


def declared_family(hypothesis: str) -> Family:
    """Return the family of families.toml that declares a hypothesis."""
    return next(family for family in load_families() if hypothesis in family.hypotheses)


def conclude(
    where: str,
    parts: Sequence[Part],
    unit: str = "points",
    *,
    least_p: Callable[[int], float] = smallest_exact_p,
    is_corrected: bool = False,
    is_of_some: bool = False,
    is_only_refuted: bool = False,
    is_confounded: bool = False,
) -> list[Finding]:
    """Return the finding that all parts together give; none without parts.

    Args:
        least_p: the smallest p value of a part at n seeds, to say how many a verdict takes.
        is_corrected: the p values have been corrected for a family that holds the parts.
        is_of_some: the claim is that some part is so and none the other way, rather than that every part is;
            p values count after Holm's correction over the parts.
        is_only_refuted: the test can contradict the claim and not support it.
        is_confounded: the cells differ in more than the claim is about, so that there is no verdict.
    """
    at_hand = [part for part in parts if part.num_planned]
    if not at_hand:
        return []
    evidence = "; ".join(_describe(part, unit, "corrected p" if is_corrected else "p") for part in parts)
    if lost := sorted({part.lost_because for part in at_hand if part.num_lost}):
        evidence += f"; where some seeds {' or '.join(lost)}, {DECIDE_NOTHING}"
    is_at_hand = np.array([part.num_planned > 0 for part in parts])
    judge = partial(_judge, is_at_hand=is_at_hand, is_corrected=is_corrected, is_of_some=is_of_some)
    signs = (-1.0,) if is_only_refuted else (1.0, -1.0)

    def can_decide(p_values: Sequence[float]) -> bool:
        return any(judge([sign] * len(parts), p_values) != UNDECIDED for sign in signs)

    is_without_values = not any(part.n or part.num_lost for part in at_hand)
    verdict = judge([part.effect for part in parts], [_deciding_p(part) for part in parts])
    if not can_decide([part.least_p for part in parts]):
        at_equal_n = ([least_p(n) if is_run else np.nan for is_run in is_at_hand] for n in itertools.count(1))
        fewest = next(n for n, p_values in enumerate(at_equal_n, start=1) if can_decide(p_values))
        is_short = all(part.num_planned < fewest for part in at_hand)
        reason = f"cannot reach p < {ALPHA:g}" if is_short else "have what this needs"
        verdict = NOT_TESTED
        evidence = evidence if is_without_values else f"fewer than {fewest} seeds {reason}: {evidence}"
    elif is_confounded:
        verdict = UNDECIDED
        evidence += f"; {CONFOUNDED}"
    elif is_only_refuted and verdict == UNDECIDED:
        evidence += f"; {ONLY_REFUTED}"
    cells = frozenset(cell for part in parts for cell in part.cells)
    return [
        Finding(
            where=where,
            verdict=verdict,
            n=min(part.n for part in at_hand),
            evidence=evidence,
            cells=cells,
            is_without_values=is_without_values,
        )
    ]


def _judge(
    effects: Sequence[float],
    p_values: Sequence[float],
    *,
    is_at_hand: NDArray[np.bool_],
    is_corrected: bool,
    is_of_some: bool,
) -> str:
    """Return the verdict on parts of these effects and p values, nan where a part decides nothing."""
    is_for, known = np.asarray(effects) > 0, np.nan_to_num(p_values, nan=1.0)
    in_favour, against = np.where(is_for, known, 1.0), np.where(is_for, 1.0, known)
    if not is_corrected:
        against[is_at_hand] = holm(against[is_at_hand])
    if is_of_some:
        corrected = holm(known[is_at_hand])
        in_favour, against = (np.where(is_for[is_at_hand] == side, corrected, 1.0) for side in (True, False))
    if (against < ALPHA).any():
        return CONTRADICTED
    is_supported = (in_favour < ALPHA).any() if is_of_some else (in_favour < ALPHA).all()
    return SUPPORTED if is_supported else UNDECIDED


def _deciding_p(part: Part) -> float:
    """Return the p value with which a part counts; nan if it decides nothing."""
    is_decisive = part.num_lost == 0 and part.effect != 0 and not np.isnan(part.effect)
    return part.p_value if is_decisive else np.nan


def _describe(part: Part, unit: str, label: str) -> str:
    if not part.num_planned:
        return f"{part.name}: {NOT_RUN}"
    n = f"n = {part.n}"
    if part.n < part.num_planned:
        n += f" of {part.num_planned} planned"
    if part.num_lost:
        n += f" ({_count_lost(part)})"
    if np.isnan(part.effect):
        return f"{part.name}: not estimable, {n}"
    effect = f"{100 * part.effect:+.2f} points" if unit == "points" else f"{part.effect:+.3g} {unit}"
    p_value = "p not estimable" if np.isnan(part.p_value) else f"{label} = {say_p(part.p_value, 'g')}"
    return f"{part.name}: {part.finding or effect}, {p_value}, {n}"


def _count_lost(part: Part) -> str:
    return f"{part.num_lost} {part.lost_because}"
