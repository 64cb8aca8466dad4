"""A finished store in a bucket is read as one in a directory is, by every command that looks at stores."""

import json
from pathlib import Path

import pytest

from analysis.__main__ import main as analyse
from analysis.collect import read_results
from lt_rebalance.cli.main import main
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.checkpoints import Checkpoint
from lt_rebalance.store.presence import Note, write_note
from tests.monitoring.test_events_server import METHODS, ROOT, STUDY
from tests.places import BucketPlace
from tests.tensorboard_server import serve

GOLDEN = Path(__file__).parents[1] / "golden" / "store"


@pytest.fixture
def place(s3: object) -> BucketPlace:
    """Return a bucket with a copy of the small real store."""
    made = BucketPlace("deep/störe")
    for path in GOLDEN.rglob("*"):
        if path.is_file():
            made.write(path.relative_to(GOLDEN).as_posix(), path.read_bytes())
    return made


def open_at(location: str) -> Store:
    store = open_store(location, None, create=False)
    assert store is not None
    return store


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a command prints; it must succeed."""
    assert main(arguments) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_analysis_of_a_bucket_gives_the_frames_and_the_report_of_a_directory(
    place: BucketPlace, tmp_path: Path
) -> None:
    before = place.read_all()
    expected, found = read_results(str(GOLDEN)), read_results(place.location)
    for name in ("runs", "rounds", "classes", "generators", "generator_rounds", "generator_classes"):
        assert getattr(found, name).equals(getattr(expected, name))
    assert analyse([place.location, "--out", str(tmp_path / "report")]) == 0
    assert analyse([str(GOLDEN), "--out", str(tmp_path / "expected")]) == 0
    for path in (tmp_path / "expected" / "tables").iterdir():
        assert (tmp_path / "report" / "tables" / path.name).read_bytes() == path.read_bytes()
    assert place.read_all() == before


def test_report_and_export_are_not_written_to_an_address(
    place: BucketPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert analyse([place.location, "--out", "s3://one/report"]) == 2
    assert "--out must be a directory of this machine" in capsys.readouterr().err
    assert main(["export", place.location, "--out", "s3://one/runs.csv"]) == 2
    assert "--out must be a file of this machine" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_commands_answer_as_they_do_for_a_directory(
    place: BucketPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    key = open_at(place.location).load_study(STUDY).runs[0].key
    for arguments in (["status", "STORE", "--json"], ["plan", "STORE", "--json"], ["export", "STORE"]):
        answers = [
            call(capsys, *(location if each == "STORE" else each for each in arguments))
            for location in (place.location, str(GOLDEN))
        ]
        assert answers[0] == answers[1]
    expected = call(capsys, "show", key, "--storage", str(GOLDEN), "--json")
    for record in ([key[:8], "--storage", place.location], [f"{place.location}/stages/{key}"]):
        assert call(capsys, "show", *record, "--json") == expected
    assert call(capsys, "show", f"{place.location}/stages/{key}/result.json", "--json") == expected


def test_log_of_a_stage_is_shown_in_one_piece(place: BucketPlace, capsys: pytest.CaptureFixture[str]) -> None:
    key = open_at(place.location).list_keys()[0]
    for line in ("one\n", "two\n", "three\n"):
        open_at(place.location).files.append(f"logs/{key}.log", line.encode())
    assert call(capsys, "show", key, "--storage", place.location, "--log") == "one\ntwo\nthree\n"


@pytest.mark.slow
def test_gc_deletes_what_no_result_needs(place: BucketPlace, capsys: pytest.CaptureFixture[str]) -> None:
    before = place.read_all()
    store = open_at(place.location)
    key = store.list_keys()[0]
    store.save_checkpoint(key, Checkpoint(round=1, content=b"state"))
    store.files.append(f"logs/{key}.log", b"of a stage that is planned")
    store.files.append(f"logs/{'f' * 64}.log", b"of one that is not")
    write_note(store.files, Note(name="driver-far-1.json", title=STUDY, host="far", beat_s=1.0))
    listed = json.loads(call(capsys, "gc", place.location, "--dry-run", "--orphans", "--json"))["garbage"]
    assert sorted(each["path"] for each in listed) == [
        f"logs/{'f' * 64}.log.00000000",
        "running/driver-far-1.json",
        f"stages/{key}/checkpoints",
    ]
    call(capsys, "gc", place.location, "--orphans")
    left = {path: each for path, each in place.read_all().items() if not path.startswith("lease/")}
    assert left == before | {f"logs/{key}.log.00000000": b"of a stage that is planned"}


@pytest.mark.slow
def test_tensorboard_serves_events_that_lie_in_a_bucket(place: BucketPlace) -> None:
    store = open_at(place.location)
    with serve(place.location) as server:
        server.wait_for(lambda: len(server.get("runs")) == 3 * (len(METHODS) + 1) + len(METHODS) + 1)
        run, tag = f"{ROOT}/none/seed-0", "classifier/test_accuracy"
        record = store.read_record(store.load_study(STUDY).runs[0].key)
        assert record is not None
        num_rounds = len(record.curves)

        def read_points() -> list[tuple[float, int, float]]:
            has_tag = tag in server.get("plugin/scalars/tags").get(run, {})
            return server.get("plugin/scalars/scalars", run=run, tag=tag) if has_tag else []

        server.wait_for(lambda: len(read_points()) == num_rounds)
        points = read_points()
        assert [(step, round(value, 4)) for _, step, value in points] == [
            (row["step"], round(row["test_accuracy"], 4)) for row in record.curves
        ]
