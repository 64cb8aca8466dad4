"""A directory of files with links, foreign things and pipes in it, and one on a disk without hard links."""

import json
import os
import platform
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lt_rebalance.cli.main import main
from lt_rebalance.files.filesystem import Filesystem, LocalFilesystem, ReadOnlyFilesystem
from lt_rebalance.files.trees import LinkError
from lt_rebalance.ground.errors import NotAFileError, ReadOnlyError, StorageError
from lt_rebalance.store import StoreError, open_store
from lt_rebalance.store.place import find_place
from lt_rebalance.studies.stage import RESULTS_VERSION
from tests.commands.test_deletion import make_outside, snapshot
from tests.places import Place
from tests.store.test_store import KEY, make_record

SYSCALLS = {
    "x86_64": {"link": (86, 265), "symlink": (88, 266), "renameat2": (316,)},
    "aarch64": {"link": (37,), "symlink": (36,), "renameat2": (276,)},
}
WITHOUT_CALLS = """
import ctypes, struct, sys
from lt_rebalance.search.journal import _own_file
numbers = [int(number) for number in sys.argv[2].split(",")]
deny, allow = 0x00050000 | int(sys.argv[3]), 0x7FFF0000
steps = [(0x20, 0, 0, 0)]
for left, number in zip(range(len(numbers), 0, -1), numbers):
    steps.append((0x15, left, 0, number))
steps += [(0x06, 0, 0, allow), (0x06, 0, 0, deny)]
program = b"".join(struct.pack("HBBI", *step) for step in steps)
buffer = ctypes.create_string_buffer(program)
described = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
if libc.prctl(22, 2, ctypes.create_string_buffer(described), 0, 0) != 0:
    print("no filter")
    sys.exit()
from lt_rebalance.store import StoreError, open_store
try:
    store = open_store(sys.argv[1], 4, create=True)
    with _own_file("search", store.directory) as journal:
        journal.append_logs([{"op_code": 0}])
        assert list(journal.read_logs(0)) == [{"op_code": 0}]
except StoreError as error:
    print("refused", error)
else:
    files = store.files
    print(files.create("stages/a", b"1"), files.create("stages/a", b"2"), files.read("stages/a"))
    print(sorted(path.name for path in store.directory.rglob("*")))
"""
EPERM, EINVAL = 1, 22


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def files(root: Path) -> LocalFilesystem:
    return LocalFilesystem(root)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return make_outside(tmp_path / "outside")


# Deleting


def test_remove_tree_unlinks_links_and_follows_none(root: Path, files: Filesystem, outside: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    for path in ("a/link", "a/b/link", "top"):
        (root / path).symlink_to(outside)
    (root / "a" / "loop").symlink_to(root)
    (root / "a" / "nowhere").symlink_to("nowhere")
    before = snapshot(outside)
    assert files.count_bytes("a") == files.count_bytes("top") == 0
    for path in ("a", "top"):
        files.remove_tree(path)
    assert list(root.iterdir()) == [] and snapshot(outside) == before


@pytest.mark.parametrize("path", ["link/stage", "a/link/stage/checkpoints/x", "link/none/x"])
def test_remove_tree_behind_a_link_is_refused(
    path: str, root: Path, files: Filesystem, outside: Path
) -> None:
    (root / "a").mkdir()
    for link in ("link", "a/link"):
        (root / link).symlink_to(outside)
    before = snapshot(outside)
    with pytest.raises(LinkError, match="behind a link"):
        files.remove_tree(path)
    assert snapshot(outside) == before and files.is_behind_link(path) and files.count_bytes(path) == 0


def test_directory_that_becomes_a_link_while_it_is_deleted_leads_nowhere(
    root: Path, files: Filesystem, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a" / "b").mkdir(parents=True)
    before = snapshot(outside)
    lstat = os.lstat

    def swap(path: str, *, dir_fd: int | None = None) -> os.stat_result:
        status = lstat(path, dir_fd=dir_fd)
        if path == "b":
            (root / "a" / "b").rmdir()
            (root / "a" / "b").symlink_to(outside)
        return status

    monkeypatch.setattr(os, "lstat", swap)
    with pytest.raises(NotADirectoryError):
        files.remove_tree("a")
    monkeypatch.undo()
    assert snapshot(outside) == before


@pytest.mark.parametrize("name", ["stages", "stages/KEY", "running", "logs", "events", "quarantine"])
def test_gc_of_a_store_with_a_link_in_it_deletes_nothing_behind_it(
    name: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = KEY
    store = open_store(str(root), RESULTS_VERSION, create=True)
    assert store is not None
    store.commit(make_record(key))
    store.files.replace(f"stages/{key}/checkpoints/000001-{key}.safetensors", b"1")
    store.files.replace(f"logs/{key}.log", b"1")
    store.files.replace("events/none/seed-0/events.out.tfevents.0", b"1")
    store.files.replace("quarantine/x/result.json", b"1")
    note = {"name": "x.json", "title": "t", "keys": [key], "host": "h", "pid": 1, "pid_space": "s"}
    store.files.replace("running/x.json", json.dumps(note).encode())
    place = root / name.replace("KEY", key)
    place.rename(tmp_path / "moved")
    place.symlink_to(tmp_path / "moved")
    before = snapshot(tmp_path / "moved")
    for options in ([], ["--orphans"]):
        assert main(["gc", str(root), *options]) in (0, 1)
        assert snapshot(tmp_path / "moved") == before
    if name in ("stages", "running", "logs"):
        assert "left: " in (out := capsys.readouterr().out) and "but it is behind a link" in out
        assert main(["gc", str(root), "--orphans", "--dry-run", "--json"]) == 0
        assert '"garbage": []' in capsys.readouterr().out


@pytest.mark.parametrize("path", ["", "..", "a/..", "../x", "a/../../x", "/etc", "a//b", "a/", "./a", "a\0b"])
def test_path_that_leads_out_of_the_root_or_to_no_name_is_refused(path: str, place: Place) -> None:
    files = find_place(place.location).files
    files.create("a/b", b"1")
    for operation in (files.read, files.remove, files.remove_tree, files.count_bytes, files.is_behind_link):
        with pytest.raises(ValueError, match="not a path in a store"):
            operation(path)
    for write in (files.create, files.replace, files.append):
        with pytest.raises(ValueError, match="not a path in a store"):
            write(path, b"2")
    with pytest.raises(ValueError, match="not a path in a store"):
        files.move("a/b", path)
    assert list(place.read_all()) == ["a/b"]


# What is not a file


@pytest.mark.parametrize("kind", ["nowhere", "loop", "directory", "pipe"])
def test_what_has_the_name_of_a_file_and_is_none_is_told_and_can_be_moved_away(
    kind: str, root: Path, files: Filesystem
) -> None:
    path = root / "result.json"
    match kind:
        case "nowhere" | "loop":
            path.symlink_to("nowhere" if kind == "nowhere" else "result.json")
        case "directory":
            (path / "inside").mkdir(parents=True)
        case "pipe":
            os.mkfifo(path)
    assert files.create("result.json", b"1") is False
    with pytest.raises(NotAFileError, match=r"result\.json"):
        files.read("result.json")
    files.move("result.json", "quarantine/x/result.json")
    assert files.create("result.json", b"1") and files.read("result.json") == b"1"


def test_commit_over_a_link_to_nowhere_sets_it_aside_and_ends(root: Path) -> None:
    store = open_store(str(root), RESULTS_VERSION, create=True)
    assert store is not None
    key = KEY
    (root / "stages" / key).mkdir(parents=True)
    (root / "stages" / key / "result.json").symlink_to("nowhere")
    done = threading.Thread(target=store.commit, args=(make_record(key),), daemon=True)
    done.start()
    done.join(timeout=60)
    assert not done.is_alive() and store.read_record(key) is not None
    assert len(store.list_quarantine()) == 1


def test_below_a_file_there_is_nothing_and_nothing_can_be_written(root: Path, files: Filesystem) -> None:
    (root / "file").write_bytes(b"1")
    with pytest.raises(FileNotFoundError):
        files.read("file/result.json")
    files.remove("file/result.json")
    files.remove_tree("file/result.json")
    with pytest.raises(FileNotFoundError):
        files.move("file/result.json", "other")
    for write in (files.create, files.replace, files.append):
        with pytest.raises(StorageError, match="is not a directory"):
            write("file/result.json", b"1")


def test_append_writes_through_no_link(root: Path, files: Filesystem, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"1")
    (root / "a.log").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        files.append("a.log", b"2")
    assert (tmp_path / "precious").read_bytes() == b"1"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [".DS_Store", "lost+found", "Thumbs.db", "@eaDir", "._x", ".nfs0001", ".snapshot"]
)
def test_foreign_things_are_passed_over(name: str, place: Place) -> None:
    place.write(f"{name}/inside" if name in ("lost+found", ".snapshot") else name, b"1")
    store = open_store(place.location, RESULTS_VERSION, create=True)
    assert store is not None
    place.write(f"stages/{name}", b"1")
    assert store.list_keys() == [] and store.files.list("") == ["stages", "store.json"]
    for options in ([], ["--orphans"]):
        assert main(["gc", place.location, *options]) == 0
    assert f"stages/{name}" in place.read_all()


def test_directory_of_somebody_else_is_still_no_store(root: Path) -> None:
    (root / "thesis.tex").touch()
    with pytest.raises(StoreError, match=r"not empty and not a store \(it holds 'thesis.tex'\)"):
        open_store(str(root), RESULTS_VERSION, create=True)


# Disks without hard links


def run_without(root: Path, *names: str, code: int) -> str:
    """Open a store, and create a file twice, where the kernel answers these calls with an error."""
    known = SYSCALLS.get(platform.machine())
    if not sys.platform.startswith("linux") or known is None:
        pytest.skip(f"the numbers of system calls of {platform.machine()} are not known here")
    numbers = ",".join(str(number) for name in names for number in known[name])
    command = [sys.executable, "-c", WITHOUT_CALLS, str(root), numbers, str(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if done.stdout.startswith("no filter"):
        pytest.skip("the kernel lets no process refuse itself calls")
    return done.stdout


@pytest.mark.parametrize("code", [EPERM, 95])
def test_disk_without_links_of_any_kind_is_written_to_exclusively_all_the_same(code: int, root: Path) -> None:
    out = run_without(root, "link", "symlink", code=code).splitlines()
    assert out == ["True False b'1'", "['a', 'journal.jsonl', 'owner', 'stages', 'store.json']"]


@pytest.mark.parametrize("is_new", [True, False])
def test_disk_without_any_exclusive_name_is_refused_before_anything_is_trained(
    is_new: bool, root: Path
) -> None:
    if not is_new:
        open_store(str(root), RESULTS_VERSION, create=True)
    before = sorted(root.rglob("*"))
    out = run_without(root, "link", "renameat2", code=EINVAL)
    assert out.startswith("refused") and "has neither hard links nor a rename without replacing" in out
    assert "put the store on another disk" in out
    assert sorted(path for path in root.rglob("*") if path.name != "running") == before


# Reading only


def test_files_that_are_only_read_are_not_changed(place: Place) -> None:
    files = find_place(place.location).files
    files.create("a/b", b"1")
    files.append("a.log", b"2")
    before = place.read_all()
    only_read = ReadOnlyFilesystem(files)
    assert (only_read.read("a/b"), only_read.list("a"), only_read.count_bytes("a")) == (b"1", ["b"], 1)
    assert only_read.read_appended("a.log") == b"2"
    for write in (only_read.create, only_read.replace, only_read.append):
        with pytest.raises(ReadOnlyError, match=r"a/b: .*opened read-only"):
            write("a/b", b"3")
    for remove in (only_read.remove, only_read.remove_tree):
        with pytest.raises(ReadOnlyError):
            remove("a/b")
    with pytest.raises(ReadOnlyError):
        only_read.move("a/b", "c")
    assert place.read_all() == before


def test_directory_from_elsewhere_that_is_mounted_in_a_store_is_not_deleted(
    root: Path, files: Filesystem, outside: Path
) -> None:
    (place := root / "a" / "b").mkdir(parents=True)
    command = ["mount", "--bind", str(outside), str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs root, to mount a directory")
    before = snapshot(outside)
    try:
        with pytest.raises(LinkError, match="mount point"):
            files.remove_tree("a")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
    assert snapshot(outside) == before
    files.remove_tree("a")
    assert list(root.iterdir()) == []
