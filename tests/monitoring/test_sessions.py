"""The session of a sweep is logged, and its forecasts of the time left are compared with the time it took."""

import json
from pathlib import Path

import pytest

from lt_rebalance.files.filesystem import Filesystem, LocalFilesystem
from lt_rebalance.ground.errors import StorageError
from lt_rebalance.monitoring.sessions import (
    SessionLog,
    hide_directories,
    log_session,
    read_sessions,
    sessions_path,
)
from lt_rebalance.store.place import find_place
from tests.places import Place


class Clock:
    now_s = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.time", lambda: clock.now_s)
    return clock


@pytest.fixture
def files(place: Place) -> Filesystem:
    return find_place(place.location).files


def run(files: Filesystem, clock: Clock, num_done: int = 20) -> None:
    """Run twenty stages of ten seconds each; the forecast is five seconds for each."""
    with log_session(files, "study", "python sweep.py", 20) as log:
        for done in range(num_done + 1):
            left_s = 5.0 * (20 - done)
            log.tell(done, lambda left_s=left_s: left_s)  # type: ignore[misc]
            log.tell(done, lambda: pytest.fail("reported twice"))
            clock.now_s += 10


def test_forecasts_are_held_against_what_it_took(files: Filesystem, clock: Clock) -> None:
    run(files, clock)
    (session,) = read_sessions(files, "study")
    assert (session.command, session.num_stages, session.end) == ("python sweep.py", 20, "done")
    assert (session.began_s, session.ended_s) == (1000.0, 1210.0)
    # After 2 of 20 stages, 18 were left: 90 s by the forecast, and 190 s until the end.
    assert session.forecasts == {0.1: (90.0, 190.0), 0.5: (50.0, 110.0), 0.9: (10.0, 30.0)}


def test_session_that_was_ended_tells_how_and_has_no_forecasts(files: Filesystem, clock: Clock) -> None:
    def work() -> None:
        with log_session(files, "study", "a", 20) as log:
            log.tell(15, lambda: 5.0)
            raise KeyboardInterrupt("here\nnow")

    with pytest.raises(KeyboardInterrupt):
        work()
    SessionLog(files, "study", "b", 3)  # and killed
    run(files, clock)
    ended, killed, last = read_sessions(files, "study")
    assert (ended.end, ended.forecasts) == ("KeyboardInterrupt here\\nnow", {})
    assert (killed.ended_s, killed.forecasts, last.end) == (None, {}, "done")


def test_lines_that_are_none_are_passed_over(files: Filesystem, clock: Clock) -> None:
    assert read_sessions(files, "study") == []
    files.append(sessions_path("study"), b'{"session": "x", "at_s": 1, "command": 3}\n[]\n{"sess')
    files.append(sessions_path("study"), b"\n")
    run(files, clock)
    assert [session.end for session in read_sessions(files, "study")] == ["done"]
    with pytest.raises(ValueError, match="a study"):
        sessions_path("../other")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('File "/mnt/c/Users/Jane Doe/My Drive/proj/m.py", line 1', 'File "m.py", line 1'),
        ("--data-dir '/data of/me/x' 7/9 --c 1/2", "--data-dir 'x' 7/9 --c 1/2"),
        ("'--dataset=/mnt/c/Users/Jane Doe/pics/cats' --grey", "'--dataset=cats' --grey"),
        ('"--dataset=/mnt/c/Jane Doe/cats"', '"--dataset=cats"'),
        ("--dataset=/home/jos\u00e9/pics a/b", "--dataset=pics a/b"),
        ("no /home/me/z, it's at /home/me/y", "no z, it's at y"),
        ("Path:/home/me/x and host:/home/me/y", "Path:x and host:y"),
        ("file:///home/me/x/y.csv sqlite:////home/me/x.db", "file://y.csv sqlite:///x.db"),
        ("'file:///data of/me/x' sqlite:///mine/x.db", "'file://x' sqlite:///mine/x.db"),
        ("données/x/y.py and http://host/a/b and s3://bucket/here/x", None),
        ("no file: /home/Jane Doe/My Drive/x.csv", "no file: My Drive/x.csv"),
        ("no file: /mnt/of Jané Doe/proj/x.csv", "no file: x.csv"),
    ],
)
def test_directories_of_the_machine_are_hidden(
    text: str, shown: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/Jane Doe")
    monkeypatch.setattr("os.getcwd", lambda: "/mnt/of Jané Doe/proj")
    expected = text if shown is None else shown
    assert hide_directories(text.encode()).decode() == expected
    in_json = json.dumps(f"python {text}").encode()
    assert json.loads(hide_directories(in_json)) == f"python {expected}"
    assert hide_directories(b"/home/\xff/x \xff") == b"x \xff"


def test_disk_that_takes_nothing_ends_no_session_and_a_lost_store_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(error: OSError) -> None:
        def append(self: object, path: str, content: bytes) -> None:
            raise error

        monkeypatch.setattr(LocalFilesystem, "append", append)

    files = LocalFilesystem(tmp_path)
    refuse(OSError(28, "no space"))
    with log_session(files, "study", "a", 1) as log:
        log.tell(1, lambda: 0.0)
    refuse(StorageError("gone"))
    with pytest.raises(StorageError):
        log.end("done")
