"""Finished runs of a study in the form of experiment trackers: settings, metrics, curves and tags."""

import contextlib
import importlib.util
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from lt_rebalance.ground.imbalance import count_groups, is_balanced, rank_groups
from lt_rebalance.monitoring.tensorboard.naming import flatten_cell, name_cell
from lt_rebalance.store import Store
from lt_rebalance.store.records import Record
from lt_rebalance.store.study_document import StudyDocument, StudyRun

Setting = str | int | float | bool
PREFIX = "lt_rebalance."
"""prefix of every tag"""
KEY_TAG = f"{PREFIX}key"
"""the tag that identifies an exported run"""


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """One cell at one seed, with its result."""

    key: str
    """sha256 of its stage, in hexadecimal"""
    name: str
    """distinguishes it from all others of its study"""
    cell: str
    """the name that all seeds of its cell share"""
    is_complete: bool
    """False if the run diverged"""
    settings: Mapping[str, Setting]
    """the cell's configuration in dotted names, its execution and its seeds; without absent fields"""
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    """final values: metrics on the test images, recalls of groups of classes, steps, and cost in seconds"""
    curves: Sequence[tuple[int, Mapping[str, float]]]
    """optimizer steps done, and metrics; one per round, nothing by class"""
    finished_s: float | None
    """in seconds since 1970; None in older records without it"""
    wall_s: float


class Tracker(Protocol):
    """A place to which runs of studies are exported."""

    place: str
    """in the user's words"""

    def find(self, study: StudyDocument) -> Collection[str]:
        """Return the keys of the completely exported runs of a study."""

    def add(self, study: StudyDocument, run: TrackedRun) -> None:
        """Export a run."""


def read_tracked(store: Store, study: StudyDocument, present: Collection[str]) -> Iterator[TrackedRun]:
    """Yield the finished runs of a study, in any order, except those whose keys are present already.

    Raises:
        StoreError: a record cannot be read; it names the file.
    """
    runs = {run.key: run for run in study.runs if run.key not in present}
    for key, record in store.scan(partial(Store.read_record, study=study), runs):
        if record is not None:
            yield _track(study, runs[key], record)


def _track(study: StudyDocument, run: StudyRun, record: Record) -> TrackedRun:
    cell, timing = study.cells[run.cell], record.timing
    told = {
        "key": run.key,
        "study": study.name,
        "state": record.state,
        "results_version": record.stage["results_version"],
        "generator_key": run.generator_key,
        "commit": record.provenance.get("commit"),
    }
    seeds = {"seed": run.seed, "subset_seed": run.subset_seed, "generator_seed": run.generator_seed}
    asked = {
        "method": cell.method,
        **{f"execution.{each}": n for each, n in record.stage["execution"].items()},
    }
    cost = {"num_steps": record.num_steps, "wall_s": timing.wall_s, "train_s": timing.train_s}
    return TrackedRun(
        key=run.key,
        name=f"{name_cell(cell)}, {study.stages[run.key].replicate}",
        cell=name_cell(cell),
        is_complete=record.state == "complete",
        settings=_present({**flatten_cell(cell), **asked, **seeds}),
        tags={f"{PREFIX}{name}": str(value) for name, value in _present(told).items()},
        metrics={**record.all_metrics(), **_group_recalls(record), **cost, "device_s": timing.charged_s},
        curves=[(row["step"], _numbers(row)) for row in record.curves],
        finished_s=timing.finished_s,
        wall_s=timing.wall_s,
    )


def _present(values: Mapping[str, Setting | None]) -> dict[str, Setting]:
    return {name: value for name, value in values.items() if value is not None}


def _group_recalls(record: Record) -> dict[str, float]:
    """Return the mean recall of each group of classes, as in the frame of runs; none if diverged."""
    if not record.confusion:
        return {}
    counts_K, recall_K = record.class_counts, record.read_confusion().recall_K
    by_rank = record.rank_groups or ({} if is_balanced(counts_K) else rank_groups(counts_K))
    groups = {**by_rank, **count_groups(counts_K)}
    return {f"recall_{name}": float(recall_K[labels].mean()) for name, labels in groups.items()}


def _numbers(row: Mapping[str, object]) -> dict[str, float]:
    return {name: value for name, value in row.items() if isinstance(value, int | float) and name != "step"}


def require_extra(module: str, extra: str) -> None:
    """Raise a ValueError unless the package of an extra is installed; does not import it."""
    if importlib.util.find_spec(module) is None:
        raise ValueError(
            f"--to {extra} needs the package {module}, which is not installed; in the checkout: "
            f"pip install -e '.[{module}]'"
        )


@contextlib.contextmanager
def environment(changes: Mapping[str, str], *, without: str | None = None) -> Iterator[None]:
    """Change variables of the environment within a block.

    Args:
        without: prefixes of variables that are removed.
    """
    before = dict(os.environ)
    kept = {name: value for name, value in before.items() if without is None or not name.startswith(without)}
    os.environ.clear()
    os.environ.update({**kept, **changes})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
