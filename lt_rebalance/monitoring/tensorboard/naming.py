"""Name the runs of a study for TensorBoard, from what the store keeps of its plan; no torch."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lt_rebalance.ground.imbalance import ORIGINAL, is_c
from lt_rebalance.ground.names import check_name
from lt_rebalance.store.facts import name_generator_replicate, name_replicate

if TYPE_CHECKING:  # who only needs names does not wait for TensorBoard
    from lt_rebalance.monitoring.tensorboard.protos import HParam


@dataclass(frozen=True, kw_only=True)
class EventRun:
    """One run of TensorBoard: a cell at its seeds, or a generator or a first training that they share."""

    directory: str
    """where its events lie in the store"""
    group: str
    """the cell, whose seeds are repeats of each other; empty for what cells share"""
    hparams: "Mapping[str, HParam]"
    """the cell's configuration in dotted names; what it has not is absent"""
    class_names: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EventRun":
        """Return what `to_dict` described."""
        return cls(**{**values, "class_names": tuple(values["class_names"])})


def study_directory(study: str) -> str:
    """Return where the events of a study lie in a store: what TensorBoard is given to read."""
    return f"events/{path_name(study)}"


def name_runs(study: Mapping[str, Any]) -> dict[str, EventRun]:
    """Return the run of each stage of a study, by key.

    A stage that several cells share goes by the first of them. No two stages share a directory.

    Args:
        study: as `plan.describe_plan` describes it.
    """
    runs: dict[str, EventRun] = {}
    hparams = [flatten_cell(cell) for cell in study["cells"]]
    for run in study["runs"]:
        cell = study["cells"][run["cell"]]
        class_names = tuple(study["datasets"][cell["dataset"]]["class_names"])
        root = f"{study_directory(study['study'])}/{path_name(cell['dataset'])}/{path_name(cell['protocol'])}"
        root += f"/{path_name(name_data(cell['data']))}"
        if run["generator_key"] is not None:
            architecture = cell["config"]["generator"]["architecture"]
            runs.setdefault(
                run["generator_key"],
                EventRun(
                    directory=f"{root}/generator-{path_name(architecture)}/"
                    + _path_words(name_generator_replicate(run)),
                    group="",
                    hparams={},
                    class_names=class_names,
                ),
            )
        if (first_key := run.get("first_key")) is not None:
            architecture = cell["config"]["classifier"]["architecture"]
            runs.setdefault(
                first_key,
                EventRun(
                    directory=f"{root}/representation-{path_name(architecture)}/"
                    + _path_words(name_replicate(run)),
                    group="",
                    hparams={},
                    class_names=class_names,
                ),
            )
        runs.setdefault(
            run["key"],
            EventRun(
                directory=f"{root}/{path_name(cell['method'])}/{_path_words(name_replicate(run))}",
                group=name_cell(cell),
                hparams=hparams[run["cell"]],
                class_names=class_names,
            ),
        )
    return runs


def name_cell(cell: Mapping[str, Any]) -> str:
    """Return the name of a cell, what tells it apart first: "oversample, C=7/9, sound, fashion_mnist"."""
    return f"{cell['method']}, {name_data(cell['data'])}, {cell['protocol']}, {cell['dataset']}"


def name_data(data: str) -> str:
    """Return "C=7/9", "exp=100", or "original"."""
    if data == ORIGINAL:
        return data
    return f"C={data}" if is_c(data) else data.replace(" ", "=")


def is_ceiling(study: Mapping[str, Any]) -> bool:
    """Whether the original set, if any, was run under the method none alone, as what others are beside."""
    return all(cell["method"] == "none" for cell in study["cells"] if cell["data"] == ORIGINAL)


def flatten_cell(cell: Mapping[str, Any]) -> "dict[str, HParam]":
    """Return a cell's protocol and configuration in dotted names, without what it has not."""
    return {"protocol": cell["protocol"], **_flatten(cell["config"])}


def _flatten(config: Mapping[str, Any], prefix: str = "") -> "dict[str, HParam]":
    flat: dict[str, HParam] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        elif value is not None:
            flat[prefix + name] = value
    return flat


def _path_words(words: str) -> str:
    """Return "seed-0" of "seed 0"."""
    return path_name(words.replace(" ", "-"))


def path_name(name: str) -> str:
    """Return a name as a part of a path.

    Raises:
        ValueError: a name that keeps not to the rule, such as one that would lead out of the directory.
    """
    return check_name("a part of a path", name.replace("/", "-"))
