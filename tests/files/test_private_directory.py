"""A private directory is closed to other users, short enough for sockets, and does not stay for ever."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune

from lt_rebalance.cluster.resources import Resources
from lt_rebalance.cluster.rungs import PopulationTrainable, member_trial_config
from lt_rebalance.cluster.session import MAX_DIRECTORY_BYTES
from lt_rebalance.cluster.trainable import StageTrainable
from lt_rebalance.cluster.tuner import run_trials
from lt_rebalance.files.private_directory import MARK, PREFIX, find_parent, private_directory
from lt_rebalance.search.search import Search
from lt_rebalance.store import StoreError, open_store
from lt_rebalance.studies.stage import RESULTS_VERSION
from tests.other_user import OTHER, needs_root, try_as_other

OWNER = """
import sys
from lt_rebalance.files.private_directory import private_directory
with private_directory(107) as path:
    (path / "file").touch()
    print(path, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short directory of this test's own, and the one for temporary files."""
    for name in ("RAY_TMPDIR", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    with private_directory(107) as path:
        short = path / "t"
        short.mkdir(mode=0o755)
        path.chmod(0o755)  # as other directories for temporary files
        monkeypatch.setenv("TMPDIR", str(short))
        yield short


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[str]]:
    """A process that has a private directory and waits."""
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def read_path(owner: subprocess.Popen[str]) -> Path:
    assert owner.stdout is not None
    return Path(owner.stdout.readline().strip())


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_directory_is_its_owners_alone_whatever_the_umask_and_ends_with_its_block(
    parent: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        with private_directory(107) as path:
            status = path.stat()
            assert path.parent == parent and (status.st_mode & 0o7777, status.st_uid) == (0o700, os.geteuid())
    finally:
        os.umask(before)
    assert not path.exists()


@needs_root
def test_other_user_can_do_nothing_in_it(parent: Path) -> None:
    parent.chmod(0o1777)
    with private_directory(107) as path:
        below = path / "ray"
        below.mkdir()
        below.chmod(0o777)  # as Ray makes its own
        (below / "log").write_text("x")
        (below / "log").chmod(0o666)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(below / "socket"))
            (below / "socket").chmod(0o777)
            listener.listen()
            refused = try_as_other(
                {
                    "list": lambda: os.listdir(path),
                    "list below": lambda: os.listdir(below),
                    "read": (below / "log").read_text,
                    "write": lambda: (below / "log").write_text("y"),
                    "add": lambda: (below / "module.py").write_text("y"),
                    "link": lambda: (below / "link").symlink_to("/etc/passwd"),
                    "connect": lambda: socket.socket(socket.AF_UNIX).connect(str(below / "socket")),
                    "rename": lambda: path.rename(parent / "mine"),
                    "remove": path.rmdir,
                    "open to all": lambda: path.chmod(0o777),
                }
            )
    assert set(refused.values()) == {"PermissionError"}, refused


def test_sockets_of_ray_fit_below_the_longest_path_that_is_taken() -> None:
    parent = find_parent(MAX_DIRECTORY_BYTES)
    directory = f"{parent}/{PREFIX}{'x' * 8}"
    longest = directory + "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
    assert len(longest) + (MAX_DIRECTORY_BYTES - len(directory)) <= 107


@pytest.mark.parametrize("name", ["a" * 120, "é" * 60, "not/there"])
def test_other_place_is_taken_where_the_one_named_will_not_do(
    parent: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    place = parent / name
    if "/" not in name:
        place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    with private_directory(MAX_DIRECTORY_BYTES) as path:
        assert not path.is_relative_to(place) and len(os.fsencode(path)) <= MAX_DIRECTORY_BYTES


def test_no_place_at_all_is_said_in_words_with_the_fault_of_each() -> None:
    with pytest.raises(ValueError, match=r"/tmp is too long for sockets; .*set TMPDIR to"):
        find_parent(10)


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_place_in_which_others_can_replace_directories_is_passed_over(parent: Path, mode: int) -> None:
    assert find_parent(107) == parent
    parent.chmod(mode)
    assert find_parent(107) != parent
    parent.chmod(mode | 0o1000)
    assert find_parent(107) == parent


@pytest.mark.parametrize("mode", [0o777, 0o755])
def test_files_of_tune_are_in_a_directory_that_no_other_user_can_replace(
    parent: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent.chmod(mode)
    monkeypatch.setattr(tempfile, "tempdir", None)
    places: list[Path] = []

    def tuner(*_: Any, run_config: tune.RunConfig, **__: Any) -> Any:
        place = Path(str(run_config.storage_path))
        assert place.is_relative_to(parent) is (mode == 0o755)
        assert (place / MARK).exists(), "the next process would leave it there after a kill"
        places.append(place)
        return SimpleNamespace(fit=lambda: None)

    monkeypatch.setattr(tune, "Tuner", tuner)
    resources = Resources(num_cpus=1, num_gpus=0, num_slots=1, max_lanes=1)
    run_trials(StageTrainable, resources, lambda: None, num_pending=1)
    assert [place.exists() for place in places] == [False]


def test_files_of_a_member_are_in_a_directory_that_no_other_user_can_replace(
    parent: Path, small_cgan_search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True) is not None
    values, storage = small_cgan_search.untuned, str(tmp_path / "store")
    for mode in (0o755, 0o777):
        parent.chmod(mode)
        member = PopulationTrainable(member_trial_config(small_cgan_search, 0, values, storage, None))
        member._begin_once()
        scratch = Path(member._scratch)
        assert scratch.is_relative_to(parent) is (mode == 0o755)
        assert (scratch.parent / MARK).exists(), "the next process would leave it there after a kill"
        member._begin(member._config)
        assert not scratch.exists() and Path(member._scratch).exists()


def test_directory_that_nodes_share_is_private_too_and_is_refused_where_others_can_replace_it(
    tmp_path: Path,
) -> None:
    with private_directory(parent=tmp_path) as path:
        assert path.parent == tmp_path and path.stat().st_mode & 0o777 == 0o700
    assert not path.exists()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with (
        pytest.raises(
            ValueError, match=r"in a private directory, got .*open, which can be replaced by other"
        ),
        private_directory(parent=tmp_path / "open"),
    ):
        pass


@needs_root
def test_place_of_another_user_is_passed_over(parent: Path) -> None:
    os.chown(parent, OTHER, OTHER)
    assert find_parent(107) != parent


def test_link_as_the_place_is_followed_before_it_is_judged(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (parent / "real").mkdir()
    (parent / "link").symlink_to("real")
    monkeypatch.setenv("TMPDIR", str(parent / "link"))
    with private_directory(107) as path:
        assert path.parent == parent / "real"


def test_what_a_killed_owner_has_left_is_removed_by_the_next_and_what_a_living_one_has_is_not(
    owner: subprocess.Popen[str],
) -> None:
    path = read_path(owner)
    with private_directory(107):
        assert (path / "file").exists()
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert (path / "file").exists()
    with private_directory(107):
        assert not path.exists()


def test_nothing_else_is_taken_for_left_overs(parent: Path) -> None:
    names = [
        "lt_rebalance-tune-abcdefgh",
        "lt_rebalance-ABCDEFGH",
        "lt_rebalance-abcdefghi",
        "other-abcdefgh",
    ]
    for name in names:
        (parent / name).mkdir(mode=0o700)
        (parent / name / MARK).touch()
    (parent / "real").mkdir(mode=0o700)
    (parent / "real" / "file").touch()
    (parent / f"{PREFIX}aaaaaaaa").symlink_to("real")
    (parent / f"{PREFIX}bbbbbbbb").touch()
    (parent / f"{PREFIX}cccccccc").mkdir(mode=0o755)
    (parent / f"{PREFIX}cccccccc" / MARK).touch()
    (parent / f"{PREFIX}baseline").mkdir(mode=0o700)  # a user's own results, of which nobody holds a lock
    (parent / f"{PREFIX}baseline" / "store.json").touch()
    (parent / f"{PREFIX}dddddddd" / MARK).mkdir(parents=True)
    (parent / f"{PREFIX}dddddddd").chmod(0o700)
    (parent / f"{PREFIX}ffffffff").mkdir(mode=0o700)
    (parent / f"{PREFIX}ffffffff" / MARK).touch()
    before = set(os.listdir(parent))
    if os.geteuid() == 0:
        (parent / f"{PREFIX}eeeeeeee").mkdir(mode=0o700)
        (parent / f"{PREFIX}eeeeeeee" / MARK).touch()
        os.chown(parent / f"{PREFIX}eeeeeeee", OTHER, OTHER)
        before.add(f"{PREFIX}eeeeeeee")
    with private_directory(107):
        pass
    assert set(os.listdir(parent)) == before - {f"{PREFIX}ffffffff"}
    assert (parent / f"{PREFIX}baseline" / "store.json").exists()
    assert (parent / "real" / "file").exists()


def test_many_that_start_at_once_remove_nothing_of_each_other(parent: Path) -> None:
    script = OWNER.replace("sys.stdin.read()", "assert (path / 'file').exists()")
    script = script.replace("with", "for _ in range(30):\n  with").replace("\n    ", "\n        ")
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0, 0]
    assert os.listdir(parent) == []


@needs_root
def test_directory_below_one_that_cannot_be_entered_is_passed_over(parent: Path, tmp_path: Path) -> None:
    """As TMPDIR is after `su`: that of the user before."""
    (below := parent / "closed" / "below").mkdir(parents=True)
    (parent / "closed").chmod(0o700)

    def find() -> None:
        os.environ["TMPDIR"] = str(below)
        if find_parent() == below:
            raise FileExistsError

    assert try_as_other({"enter": lambda: os.listdir(below), "find": find}) == {
        "enter": "PermissionError",
        "find": "done",
    }


@needs_root
def test_store_below_a_directory_that_cannot_be_entered_is_refused_by_its_location(parent: Path) -> None:
    (parent / "closed" / "store").mkdir(parents=True)
    (parent / "closed").chmod(0o700)
    location = str(parent / "closed" / "store")

    def refuse() -> None:
        with pytest.raises(
            StoreError, match=f"^{location} cannot be used as a store: Permission denied; name"
        ):
            open_store(location, None, create=False)

    assert try_as_other({"refuse": refuse}) == {"refuse": "done"}
