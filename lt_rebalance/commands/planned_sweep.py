"""Run a sweep from the plan of a study: its options, and what it may not change."""

import argparse
import datetime
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lt_rebalance.files.filesystem import LocalFilesystem
from lt_rebalance.ground.exits import EXIT_INCOMPLETE, Parser
from lt_rebalance.ground.plain import to_plain
from lt_rebalance.ground.text import count
from lt_rebalance.registration.cells import Cells, describe_difference, register_cells
from lt_rebalance.registration.study_plan import StudyPlan, list_runs_by_seed, list_whole_seeds, read_plan
from lt_rebalance.store import Store
from lt_rebalance.store.place import PLAN
from lt_rebalance.studies.plan import Plan, describe_cell
from lt_rebalance.studies.study import Study

_OPTION = "--plan-file"
_FIXED = ("device", "precision", "threads", "subsets", "cgans", "classifiers")
"""options without effect on cells, which a plan fixes if it gives them"""


def require_continued(registered: StudyPlan | None, plan: Plan, store: Store) -> None:
    """Raise a ValueError if a sweep would replace what was registered, or leave out or repeat a whole seed.

    Args:
        registered: None if the sweep has no plan of a study. plan: the runs of the sweep.

    Raises:
        StoreError: the study in the store is damaged.
    """
    study = plan.study
    if study.name not in store.list_studies():
        return
    document = store.load_study(study.name)
    if registered is None:
        if document.confirmatory or document.registered is not None:
            raise ValueError(
                f"study {study.name} of {store.location} is preregistered, and runs with {_OPTION} alone; "
                "give other runs another --name"
            )
        return
    registered.require_kept(document)
    ran, now = document.execution, to_plain(plan.execution)
    differing = [each for each in now if now[each] != ran.get(each)]
    changed = [f"{each} {ran.get(each)}, now {now[each]}" for each in differing]
    planned = {
        (each, each, each) if isinstance(each, int) else (each.classifier, each.subset, each.generator)
        for each in study.seeds
    }
    lost = [seed for seed in list_runs_by_seed(document) if changed or seed not in planned]
    if lost and (whole := set(lost).intersection(list_whole_seeds(document, store))):
        why = f"and {count(len(study.seeds), 'seed')} would leave it out"
        if changed:
            why = f"with {', '.join(changed)}"
        raise ValueError(
            f"seed {min(whole)[0]} of study {study.name} is complete, {why}; every complete seed counts "
            "once, so run the study as before"
        )


def _require_fixed(plan: StudyPlan, options: argparse.Namespace) -> None:
    """Raise a ValueError if a plan gives one of `_FIXED`, and the options give another value."""
    finder = Parser(add_help=False, allow_abbrev=False)
    for option in _FIXED:
        finder.add_argument(f"--{option}")
    for option, value in vars(finder.parse_known_args(plan.arguments)[0]).items():
        if value is not None and str(asked := getattr(options, option, value)) != value:
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
    _require_fixed(plan, options)
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
        print(f"{path}: registered: {count(len(cells), 'cell')}; commit it before anything is run")
        return 0
    difference = describe_difference(plan.cells, cells)
    if not difference:
        print(f"{path}: registered: {count(len(cells), 'cell')}, as this code plans them")
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
