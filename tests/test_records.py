"""Checks of records and failures: every bit survives JSON, and nothing else is accepted."""

import dataclasses
import hashlib
import json
import math
from typing import Any

import pytest

from lt_rebalance.records import KINDS, STATES, Artifact, Failure, Record, Summary, Timing, stage_key

# Numbers whose shortest decimal form is long, or that sit at the edges of what a float can be.
AWKWARD = [0.1 + 0.2, 1 / 3, 5e-324, 2.0**-1074, 1.7976931348623157e308, -0.0, 1e16 + 2, math.pi]


def make_record(**changes: Any) -> Record:
    values: dict[str, Any] = {
        "key": "a" * 64,
        "kind": "classifier",
        "state": "complete",
        "stage": {"kind": "classifier", "seed": 0, "data": {"c": "1/2"}},
        "num_steps": 60,
        "class_counts": (6, 3, 2),
        "training_counts": (6, 6, 6),
        "synthetic_counts": (0, 3, 4),
        "rank_groups": {"head": [0], "medium": [1], "tail": [2]},
        "metrics": {"loss": 0.1 + 0.2, "accuracy": 1 / 3},
        "confusion": ([6, 0, 0], [3, 3, 0], [1, 5, 0]),
        "quality_per_class": {"diversity": [0.9, None, 0.05], "distinct_nearest": [3.0, 1.0, 1.0]},
        "curves": ({"step": 30, "test_recall_K": [1.0, 0.0, 0.1]}, {"step": 60, "test_recall_K": AWKWARD}),
        "artifacts": {"predictions": Artifact(file="predictions-1.npy", num_bytes=3, sha256="b" * 64)},
        "timing": Timing(wall_s=1.5, train_s=1.25, num_errors=0),
        "provenance": {"commit": "c0ffee", "is_dirty": False, "versions": {"torch": "2.15.0"}},
    }
    return Record(**(values | changes))


def make_failure(**changes: Any) -> Failure:
    values: dict[str, Any] = {
        "key": "a" * 64,
        "kind": "classifier",
        "stage": {"kind": "classifier", "seed": 0},
        "error": "RuntimeError: Zürich",
        "traceback": "Traceback:\n  line 1",
        "provenance": {"host": "h"},
    }
    return Failure(**(values | changes))


def edit(text: bytes, **changes: Any) -> bytes:
    """Return the JSON object with some fields set, or removed where the value is `...`."""
    values = json.loads(text) | changes
    return json.dumps({name: value for name, value in values.items() if value is not ...}).encode()


# Keys


def test_stage_key_is_the_sha256_of_sorted_json_without_spaces() -> None:
    canonical = b'{"data":{"c":"1/2","dataset":"x"},"kind":"generator","rate":0.5,"seed":0}'
    stage = {"seed": 0, "rate": 0.5, "kind": "generator", "data": {"dataset": "x", "c": "1/2"}}
    assert stage_key(stage) == hashlib.sha256(canonical).hexdigest()


def test_stage_key_does_not_depend_on_the_order_and_survives_json() -> None:
    stage = make_record().stage
    assert stage_key(dict(reversed(list(stage.items())))) == stage_key(stage)
    assert stage_key(Record.from_json(make_record().to_json()).stage) == stage_key(stage)
    assert stage_key({**stage, "seed": 1}) != stage_key(stage)


# Records


def test_record_survives_json() -> None:
    assert Record.from_json(make_record().to_json()) == make_record()


def test_record_numbers_survive_json_bit_for_bit() -> None:
    names = [str(index) for index in range(len(AWKWARD))]
    values = dict(zip(names, AWKWARD, strict=True))
    record = make_record(metrics=values, quality_per_class={"diversity": AWKWARD})
    again = Record.from_json(record.to_json())
    assert [value.hex() for value in again.metrics.values()] == [value.hex() for value in AWKWARD]
    diversity_K = again.quality_per_class["diversity"]
    assert [value.hex() for value in diversity_K if value is not None] == [value.hex() for value in AWKWARD]
    assert [value.hex() for value in again.curves[1]["test_recall_K"]] == [value.hex() for value in AWKWARD]


def test_record_written_again_gives_the_same_bytes() -> None:
    text = make_record().to_json()
    assert Record.from_json(text).to_json() == text


def test_record_is_plain_json_with_all_its_fields() -> None:
    values = json.loads(make_record().to_json())
    assert set(values) == {field.name for field in dataclasses.fields(Record)}
    assert values["artifacts"]["predictions"] == {
        "file": "predictions-1.npy",
        "num_bytes": 3,
        "sha256": "b" * 64,
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("field", ["metrics", "curves", "quality_per_class", "timing"])
def test_record_with_a_number_that_is_not_finite_is_not_written(field: str, value: float) -> None:
    changed = {
        "metrics": {"loss": value},
        "curves": ({"step": 1, "loss": value},),
        "quality_per_class": {"diversity": [value]},
        "timing": Timing(wall_s=value, train_s=0.0, num_errors=0),
    }
    with pytest.raises(ValueError, match="not JSON compliant"):
        make_record(**{field: changed[field]}).to_json()


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_record_with_a_number_that_is_not_finite_is_not_read(constant: str) -> None:
    text = make_record(metrics={"loss": 0.25}).to_json().replace(b"0.25", constant.encode())
    assert constant.encode() in text
    with pytest.raises(ValueError, match=r"NaN|Infinity|finite"):
        Record.from_json(text)


@pytest.mark.parametrize(
    "changes",
    [{"extra": 1}, *[{field.name: ...} for field in dataclasses.fields(Record)]],
    ids=lambda changes: next(iter(changes)),
)
def test_record_with_unknown_or_missing_fields_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a record has the fields"):
        Record.from_json(edit(make_record().to_json(), **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"timing": {"wall_s": 1.0}},
        {"timing": {"wall_s": 1.0, "train_s": 1.0, "num_errors": 0, "extra": 1}},
        {"timing": None},
        {"artifacts": {"weights": {"file": "w"}}},
        {"artifacts": {"weights": {"file": "w", "num_bytes": 1, "sha256": "b", "extra": 1}}},
        {"artifacts": []},
    ],
    ids=str,
)
def test_record_with_bad_inner_fields_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="record"):
        Record.from_json(edit(make_record().to_json(), **changes))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"5", b"\xff\xfe", b"garbage", b"{}"])
def test_record_from_something_else_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Record.from_json(text)


def test_record_cut_short_anywhere_is_refused() -> None:
    text = make_record().to_json()
    for length in range(len(text)):
        with pytest.raises(ValueError, match=r".+"):
            Record.from_json(text[:length])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", STATES)
def test_record_of_known_kind_and_state_is_accepted(kind: str, state: str) -> None:
    assert make_record(kind=kind, state=state).state == state


def test_record_of_unknown_kind_or_state_names_the_known() -> None:
    with pytest.raises(ValueError, match="unknown kind of record 'cnn'; known: generator, classifier"):
        make_record(kind="cnn")
    with pytest.raises(ValueError, match="unknown state of a record 'done'; known: complete, diverged"):
        make_record(state="done")


def test_record_deterministic_part_leaves_out_time_and_place_and_nothing_else() -> None:
    values = make_record().deterministic()
    assert set(values) == {field.name for field in dataclasses.fields(Record)} - {"timing", "provenance"}
    other_time = make_record(timing=Timing(wall_s=9.0, train_s=8.0, num_errors=3), provenance={"host": "x"})
    assert other_time.deterministic() == values
    assert make_record(metrics={"loss": 0.3}).deterministic() != values


def test_record_deterministic_part_survives_json() -> None:
    assert Record.from_json(make_record().to_json()).deterministic() == make_record().deterministic()


# Failures


def test_failure_survives_json() -> None:
    assert Failure.from_json(make_failure().to_json()) == make_failure()


@pytest.mark.parametrize(
    "changes",
    [{"extra": 1}, *[{field.name: ...} for field in dataclasses.fields(Failure) if field.name != "cause"]],
    ids=lambda changes: next(iter(changes)),
)
def test_failure_with_unknown_or_missing_fields_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a failure"):
        Failure.from_json(edit(make_failure().to_json(), **changes))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}"])
def test_failure_from_something_else_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Failure.from_json(text)


# Summaries


def summary_of(record: Record) -> Summary:
    return Summary(state=record.state, metrics=record.metrics, timing=record.timing)


TRICKY = {
    "stage": {"kind": "classifier", "state": "x", "metrics": 3, "timing": "t", "note": '"state":"diverged"'},
    "provenance": {"metrics": {"accuracy": 0.0}, "state": "nowhere"},
}
"""names and texts that look like the fields of a summary"""


@pytest.mark.parametrize("changes", [{}, {"state": "diverged", "metrics": {}}, TRICKY])
def test_summary_is_that_of_the_record_however_it_is_written(changes: dict[str, Any]) -> None:
    record = make_record(**changes)
    content = record.to_json()
    values = json.loads(content)
    shuffled = json.dumps(dict(reversed(list(values.items())))).encode()
    indented = json.dumps(values, indent=1, sort_keys=True).encode()
    for written in (content, indented, shuffled):
        assert Summary.from_json(written) == summary_of(record)


def test_summary_of_a_record_before_device_time_charges_wall_time() -> None:
    values = json.loads(make_record().to_json())
    del values["timing"]["device_s"]
    timing = Summary.from_json(json.dumps(values, sort_keys=True).encode()).timing
    assert timing.device_s is None and timing.charged_s == timing.wall_s == 1.5
    assert Timing(wall_s=1.5, train_s=1.0, num_errors=0, device_s=0.25).charged_s == 0.25


@pytest.mark.parametrize("num_bytes", [0, 1, 100, -1, -40])
def test_summary_of_a_record_cut_off_is_refused(num_bytes: int) -> None:
    content = make_record().to_json()
    with pytest.raises(ValueError, match=r"char|delimiter|Expecting|Unterminated"):
        Summary.from_json(content[:num_bytes])


def test_record_is_written_without_spaces() -> None:
    content = make_record(stage={"kind": "classifier"}).to_json()
    assert b" " not in content and b"\n" not in content
