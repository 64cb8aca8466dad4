"""Checks of the store: first commit wins, damage is noticed and set aside, nothing is lost or executed."""

import contextlib
import hashlib
import io
import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lt_rebalance.files.filesystem import LocalFilesystem
from lt_rebalance.store.checkpoints import KEPT_CHECKPOINTS, Checkpoint
from lt_rebalance.store.place import STORE_FORMAT, open_store
from lt_rebalance.store.records import Artifact, Failure, Record, Timing
from lt_rebalance.store.store import Store, StoreError
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.training.configs import Execution
from tests.made_up import make_search, make_study, make_up
from tests.mostly_slow import mostly_slow
from tests.places import DirectoryPlace, Place

CELL = make_cell(
    get_protocol("sound"), dataset="fashion_mnist_mini", c="1/2", method="undersample", generator=None
)
EXECUTION = Execution(device="cpu", precision="float32", num_threads=1, torch_version="2.15.0")
STAGES = {stage.key: stage for stage in (CELL.stage(seed, EXECUTION) for seed in range(3))}
KEY, OTHER_KEY, THIRD_KEY = STAGES


def make_record(key: str = KEY, **changes: Any) -> Record:
    return make_up(STAGES[key], **{"loss": 0.5} | changes)


def make_failure(key: str = KEY, error: str = "RuntimeError: no") -> Failure:
    return Failure(
        key=key,
        kind="classifier",
        stage=STAGES.get(key, STAGES[KEY]).to_dict(),
        error=error,
        traceback="",
        provenance={},
    )


def make_checkpoint(round_: int, content: bytes | None = None) -> Checkpoint:
    return Checkpoint(round=round_, content=content or f"state {round_}".encode())


@pytest.fixture
def store(place: Place) -> Store:
    """Return a new store."""
    opened = open_store(place.location, 1, create=True)
    assert opened is not None
    return opened


def stage_path(name: str, key: str = KEY) -> str:
    return f"stages/{key}/{name}"


def names_in(place: Place, directory: str) -> list[str]:
    """Return the names of the files right below a directory."""
    paths = (path.rpartition("/") for path in place.read_all())
    return [name for parent, _, name in paths if parent == directory]


def read_quarantine(place: Place) -> dict[str, bytes]:
    """Return the quarantined files by name, without the reasons."""
    found = {path: content for path, content in place.read_all().items() if path.startswith("quarantine/")}
    names = {path: path.rpartition("/")[2] for path in found}
    return {name: found[path] for path, name in names.items() if name != "reason.txt"}


# Results


def test_record_committed_is_loaded_again(store: Store) -> None:
    assert store.load_record(KEY) is None
    assert store.commit(make_record()) is True
    assert store.load_record(KEY) == make_record()
    assert store.list_keys() == [KEY]


def test_first_commit_wins_and_a_differing_second_is_reported(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.commit(make_record())
    with caplog.at_level(logging.WARNING):
        assert store.commit(make_record(loss=0.5000000001)) is False
    assert store.load_record(KEY) == make_record()
    (message,) = caplog.messages
    assert KEY in message
    assert "differs" in message


def test_second_commit_that_differs_only_in_time_and_place_is_not_reported(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.commit(make_record())
    second = make_record(timing=Timing(wall_s=9.0, train_s=8.0, num_errors=2), provenance={"host": "two"})
    with caplog.at_level(logging.WARNING):
        assert store.commit(second) is False
    assert caplog.messages == []
    assert store.load_record(KEY) == make_record()


def test_commit_over_a_damaged_result_publishes_the_new_one(store: Store, place: Place) -> None:
    store.commit(make_record())
    place.write(stage_path("result.json"), b"{")
    store.save_checkpoint(KEY, make_checkpoint(1))
    store.commit(make_record(loss=0.25))
    record = store.load_record(KEY)
    assert record is not None
    assert record.metrics["loss"] == 0.25


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "garbage": lambda content: b"\xff\x00garbage" * 10,
    "zeros": lambda content: bytes(len(content)),
    "another JSON value": lambda content: b"[1, 2]",
    "a field missing": lambda content: content.replace(b'"num_steps"', b'"num_step"'),
    "an inner field missing": lambda content: content.replace(b'"wall_s"', b'"wall"'),
    "an unknown state": lambda content: content.replace(b'"complete"', b'"finished"'),
    "the key of another stage": lambda content: content.replace(KEY.encode(), OTHER_KEY.encode()),
}


@pytest.mark.parametrize("damage", mostly_slow(DAMAGE, 3))
def test_damaged_result_is_set_aside_with_a_warning_and_counts_as_missing(
    damage: str, store: Store, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    store.commit(make_record())
    whole = place.read_all()[stage_path("result.json")]
    damaged = DAMAGE[damage](whole)
    assert damaged != whole
    place.write(stage_path("result.json"), damaged)
    with caplog.at_level(logging.WARNING):
        assert store.load_record(KEY) is None
    assert stage_path("result.json") not in place.read_all()
    assert read_quarantine(place) == {"result.json": damaged}
    (message,) = caplog.messages
    assert KEY in message
    assert "result.json" in message
    (directory,) = store.list_quarantine()
    assert place.read_all()[f"quarantine/{directory}/reason.txt"]
    # The stage can be done again, and what is set aside stays.
    assert store.commit(make_record()) is True
    assert store.load_record(KEY) == make_record()
    assert read_quarantine(place) == {"result.json": damaged}


@pytest.mark.parametrize("damage", mostly_slow(DAMAGE, 3))
def test_read_record_of_a_damaged_result_names_it_and_moves_nothing(
    damage: str, store: Store, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    store.commit(make_record())
    path = stage_path("result.json")
    place.write(path, DAMAGE[damage](place.read_all()[path]))
    before = place.read_all()
    with caplog.at_level(logging.WARNING), pytest.raises(StoreError) as error:
        store.read_record(KEY)
    for part in (place.location, f"stages/{KEY}/result.json", "run the sweep again"):
        assert part in str(error.value)
    assert place.read_all() == before
    assert caplog.messages == []
    # The remedy it names is what the sweep does.
    assert store.load_record(KEY) is None
    assert store.read_record(KEY) is None


def test_read_record_gives_what_was_committed_or_none(store: Store) -> None:
    assert store.read_record(KEY) is None
    store.commit(make_record())
    assert store.read_record(KEY) == make_record()


def test_damaged_results_of_one_stage_are_all_kept_in_quarantine(store: Store, place: Place) -> None:
    for content in (b"1", b"2"):
        store.commit(make_record())
        place.write(stage_path("result.json"), content)
        assert store.load_record(KEY) is None
    contents = {content for path, content in place.read_all().items() if path.endswith("/result.json")}
    assert contents == {b"1", b"2"}


def test_list_keys_shows_every_stage_that_left_anything(store: Store) -> None:
    store.commit(make_record(THIRD_KEY))
    store.mark_failed(make_failure(OTHER_KEY))
    store.save_checkpoint(KEY, make_checkpoint(1))
    assert store.list_keys() == sorted(STAGES)


# Artefacts


def commit_with_weights(store: Store, content: bytes = b"weights") -> Record:
    artifact = store.write_artifact(KEY, "weights", ".safetensors", content)
    store.commit(make_record(artifacts={"weights": artifact}))
    record = store.load_record(KEY)
    assert record is not None
    return record


def test_artifact_is_read_back_and_named_after_its_content(store: Store, place: Place) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    record = commit_with_weights(store)
    name = f"weights-{digest[:12]}.safetensors"
    assert record.artifacts == {"weights": Artifact(file=name, num_bytes=7, sha256=digest)}
    assert store.read_artifact(record, "weights") == b"weights"
    assert place.read_all()[stage_path(name)] == b"weights"


def test_artifact_of_a_second_attempt_leaves_that_of_the_first_alone(store: Store) -> None:
    record = commit_with_weights(store)
    store.write_artifact(KEY, "weights", ".safetensors", b"other weights")
    assert store.read_artifact(record, "weights") == b"weights"


ARTIFACT_DAMAGE = {"missing": None, "altered": b"Weights", "cut short": b"weigh", "empty": b""}


def damage_weights(record: Record, place: Place, damage: str) -> str:
    """Do to the weights of a record what the name says, and return the name of their file."""
    name = record.artifacts["weights"].file
    if (content := ARTIFACT_DAMAGE[damage]) is None:
        place.delete(stage_path(name))
    else:
        place.write(stage_path(name), content)
    return name


@pytest.mark.parametrize("damage", ARTIFACT_DAMAGE)
def test_read_artifact_of_damaged_content_names_it_and_moves_nothing(
    damage: str, store: Store, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    record = commit_with_weights(store)
    name = damage_weights(record, place, damage)
    before = place.read_all()
    with caplog.at_level(logging.WARNING), pytest.raises(StoreError) as error:
        store.read_artifact(record, "weights")
    for part in (place.location, f"stages/{KEY}/{name}", f"move stages/{KEY} away"):
        assert part in str(error.value)
    assert place.read_all() == before
    assert caplog.messages == []


def test_load_artifact_returns_the_content(store: Store) -> None:
    assert store.load_artifact(commit_with_weights(store), "weights") == b"weights"


@pytest.mark.parametrize("damage", ARTIFACT_DAMAGE)
def test_load_artifact_of_damaged_content_raises_and_sends_the_record_to_quarantine(
    damage: str, store: Store, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    record = commit_with_weights(store)
    name = damage_weights(record, place, damage)
    with caplog.at_level(logging.WARNING), pytest.raises(StoreError, match=name) as error:
        store.load_artifact(record, "weights")
    assert KEY in str(error.value)
    assert "run the sweep again" in str(error.value)
    assert caplog.messages
    assert store.load_record(KEY) is None
    quarantined = read_quarantine(place)
    assert Record.from_json(quarantined.pop("result.json")) == record
    assert list(quarantined.values()) == ([] if damage == "missing" else [ARTIFACT_DAMAGE[damage]])
    # Done again, it can be read.
    assert store.read_artifact(commit_with_weights(store), "weights") == b"weights"


# Failures


def test_failure_marked_is_loaded_again(store: Store) -> None:
    assert store.load_failure(KEY) is None
    store.mark_failed(make_failure())
    assert store.load_failure(KEY) == make_failure()
    store.mark_failed(make_failure(error="the last"))
    assert store.load_failure(KEY) == make_failure(error="the last")


def test_failure_is_cleared_by_a_result(store: Store) -> None:
    store.mark_failed(make_failure())
    store.commit(make_record())
    assert store.load_failure(KEY) is None


def test_failure_does_not_clear_a_result(store: Store) -> None:
    store.commit(make_record())
    store.mark_failed(make_failure())
    assert store.load_record(KEY) == make_record()


def test_errors_are_counted_and_loaded_in_their_order(store: Store) -> None:
    assert (store.count_errors(KEY), store.load_errors(KEY)) == (0, [])
    for index in range(12):
        store.note_error(make_failure(error=f"error {index}"))
    assert store.count_errors(KEY) == 12
    assert store.load_errors(KEY) == [make_failure(error=f"error {index}") for index in range(12)]
    assert store.count_errors(OTHER_KEY) == 0
    assert store.load_failure(KEY) is None


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"key": 1}', b"\xff"])
def test_damaged_failure_is_set_aside_and_counts_as_none(damaged: bytes, store: Store, place: Place) -> None:
    store.mark_failed(make_failure())
    place.write(stage_path("failed.json"), damaged)
    assert store.load_failure(KEY) is None
    assert read_quarantine(place) == {"failed.json": damaged}


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"key": 1}', b"\xff"])
def test_read_failure_of_a_damaged_one_names_it_and_moves_nothing(
    damaged: bytes, store: Store, place: Place
) -> None:
    assert store.read_failure(KEY) is None
    store.mark_failed(make_failure())
    assert store.read_failure(KEY) == make_failure()
    place.write(stage_path("failed.json"), damaged)
    before = place.read_all()
    with pytest.raises(StoreError, match=rf"stages/{KEY}/failed\.json .*run the sweep again"):
        store.read_failure(KEY)
    assert place.read_all() == before


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]"])
def test_damaged_error_does_not_hide_the_one_before(damaged: bytes, store: Store, place: Place) -> None:
    for error in ("first", "second"):
        store.note_error(make_failure(error=error))
    place.write(stage_path(f"errors/{names_in(place, stage_path('errors'))[-1]}"), damaged)
    assert store.load_errors(KEY) == [make_failure(error="first")]


# Checkpoints


def test_checkpoint_saved_is_loaded_again(store: Store) -> None:
    assert store.load_checkpoint(KEY) is None
    store.save_checkpoint(KEY, make_checkpoint(3, b"\x00state"))
    assert store.load_checkpoint(KEY) == Checkpoint(round=3, content=b"\x00state")
    assert store.load_checkpoint(OTHER_KEY) is None


def test_checkpoints_kept_are_the_last_two(store: Store, place: Place) -> None:
    for round_ in range(1, 13):
        store.save_checkpoint(KEY, make_checkpoint(round_))
        names = names_in(place, stage_path("checkpoints"))
        kept = range(max(1, round_ - KEPT_CHECKPOINTS + 1), round_ + 1)
        assert [int(name.split("-")[0]) for name in names] == list(kept)
        assert store.load_checkpoint(KEY) == make_checkpoint(round_)


def test_checkpoint_of_an_attempt_that_lags_does_not_replace_a_later_one(store: Store) -> None:
    for round_ in (5, 6, 2):
        store.save_checkpoint(KEY, make_checkpoint(round_))
    assert store.load_checkpoint(KEY) == make_checkpoint(6)


@pytest.mark.parametrize("damaged", [b"", b"stat", b"garbage"])
def test_damaged_newest_checkpoint_gives_way_to_the_one_before(
    damaged: bytes, store: Store, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    for round_ in (1, 2):
        store.save_checkpoint(KEY, make_checkpoint(round_))
    newest = names_in(place, stage_path("checkpoints"))[-1]
    place.write(stage_path(f"checkpoints/{newest}"), damaged)
    with caplog.at_level(logging.WARNING):
        assert store.load_checkpoint(KEY) == make_checkpoint(1)
    assert any(newest in message for message in caplog.messages)
    assert read_quarantine(place) == {newest: damaged}


def test_damaged_checkpoints_alone_count_as_none(store: Store, place: Place) -> None:
    for round_ in (1, 2):
        store.save_checkpoint(KEY, make_checkpoint(round_))
    for name in names_in(place, stage_path("checkpoints")):
        place.write(stage_path(f"checkpoints/{name}"), b"")
    assert store.load_checkpoint(KEY) is None
    assert len(store.list_quarantine()) == 2


@pytest.mark.parametrize("name", ["notes.txt", "000009-short.safetensors", "x-y"])
def test_checkpoint_of_a_foreign_name_is_never_loaded(name: str, store: Store, place: Place) -> None:
    store.save_checkpoint(KEY, make_checkpoint(1))
    place.write(stage_path(f"checkpoints/{name}"), b"foreign")
    assert store.load_checkpoint(KEY) == make_checkpoint(1)


def test_checkpoints_are_removed_by_a_commit_also_by_the_second(store: Store, place: Place) -> None:
    for record in (make_record(), make_record()):
        for round_ in (1, 2):
            store.save_checkpoint(KEY, make_checkpoint(round_))
        store.save_checkpoint(OTHER_KEY, make_checkpoint(1))
        store.commit(record)
        assert store.load_checkpoint(KEY) is None
        assert names_in(place, stage_path("checkpoints")) == []
        assert store.load_checkpoint(OTHER_KEY) == make_checkpoint(1)


# Studies


def test_study_written_is_loaded_again_and_listed(store: Store) -> None:
    store.write_study(make_study("full grid", question="First?"))
    store.write_study(make_study("full grid", question="Second?"))
    store.write_study(make_study("another"))
    assert store.load_study("full grid") == make_study("full grid", question="Second?")
    assert store.list_studies() == ["another", "full grid"]


def test_load_study_of_unknown_name_names_the_known(store: Store) -> None:
    with pytest.raises(StoreError, match="no study 'x'; known: none"):
        store.load_study("x")
    store.write_study(make_study("a"))
    with pytest.raises(StoreError, match="no study 'x'; known: a"):
        store.load_study("x")


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"\xff"])
def test_load_study_of_a_damaged_file_names_it(damaged: bytes, store: Store, place: Place) -> None:
    store.write_study(make_study("a"))
    place.write("studies/a.json", damaged)
    with pytest.raises(StoreError, match=r"studies/a\.json"):
        store.load_study("a")


# Searches


def test_search_written_is_loaded_again_and_listed(store: Store, place: Place) -> None:
    place.write("searches/begun/journal.jsonl", b"")
    store.write_search("b", make_search("b", question="First?"))
    store.write_search("b", make_search("b", question="Second?"))
    store.write_search("a", make_search("a"))
    assert store.load_search("b") == make_search("b", question="Second?")
    assert store.list_searches() == ["a", "b"]
    with pytest.raises(StoreError, match="no search 'x'; known: a, b"):
        store.load_search("x")


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"\xff"])
def test_load_search_of_a_damaged_file_names_it(damaged: bytes, store: Store, place: Place) -> None:
    store.write_search("a", {})
    place.write("searches/a/account.json", damaged)
    with pytest.raises(StoreError, match=r"searches/a/account\.json"):
        store.load_search("a")


def test_directory_of_a_search_is_made_where_there_can_be_one(store: Store, place: Place) -> None:
    directory = store.search_directory("b")
    if isinstance(place, DirectoryPlace):
        assert directory == place.root / "searches" / "b" and directory.is_dir()
    else:
        assert directory is None


def test_best_configuration_lies_where_the_answer_says(store: Store, place: Place) -> None:
    written = store.write_best("a", "[classifier]\n")
    assert place.read_all()[written.removeprefix(f"{place.location}/")] == b"[classifier]\n"


def test_member_keeps_its_last_content_until_it_is_discarded(store: Store) -> None:
    assert store.load_member("a", 3) is None
    store.save_member("a", 3, b"one")
    store.save_member("a", 3, b"two")
    assert store.load_member("a", 3) == b"two"
    assert store.load_member("a", 2) is None
    store.discard_member("a", 3)
    store.discard_member("a", 3)
    assert store.load_member("a", 3) is None


def test_errors_of_a_member_are_loaded_in_their_order_and_outlast_it(store: Store) -> None:
    assert store.load_member_errors("a", 3) == []
    for index in range(12):
        store.note_member_error("a", 3, make_failure(error=f"error {index}"))
    store.discard_member("a", 3)
    assert store.load_member_errors("a", 3) == [make_failure(error=f"error {index}") for index in range(12)]
    assert store.load_member_errors("a", 2) == store.load_member_errors("b", 3) == []
    assert (store.list_keys(), store.list_searches()) == ([], [])


def test_load_member_errors_names_a_damaged_one(store: Store, place: Place) -> None:
    store.note_member_error("a", 3, make_failure())
    (name,) = store.files.list("searches/a/errors/3")
    place.write(f"searches/a/errors/3/{name}", b"{")
    with pytest.raises(StoreError, match=f"searches/a/errors/3/{name} is damaged"):
        store.load_member_errors("a", 3)


def test_discarded_checkpoints_are_gone(store: Store) -> None:
    store.save_checkpoint(KEY, make_checkpoint(1))
    store.discard_checkpoints(KEY)
    assert store.load_checkpoint(KEY) is None


def test_write_study_with_nan_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_study(make_study("a", expected_s={"classifier": float("nan")}))


# Opening


def test_open_store_of_an_existing_store_finds_its_results(store: Store, place: Place) -> None:
    store.commit(make_record())
    for create in (True, False):
        again = open_store(place.location, 1, create=create)
        assert again is not None
        assert again.load_record(KEY) == make_record()
        assert again.location == place.location


def test_open_store_expands_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    opened = open_store("~/results", 1, create=True)
    assert opened is not None
    assert opened.location == str(tmp_path / "results")


def test_open_store_in_an_empty_place_makes_one(place: Place) -> None:
    if isinstance(place, DirectoryPlace):
        place.root.mkdir()
    assert open_store(place.location, 1, create=True) is not None
    (content,) = place.read_all().values()
    assert list(place.read_all()) == ["store.json"]
    assert json.loads(content) == {"format": STORE_FORMAT, "results_version": 1}


def test_open_store_without_create_leaves_nothing_behind(tmp_path: Path) -> None:
    assert open_store(str(tmp_path / "missing" / "store"), 1, create=False) is None
    assert list(tmp_path.iterdir()) == []


def test_open_store_without_create_changes_no_file(tmp_path: Path) -> None:
    assert open_store(str(tmp_path), 1, create=True) is not None
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    open_store(str(tmp_path), 1, create=False)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("content", [{"format": 1, "results_version": 2}, {"format": 0}, {}])
def test_open_store_of_another_version_is_refused(content: Any, create: bool, place: Place) -> None:
    place.write("store.json", json.dumps(content).encode())
    with pytest.raises(StoreError, match="holds results of version") as error:
        open_store(place.location, 1, create=create)
    assert place.location in str(error.value)
    assert place.read_all() == {"store.json": json.dumps(content).encode()}


@pytest.mark.parametrize("version", [1, 7])
def test_open_store_of_any_version_says_which_it_found(version: int, place: Place) -> None:
    made = open_store(place.location, version, create=True)
    assert made is not None
    assert made.results_version == version
    before = place.read_all()
    found = open_store(place.location, None, create=False)
    assert found is not None
    assert found.results_version == version
    assert place.read_all() == before


def test_open_store_of_any_version_without_a_store_gives_none(place: Place) -> None:
    assert open_store(place.location, None, create=False) is None
    assert place.read_all() == {}


@pytest.mark.parametrize(
    "content", [{"format": STORE_FORMAT + 1, "results_version": 1}, {"format": STORE_FORMAT}, {}]
)
def test_open_store_of_any_version_still_refuses_another_format(content: Any, place: Place) -> None:
    place.write("store.json", json.dumps(content).encode())
    with pytest.raises(StoreError, match="holds results of version"):
        open_store(place.location, None, create=False)


@pytest.mark.parametrize("create", [True, False])
def test_open_store_in_a_foreign_directory_is_refused(create: bool, place: Place) -> None:
    place.write("thesis.tex", b"precious")
    with pytest.raises(StoreError, match=r"not empty and not a store \(it holds 'thesis.tex'\)"):
        open_store(place.location, 1, create=create)
    assert place.read_all() == {"thesis.tex": b"precious"}


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[1]", b"5"])
def test_open_store_with_a_damaged_version_is_refused(content: bytes, create: bool, place: Place) -> None:
    place.write("store.json", content)
    with pytest.raises(StoreError, match=r"store\.json is damaged"):
        open_store(place.location, 1, create=create)


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("below", ["", "inside", "deep/inside"])
def test_open_store_where_a_file_is_in_the_way_is_refused(create: bool, below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(StoreError, match=r"cannot be used as a store: .*[a-z]"):
        open_store(str(tmp_path / "file" / below), 1, create=create)
    assert (tmp_path / "file").read_text() == "precious"


def test_open_store_where_nothing_can_be_written_is_refused() -> None:
    with pytest.raises(StoreError, match=r"/proc/.* cannot be used as a store: .*name a writable directory"):
        open_store("/proc/lt_rebalance/results", 1, create=True)


@pytest.mark.parametrize("location", ["gs://bucket", "file:///tmp/x"])
def test_open_store_at_another_address_is_refused(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="--storage must be a directory or s3://BUCKET/PREFIX, got "):
        open_store(location, 1, create=True)
    assert list(tmp_path.iterdir()) == []


def create_just_before(name: str, version: int, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let another process make a store between a look at a place and the next call of a method."""
    real, content = getattr(LocalFilesystem, name), {"format": STORE_FORMAT, "results_version": version}

    def call(files: LocalFilesystem, *arguments: Any) -> Any:
        monkeypatch.setattr(LocalFilesystem, name, real)
        root.mkdir()
        (root / "store.json").write_text(json.dumps(content))
        (root / "stages").mkdir()
        return real(files, *arguments)

    monkeypatch.setattr(LocalFilesystem, name, call)


@pytest.mark.parametrize("name", ["list", "create"])
def test_open_store_of_a_place_that_another_process_has_just_made_a_store_opens_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_just_before(name, 1, tmp_path / "store", monkeypatch)
    opened = open_store(str(tmp_path / "store"), 1, create=True)
    assert opened is not None and opened.results_version == 1


@pytest.mark.parametrize("name", ["list", "create"])
def test_open_store_of_a_place_that_other_code_has_just_made_a_store_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_just_before(name, 2, tmp_path / "store", monkeypatch)
    with pytest.raises(StoreError, match=r"holds results of version .*2.*, this code takes .*1"):
        open_store(str(tmp_path / "store"), 1, create=True)


# Nothing is executed


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.marker,)


def test_no_file_of_the_store_is_unpickled(store: Store, place: Place, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    trap = pickle.dumps(Trap(marker))
    pickle.loads(trap)
    assert marker.exists()  # the trap works
    marker.unlink()
    array = io.BytesIO()
    np.save(array, np.array([Trap(marker)], dtype=object), allow_pickle=True)

    artifacts = {
        role: store.write_artifact(KEY, role, suffix, content)
        for role, suffix, content in [
            ("samples", ".npy", array.getvalue()),
            ("weights", ".safetensors", trap),
        ]
    }
    store.commit(make_record(artifacts=artifacts))
    store.commit(make_record(OTHER_KEY))
    store.save_checkpoint(OTHER_KEY, make_checkpoint(1, trap))
    store.mark_failed(make_failure(OTHER_KEY))
    store.note_error(make_failure(OTHER_KEY))
    (error,) = names_in(place, stage_path("errors", OTHER_KEY))
    for name in ("result.json", "failed.json", f"errors/{error}"):
        place.write(stage_path(name, OTHER_KEY), trap)
    place.write("studies/study.json", trap)

    record = store.load_record(KEY)
    assert record is not None
    assert store.read_artifact(record, "weights") == trap
    with pytest.raises(StoreError, match=r"samples-.* cannot be used"):
        store.read_array(record, "samples")
    assert store.load_record(OTHER_KEY) is None
    assert store.load_failure(OTHER_KEY) is None
    assert store.load_checkpoint(OTHER_KEY) == make_checkpoint(1, trap)
    for read in (lambda: store.load_study("study"), lambda: store.load_errors(OTHER_KEY)):
        with contextlib.suppress(ValueError):  # refused is right, too
            read()
    assert open_store(place.location, 1, create=True) is not None
    assert not marker.exists()
