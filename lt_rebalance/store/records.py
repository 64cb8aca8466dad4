"""Records: all data for tables and figures about one finished training, as plain JSON values."""

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lt_rebalance.ground.confusion import Confusion
from lt_rebalance.ground.metrics import METRICS, confusion_metrics
from lt_rebalance.ground.names import check_name
from lt_rebalance.ground.values import canonical, parse_json
from lt_rebalance.store.record_values import (
    CAUSES,
    FAILURE,
    KINDS,
    NOT_APPLICABLE,
    STATES,
    TIMING,
    check_outcome,
    check_record,
    stage_key,
)

__all__ = [
    "CAUSES",
    "KINDS",
    "NOT_APPLICABLE",
    "STATES",
    "Artifact",
    "Failure",
    "Record",
    "Summary",
    "Timing",
    "name_seeds",
    "stage_key",
]

_DECODER = json.JSONDecoder()
_SEAL = "sha256"
_SEALED = re.compile(rb',"%b":"([0-9a-f]{64})"}\Z' % _SEAL.encode())


def name_seeds(seed: int, subset_seed: int | None = None, generator_seed: int | None = None) -> str:
    """Return the name of a replicate: its seed, and the seeds of its subset and generator if they differ."""
    subset = "" if subset_seed in (None, seed) else f" of subset {subset_seed}"
    generator = "" if generator_seed in (None, seed) else f" with generator {generator_seed}"
    return f"seed {seed}{subset}{generator}"


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file of a record that is too large for JSON."""

    file: str
    """name in the directory of the stage"""
    num_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        # A record may come from a stranger, and this becomes part of a path.
        check_name("an artefact's file", self.file)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The cost of a training; differs from run to run."""

    wall_s: float
    """from the first read to the commit, over all attempts"""
    train_s: float
    """spent in rounds"""
    num_errors: int
    """earlier attempts that ended with an error"""
    device_s: float | None = None
    """its device time: a GPU's, or else a CPU core's, shared equally by the lanes that used it together; None
    in older records without it"""
    finished_s: float | None = None
    """when it was committed, in seconds since 1970 by the clock of its machine; None as above"""

    @property
    def charged_s(self) -> float:
        """The device time, or the wall time of older records without it."""
        return self.wall_s if self.device_s is None else self.device_s


@dataclass(frozen=True, kw_only=True)
class Record:
    """The result of one stage. Except for times and provenance, it is a function of the stage alone."""

    key: str
    """sha256 that names the stage"""
    kind: str
    """"generator", "classifier", "validation": a classifier measured only on its validation set, or
    "representation": a training that is not measured and that others start from"""
    state: str
    """"complete", or "diverged": a loss was not finite, and training stopped there"""
    stage: Mapping[str, Any]
    """input of the training: configuration, seed, generator stage, execution"""
    num_steps: int
    """optimizer steps done"""
    class_counts: tuple[int, ...]
    """distinct real images of each class before rebalancing"""
    training_counts: tuple[int, ...]
    """items of each class trained on, real and synthetic"""
    synthetic_counts: tuple[int, ...]
    """generated items of each class among them"""
    rank_groups: Mapping[str, list[int]]
    """classes of head, medium and tail by `class_counts`; empty for the original set"""
    metrics: Mapping[str, float]
    """reported values; empty when diverged"""
    confusion: tuple[list[int], ...] | tuple[str, ...]
    """confusion matrix by true class (rows) and prediction (columns), as `Confusion.to_rows` writes it; empty
    for generators, and if diverged"""
    quality_per_class: Mapping[str, list[float | None]]
    """quality of the generator for each class, by measure of `generator_quality`; empty without a
    generator"""
    curves: tuple[Mapping[str, Any], ...]
    """one row per round"""
    artifacts: Mapping[str, Artifact]
    """by role: "predictions" (npy, one test prediction per image), "precision_recall" (npy, counts by class
    and threshold, of up to `MAX_DETAILED` classes), "weights" (safetensors), "samples" (npy)"""
    timing: Timing
    provenance: Mapping[str, Any]
    """commit, versions, device, host"""

    def read_confusion(self) -> Confusion:
        """Return the confusion matrix of a complete classifier."""
        return Confusion.from_rows(self.confusion)

    def all_metrics(self) -> dict[str, float]:
        """Return the reported values, including later metrics computed from its confusion matrix."""
        is_full = all(name in self.metrics for name, metric in METRICS.items() if metric.of_confusion)
        found = {} if is_full or not self.confusion else confusion_metrics(self.read_confusion())
        return found | dict(self.metrics)

    def deterministic(self) -> dict[str, Any]:
        """Return the part that must be bitwise equal in two trainings on one kind of CPU."""
        values = dataclasses.asdict(self)
        del values["timing"], values["provenance"]
        return values

    def to_json(self) -> bytes:
        """Return the record as UTF-8 JSON that ends with the sha256 of all before; floats keep every bit.

        Raises:
            ValueError: it is not a valid record, for example because a number is not finite.
        """
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        values["timing"] = dataclasses.asdict(self.timing)
        values["artifacts"] = {role: dataclasses.asdict(given) for role, given in self.artifacts.items()}
        text = canonical(values)
        check_record(parse_json(text))
        return f'{text[:-1]},"{_SEAL}":"{_digest(text)}"}}'.encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Record":
        """Read a record, sealed or older without a seal; every value in it is checked.

        Raises:
            ValueError: not JSON, not a record, inconsistent, or altered.
        """
        values = parse_json(content)
        is_sealed = isinstance(values, dict) and _SEAL in values
        seal = values.pop(_SEAL) if is_sealed else None
        check_record(values)
        if is_sealed and not _has_whole_seal(content) and seal != _digest(canonical(values)):
            raise ValueError(f"its content does not have the {_SEAL} that it states")
        values["timing"] = Timing(**values["timing"])
        values["artifacts"] = {role: Artifact(**given) for role, given in values["artifacts"].items()}
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = tuple(value)
        return cls(**values)


def _has_whole_seal(content: bytes) -> bool:
    """Whether a record ends with the sha256 of the bytes before."""
    seal = _SEALED.search(content[-80:])
    if seal is None:
        return False
    body = content[: -len(seal.group())] + b"}"
    return hashlib.sha256(body).hexdigest().encode() == seal.group(1)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The fields that a glance at a record shows."""

    state: str
    stage: Mapping[str, Any]
    metrics: Mapping[str, float]
    timing: Timing

    @classmethod
    def from_json(cls, content: bytes) -> "Summary":
        """Read these fields of a record with an intact seal, in about a sixth of the time of a full read.

        Only `Record.to_json` seals, after checking every value, so any later change of a record is noticed
        here too. A record without an intact seal, or with unusual fields, is read and checked in full.
        A forged seal can make a glance show a record that a full read refuses; so glances only serve counts
        for people.

        Raises:
            ValueError: not a record, or one that was altered.
        """
        if _has_whole_seal(content):
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                return cls._glance(content.decode())
        record = Record.from_json(content)
        return cls(**{each.name: getattr(record, each.name) for each in dataclasses.fields(cls)})

    @classmethod
    def _glance(cls, text: str) -> "Summary":
        # Fields are sorted by name, so the last occurrence of each of these is the field.
        found = {each.name: _cut_field(text, each.name) for each in dataclasses.fields(cls)}
        check_outcome(found["state"], found["stage"], found["metrics"])
        TIMING(found["timing"])
        return cls(**found | {"timing": Timing(**found["timing"])})


def _cut_field(text: str, name: str) -> Any:  # Any: a JSON value
    return _DECODER.raw_decode(text, text.rindex(f'"{name}":') + len(name) + 3)[0]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A stage that ended without a result."""

    key: str
    kind: str
    """one of `KINDS`"""
    stage: Mapping[str, Any]
    error: str
    """one line"""
    traceback: str
    """of the last attempt; empty if the worker died"""
    provenance: Mapping[str, Any]
    cause: str = "unknown"
    """one of `CAUSES`"""

    def to_json(self) -> bytes:
        """Return the failure as UTF-8 JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Failure":
        """Read a failure; ValueError if it is not one."""
        values = parse_json(text)
        FAILURE(values)
        return cls(**values)
