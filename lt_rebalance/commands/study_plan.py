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
    date = "2026-12-01"                 least_seeds, dropped (cells), added (cells as above); before the
                                        first run also confirmatory
"""

import argparse
import datetime
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from lt_rebalance.files.filesystem import LocalFilesystem
from lt_rebalance.ground.exits import EXIT_INCOMPLETE, Parser
from lt_rebalance.ground.values import fields, label, list_of, mapping_of, name, text, whole
from lt_rebalance.stages.installation import import_beside
from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.documents import search_path
from lt_rebalance.store.place import PLAN
from lt_rebalance.store.study_document import StudyCell, StudyDocument
from lt_rebalance.studies.overrides import read_toml
from lt_rebalance.studies.plan import describe_cell
from lt_rebalance.studies.study import Study

NUM_DIGITS = 12
_NAMED = 5
_OPTION = "--plan-file"
_EXECUTION = ("device", "precision", "threads")
"""options that change results without being part of a cell"""
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

Cells = Mapping[str, str]
"""by name of the cell, the first digits of the sha256 of its configuration"""


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
        if document.confirmatory != self.confirmatory:
            ran, now = (f"[{', '.join(each)}]" for each in (document.confirmatory, self.confirmatory))
            raise ValueError(
                f"study {self.name} was run with confirmatory = {ran}, and {found} has {now}; what is "
                "confirmatory is fixed before the first run, so restore it"
            )
        if before is None:  # older documents have the changes alone, in words
            listed, kept = list(self.say_changes()), list(document.changes)
        else:
            listed, kept = self.registered["changes"], before["changes"]
            names = sorted({*before, *self.registered} - {"changes"})
            if altered := [each for each in names if before.get(each) != self.registered.get(each)]:
                raise ValueError(
                    f"{found} has another {altered[0]} than when its study was run; restore it, and append "
                    "what is to change as [[changes]]"
                )
        if listed[: len(kept)] != kept:
            raise ValueError(
                f"study {self.name} was run with changes that {found} does not list in this form and order: "
                f"{' '.join(document.changes)} Restore them, and append what is new"
            )

    def require_seeds(self, num_seeds: int, *, least: int = 1) -> None:
        """Raise a ValueError unless this number of seeds is planned."""
        if not least <= num_seeds <= self.seeds:
            raise ValueError(
                f"study {self.name} has {num_seeds} seed{'s' * (num_seeds != 1)}, and {self.name}/{PLAN} "
                f"registers {least} to {self.seeds}; run that many, or list the change at the end of the plan"
                + ("; publish --partial publishes fewer as an interim state" if least > 1 else "")
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


def register_cells(cells: Iterable[StudyCell]) -> dict[str, str]:
    """Return the cells of a study in the form in which a plan registers them."""
    return {
        f"{cell.dataset} {cell.protocol} {cell.data} {cell.method}": _digest(cell.config) for cell in cells
    }


def _digest(config: Mapping[str, Any]) -> str:
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:NUM_DIGITS]


def describe_difference(registered: Cells, found: Cells) -> str:
    """Return the difference between a study's cells and registered ones, in words; empty if they agree."""
    parts = {
        "not registered": [each for each in found if each not in registered],
        "registered and missing": [each for each in registered if each not in found],
        "configured otherwise": [each for each in found if registered.get(each, found[each]) != found[each]],
    }
    return "; ".join(f"{what}: {_name_some(cells)}" for what, cells in parts.items() if cells)


def _name_some(cells: Sequence[str]) -> str:
    more = f" and {len(cells) - _NAMED} more" if len(cells) > _NAMED else ""
    return ", ".join(cells[:_NAMED]) + more


def require_registered(plan: StudyPlan, document: StudyDocument, *, is_partial: bool = False) -> None:
    """Raise a ValueError unless the store's document of a study agrees with its plan.

    Args:
        is_partial: whether fewer seeds than the stopping rule asks for are allowed.
    """
    plan.require_cells(register_cells(document.cells))
    num_seeds, odd = divmod(len(document.runs), len(document.cells))
    plan.require_seeds(num_seeds, least=1 if is_partial else plan.least_seeds)
    if odd or num_seeds != len(list_keys_by_seed(document)):
        raise ValueError(f"study {plan.name} does not have every cell at every seed; run its sweep again")
    plan.require_kept(document)


def require_searches(document: StudyDocument, store: Store) -> None:
    """Raise a ValueError unless a store has the searches from which a study has values."""
    if absent := {each["search"] for each in document.tunings} - set(store.list_searches()):
        raise ValueError(
            f"{store.location} lacks search {min(absent)}, from which study {document.name} has values; copy "
            f"{search_path(min(absent))} from the store that --tuned named"
        )


def list_keys_by_seed(document: StudyDocument) -> dict[tuple[int, int, int], list[str]]:
    """Return the keys of the runs of each seed, by the seeds of classifier, subset and generator."""
    keys: dict[tuple[int, int, int], list[str]] = {}
    for run in document.runs:
        generator_seed = run.seed if run.generator_seed is None else run.generator_seed
        keys.setdefault((run.seed, run.subset_seed, generator_seed), []).append(run.key)
    return keys


# Of sweeps


def require_continued(plan: StudyPlan | None, study: Study, store: Store) -> None:
    """Raise a ValueError if a sweep would replace what was registered, or leave out a complete seed.

    Args:
        plan: the registered one, if the sweep has one.
    """
    try:
        document = store.load_study(study.name)
    except StoreError:  # none yet, or unreadable: there is nothing to keep
        return
    if plan is None:
        if document.confirmatory or document.registered is not None:
            raise ValueError(
                f"study {study.name} of {store.location} is preregistered, and runs with {_OPTION} alone; "
                "give other runs another --name"
            )
        return
    plan.require_kept(document)
    planned = {
        (each, each, each) if isinstance(each, int) else (each.classifier, each.subset, each.generator)
        for each in study.seeds
    }
    keys = list_keys_by_seed(document)
    for seed in sorted(keys.keys() - planned):
        if all(store.read_outcome(key) is not None for key in keys[seed]):
            raise ValueError(
                f"seed {seed[0]} of study {study.name} is complete, and {len(study.seeds)} seeds would leave "
                "it out; every complete seed counts, so run at least as many as before"
            )


def _require_execution(plan: StudyPlan, options: argparse.Namespace) -> None:
    """Raise a ValueError if a plan says how to compute, and the options say something else."""
    finder = Parser(add_help=False, allow_abbrev=False)
    for option in _EXECUTION:
        finder.add_argument(f"--{option}")
    for option, value in vars(finder.parse_known_args(plan.arguments)[0]).items():
        if value is not None and str(asked := getattr(options, option)) != value:
            raise ValueError(
                f"{plan.name}/{PLAN} registers --{option} {value}, got {asked}; leave it out, or run --name "
                "OTHER without the plan"
            )


class PlannedParser(Parser):
    """Inserts the options of a study's plan before those of the command line."""

    takes_seeds = True

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # Any: as in argparse
        given = sys.argv[1:] if args is None else list(args)
        return super().parse_args([*self._read_planned(given), *given], namespace)

    def _read_planned(self, given: Sequence[str]) -> list[str]:
        finder = Parser(add_help=False, allow_abbrev=False)
        finder.add_argument(_OPTION)
        path = finder.parse_known_args(given)[0].plan_file
        if path is None:
            return []
        plan = read_plan(path)
        if plan.sweep != self.prog:
            raise ValueError(f"{_OPTION} {path} is of {plan.sweep}, and this is {self.prog}; run that sweep")
        seeds = ["--seeds", str(plan.seeds)] if self.takes_seeds else []
        planned = [*plan.arguments, "--name", plan.name, *seeds]
        try:
            super().parse_args(planned)
        except ValueError as error:
            raise ValueError(f"arguments of {path}: {error}") from None
        return planned


class UnseededParser(PlannedParser):
    """The same for a sweep in which other options than --seeds say how many."""

    takes_seeds = False


def add_plan_file(parser: argparse.ArgumentParser) -> None:
    """Add the options for running a sweep from a plan."""
    group = parser.add_argument_group("a preregistered study")
    group.add_argument(
        _OPTION,
        metavar="FILE",
        help=f"its {PLAN}: take the options that it names, and refuse cells that it does not register",
    )
    group.add_argument(
        "--register", action="store_true", help="write the cells into that file instead of running them"
    )


def check_registration(study: Study, options: argparse.Namespace) -> Callable[[], int] | None:
    """Check a study against its plan, if one is given.

    Returns:
        The function that registers its cells, if requested.

    Raises:
        ValueError: it differs from the plan.
    """
    if options.plan_file is None:
        if options.register:
            raise ValueError(f"--register needs {_OPTION}, to which it writes the cells of the study")
        return None
    plan = read_plan(options.plan_file)
    if study.name != plan.name:
        raise ValueError(
            f"--name {study.name} is not the folder of {_OPTION} {options.plan_file}; leave it out"
        )
    cells = register_cells(map(describe_cell, study.cells))
    plan.require_seeds(len(study.seeds))
    plan.require_declared()
    _require_execution(plan, options)
    if options.register:
        if options.plan:
            raise ValueError("--register writes the cells, and --plan only shows; leave out one")
        return lambda: _register(plan, cells, Path(options.plan_file))
    plan.require_cells(cells)
    return None


def registered_plan(options: argparse.Namespace) -> StudyPlan | None:
    """Return the plan of a sweep's study, or None if there is none."""
    path = getattr(options, "plan_file", None)
    return None if path is None else read_plan(path)


def _register(plan: StudyPlan, cells: Cells, path: Path) -> int:
    """Write cells into a plan that has none; for a plan with other cells, print the change to be listed.

    Returns:
        The exit code: 1 if the plan has others.
    """
    if "cells" not in plan.registered and not plan.changes:
        lines = "".join(f"{_quote(each)} = {_quote(cells[each])}\n" for each in cells)
        text = f"{path.read_text(encoding='utf-8')}\n[cells]\n{lines}"
        LocalFilesystem(path.parent).replace(path.name, text.encode())
        print(f"{path}: {len(cells)} cells are registered; commit it before anything is run")
        return 0
    difference = describe_difference(plan.cells, cells)
    if not difference:
        print(f"{path}: {len(cells)} cells are registered, as this code plans them")
        return 0
    dropped = [each for each in plan.cells if each not in cells]
    added = [each for each in cells if plan.cells.get(each) != cells[each]]
    print(f"# {path} registers other cells: {difference}. If that is meant, end it with:\n[[changes]]")
    print(f'date = "{datetime.date.today()}"\nwhat = ""\nwhy = ""')
    print(f"dropped = [{', '.join(map(_quote, dropped))}]\n[changes.added]")
    print("\n".join(f"{_quote(each)} = {_quote(cells[each])}" for each in added))
    return EXIT_INCOMPLETE


def _quote(word: str) -> str:
    return json.dumps(word, ensure_ascii=False)  # which is valid TOML, too
