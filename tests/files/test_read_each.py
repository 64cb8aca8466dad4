"""Many readings at a time: in order, errors at their turn, patient, interruptible, and no thread left."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lt_rebalance.files.bucket import PATIENCE_VARIABLE, Answer, Bucket
from lt_rebalance.files.bucket_files import S3Filesystem
from lt_rebalance.files.filesystem import Filesystem, LocalFilesystem
from lt_rebalance.ground.errors import StorageError
from lt_rebalance.ground.interrupts import Interrupted, InterruptWatch
from tests.gate import Gate, open_gate
from tests.places import BucketPlace, DirectoryPlace, Place
from tests.s3_server import S3Server

PATHS = [f"stages/{number:03d}/result.json" for number in range(150)]
"""more than are read ahead at a time"""
SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""FIPS 180-2, appendix B.1"""


class RecordingBucket(Bucket):
    """A bucket that keeps what it was asked."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.asked: list[str] = []

    def ask(self, operation: str, **request: Any) -> Answer:
        self.asked.append(operation)
        return super().ask(operation, **request)


def open_files(place: Place) -> Filesystem:
    if isinstance(place, DirectoryPlace):
        place.root.mkdir()
        return LocalFilesystem(place.root)
    assert isinstance(place, BucketPlace)
    return S3Filesystem(RecordingBucket(place.bucket), place.prefix)


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("bucket")]


@pytest.fixture
def gate(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Return a gate before the server, through which the environment leads."""
    with open_gate(s3.port) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
        yield gate


@pytest.fixture
def bucket_place(s3: S3Server) -> BucketPlace:
    """Return an empty bucket, seen past any gate."""
    return BucketPlace("store")


def fill(place: Place) -> None:
    for path in PATHS:
        place.write(path, path.encode())


@pytest.mark.slow
def test_readings_come_in_order_and_an_error_at_its_turn(place: Place) -> None:
    files = open_files(place)
    fill(place)
    assert list(files.read_each(files.read, PATHS)) == [path.encode() for path in PATHS]
    assert list(files.read_each(files.read, [])) == []
    contents = files.read_each(files.read, [*PATHS[:3], "stages/none", *PATHS])
    assert [next(contents) for _ in range(3)] == [path.encode() for path in PATHS[:3]]
    with pytest.raises(FileNotFoundError):
        next(contents)


@pytest.mark.slow
def test_readings_of_which_only_the_first_is_wanted_leave_no_thread(place: Place) -> None:
    files = open_files(place)
    fill(place)
    for content in files.read_each(files.read, PATHS):
        assert content == PATHS[0].encode()
        break
    with contextlib.suppress(ZeroDivisionError):
        for content in files.read_each(files.read, PATHS):
            len(content) // 0


@pytest.mark.slow
def test_bucket_is_read_many_at_a_time(bucket_place: BucketPlace) -> None:
    files = open_files(bucket_place)
    fill(bucket_place)
    meeting = threading.Barrier(16)  # opens only if 16 readings run at the same time

    def read(path: str) -> bytes:
        meeting.wait(timeout=60)
        return files.read(path)

    assert list(files.read_each(read, PATHS[:16])) == [path.encode() for path in PATHS[:16]]


@pytest.mark.slow
def test_answers_that_are_lost_are_asked_for_again(bucket_place: BucketPlace, gate: Gate) -> None:
    files = open_files(bucket_place)
    fill(bucket_place)
    gate.answers_to_lose = 5
    assert list(files.read_each(files.read, PATHS)) == [path.encode() for path in PATHS]
    assert gate.answers_to_lose == 0


@pytest.mark.slow
def test_bucket_that_falls_silent_ends_the_readings_when_patience_does(
    bucket_place: BucketPlace, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE_VARIABLE, "0")
    files = open_files(bucket_place)
    fill(bucket_place)
    readings = files.read_each(files.read, PATHS)
    assert next(readings) == PATHS[0].encode()
    gate.shut()
    with pytest.raises(StorageError, match="has not answered since"):
        list(readings)


@pytest.mark.slow
def test_readings_that_wait_for_a_bucket_can_be_interrupted(bucket_place: BucketPlace, gate: Gate) -> None:
    files = open_files(bucket_place)
    gate.shut()
    with InterruptWatch():
        timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(Interrupted):
            list(files.read_each(files.read, PATHS))
        timer.join()


# Whether a file is whole


def test_content_is_told_from_other_content(place: Place) -> None:
    files = open_files(place)
    files.replace("weights", b"abc")
    assert files.has_content("weights", SHA256_OF_ABC, 3)
    assert not files.has_content("weights", SHA256_OF_ABC, 4)
    place.write("weights", b"abd")
    assert not files.has_content("weights", SHA256_OF_ABC, 3)
    place.write("weights", b"ab")
    assert not files.has_content("weights", SHA256_OF_ABC, 3)
    place.delete("weights")
    with pytest.raises(FileNotFoundError):
        files.has_content("weights", SHA256_OF_ABC, 3)


@pytest.mark.parametrize(
    ("checksum", "asked"),
    [
        pytest.param(None, ["head_object"], id="written by us"),
        pytest.param({}, ["head_object", "get_object"], id="without a checksum"),
        pytest.param({"ChecksumAlgorithm": "CRC32"}, ["head_object", "get_object"], id="with another"),
    ],
)
@pytest.mark.parametrize("content", [b"abc", b"abd"])
def test_bucket_is_asked_for_content_only_where_it_keeps_no_sha256(
    bucket_place: BucketPlace, checksum: dict[str, str] | None, asked: list[str], content: bytes
) -> None:
    bucket = RecordingBucket(bucket_place.bucket)
    files = S3Filesystem(bucket, "store")
    if checksum is None:
        files.replace("weights", content)
    else:
        key = "store/weights"
        bucket_place.client.put_object(Bucket=bucket_place.bucket, Key=key, Body=content, **checksum)
    bucket.asked.clear()
    assert files.has_content("weights", SHA256_OF_ABC, 3) is (content == b"abc")
    assert bucket.asked == asked
