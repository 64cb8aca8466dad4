"""Several places of files are read as one, the first counting where they differ, and none is written."""

from pathlib import Path

import pytest

from lt_rebalance.files.archive import ArchiveFiles, write_archive
from lt_rebalance.files.filesystem import LocalFilesystem
from lt_rebalance.files.joined import JoinedFiles
from lt_rebalance.ground.errors import NotAFileError, ReadOnlyError

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""sha256 of b"abc", an example of FIPS 180-4"""


@pytest.fixture
def joined(tmp_path: Path) -> JoinedFiles:
    """A directory with stages a and b, joined with an archive with stages b and c."""
    for name, content in {"a/x": b"abc", "b/x": b"first", "b/only": b"1"}.items():
        path = tmp_path / "stages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    archive = ArchiveFiles(write_archive({"stages/b/x": b"second", "stages/c/x": b"abc", "logs/c.log": b"l"}))
    return JoinedFiles([LocalFilesystem(tmp_path), archive])


def test_file_is_that_of_the_first_place_that_has_it(joined: JoinedFiles) -> None:
    contents = [joined.read(f"stages/{name}/x") for name in "abc"]
    assert contents == [b"abc", b"first", b"abc"]
    assert joined.read_appended("logs/c.log") == b"l"
    assert joined.has_content("stages/a/x", ABC, 3) and joined.has_content("stages/c/x", ABC, 3)
    assert not joined.has_content("stages/b/x", ABC, 3)
    assert list(joined.read_each(joined.read, ["stages/c/x", "stages/b/x"])) == [b"abc", b"first"]


def test_directories_have_the_names_of_all_places(joined: JoinedFiles) -> None:
    assert joined.list("") == ["logs", "stages"]
    assert joined.list("stages") == ["a", "b", "c"] and joined.list("stages/b") == ["only", "x"]
    assert joined.list("nowhere") == [] and not joined.is_behind_link("stages/a")
    assert joined.list_shared("stages") == ["b"] and joined.list_shared("logs") == []
    assert joined.count_bytes("stages/c") == 3 and joined.list_unfinished() == []


@pytest.mark.parametrize("read", ["read", "read_appended"])
def test_what_no_place_has_is_not_found(joined: JoinedFiles, read: str) -> None:
    with pytest.raises(FileNotFoundError, match="stages/d/x"):
        getattr(joined, read)("stages/d/x")


def test_damaged_file_of_the_first_place_does_not_fall_back(tmp_path: Path, joined: JoinedFiles) -> None:
    (tmp_path / "stages" / "c" / "x").mkdir(parents=True)
    with pytest.raises(NotAFileError):
        joined.read("stages/c/x")


def test_nothing_is_written(tmp_path: Path, joined: JoinedFiles) -> None:
    for change in (
        lambda: joined.create("stages/d", b""),
        lambda: joined.replace("stages/a/x", b""),
        lambda: joined.append("logs/a.log", b""),
        lambda: joined.remove("stages/a/x"),
    ):
        with pytest.raises(ReadOnlyError):
            change()
    assert (tmp_path / "stages" / "a" / "x").read_bytes() == b"abc"
