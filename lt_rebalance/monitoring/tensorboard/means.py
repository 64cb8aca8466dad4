"""Curves of methods averaged over seeds: one run of TensorBoard, and one colour, per method."""

import statistics
from collections.abc import Iterator, Sequence
from functools import partial

from lt_rebalance.ground.imbalance import ORIGINAL
from lt_rebalance.ground.metrics import FURTHER, HEADLINE, METRICS, SELECTION_METRIC, shown_metrics
from lt_rebalance.monitoring.facts import list_runs_by_cell
from lt_rebalance.monitoring.tensorboard.content import is_shown, planned_rounds, tells
from lt_rebalance.monitoring.tensorboard.log import EventLog
from lt_rebalance.monitoring.tensorboard.naming import (
    is_ceiling,
    name_data,
    path_name,
    study_directory,
)
from lt_rebalance.monitoring.tensorboard.protos import Value, scalar
from lt_rebalance.monitoring.tensorboard.writer import remove_events
from lt_rebalance.store import Store
from lt_rebalance.store.records import Record
from lt_rebalance.store.study_document import StudyCell, StudyDocument

BANDED = f"test_{SELECTION_METRIC}"
"""the column whose range over seeds is shown too"""
COMPARED = {
    f"test_{name}": METRICS[name].label
    # A name keeps its first place.
    for name in (SELECTION_METRIC, "balanced_accuracy", *shown_metrics(HEADLINE, FURTHER))
}
"""columns of the curves that are averaged over seeds, and the titles of their charts"""
DIRECTORY = "means"


def mean_tag(cell: StudyCell, column: str) -> str:
    """Return the tag that all methods at one C and protocol share."""
    return f"means/{cell.dataset}/{cell.protocol}/{name_data(cell.data)}/{column}"


def band_tags(cell: StudyCell) -> tuple[str, str, str]:
    """Return the tags of mean, lowest and highest seed of the column that has them."""
    tag = mean_tag(cell, BANDED)
    return tag, f"{tag}/low", f"{tag}/high"


def write_means(store: Store, study: StudyDocument) -> None:
    """Rewrite the curves of each cell, averaged over its complete seeds."""
    root = f"{study_directory(study.name)}/{DIRECTORY}"
    for name in store.files.list(root):
        remove_events(store, f"{root}/{name}")
    logs: dict[str, EventLog] = {}
    for cell, runs in zip(study.cells, list_runs_by_cell(study), strict=True):
        records = store.files.read_each(partial(store.read_record, study=study), [run.key for run in runs])
        if complete := [record for record in records if record is not None and record.state == "complete"]:
            # The original set, as the ceiling, appears once with the methods of every C.
            stands_alone = cell.data == ORIGINAL and is_ceiling(study)
            name = path_name(ORIGINAL if stands_alone else cell.method)
            log = logs.setdefault(name, EventLog(store.files, f"{root}/{name}"))
            for step, values in _average(cell, complete):
                log.add(step, values)
    for log in logs.values():
        log.flush()


def _average(cell: StudyCell, repeats: Sequence[Record]) -> Iterator[tuple[int, list[Value]]]:
    """Yield step and values of each shown round that all seeds have reached."""
    num_rounds = planned_rounds(repeats[0].stage)
    for index, rows in enumerate(zip(*(record.curves for record in repeats), strict=False), start=1):
        if is_shown(index, num_rounds):
            found = {
                column: [row[column] for row in rows]
                for column in COMPARED
                if any(tells(row, column) for row in rows)
                and all(column in row for row in rows)  # a metric may be newer than a record
            }
            values = [
                scalar(mean_tag(cell, column), statistics.fmean(each)) for column, each in found.items()
            ]
            _, low, high = band_tags(cell)
            yield (
                rows[0]["step"],
                [*values, scalar(low, min(found[BANDED])), scalar(high, max(found[BANDED]))],
            )
