"""Check the values of a record: the type of every field, and the consistency of fields with each other.

Shape suffixes: K classes.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_rebalance.ground.arrays import predictions_type
from lt_rebalance.ground.confusion import MAX_DETAILED, SPARSE_ROW, Confusion
from lt_rebalance.ground.imbalance import ORIGINAL, RANK_GROUPS, name_data
from lt_rebalance.ground.metrics import COLLAPSED_BELOW, METRICS, SELECTION_METRIC, confusion_metrics
from lt_rebalance.ground.values import (
    LARGEST,
    LARGEST_S,
    MisfitError,
    Shape,
    anything,
    as_object,
    canonical,
    digest,
    fields,
    flag,
    inside,
    label,
    list_of,
    mapping_of,
    name,
    number,
    one_of,
    optional,
    require,
    text,
    whole,
)
from lt_rebalance.store.config_values import CLASSIFIER_STAGE, GENERATOR_STAGE

KINDS = ("generator", "classifier", "validation", "representation")
STATES = ("complete", "diverged")
NOT_APPLICABLE = "not applicable"
CAUSES = ("input", NOT_APPLICABLE, "memory", "own file", "code", "infrastructure", "unknown")
"""causes of failures: wrong configuration or data; a method that does not apply to the training set, which is
a result; too little memory; an exception in a user's file; any other exception; lost workers, nodes and
storage; failures from before causes were recorded"""

ROUNDING = 1e-9
"""tolerance between a number and its recomputed value"""
_SUFFIXES = (".npy", ".safetensors")
_NPY_HEADER_BYTES = 128
"""of an array with one axis, in numpy's format"""
_GROUPS = tuple(RANK_GROUPS)
_SPLITS = {"classifier": "test", "validation": "validation"}
_NEEDED = {
    "generator": ("num_collapsed_classes",),
    **dict.fromkeys(_SPLITS, ("loss", "accuracy", "macro_f1", "num_dead_classes")),
    "representation": ("train_loss",),
}
"""metrics that readers of a complete record rely on, by kind"""
_RANGES: dict[str, tuple[float, float]] = {
    **{each: (metric.low, metric.high) for each, metric in METRICS.items()},
    **dict.fromkeys(("recall_K", "probability_real", "probability_fake"), (0.0, 1.0)),
    "num_collapsed_classes": (0.0, LARGEST),
}
_RANGES |= {f"{split}_{each}": bounds for each, bounds in _RANGES.items() for split in _SPLITS.values()}
_ANY = (-LARGEST, LARGEST)
_WORDS = optional(label)
PROVENANCE = fields(
    {},
    {
        "commit": _WORDS,
        "is_dirty": optional(flag),
        "versions": mapping_of(_WORDS),
        "torch_build": _WORDS,
        "host": _WORDS,
        "device": _WORDS,
        "lanes": whole(1),
    },
    anything,
)
_SECONDS = number(0, LARGEST_S)
TIMING = fields(
    {"wall_s": _SECONDS, "train_s": _SECONDS, "num_errors": whole()},
    {"device_s": optional(_SECONDS), "finished_s": optional(_SECONDS)},
)
_COUNTS = list_of(whole())


def _confusion_row(value: Any) -> None:  # Any: a JSON value
    if not isinstance(value, str):
        _COUNTS(value)
    elif SPARSE_ROW.fullmatch(value) is None:
        raise MisfitError('cells such as "17 403:2"', value)


_ARTIFACT = fields({"file": name, "num_bytes": whole(), "sha256": digest})
_RECORD = fields(
    {
        "key": digest,
        "kind": one_of(*KINDS),
        "state": one_of(*STATES),
        "stage": as_object,
        "num_steps": whole(),
        "class_counts": _COUNTS,
        "training_counts": _COUNTS,
        "synthetic_counts": _COUNTS,
        "rank_groups": mapping_of(_COUNTS),
        "metrics": as_object,
        "confusion": list_of(_confusion_row),
        "quality_per_class": mapping_of(list_of(optional(number(0, LARGEST)))),
        "curves": list_of(as_object),
        "artifacts": mapping_of(_ARTIFACT, name),
        "timing": TIMING,
        "provenance": PROVENANCE,
    }
)
FAILURE = fields(
    {
        "key": digest,
        "kind": one_of(*KINDS),
        "stage": mapping_of(anything),
        "error": text,
        "traceback": text,
        "provenance": PROVENANCE,
    },
    {"cause": one_of(*CAUSES)},
)


def stage_key(stage: Mapping[str, Any]) -> str:
    """Return the address of a stage in a store: the sha256 of its canonical JSON."""
    return hashlib.sha256(canonical(stage).encode()).hexdigest()


def check_record(values: Any) -> None:  # Any: a JSON value
    """Raise a ValueError unless plain values are those of a consistent record."""
    _RECORD(values)
    _check_stage(values)
    _check_classes(values)
    _check_curves(values)
    _check_artifacts(values)
    if values["state"] == "complete":
        _check_complete(values)
    else:
        for each in ("metrics", "confusion", "artifacts"):
            require(not values[each], each, "empty if training diverged", values[each])


def check_outcome(state: Any, stage: Any, metrics: Any) -> None:  # Any: JSON values
    """Raise a ValueError unless these are valid as state, stage and metrics of a record."""
    one_of(*STATES)(state)
    _shape_of(as_object(stage).get("kind"))(stage)
    mapping_of(number())(metrics)
    is_full = any(set(needed) <= metrics.keys() for needed in _NEEDED.values())
    require(is_full == (state == "complete"), "metrics", f"those of a {state} training", sorted(metrics))


def _shape_of(kind: object) -> Shape:
    return GENERATOR_STAGE if kind == "generator" else CLASSIFIER_STAGE


def _check_stage(values: Mapping[str, Any]) -> None:
    kind, stage = values["kind"], values["stage"]
    inside("stage", _shape_of(kind), stage)
    require(stage["kind"] == kind, "stage.kind", f"{kind!r} equal to the record's kind", stage["kind"])
    what = "the sha256 of the stage that it states; the record is foreign"
    require(stage_key(stage) == values["key"], "key", what, values["key"])


def _check_classes(values: Mapping[str, Any]) -> None:
    """Check that values by class have one entry per class, and that counts agree with each other."""
    num_classes = len(values["class_counts"])
    by_class = {each: values[each] for each in ("class_counts", "training_counts", "synthetic_counts")}
    by_class |= {f"quality_per_class.{each}": found for each, found in values["quality_per_class"].items()}
    for where, found in by_class.items():
        require(len(found) == num_classes > 0, where, f"of {num_classes} classes", found)
    synthetic, trained = values["synthetic_counts"], values["training_counts"]
    is_part = all(made <= all_of for made, all_of in zip(synthetic, trained, strict=True))
    require(is_part, "synthetic_counts", "at most the training_counts", synthetic)
    groups = values["rank_groups"]
    if name_data(values["stage"]["data"]) == ORIGINAL:
        require(not groups, "rank_groups", "empty for the original set", groups)
        return
    grouped = [label_of for labels in groups.values() for label_of in labels]
    require(sorted(grouped) == list(range(num_classes)), "rank_groups", "all classes, each once", groups)
    require(set(groups) <= set(_GROUPS), "rank_groups", f"of {', '.join(_GROUPS)}", sorted(groups))
    counts = [
        [values["class_counts"][each] for each in groups[name_of]] for name_of in _GROUPS if name_of in groups
    ]
    falls = all(min(more) >= max(fewer) for more, fewer in itertools.pairwise(counts))
    require(falls, "rank_groups", "in the order of class_counts", groups)


def _check_curves(values: Mapping[str, Any]) -> None:
    """Check the type and range of every number, and that there are as many rounds as were trained."""
    rows, stage, num_classes = values["curves"], values["stage"], len(values["class_counts"])
    columns = rows[0].keys() if rows else set()
    for index, row in enumerate(rows):
        require(row.keys() == columns, f"curves.{index}", "a row with the same columns", sorted(row))
    require(not rows or "step" in columns, "curves", "of rows that have step", sorted(columns))
    for column in columns:
        found = [row[column] for row in rows]
        if column.endswith("_K"):
            is_list = all(type(each) is list and len(each) == num_classes for each in found)
            require(is_list, f"curves.{column}", f"lists of {num_classes}", found)
            found = list(itertools.chain.from_iterable(found))
        low, high = _RANGES.get(column, _ANY)
        is_number = set(map(type, found)) <= {float, int}
        # All columns at the same time: this takes most of the time for opening a store.
        fits = is_number and low <= min(found) and max(found) <= high
        require(fits, f"curves.{column}", f"numbers from {low:g} to {high:g}", found)
    budget = stage["generator" if values["kind"] == "generator" else "classifier"]["budget"]
    _check_rounds([row["step"] for row in rows], budget, values)


def _check_rounds(steps: Sequence[Any], budget: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Check that rounds end where the budget says, and training at the end of the last one."""
    num_rounds, num_steps = budget["epochs"] or budget["rounds"], values["num_steps"]
    for index, step in enumerate(steps, start=1):
        total = steps[0] * num_rounds if budget["steps"] is None else budget["steps"]
        is_due = type(step) is int and 0 < index <= num_rounds and step == total * index // num_rounds
        require(is_due, f"curves.{index - 1}.step", f"where round {index} of {num_rounds} ends", step)
    last_step = steps[-1] if steps else 0
    if values["state"] == "complete":
        is_due = num_steps == last_step and (num_steps > 0 or budget["steps"] == 0)
        require(is_due, "num_steps", f"{last_step}, where the curves end, and not 0", num_steps)
    else:
        require(num_steps >= last_step, "num_steps", f"at least {last_step}", num_steps)


def _check_artifacts(values: Mapping[str, Any]) -> None:
    for role, artifact in values["artifacts"].items():
        file = artifact["file"]
        fits = file.startswith(f"{role}-") and file.endswith(_SUFFIXES)
        require(fits, f"artifacts.{role}.file", f"{role}-... with an ending of {_SUFFIXES}", file)


def _check_complete(values: Mapping[str, Any]) -> None:
    metrics = values["metrics"]
    for each, value in metrics.items():
        label(each)
        low, high = _RANGES.get(each, _ANY)
        is_within = type(value) in (float, int) and low <= value <= high
        require(is_within, f"metrics.{each}", f"from {low:g} to {high:g}", value)
    for each in _NEEDED[values["kind"]]:
        require(each in metrics, "metrics", f"a mapping that has {each}", sorted(metrics))
    if values["kind"] == "generator":
        _check_generator(values)
    elif values["kind"] == "representation":
        _follow(metrics, values["curves"][-1], "by the last row of its curves")
        require(not values["confusion"], "confusion", "empty of a representation", values["confusion"])
    else:
        _check_classifier(values)


def _check_generator(values: Mapping[str, Any]) -> None:
    metrics, quality = values["metrics"], values["quality_per_class"]
    require(not values["confusion"], "confusion", "empty of a generator", values["confusion"])
    require("diversity" in quality, "quality_per_class", "a mapping that has diversity", sorted(quality))
    collapsed = sum(each is not None and each < COLLAPSED_BELOW for each in quality["diversity"])
    _follow(metrics, {"num_collapsed_classes": collapsed}, "by the diversity of its classes")
    _follow(metrics, values["curves"][-1], "by the last row of its curves")


def _check_classifier(values: Mapping[str, Any]) -> None:
    metrics, confusion, stage = values["metrics"], values["confusion"], values["stage"]
    read = _read_confusion(confusion, len(values["class_counts"]))
    measured_K = read.true_K
    require(bool(measured_K.all()), "confusion", "of images of every class", measured_K.tolist())
    own_validation = stage["data"].get("validation")
    if values["kind"] == "validation" and own_validation is None:
        size = stage["data"]["validation_per_class"]
        is_all = bool((measured_K == size).all())
        require(is_all, "confusion", f"of {size} images per class", measured_K.tolist())
    if (predictions := values["artifacts"].get("predictions")) is not None:
        width = np.dtype(predictions_type(read.num_classes)).itemsize
        size = (predictions["num_bytes"] - _NPY_HEADER_BYTES) / width
        total = read.num_images
        require(total == size, "confusion", f"of {size:g} images, the number of predictions", total)
    _follow(metrics, confusion_metrics(read, metrics), "by its confusion matrix")
    prefix = f"{_SPLITS[values['kind']]}_"
    rows = values["curves"][-1:] if stage["classifier"]["selection"] == "last" else values["curves"]
    is_reported = any(
        all(row.get(f"{prefix}{each}", value) == value for each, value in metrics.items()) for row in rows
    )
    require(is_reported, "metrics", "those of the round that is reported", metrics)
    needed = {f"{prefix}{each}" for each in _NEEDED["classifier"]}
    if values["kind"] == "classifier" and (stage["data"]["validation_per_class"] or own_validation):
        needed.add(f"validation_{SELECTION_METRIC}")
    missing = sorted(needed - values["curves"][0].keys())
    require(not missing, "curves", f"of rows that have {', '.join(missing)}", sorted(values["curves"][0]))


def _read_confusion(rows: Sequence[Any], num_classes: int) -> Confusion:
    """Check that a confusion matrix has the format for its number of classes, and return it."""
    is_sparse = num_classes > MAX_DETAILED
    is_square = len(rows) == num_classes and all(
        isinstance(row, str) if is_sparse else isinstance(row, list) and len(row) == num_classes
        for row in rows
    )
    form = "sparse rows" if is_sparse else f"rows of {num_classes}"
    require(is_square, "confusion", f"{num_classes} {form}", f"{len(rows)} rows")
    read = Confusion.from_rows(rows)
    if is_sparse:
        is_known = bool((read.predicted_M < num_classes).all())
        is_in_order = bool((np.diff(read.true_M * num_classes + read.predicted_M) > 0).all())
        what = f"each cell once, in order, of classes below {num_classes}"
        require(is_known and is_in_order, "confusion", what, f"{len(rows)} rows")
    return read


def _follow(metrics: Mapping[str, float], found: Mapping[str, float], from_what: str) -> None:
    for each, value in metrics.items():
        expected = found.get(each, value)
        is_near = abs(expected - value) <= ROUNDING
        require(is_near, f"metrics.{each}", f"{expected} {from_what}", value)
