"""Checks of records and failures: every bit survives JSON, and nothing else is accepted."""

import dataclasses
import hashlib
import json
import math
from typing import Any

import pytest

from lt_rebalance.store.records import Artifact, Failure, Record, Summary, Timing, stage_key
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.training.configs import Execution
from tests.made_up import forge, make_up

# Numbers whose shortest decimal form is long, or that sit at the edges of what a loss can be.
AWKWARD = [0.1 + 0.2, 1 / 3, 5e-324, 2.0**-1074, 3.4e38, -0.0, 1e16 + 2, math.pi]
CELL = make_cell(
    get_protocol("sound"), dataset="fashion_mnist_mini", c="1/2", method="undersample", generator=None
)
STAGE = CELL.stage(0, Execution(device="cpu", precision="float32", num_threads=1, torch_version="2.15.0"))


def make_record(state: str = "complete", **changes: Any) -> Record:
    """Return a record whose artefact is there, and whose curves hold awkward numbers."""
    record = make_up(STAGE, state, loss=0.1 + 0.2)
    curves = [{**row, "train_loss": AWKWARD[index % len(AWKWARD)]} for index, row in enumerate(record.curves)]
    values = {
        "curves": tuple(curves),
        "provenance": {"commit": "c0ffee", "is_dirty": False, "versions": {"torch": "2.15.0"}},
    }
    if state == "complete":
        artifact = Artifact(file="predictions-1.npy", num_bytes=1128, sha256="b" * 64)
        values["artifacts"] = {"predictions": artifact}
    return dataclasses.replace(record, **values | changes)


def make_failure(**changes: Any) -> Failure:
    values: dict[str, Any] = {
        "key": "a" * 64,
        "kind": "classifier",
        "stage": STAGE.to_dict(),
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
    again = Record.from_json(make_record().to_json())
    found = [row["train_loss"].hex() for row in again.curves]
    assert found[: len(AWKWARD)] == [value.hex() for value in AWKWARD]


def test_record_written_again_gives_the_same_bytes() -> None:
    text = make_record().to_json()
    assert Record.from_json(text).to_json() == text


def test_record_is_plain_json_with_all_its_fields() -> None:
    values = json.loads(make_record().to_json())
    assert set(values) == {field.name for field in dataclasses.fields(Record)} | {"sha256"}
    assert values["artifacts"]["predictions"] == {
        "file": "predictions-1.npy",
        "num_bytes": 1128,
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


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 400])
def test_record_with_a_number_that_is_not_finite_is_not_read(constant: str) -> None:
    values = json.loads(make_record().to_json())
    values["provenance"]["extra"] = 0.25
    text = forge(values).replace(b"0.25", constant.encode())
    assert constant.encode() in text
    with pytest.raises(ValueError, match=r"NaN|Infinity|finite"):
        Record.from_json(text)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Record)])
def test_record_without_one_of_its_fields_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"must be an object with '{name}'"):
        Record.from_json(edit(make_record().to_json(), **{name: ...}))


def test_record_with_a_field_more_is_refused() -> None:
    with pytest.raises(ValueError, match="must be an object of key, kind"):
        Record.from_json(edit(make_record().to_json(), extra=1))


def test_record_that_has_a_field_twice_is_refused() -> None:
    content = make_record().to_json()
    with pytest.raises(ValueError, match="'kind' more than once"):
        Record.from_json(content.replace(b'"key"', b'"kind":"generator","key"', 1))


# Values of a record. Each alteration is sealed again, as by somebody who knows how.


def altered(path: str, change: Any) -> dict[str, Any]:
    """Return a record's values with the one at a path changed: by a function, or to a value."""
    values: dict[str, Any] = json.loads(make_record().to_json())
    *parents, last = path.split(".")
    holder: Any = values
    for part in parents:
        holder = holder[int(part) if isinstance(holder, list) else part]
    place: Any = int(last) if isinstance(holder, list) else last
    holder[place] = change(holder[place]) if callable(change) else change
    return values


ALTERATIONS: list[tuple[str, Any]] = [
    ("metrics.accuracy", lambda value: value + 1e-6),
    ("metrics.macro_f1", 0.1),
    ("metrics.weighted_f1", 0.1),
    ("metrics.worst_class_recall", 0.1),
    ("metrics.num_dead_classes", 1.0),
    ("metrics.accuracy", True),
    ("metrics.accuracy", "0.5"),
    ("metrics.brier", 2.5),
    ("metrics.brier", 0.25),
    ("metrics.ece", -0.1),
    ("metrics.nll", -1.0),
    ("metrics.loss", 1e300),
    ("metrics.loss", None),
    ("metrics", {}),
    ("confusion", []),
    ("confusion.0.0", lambda value: value - 1),
    ("confusion.0.0", -1),
    ("confusion.0.0", 50.0),
    ("confusion.0.0", 10**30),
    ("confusion.0", [1, 2]),
    ("confusion", lambda rows: [[2 * count for count in row] for row in rows]),
    ("state", "diverged"),
    ("state", "finished"),
    ("kind", "generator"),
    ("kind", "validation"),
    ("key", "0" * 64),
    ("key", "../x"),
    ("stage.seed", 1),
    ("stage.data.c", "1/3"),
    ("stage", {}),
    ("class_counts.0", True),
    ("class_counts", [1, 2]),
    ("synthetic_counts.0", 10**6),
    ("rank_groups.head", [0]),
    ("rank_groups.head.0", 99),
    (
        "rank_groups",
        lambda groups: {"head": groups["tail"], "medium": groups["medium"], "tail": groups["head"]},
    ),
    ("quality_per_class", {"diversity": [1.0]}),
    ("quality_per_class", {"diversity": ["x"] * 10}),
    ("curves", []),
    ("curves", lambda rows: rows[1:]),
    ("curves", lambda rows: rows[:-1]),
    ("curves.0.step", 1),
    ("curves.3.test_accuracy", 1.5),
    ("curves.3.test_accuracy", [0.5] * 10),
    ("curves.3.test_recall_K", [0.5]),
    ("curves.3.test_recall_K", 0.5),
    ("curves.3", {"step": 4}),
    ("num_steps", 5),
    ("timing.wall_s", -1.0),
    ("timing.train_s", 1e300),
    ("timing.num_errors", 0.5),
    ("timing.finished_s", "now"),
    ("timing", {"wall_s": 1.0}),
    ("timing", None),
    ("artifacts.predictions.file", "../../x"),
    ("artifacts.predictions.file", "result.json"),
    ("artifacts.predictions.num_bytes", -1),
    ("artifacts.predictions.num_bytes", 1129),
    ("artifacts.predictions.sha256", "b"),
    ("artifacts", {"weights": {"file": "w"}}),
    ("artifacts", []),
    ("provenance.is_dirty", "yes"),
    ("provenance.commit", "\x1b[31m"),
    ("provenance.versions", [1]),
    ("provenance", "x"),
]


@pytest.mark.parametrize(("path", "change"), ALTERATIONS, ids=[path for path, _ in ALTERATIONS])
def test_record_that_contradicts_itself_is_refused_though_its_seal_is_whole(path: str, change: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        Record.from_json(forge(altered(path, change)))


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("curves.0.train_loss", 7.0),
        ("curves.3.test_recall_K.2", 0.25),
        ("provenance.commit", "beef"),
        ("timing.wall_s", 3.0),
        ("class_counts.0", 21),
    ],
)
def test_record_altered_where_nothing_contradicts_it_breaks_its_seal(path: str, change: Any) -> None:
    values = altered(path, change)
    assert Record.from_json(forge(values))
    for content in (json.dumps(values), json.dumps(values, sort_keys=True, separators=(",", ":"))):
        for read in (Record.from_json, Summary.from_json):
            with pytest.raises(ValueError, match="does not have the sha256"):
                read(content.encode())


def test_record_from_before_seals_is_read_and_checked_by_value() -> None:
    values = json.loads(make_record().to_json())
    del values["sha256"]
    assert Record.from_json(json.dumps(values).encode()) == make_record()
    del (of_before := altered("metrics.accuracy", 0.9))["sha256"]
    for read in (Record.from_json, Summary.from_json):
        with pytest.raises(ValueError, match="by its confusion matrix"):
            read(json.dumps(of_before).encode())


@pytest.mark.parametrize("seal", [None, 5, "", "0" * 64])
def test_record_with_a_wrong_seal_is_refused(seal: Any) -> None:
    content = edit(make_record().to_json(), sha256=seal)
    for read in (Record.from_json, Summary.from_json):
        with pytest.raises(ValueError, match="does not have the sha256"):
            read(content)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"5", b"\xff\xfe", b"garbage", b"{}"])
def test_record_from_something_else_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Record.from_json(text)


@pytest.mark.slow
def test_record_cut_short_anywhere_is_refused() -> None:
    text = make_record().to_json()
    for length in range(len(text)):
        with pytest.raises(ValueError, match=r".+"):
            Record.from_json(text[:length])


def test_record_of_unknown_kind_or_state_names_the_known() -> None:
    with pytest.raises(ValueError, match=r"kind must be one of generator, classifier, .*, got 'cnn'"):
        dataclasses.replace(make_record(), kind="cnn").to_json()
    with pytest.raises(ValueError, match="state must be one of complete, diverged, got 'done'"):
        dataclasses.replace(make_record(), state="done").to_json()


def test_record_deterministic_part_leaves_out_time_and_place_and_nothing_else() -> None:
    values = make_record().deterministic()
    assert set(values) == {field.name for field in dataclasses.fields(Record)} - {"timing", "provenance"}
    other_time = make_record(timing=Timing(wall_s=9.0, train_s=8.0, num_errors=3), provenance={"host": "x"})
    assert other_time.deterministic() == values
    assert make_record(num_steps=5).deterministic() != values


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
    with pytest.raises(ValueError, match="must be an object"):
        Failure.from_json(edit(make_failure().to_json(), **changes))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}"])
def test_failure_from_something_else_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Failure.from_json(text)


# Summaries


def summary_of(record: Record) -> Summary:
    return Summary(state=record.state, stage=record.stage, metrics=record.metrics, timing=record.timing)


TRICKY = {"provenance": {"metrics": {"accuracy": 0.0}, "state": "nowhere", "note": '"state":"diverged"'}}
"""names and texts that look like the fields of a summary"""


@pytest.mark.parametrize("record", [make_record(), make_record("diverged"), make_record(**TRICKY)])
def test_summary_is_that_of_the_record_however_it_is_written(record: Record) -> None:
    content = record.to_json()
    values = json.loads(content)
    shuffled = json.dumps(dict(reversed(list(values.items())))).encode()
    indented = json.dumps(values, indent=1, sort_keys=True).encode()
    for written in (content, indented, shuffled):
        assert Summary.from_json(written) == summary_of(record)


@pytest.mark.parametrize(("path", "change"), ALTERATIONS, ids=[path for path, _ in ALTERATIONS])
def test_glance_refuses_what_the_record_is_refused_for(path: str, change: Any) -> None:
    """Whoever alters a record breaks its seal."""
    values = altered(path, change)
    written = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    seal = values.pop("sha256")
    in_place = forge(values)[:-67] + f'"{seal}"}}'.encode()
    for content in (written, in_place):
        with pytest.raises(ValueError, match=r"must be|does not have"):
            Summary.from_json(content)


def test_glance_at_odd_fields_reads_the_whole_record_though_its_seal_is_whole() -> None:
    for path, change in (
        ("timing.wall_s", "x"),
        ("metrics.accuracy", "x"),
        ("state", "diverged"),
        ("stage.seed", "x"),
        ("stage", 3),
        ("metrics", 3),
    ):
        with pytest.raises(ValueError, match="must be"):
            Summary.from_json(forge(altered(path, change)))


def test_summary_of_a_record_before_device_time_charges_wall_time() -> None:
    values = json.loads(make_record().to_json())
    del values["timing"]["device_s"], values["sha256"]
    timing = Summary.from_json(json.dumps(values, sort_keys=True).encode()).timing
    assert timing.device_s is None and timing.charged_s == timing.wall_s == 2.0
    assert Timing(wall_s=1.5, train_s=1.0, num_errors=0, device_s=0.25).charged_s == 0.25


@pytest.mark.parametrize("num_bytes", [0, 1, 100, -1, -40])
def test_summary_of_a_record_cut_off_is_refused(num_bytes: int) -> None:
    content = make_record().to_json()
    with pytest.raises(ValueError, match=r"char|delimiter|Expecting|Unterminated"):
        Summary.from_json(content[:num_bytes])


def test_record_is_written_without_spaces() -> None:
    content = make_record().to_json()
    assert b" " not in content and b"\n" not in content
