"""Records: everything a table or a figure needs of one finished training, as plain JSON values."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_DECODER = json.JSONDecoder()

KINDS = ("generator", "classifier", "validation")
STATES = ("complete", "diverged")
CAUSES = ("input", "memory", "code", "infrastructure", "unknown")
"""of failures: wrong configuration or data; too little memory; any other exception; lost workers, nodes and
storage; failures from before causes were kept"""


def stage_key(stage: Mapping[str, Any]) -> str:
    """Return the address of a stage in a store: the sha256 of its canonical JSON."""
    canonical = json.dumps(stage, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def name_seeds(seed: int, subset_seed: int | None = None, generator_seed: int | None = None) -> str:
    """Return how a replicate is named: by its seed, and by those of its subset and generator that differ."""
    subset = "" if subset_seed in (None, seed) else f" of subset {subset_seed}"
    generator = "" if generator_seed in (None, seed) else f" with generator {generator_seed}"
    return f"seed {seed}{subset}{generator}"


def parse_json(
    text: bytes | str, parse_constant: Callable[[str], Any] | None = None
) -> Any:  # Any: a JSON value
    """Return the value that a JSON text holds, as `json.loads` does.

    Raises:
        ValueError: not JSON, or nested more deeply than anything that is written here.
    """
    try:
        return json.loads(text, parse_constant=parse_constant)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file of a record that is too large for JSON."""

    file: str
    """name in the directory of the stage"""
    num_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        # A record may come from a stranger, and this becomes a part of a path.
        name = self.file
        if not isinstance(name, str) or name[:1] in ("", ".") or "/" in name or "\0" in name:
            raise ValueError(f"an artefact's file is a plain name without a leading dot, got {name!r}")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What a training cost; differs from run to run."""

    wall_s: float
    """from the first read to the commit, all attempts that led to it together"""
    train_s: float
    """spent in rounds"""
    num_errors: int
    """earlier attempts that ended in an error"""
    device_s: float | None = None
    """device time it is charged with: a GPU's, or else a CPU core's, shared evenly by the lanes that held it
    together; None in records from before it was kept"""
    finished_s: float | None = None
    """when it was committed, in seconds since 1970 by the clock of its machine; None as above"""

    @property
    def charged_s(self) -> float:
        """The device time, or the wall time of records from before it was kept."""
        return self.wall_s if self.device_s is None else self.device_s


@dataclass(frozen=True, kw_only=True)
class Record:
    """The result of one stage. Times and provenance aside, it is a function of the stage alone."""

    key: str
    """sha256 that names the stage"""
    kind: str
    """"generator", "classifier", or "validation": a classifier measured on its validation set alone"""
    state: str
    """"complete", or "diverged": a loss was not finite, and training stopped there"""
    stage: Mapping[str, Any]
    """what the training read: configuration, seed, generator stage, execution"""
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
    confusion: tuple[list[int], ...]
    """images measured on by true class (rows) and prediction (columns); empty for generators, if diverged"""
    quality_per_class: Mapping[str, list[float | None]]
    """how the generator draws each class, by measure of `generator_quality`; empty without a generator"""
    curves: tuple[Mapping[str, Any], ...]
    """one row a round"""
    artifacts: Mapping[str, Artifact]
    """by role: "predictions" (npy, one test prediction an image), "precision_recall" (npy, counts by class
    and threshold), "weights" (safetensors), "samples" (npy)"""
    timing: Timing
    provenance: Mapping[str, Any]
    """commit, versions, device, host"""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of record {self.kind!r}; known: {', '.join(KINDS)}")
        if self.state not in STATES:
            raise ValueError(f"unknown state of a record {self.state!r}; known: {', '.join(STATES)}")

    def deterministic(self) -> dict[str, Any]:
        """Return the part that two trainings of the stage must agree on, bit for bit on one kind of CPU."""
        values = dataclasses.asdict(self)
        del values["timing"], values["provenance"]
        return values

    def to_json(self) -> bytes:
        """Return the record as UTF-8 JSON; numbers keep every bit, and none may be NaN or infinite."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return text.encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Record":
        """Read a record.

        Raises:
            ValueError: not JSON, or not the fields of a record.
        """
        values = parse_json(text, parse_constant=_refuse_constant)
        expected = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or set(values) != expected:
            found = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise ValueError(f"a record has the fields {sorted(expected)}, got {found}")
        try:
            values["timing"] = Timing(**values["timing"])
            values["artifacts"] = {role: Artifact(**given) for role, given in values["artifacts"].items()}
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not a record: {error}") from None
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = tuple(value)
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a glance at a record shows."""

    state: str
    metrics: Mapping[str, float]
    timing: Timing

    @classmethod
    def from_json(cls, content: bytes) -> "Summary":
        """Read these fields of a record, which takes a tenth of the time that all of it takes.

        Fields stand in the order of their names, so the last mention of each of these is the field. Damage
        elsewhere goes unnoticed; where something is odd about these, the whole record is read.

        Raises:
            ValueError: not a record.
        """
        text = content.decode()
        try:
            state, metrics, timing = (_cut_field(text, name) for name in ("state", "metrics", "timing"))
            is_whole = text.endswith("}") and state in STATES
            if is_whole and all(isinstance(value, float) for value in metrics.values()):
                return cls(state=state, metrics=metrics, timing=Timing(**timing))
        except (ValueError, TypeError, AttributeError, RecursionError):
            pass
        record = Record.from_json(content)
        return cls(state=record.state, metrics=record.metrics, timing=record.timing)


def _cut_field(text: str, name: str) -> Any:  # Any: a JSON value
    position = text.rindex(f'"{name}":') + len(name) + 3
    return _DECODER.raw_decode(text, position + (text[position : position + 1] == " "))[0]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"a record holds finite numbers only, got {name}")


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
    """of the last attempt; empty when the worker died"""
    provenance: Mapping[str, Any]
    cause: str = "unknown"
    """one of `CAUSES`"""

    def to_json(self) -> bytes:
        """Return the failure as UTF-8 JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Failure":
        """Read a failure; ValueError when it is not one."""
        values = parse_json(text)
        if not isinstance(values, dict):
            raise ValueError(f"a failure is an object, got {type(values).__name__}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"not a failure: {error}") from None
