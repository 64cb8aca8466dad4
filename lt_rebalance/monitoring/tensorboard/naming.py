"""Name the runs of a study for TensorBoard, from its plan in the store; no torch."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lt_rebalance.ground.imbalance import ORIGINAL, is_c
from lt_rebalance.ground.names import check_name
from lt_rebalance.ground.paper import flatten
from lt_rebalance.store.study_document import StudyCell, StudyDocument, StudyStage

if TYPE_CHECKING:  # importing names must not load TensorBoard
    from lt_rebalance.monitoring.tensorboard.protos import HParam


@dataclass(frozen=True, kw_only=True)
class EventRun:
    """One run of TensorBoard: a cell at its seeds, or a generator or a first training that they share."""

    directory: str
    """the directory of its events in the store"""
    group: str
    """the cell, whose seeds are repeats of each other; empty for what cells share"""
    hparams: "Mapping[str, HParam]"
    """the cell's configuration in dotted names, without absent fields"""
    class_names: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EventRun":
        """Return the run that `to_dict` described."""
        return cls(**{**values, "class_names": tuple(values["class_names"])})


def study_directory(study: str) -> str:
    """Return the directory of the events of a study in a store; TensorBoard reads it."""
    return f"events/{path_name(study)}"


def name_runs(study: StudyDocument) -> dict[str, EventRun]:
    """Return the run of each stage of a study, by key.

    A stage that several cells share is named after the first of them. No two stages share a directory.
    """
    hparams = [flatten_cell(cell) for cell in study.cells]
    return {key: _name_run(study, stage, hparams[stage.cell]) for key, stage in study.stages.items()}


def _name_run(study: StudyDocument, stage: StudyStage, hparams: "Mapping[str, HParam]") -> EventRun:
    cell, is_run = study.cells[stage.cell], stage.kind == "classifier"
    parts = (cell.dataset, cell.protocol, name_data(cell.data))
    root = "/".join([study_directory(study.name), *map(path_name, parts)])
    trained = path_name(stage.trains) if is_run else f"{stage.kind}-{path_name(stage.trains)}"
    return EventRun(
        directory=f"{root}/{trained}/{path_name(stage.replicate.replace(' ', '-'))}",
        group=name_cell(cell) if is_run else "",
        hparams=hparams if is_run else {},
        class_names=study.class_names[cell.dataset],
    )


def name_cell(cell: StudyCell) -> str:
    """Return the name of a cell, distinguishing parts first: "oversample, C=7/9, sound, fashion_mnist"."""
    return f"{cell.method}, {name_data(cell.data)}, {cell.protocol}, {cell.dataset}"


def name_data(data: str) -> str:
    """Return "C=7/9", "exp=100", or "original"."""
    if data == ORIGINAL:
        return data
    return f"C={data}" if is_c(data) else data.replace(" ", "=")


def is_ceiling(study: StudyDocument) -> bool:
    """Whether the original set, if any, was run under the method none alone, as a reference."""
    return all(cell.method == "none" for cell in study.cells if cell.data == ORIGINAL)


def flatten_cell(cell: StudyCell) -> "dict[str, HParam]":
    """Return a cell's protocol and configuration in dotted names, without absent fields."""
    present = {name: value for name, value in flatten(cell.config).items() if value is not None}
    return {"protocol": cell.protocol, **present}


def path_name(name: str) -> str:
    """Return a name as a part of a path.

    Raises:
        ValueError: the name breaks the rule, for example by leading out of the directory.
    """
    return check_name("a part of a path", name.replace("/", "-"))
