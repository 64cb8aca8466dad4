"""A published study is read from its archive as from a store; what is wrong with it gets no further."""

import hashlib
import io
import os
import shutil
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest

from lt_rebalance.files.archive import (
    ARCHIVE,
    CHECKSUMS,
    MAKING,
    ArchiveFiles,
    is_published,
    open_to_publish,
    read_published,
    replace_published,
    require_replaceable,
    restore_published,
    write_archive,
    write_checksums,
)
from lt_rebalance.ground.errors import NotAFileError
from tests.published import read_files

CONTENTS = {
    "store.json": b"{}",
    "stages/a/result.json": b"1" * 1000,
    "stages/b/x.npy": b"",
    "logs/ü.log": b"l",
}


def zip_of(names: list[str], content: bytes = b"content", compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of names that come twice
        for name in names:
            undated = zipfile.ZipInfo(name)  # processes that collect tests have to give them the same names
            archive.writestr(undated, content, compression)
    return file.getvalue()


def publish(root: Path, content: bytes) -> Path:
    root.mkdir(exist_ok=True)
    (root / ARCHIVE).write_bytes(content)
    (root / CHECKSUMS).write_bytes(write_checksums({ARCHIVE: content, "b": b"", "a": b""}))
    return root


def test_equal_files_give_equal_bytes_in_any_order_and_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_archive(CONTENTS)
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert write_archive(dict(reversed(CONTENTS.items()))) == first
    assert write_archive(CONTENTS | {"store.json": b"{ }"}) != first


def test_archive_gives_back_what_was_put_in() -> None:
    files = ArchiveFiles(write_archive(CONTENTS))
    assert {path: files.read(path) for path in CONTENTS} == CONTENTS
    assert files.list("") == ["logs", "stages", "store.json"]
    assert files.list("stages") == ["a", "b"] and files.list("stages/a") == ["result.json"]
    assert files.list("nowhere") == files.list("store.json") == []
    assert (files.count_bytes("stages"), files.count_bytes("store.json"), files.count_bytes("st")) == (
        1000,
        2,
        0,
    )
    sha256 = hashlib.sha256(b"{}").hexdigest()
    assert files.has_content("store.json", sha256, 2)
    assert not files.has_content("store.json", sha256, 3) and not files.has_content("logs/ü.log", sha256, 1)
    assert list(files.read_each(files.read, ["store.json"])) == [b"{}"]
    with pytest.raises(FileNotFoundError):
        files.read("stages/a/nothing")
    with pytest.raises(NotAFileError):
        files.read("stages/a")
    with pytest.raises(ValueError, match="is not a path"):
        files.read("../store.json")


def test_checksums_are_those_of_sha256sum() -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    assert write_checksums({"b": b"x", "a c": b"x"}) == f"{digest}  a c\n{digest}  b\n".encode()


def test_published_study_is_told_from_a_store(tmp_path: Path) -> None:
    assert not is_published(tmp_path) and not is_published(tmp_path / "nowhere")
    root = publish(tmp_path / "study", write_archive(CONTENTS))
    assert is_published(root)
    assert read_published(root).read("store.json") == b"{}"
    (root / "store.json").write_bytes(b"{}")
    assert not is_published(root)


@pytest.mark.parametrize("place", [0, 40, -1])
def test_one_byte_that_flipped_is_noticed(place: int, tmp_path: Path) -> None:
    root = publish(tmp_path / "study", write_archive(CONTENTS))
    content = bytearray((root / ARCHIVE).read_bytes())
    content[place] ^= 1
    (root / ARCHIVE).write_bytes(content)
    with pytest.raises(ValueError, match=r"store\.zip is not the one that was published: its sha256"):
        read_published(root)


@pytest.mark.parametrize(
    ("checksums", "words"),
    [(None, "SHA256SUMS is missing"), (b"abc  store.zip\n", "is damaged"), (b"", "says nothing")],
)
def test_archive_without_its_checksum_is_refused(checksums: bytes | None, words: str, tmp_path: Path) -> None:
    root = publish(tmp_path / "study", write_archive(CONTENTS))
    (root / CHECKSUMS).unlink()
    if checksums is not None:
        (root / CHECKSUMS).write_bytes(checksums)
    with pytest.raises(ValueError, match=words):
        read_published(root)


def test_archive_larger_than_any_published_is_refused_unread(tmp_path: Path) -> None:
    root = publish(tmp_path / "study", b"")
    with (root / ARCHIVE).open("wb") as file:
        file.truncate(60_000_001)
    with pytest.raises(ValueError, match="60,000,001 bytes, and may have 60,000,000"):
        read_published(root)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK no archive", "not a readable zip archive"),
        (zip_of(["store.json"])[:-30], "not a readable zip archive"),
        (zip_of(["../../etc/passwd"]), "is not a path"),
        (zip_of(["/etc/passwd"]), "is not a path"),
        (zip_of(["stages/"]), "is not a path"),
        (zip_of(["a", "a"]), "a file twice"),
        (zip_of(["a", "a/b"]), "both a file and a directory"),
        (zip_of(["a"], compression=zipfile.ZIP_BZIP2), "compressed by a method"),
    ],
)
def test_archive_of_no_store_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ArchiveFiles(content)


def say_size(content: bytes, num_bytes: int) -> bytes:
    """Return an archive of one file that says of it that it has another size."""
    place = content.rindex(b"PK\x01\x02") + 24
    return content[:place] + struct.pack("<I", num_bytes) + content[place + 4 :]


def test_path_of_many_names_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(ValueError, match="has more than 10 names"):
        ArchiveFiles(zip_of(["/".join("a" * 11)]))
    assert ArchiveFiles(zip_of(["/".join("a" * 10)])).list("a/a") == ["a"]
    content = zip_of(["/".join("a" * 30_000)])
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"^a/a/a.*\.\.\. in it has more than 10 names"):
            ArchiveFiles(content)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_file_that_says_to_be_huge_is_refused_before_it_is_unpacked() -> None:
    content = zip_of(["a"])
    with pytest.raises(ValueError, match="a in it would have 268,435,457 bytes"):
        ArchiveFiles(say_size(content, 2**28 + 1))
    with pytest.raises(ValueError, match="declares more than"):
        ArchiveFiles(say_size(content, 2**31 + 1))


def test_no_more_is_unpacked_than_the_archive_says() -> None:
    content = say_size(zip_of(["a"], b"0" * 50_000_000), 1000)
    files = ArchiveFiles(content)
    tracemalloc.start()
    try:
        with pytest.raises(NotAFileError, match="cannot be unpacked"):
            files.read("a")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_file_that_ends_early_or_is_damaged_cannot_be_read() -> None:
    with pytest.raises(NotAFileError, match="it ends too early"):
        ArchiveFiles(say_size(zip_of(["a"]), 8)).read("a")
    content = bytearray(zip_of(["a"], bytes(range(256))))
    content[60] ^= 1
    with pytest.raises(NotAFileError, match="cannot be unpacked"):
        ArchiveFiles(bytes(content)).read("a")


def seal(files: dict[str, bytes]) -> dict[str, bytes]:
    return files | {CHECKSUMS: write_checksums(files)}


NEW = seal({"report/a": b"new", "README.md": b"new"})
OLD = {"report/b": b"old", "README.md": b"old"}
NAMES = ("report", "README.md")


def write_files(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("old", [OLD, {"plan.toml": b"p"}, seal(OLD)])
def test_files_are_replaced_together_or_not_at_all(
    old: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_files(tmp_path / "study", old)
    rename, num_moves = os.rename, 0

    def fail(source: Path, target: Path) -> None:
        nonlocal num_moves
        num_moves += 1
        if num_moves == fails_at:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    num_steps = 3 + len({name.partition("/")[0] for name in old} & {*NAMES, CHECKSUMS})
    for fails_at in range(1, num_steps + 1):
        made, num_moves = write_files(tmp_path / f"made{fails_at}", NEW), 0
        with pytest.raises(KeyboardInterrupt):
            replace_published(made, folder, NAMES)
        assert read_files(folder) == old, fails_at
    fails_at = 0
    replace_published(write_files(tmp_path / "made", NEW), folder, NAMES)
    kept = {name: content for name, content in old.items() if name == "plan.toml"}
    assert read_files(folder) == NEW | kept


def kill_after_each_move(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a copy of the folder before the first move of a replacement, and after each."""
    made, rename = write_files(folder / f"{MAKING}a1b2c3_4", NEW), os.rename
    copies: list[Path] = []

    def copy() -> None:
        copies.append(folder.parent / f"after{len(copies)}")
        shutil.copytree(folder, copies[-1])

    def move(source: Path, target: Path) -> None:
        copy()
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", move)
        replace_published(made, folder, NAMES)
    copy()
    return copies


@pytest.mark.parametrize("old", [OLD, {"plan.toml": b"p"}, seal(OLD)])
def test_folder_of_a_killed_replacement_is_restored(
    old: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = kill_after_each_move(write_files(tmp_path / "study", old), monkeypatch)
    kept = {name: content for name, content in old.items() if name == "plan.toml"}
    for copied in copies:
        restore_published(copied, NAMES)
        assert read_files(copied) == (NEW | kept if copied is copies[-1] else old), copied


def test_folder_that_was_restored_by_hand_after_a_kill_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for copied in kill_after_each_move(write_files(tmp_path / "study", seal(OLD)), monkeypatch):
        write_files(copied, seal(OLD))
        is_there = (copied / "report" / "a").exists()
        if is_there and any(path.name.endswith("-replaced") for path in copied.iterdir()):
            words = r"report/a is not as it was published, and .*-replaced has what a publish that was killed"
            with pytest.raises(ValueError, match=words):
                restore_published(copied, NAMES)
        (copied / "report" / "a").unlink(missing_ok=True)
        restore_published(copied, NAMES)
        assert read_files(copied) == seal(OLD), copied


@pytest.mark.parametrize("name", ["report/mine", "README.md"])
def test_what_came_into_a_folder_after_a_kill_is_not_replaced(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    midway = kill_after_each_move(write_files(tmp_path / "study", seal(OLD)), monkeypatch)[3:-1]
    assert len(midway) == 3  # when all is away, when the report has come, and the README
    for copied in midway:
        write_files(copied, {name: b"mine"})
        before = read_files(copied)
        words = rf"{name.partition('/')[0]}.* came there after .*-replaced has what was there before; move"
        with pytest.raises(ValueError, match=words):
            restore_published(copied, NAMES)
        assert read_files(copied) == before
        shutil.rmtree(copied / "report", ignore_errors=True)
        (copied / "README.md").unlink(missing_ok=True)
        restore_published(copied, NAMES)
        assert read_files(copied) == seal(OLD)


def test_second_process_is_refused_while_one_is_at_work_in_a_folder(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "study", seal(OLD))
    with open_to_publish(folder, NAMES) as made:
        write_files(made, NEW)
        with (
            pytest.raises(ValueError, match=r"another process publishes to .*study; wait for its end"),
            open_to_publish(folder, NAMES),
        ):
            pass
        replace_published(made, folder, NAMES)
    assert read_files(folder) == NEW
    with open_to_publish(folder, NAMES):
        pass


def test_nothing_but_what_killed_commands_left_is_deleted(tmp_path: Path) -> None:
    mine = {f"{MAKING}notes/a": b"mine", f"{MAKING}a1b2c3_4-replaced/README.md": b"old", "README.md": b"new"}
    folder = write_files(tmp_path, mine)
    (folder / f"{MAKING}12345678").symlink_to(tmp_path / f"{MAKING}notes")
    restore_published(folder, NAMES)
    assert read_files(folder).keys() >= mine.keys()
    write_files(folder, seal({"README.md": b"new"}))
    restore_published(folder, NAMES)
    assert [path.name for path in sorted(folder.iterdir())] == [
        f"{MAKING}12345678",
        f"{MAKING}notes",
        "README.md",
        CHECKSUMS,
    ]


def test_only_what_was_published_is_replaced(tmp_path: Path) -> None:
    folder = write_files(tmp_path, OLD | {"notes.md": b"mine"})
    with pytest.raises(ValueError, match="report/b is not as it was published"):
        require_replaceable(folder, NAMES)
    (folder / CHECKSUMS).write_bytes(write_checksums(OLD))
    require_replaceable(folder, NAMES)
    (folder / "README.md").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"README\.md is not as it was published"):
        require_replaceable(folder, NAMES)


def test_name_that_breaks_the_checksums_is_refused() -> None:
    with pytest.raises(ValueError, match="rename that file"):
        write_checksums({"a\nb": b""})
