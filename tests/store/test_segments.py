"""A bucket's records together in a few objects: asked for seldom, and never believed against the bucket."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lt_rebalance.files.bucket import Answer, Bucket
from lt_rebalance.files.bucket_files import S3Filesystem
from lt_rebalance.files.filesystem import ReadOnlyFilesystem
from lt_rebalance.ground.errors import ReadOnlyError
from lt_rebalance.monitoring.status import read_status
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.store.records import Failure, Record
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Execution
from tests.made_up import forge, make_up
from tests.places import BucketPlace

CELL = make_cell(get_protocol("sound"), dataset="fashion_mnist", c="1/2", method="none", generator=None)
EXECUTION = Execution(device="cpu", precision="float32", num_threads=1, torch_version="2")
FEWEST = 12
"""records that are worth a segment; the shipped limit takes five times as many, and as long"""
NUM_RECORDS = FEWEST + 6
PLAN = compile_study(Study(name="many", cells=(CELL,), seeds=tuple(range(NUM_RECORDS))), EXECUTION)
KEYS = sorted(PLAN.stages)


class RecordingBucket(Bucket):
    """A bucket that keeps what it was asked, and of which key."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.asked: list[tuple[str, str]] = []

    def ask(self, operation: str, **request: Any) -> Answer:
        self.asked.append((operation, request.get("Key", "")))
        return super().ask(operation, **request)

    def pop_read(self) -> list[str]:
        """Return the keys of the objects that were read since the last call."""
        read = [key for operation, key in self.asked if operation == "get_object"]
        self.asked.clear()
        return read


@pytest.fixture
def place(s3: object, monkeypatch: pytest.MonkeyPatch) -> BucketPlace:
    """Return a bucket with a store of `KEYS`, as a sweep leaves it."""
    for module in ("segments", "bucket_files"):
        monkeypatch.setattr(f"lt_rebalance.files.{module}.FEWEST", FEWEST)
    made = BucketPlace("a störe")
    store = open_store(made.location, 4, create=True)
    assert store is not None
    for stage in PLAN.stages.values():
        made.write(path_of(stage.key), make_up(stage, loss=0.5).to_json())
    store.write_study(describe_plan(PLAN))
    store.gather()
    return made


def path_of(key: str) -> str:
    return f"stages/{key}/result.json"


def look(place: BucketPlace) -> tuple[Store, RecordingBucket]:
    """Return the store as a reader has it, and what keeps its questions."""
    bucket = RecordingBucket(place.bucket)
    files = ReadOnlyFilesystem(S3Filesystem(bucket, place.prefix))
    return Store(files, place.location, 4), bucket


def read_losses(store: Store) -> dict[str, float]:
    """Return the loss of every record that a scan finds."""
    found: Iterator[tuple[str, Record | Failure | None]] = store.scan(Store.read_outcome, KEYS)
    return {key: each.metrics["loss"] for key, each in found if isinstance(each, Record)}


def list_segments(place: BucketPlace) -> list[str]:
    return [path for path in place.read_all() if path.startswith("segments/") and "index" not in path]


def test_scan_with_segments_asks_for_few_objects_and_writes_nothing(place: BucketPlace) -> None:
    before = place.read_all()
    scans: list[Callable[[Store], object]] = [
        lambda store: read_status(store, "many", 0.0),
        lambda store: Ledger(PLAN, store),
        read_losses,
    ]
    for scan in scans:
        store, bucket = look(place)
        scan(store)
        assert len([key for key in bucket.pop_read() if "/stages/" in key]) == 0
        scan(store)
        assert len(bucket.pop_read()) <= 3  # the index, a segment, and for the status the study
    assert read_losses(store) == dict.fromkeys(KEYS, 0.5)
    assert place.read_all() == before
    with pytest.raises(ReadOnlyError):
        store.gather()


def test_altered_record_is_seen(place: BucketPlace) -> None:
    place.write(path_of(KEYS[3]), make_up(PLAN.stages[KEYS[3]], loss=0.25).to_json())
    store, bucket = look(place)
    assert read_losses(store) == dict.fromkeys(KEYS, 0.5) | {KEYS[3]: 0.25}
    assert [key for key in bucket.pop_read() if "/stages/" in key] == [f"a störe/{path_of(KEYS[3])}"]


def test_damage_of_the_same_size_is_seen_and_set_aside_by_a_sweep(place: BucketPlace) -> None:
    content = place.read_all()[path_of(KEYS[3])]
    place.write(path_of(KEYS[3]), content.replace(b"0.5", b"0.6", 1))
    with pytest.raises(StoreError, match=KEYS[3]):
        read_losses(look(place)[0])
    store = open_store(place.location, 4, create=False)
    assert Ledger(PLAN, store).count_runs() == {"complete": NUM_RECORDS - 1, "missing": 1}
    assert path_of(KEYS[3]) not in place.read_all()
    assert len(read_losses(look(place)[0])) == NUM_RECORDS - 1


def test_removed_record_is_gone_and_a_new_one_there(place: BucketPlace) -> None:
    content = place.read_all()[path_of(KEYS[0])]
    place.delete(path_of(KEYS[0]))
    assert set(read_losses(look(place)[0])) == set(KEYS[1:])
    place.write(path_of(KEYS[0]), content)
    assert set(read_losses(look(place)[0])) == set(KEYS)


@pytest.mark.slow
def test_damaged_segment_is_passed_over(place: BucketPlace) -> None:
    (segment,) = list_segments(place)
    whole = place.read_all()
    index, content = whole["segments/index.json"], whole[segment]
    size = len(whole[path_of(KEYS[0])])
    damages: dict[str, tuple[str, bytes | None]] = {
        "cut": (segment, content[:-1]),
        "altered": (segment, content.replace(b"0.5", b"0.7", 1)),
        "empty": (segment, b""),
        "deleted": (segment, None),
        # the first record ends at another byte
        "index altered": ("segments/index.json", index.replace(b",%d]" % size, b",%d]" % (size - 1), 1)),
        "index cut": ("segments/index.json", index[:-9]),
    }
    for damage, (path, damaged) in damages.items():
        assert damaged != whole[path]
        if damaged is None:
            place.delete(path)
        else:
            place.write(path, damaged)
        store, bucket = look(place)
        assert read_losses(store) == dict.fromkeys(KEYS, 0.5), damage
        assert len([key for key in bucket.pop_read() if "/stages/" in key]) == NUM_RECORDS, damage
        place.write(path, whole[path])
    store, bucket = look(place)
    assert read_losses(store) == dict.fromkeys(KEYS, 0.5)
    assert not [key for key in bucket.pop_read() if "/stages/" in key], "what is whole again is believed"


def test_record_of_a_segment_passes_the_same_checks(place: BucketPlace) -> None:
    values = dataclasses.asdict(make_up(PLAN.stages[KEYS[2]], loss=0.5))
    values["metrics"]["accuracy"] = 0.9  # which its confusion matrix does not give; the seal is whole
    place.write(path_of(KEYS[2]), forge(values))
    place.delete(list_segments(place)[0])  # it is made again
    writer = open_store(place.location, 4, create=False)
    assert writer is not None
    writer.gather()
    store, bucket = look(place)
    with pytest.raises(StoreError, match=r"metrics\.accuracy"):
        read_losses(store)
    assert not [key for key in bucket.pop_read() if "/stages/" in key]


def test_failure_of_a_stage_is_read_beside_segments(place: BucketPlace) -> None:
    stage = PLAN.stages[KEYS[1]]
    place.delete(path_of(KEYS[1]))
    failure = Failure(
        key=KEYS[1], kind=stage.kind, stage=stage.to_dict(), error="no", traceback="", provenance={}
    )
    place.write(f"stages/{KEYS[1]}/failed.json", failure.to_json())
    outcomes = dict(look(place)[0].scan(Store.read_outcome, KEYS))
    assert outcomes[KEYS[1]] == failure and len(outcomes) == NUM_RECORDS


@pytest.mark.slow
def test_segments_follow_what_is_new_and_leave_nothing_old(place: BucketPlace) -> None:
    more: Plan = compile_study(
        Study(name="many", cells=(CELL,), seeds=tuple(range(2 * NUM_RECORDS))), EXECUTION
    )
    writer = open_store(place.location, 4, create=False)
    assert writer is not None
    first = list_segments(place)
    new = [stage for key, stage in more.stages.items() if key not in PLAN.stages]
    for number, stage in enumerate(new):
        if number == FEWEST - 1:
            writer.gather()
            assert list_segments(place) == first  # that few are read one by one
        place.write(path_of(stage.key), make_up(stage, loss=0.5).to_json())
    writer.gather()
    assert len(list_segments(place)) == 1 and list_segments(place) != first
    store, bucket = look(place)
    assert len(dict(store.scan(Store.read_outcome, more.stages))) == 2 * NUM_RECORDS
    assert not [key for key in bucket.pop_read() if "/stages/" in key]
    second = place.read_all()
    writer.gather()
    assert place.read_all() == second
