"""A preregistered study: its plan.toml fixes what is run, how often, how it is judged and when it ends.

It is committed before the first run, and later changes are only appended, as tables `[[changes]]`. Sweeps
read it by --plan-file, so that the run cannot differ from the plan.

    question = "..."                    what the study asks
    sweep = "full_grid.py"              the file of sweeps/ that runs it
    arguments = ["--preset", "paper"]   its options, without --seeds and --name, which is that of the folder
    seeds = 10                          the planned number,
    least_seeds = 3                     the minimum of the stopping rule; without it, the same number
    stopping = "..."                    the stopping rule
    confirmatory = ["H1", "R2"]         what is judged: hypotheses, families of contrasts, and R2, the
                                        differences between methods; all else explores

    [cells]                             written by --register: every cell with the first digits of the sha256
    "fashion_mnist paper 1/2 none" = "..."   of its configuration, budgets and all

    [[changes]]                         date, what and why; and as far as they change: arguments, seeds,
    date = "2026-12-01"                 least_seeds, dropped (cells), added (cells as above), confirmatory;
                                        after the first run the last may only become shorter
"""

import datetime
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from lt_rebalance.ground.text import count
from lt_rebalance.ground.values import fields, label, list_of, mapping_of, name, text, whole
from lt_rebalance.monitoring.facts import read_facts, run_state
from lt_rebalance.registration.cells import Cells, describe_difference, register_cells
from lt_rebalance.stages.installation import import_beside
from lt_rebalance.store import Store
from lt_rebalance.store.documents import search_path
from lt_rebalance.store.place import PLAN
from lt_rebalance.store.records import NOT_APPLICABLE
from lt_rebalance.store.study_document import StudyDocument, StudyRun
from lt_rebalance.studies.overrides import read_toml

_OPTION = "--plan-file"
_CELLS = mapping_of(label)
_CHANGEABLE = {
    "arguments": list_of(label),
    "seeds": whole(1),
    "least_seeds": whole(1),
    "confirmatory": list_of(label),
}
_CHANGE = fields(
    {"date": label, "what": text, "why": text}, {**_CHANGEABLE, "dropped": list_of(label), "added": _CELLS}
)
_PLAN = fields(
    {"question": text, "sweep": name, "arguments": list_of(label), "seeds": whole(1), "stopping": text},
    {
        "least_seeds": whole(1),
        "confirmatory": list_of(label),
        "cells": _CELLS,
        "changes": list_of(_CHANGE),
    },
)


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """A plan with all its changes applied."""

    name: str
    question: str
    sweep: str
    arguments: tuple[str, ...]
    seeds: int
    least_seeds: int
    stopping: str
    confirmatory: tuple[str, ...]
    cells: Cells
    """empty if none are registered yet"""
    changes: tuple[Mapping[str, Any], ...]
    registered: Mapping[str, Any]
    """the file as plain values: what was registered first, and "changes", a list"""

    def say_changes(self) -> tuple[str, ...]:
        """Return each change in one sentence or a few."""
        return tuple(f"{each['date']}: {each['what']}. Why: {each['why']}." for each in self.changes)

    def require_cells(self, found: Cells) -> None:
        """Raise a ValueError unless these are the registered cells."""
        if not self.cells:
            raise ValueError(
                f"{self.name}/{PLAN} registers no cells yet; write them into it with {_OPTION} and "
                "--register, and commit it before anything is run"
            )
        if difference := describe_difference(self.cells, found):
            raise ValueError(
                f"study {self.name} is not what {self.name}/{PLAN} registers: {difference}; run what is "
                "registered, or list the change at the end of the plan (--register shows it)"
            )

    def require_declared(self) -> None:
        """Raise a ValueError unless the analysis declares everything that is confirmatory."""
        if not self.confirmatory:
            return
        import_beside("analysis")
        from analysis.compare import load_families
        from analysis.hypotheses import HYPOTHESES
        from analysis.methods import DIFFERENCES

        known = [
            *(each.name for each in load_families()),
            *(each.name for each in HYPOTHESES),
            DIFFERENCES,
        ]
        if unknown := [each for each in self.confirmatory if each not in known]:
            raise ValueError(
                f"{self.name}/{PLAN}: unknown confirmatory {unknown[0]!r}; known: {', '.join(known)}"
            )

    def require_kept(self, document: StudyDocument) -> None:
        """Raise a ValueError unless the study was run with this plan, as it is or before its last changes."""
        found, before = f"{self.name}/{PLAN}", document.registered
        if not set(self.confirmatory) <= set(document.confirmatory):
            ran, now = (f"[{', '.join(each)}]" for each in (document.confirmatory, self.confirmatory))
            raise ValueError(
                f"study {self.name} was run with confirmatory = {ran}, and {found} has {now}; what is "
                "confirmatory can only become less after the first run, so restore it"
            )
        if before is None:  # older documents have the changes alone, in words
            listed, kept = list(self.say_changes()), list(document.changes)
        else:
            listed, kept = self.registered["changes"], before["changes"]
            names = sorted({*before, *self.registered} - {"changes"})
            if altered := [each for each in names if before.get(each) != self.registered.get(each)]:
                raise ValueError(
                    f"{found} differs in {altered[0]} from the plan with which its study was run; restore "
                    "it, and append what is to change as [[changes]]"
                )
        if listed[: len(kept)] != kept:
            number = next(at for at, each in enumerate(kept) if listed[at : at + 1] != [each])
            raise ValueError(
                f"study {self.name} was run with {len(kept)} [[changes]], and number {number + 1} is altered "
                f"or gone in {found}; restore it, and append what is new"
            )

    def require_seeds(self, num_seeds: int, *, least: int = 1, what: str = "seed") -> None:
        """Raise a ValueError unless this number of seeds is planned; `what` names one of them."""
        if not least <= num_seeds <= self.seeds:
            raise ValueError(
                f"study {self.name} has {count(num_seeds, what)}, and {self.name}/{PLAN} "
                f"registers {least} to {self.seeds}; run that many, or list the change at the end of the plan"
                + ("; publish --partial publishes fewer as an interim state" if num_seeds < least else "")
            )


def read_plan(path: str, option: str = _OPTION) -> StudyPlan:
    """Return the plan in a file, whose folder has the name of the study.

    Args:
        option: which named the file, for errors.

    Raises:
        ValueError: it is unreadable, not a plan, or inconsistent.
    """
    values = read_toml(Path(path), option)
    listed = values.get("changes")
    for change in listed if isinstance(listed, list) else ():
        if isinstance(change, dict) and isinstance(change.get("date"), datetime.date):
            change["date"] = change["date"].isoformat()
    try:
        _PLAN(values)
        plan = reduce(
            _change, values.get("changes", ()), {"least_seeds": values["seeds"], "cells": {}} | values
        )
        if plan["least_seeds"] > plan["seeds"]:
            raise ValueError(
                f"least_seeds must be at most seeds, got {plan['least_seeds']} and {plan['seeds']}"
            )
        name(study := Path(os.path.abspath(path)).parent.name)
    except ValueError as error:
        raise ValueError(f"{option} {path} is not the plan of a study: {error}") from None
    return StudyPlan(
        name=study,
        question=plan["question"],
        sweep=plan["sweep"],
        arguments=tuple(plan["arguments"]),
        seeds=plan["seeds"],
        least_seeds=plan["least_seeds"],
        stopping=plan["stopping"],
        confirmatory=tuple(plan.get("confirmatory", ())),
        cells=plan["cells"],
        changes=tuple(plan.get("changes", ())),
        registered=values | {"changes": values.get("changes", [])},
    )


def _change(plan: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    dropped = set(change.get("dropped", ()))
    if unknown := dropped - plan["cells"].keys():
        raise ValueError(
            f"the change of {change['date']} drops {min(unknown)!r}, which is not among its cells"
        )
    kept = {each: digits for each, digits in plan["cells"].items() if each not in dropped}
    given = {each: change[each] for each in _CHANGEABLE if each in change}
    if "seeds" in given and "least_seeds" not in given:
        given["least_seeds"] = min(plan["least_seeds"], given["seeds"])
    return plan | given | {"cells": kept | change.get("added", {})}


def require_registered(plan: StudyPlan, document: StudyDocument, *, is_partial: bool = False) -> None:
    """Raise a ValueError unless the store's document of a study agrees with its plan.

    Args:
        is_partial: whether fewer seeds than the stopping rule asks for are allowed.
    """
    plan.require_cells(register_cells(document.cells))
    num_seeds, odd = divmod(len(document.runs), len(document.cells))
    plan.require_seeds(num_seeds, least=1 if is_partial else plan.least_seeds)
    if odd or num_seeds != len(list_runs_by_seed(document)):
        raise ValueError(f"study {plan.name} does not have every cell at every seed; run its sweep again")
    plan.require_kept(document)


def require_searches(document: StudyDocument, store: Store) -> None:
    """Raise a ValueError unless a store has the searches from which a study has values."""
    if absent := {each["search"] for each in document.tunings} - set(store.list_searches()):
        raise ValueError(
            f"{store.location} lacks search {min(absent)}, from which study {document.name} has values; copy "
            f"{search_path(min(absent))} from the store that --tuned named"
        )


def list_runs_by_seed(document: StudyDocument) -> dict[tuple[int, int, int], list[StudyRun]]:
    """Return the runs of each seed, by the seeds of classifier, subset and generator."""
    runs: dict[tuple[int, int, int], list[StudyRun]] = {}
    for run in document.runs:
        generator_seed = run.seed if run.generator_seed is None else run.generator_seed
        runs.setdefault((run.seed, run.subset_seed, generator_seed), []).append(run)
    return runs


def list_whole_seeds(document: StudyDocument, store: Store) -> list[tuple[int, int, int]]:
    """Return the seeds at which every run has a result: complete, diverged, not applicable, or damaged."""
    facts = read_facts(store, document)

    def has_result(run: StudyRun) -> bool:
        state = run_state(facts, run.key)
        is_damaged = state == "missing" and bool(facts[run.key].reason)
        if state == "failed":
            return _is_not_applicable(store, run)
        return is_damaged or state in ("complete", "diverged")

    return [seed for seed, runs in list_runs_by_seed(document).items() if all(map(has_result, runs))]


def _is_not_applicable(store: Store, run: StudyRun) -> bool:
    failures = [failure for key in run.keys if (failure := store.read_failure(key)) is not None]
    return any(failure.cause == NOT_APPLICABLE for failure in failures)
