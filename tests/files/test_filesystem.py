"""One contract that every implementation of Filesystem keeps, also between processes and on a full disk."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lt_rebalance.files import bucket_files
from lt_rebalance.files.filesystem import Filesystem, LocalFilesystem
from lt_rebalance.store.place import find_place
from tests.places import DirectoryPlace, Place
from tests.s3_server import PAGE_SIZE

NAMES = ["plain.json", "with space.json", "Zürich 東京.json", "a/b/c.json", "über/mit leer/ñ.bin"]

AT_ONCE = """
import os, sys, time
from pathlib import Path
import boto3  # once for all
from lt_rebalance.store.place import find_place
location, signs, number, script = sys.argv[1:]
for me in map(str, range(int(number))):
    if os.fork() == 0:
        files = find_place(location).files
        files.list("")
        (Path(signs) / f"ready-{me}").touch()
        while not (Path(signs) / "go").exists():
            time.sleep(0.001)
        exec(script)
        os._exit(0)
while len(list(Path(signs).glob("ready-*"))) < int(number):
    time.sleep(0.01)
(Path(signs) / "go").touch()
for _ in range(int(number)):
    assert os.wait()[1] == 0
"""
CREATE_AT_ONCE = """
answer = files.create("stages/key/result.json", me.encode() * 100_000)
os.write(1, f"{me} {answer}\\n".encode())  # in one piece
"""
APPEND_AT_ONCE = """
for index in range(5):
    files.append("logs/a.log", f"{me} {index}\\n".encode())
"""
WRITE_WITH_A_LIMIT = """
import resource, signal, sys
from lt_rebalance.store.place import find_place
location, operation = sys.argv[1:]
files = find_place(location).files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    getattr(files, operation)("kept/file.bin", b"new" * 1000)
except OSError:
    print("refused")
"""


@pytest.fixture
def files(place: Place) -> Filesystem:
    """Return an empty file system."""
    return find_place(place.location).files


def run_at_once(script: str, place: Place, signs: Path, number: int) -> list[str]:
    """Run a script in several processes that begin at the same moment; return the lines that they print."""
    command = [sys.executable, "-c", AT_ONCE, place.location, str(signs), str(number), script]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    return done.stdout.splitlines()


# Reading and writing


@pytest.mark.parametrize("path", NAMES)
@pytest.mark.parametrize("content", [b"", b"\x00\xff\n\r\n", b"x" * 100_000])
def test_create_then_read_gives_the_bytes(files: Filesystem, path: str, content: bytes) -> None:
    assert files.create(path, content)
    assert files.read(path) == content


@pytest.mark.parametrize("path", NAMES)
def test_create_of_an_existing_file_is_false_and_changes_nothing(files: Filesystem, path: str) -> None:
    assert files.create(path, b"first") is True
    assert files.create(path, b"second") is False
    assert files.read(path) == b"first"


@pytest.mark.parametrize("path", NAMES)
def test_replace_writes_over_what_is_there_or_is_not(files: Filesystem, path: str) -> None:
    files.replace(path, b"first, and longer")
    assert files.read(path) == b"first, and longer"
    files.replace(path, b"second")
    assert files.read(path) == b"second"


def test_create_after_remove_or_replace_sees_what_is_there(files: Filesystem) -> None:
    files.replace("a", b"1")
    assert not files.create("a", b"2")
    files.remove("a")
    assert files.create("a", b"3")
    assert files.read("a") == b"3"


@pytest.mark.parametrize("path", ["missing", "no/such/directory/file"])
def test_read_of_a_missing_file_raises(files: Filesystem, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        files.read(path)


@pytest.mark.parametrize("operation", ["create", "replace"])
def test_content_is_on_the_disk_before_its_name_and_its_name_before_the_answer(
    operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, target = find_place(str(tmp_path)).files, tmp_path / "kept" / "file.bin"
    synced: list[tuple[bytes, bool]] = []

    def spy(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append((path.read_bytes() if path.is_file() else str(path).encode(), target.exists()))

    monkeypatch.setattr(os, "fsync", spy)
    getattr(files, operation)("kept/file.bin", b"content")
    assert synced == [(b"content", False), (str(target.parent).encode(), True)]


# Listing, moving, removing


def test_list_gives_sorted_names_of_files_and_directories(files: Filesystem) -> None:
    for path in ["d/b", "d/a", "d/c/e", "d/ü", "d/a b", "other"]:
        files.create(path, b"")
    assert files.list("d") == ["a", "a b", "b", "c", "ü"]
    assert files.list("") == ["d", "other"]


@pytest.mark.parametrize("path", ["", "missing", "no/such"])
def test_list_of_a_missing_directory_is_empty(files: Filesystem, path: str) -> None:
    assert files.list(path) == []


def test_list_of_a_file_is_empty(files: Filesystem) -> None:
    files.create("a", b"")
    assert files.list("a") == []


@pytest.mark.slow
def test_list_shows_no_temporary_while_and_after_writing(files: Filesystem) -> None:
    seen: set[str] = set()
    is_done = threading.Event()

    def watch() -> None:
        while not is_done.is_set():
            seen.update(files.list("d"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for index in range(30):
        files.replace("d/a", bytes([index]) * 200_000)
        files.create("d/b", b"x")
    is_done.set()
    watcher.join()
    assert seen | set(files.list("d")) == {"a", "b"}


def test_move_takes_a_file_to_a_directory_that_does_not_exist_yet(files: Filesystem) -> None:
    files.create("a/file", b"content")
    files.move("a/file", "new/place/named otherwise")
    assert files.read("new/place/named otherwise") == b"content"
    assert files.list("a") == []


def test_move_of_a_missing_file_raises(files: Filesystem) -> None:
    with pytest.raises(FileNotFoundError):
        files.move("missing", "b/file")


def test_remove_deletes_a_file_and_does_not_mind_when_there_is_none(files: Filesystem) -> None:
    files.create("a/file", b"")
    files.remove("a/file")
    assert files.list("a") == []
    files.remove("a/file")
    files.remove("no/such/file")


# Between processes


@pytest.mark.slow
def test_create_from_8_processes_at_once_succeeds_in_exactly_one(
    files: Filesystem, place: Place, tmp_path: Path
) -> None:
    answers = dict(line.split() for line in run_at_once(CREATE_AT_ONCE, place, tmp_path, 8))
    assert sorted(answers.values()) == ["False"] * 7 + ["True"]
    (winner,) = (me for me, answer in answers.items() if answer == "True")
    assert files.read("stages/key/result.json") == winner.encode() * 100_000
    assert files.list("stages/key") == ["result.json"]


@pytest.mark.slow
def test_append_from_3_processes_at_once_loses_nothing(
    files: Filesystem, place: Place, tmp_path: Path
) -> None:
    run_at_once(APPEND_AT_ONCE, place, tmp_path, 3)
    lines = files.read_appended("logs/a.log").decode().splitlines()
    assert sorted(lines) == [f"{me} {index}" for me in range(3) for index in range(5)]
    for me in "012":
        assert [line for line in lines if line[0] == me] == [f"{me} {index}" for index in range(5)]


def test_replace_never_shows_a_part_of_a_file(files: Filesystem) -> None:
    contents = [bytes([index]) * 300_000 for index in range(20)]
    files.replace("a", contents[0])
    seen: list[bytes] = []
    is_done = threading.Event()

    def read() -> None:
        while not is_done.is_set():
            seen.append(files.read("a"))

    reader = threading.Thread(target=read)
    reader.start()
    for content in contents:
        files.replace("a", content)
    is_done.set()
    reader.join()
    assert seen
    assert set(seen) <= set(contents)


def test_append_makes_a_file_and_then_adds_to_it(files: Filesystem) -> None:
    files.append("logs/a.log", b"one\n")
    files.append("logs/a.log", b"two\n")
    # Where files cannot grow, the additions are files of their own, whose names begin alike.
    names = files.list("logs")
    assert all(name.startswith("a.log") for name in names)
    assert b"".join(files.read(f"logs/{name}") for name in names) == b"one\ntwo\n"
    assert files.read_appended("logs/a.log") == b"one\ntwo\n"


@pytest.mark.slow
def test_append_goes_on_where_another_process_left_off(files: Filesystem, place: Place) -> None:
    for index in range(12):
        find_place(place.location).files.append("a.log", f"{index} ".encode())
    files.append("a.log", b"end")
    files.append("a.log2", b"another file")
    assert files.read_appended("a.log") == b"0 1 2 3 4 5 6 7 8 9 10 11 end"
    with pytest.raises(FileNotFoundError):
        files.read_appended("a")


@pytest.mark.slow
def test_lists_of_more_files_than_one_answer_holds_are_whole(
    files: Filesystem, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_files, "_DELETED_AT_ONCE", PAGE_SIZE)
    names = [f"{index:04d}" for index in range(2 * PAGE_SIZE + 5)]
    for name in names:
        place.write(f"d/{name}", b"1")
    place.write("d/0204x/inside", b"12")
    assert files.list("d") == sorted([*names, "0204x"])
    assert files.count_bytes("d") == len(names) + 2
    files.remove_tree("d")
    assert place.read_all() == {}


def test_remove_tree_deletes_a_file_or_all_that_is_below_a_directory(files: Filesystem) -> None:
    for path in ("a/b/c.json", "a/d.json", "e.json", "f.json"):
        files.replace(path, b"12345")
    assert [files.count_bytes(path) for path in ("a", "a/d.json", "e.json", "none")] == [10, 5, 5, 0]
    for path in ("a", "e.json", "none"):
        files.remove_tree(path)
    assert files.list("") == ["f.json"] and files.list("a") == []


def test_write_that_never_ended_is_listed_after_an_hour(tmp_path: Path) -> None:
    local = LocalFilesystem(tmp_path)
    local.replace("a/whole.json", b"1")
    for name, age_s in {"old": 3700, "fresh": 3500}.items():
        path = tmp_path / "a" / f"{LocalFilesystem.TEMPORARY_PREFIX}{name}"
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age_s, time.time() - age_s))
    assert local.list_unfinished() == ["a/.writing-old"]
    assert local.list("a") == ["whole.json"]


def test_remove_tree_leaves_alone_what_begins_alike(files: Filesystem, place: Place) -> None:
    for path in ("a/b", "ab/c", "a.log"):
        files.replace(path, b"1")
    files.remove_tree("a")
    assert list(place.read_all()) == ["a.log", "ab/c"]


@pytest.mark.parametrize("operation", ["create", "replace"])
def test_write_that_fails_leaves_the_old_file_and_nothing_else(operation: str, tmp_path: Path) -> None:
    place = DirectoryPlace(tmp_path / "root")
    place.write("kept/old.bin", b"old")
    if operation == "replace":
        place.write("kept/file.bin", b"old")
    before = place.read_all()
    command = [sys.executable, "-c", WRITE_WITH_A_LIMIT, place.location, operation]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "refused"
    assert place.read_all() == before


def test_write_that_is_refused_names_the_file(tmp_path: Path) -> None:
    """What the system says of a write names none, as under a limit on the size of files."""
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from lt_rebalance.files.filesystem import LocalFilesystem\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))\n"
        "try: LocalFilesystem(Path(sys.argv[1])).create('records/large', bytes(2048))\n"
        "except OSError as error: print(error.strerror, error.filename)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == f"File too large {tmp_path}/records/large\n", done.stderr
    assert list((tmp_path / "records").iterdir()) == []
