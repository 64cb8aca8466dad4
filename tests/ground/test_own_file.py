"""A user's files: what is read and run, how a file is named and transferred, and who caused an error."""

import hashlib
import traceback
from pathlib import Path

import pytest

from lt_rebalance.ground import own_file
from lt_rebalance.ground.own_file import (
    bring,
    check_sha256,
    describe_own,
    find_place,
    get_own,
    hand_on,
    is_at_hand,
    is_own,
    list_needed,
    require_at_hand,
    resolve,
    take_in,
)

SOURCE = """\
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fraction:
    top: int


half = Fraction(top=1)


def fail(reason):
    raise LookupError(reason)
"""
SHA256 = hashlib.sha256(SOURCE.encode()).hexdigest()


@pytest.fixture(autouse=True)
def _nothing_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_file, "_AT_HAND", {})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a user's file."""
    file = tmp_path / "mine.py"
    file.write_text(SOURCE)
    return file


def test_file_is_named_by_what_it_is_called_and_holds_and_not_by_where_it_lies(
    path: Path, tmp_path: Path
) -> None:
    name = resolve(f"{path}:half")
    assert name == f"mine.py:half@{SHA256[:8]}"
    assert get_own(name, object).top == 1
    (tmp_path / "elsewhere").mkdir()
    path.rename(tmp_path / "elsewhere" / "mine.py")
    assert resolve(f"{tmp_path}/elsewhere/mine.py:half") == name
    (tmp_path / "elsewhere" / "mine.py").write_text(SOURCE.replace("top=1", "top=2"))
    changed = resolve(f"{tmp_path}/elsewhere/mine.py:half")
    assert changed != name and changed.partition("@")[0] == name.partition("@")[0]
    assert (get_own(name, object).top, get_own(changed, object).top) == (1, 2)


@pytest.mark.parametrize("name", ["oversample", "mine.py.txt:half", "", "s3://bucket/x.pyc:y"])
def test_other_names_stay_as_they_are(name: str) -> None:
    assert resolve(name) == name
    assert not is_own(name) and is_at_hand(name) and check_sha256(name, None) is None


@pytest.mark.parametrize(
    ("source", "asked", "said"),
    [
        (None, "half", r"there is no file '.*mine\.py'"),
        (SOURCE, "third", r"mine\.py does not define 'third'; .* of Fraction, half, fail"),
        (SOURCE, None, r"mine\.py is a file; name what to use as .*mine\.py:NAME"),
        (SOURCE, "", r"mine\.py is a file"),
        ("x = 1\ny = x +\n", "x", r"mine\.py:2: SyntaxError: invalid syntax"),
        ("x = 1\ny = z\n", "x", r"mine\.py:2: NameError: name 'z' is not defined"),
        ("import no_such_package\n", "x", r"mine\.py:1: ModuleNotFoundError: No module named"),
        ("import sys\n\nsys.exit(0)\n", "x", r"mine\.py:3: SystemExit: 0"),
        ("x = '\0'\n", "x", r"mine\.py.*: (SyntaxError|ValueError): "),
        ("#" * 1_000_001, "x", r"mine\.py has more than 1,000,000 bytes"),
    ],
)
def test_file_that_cannot_be_used_is_refused_with_its_line(
    source: str | None, asked: str | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    if source is not None:
        path.write_text(source)
    with pytest.raises(ValueError, match=said):
        resolve(str(path) if asked is None else f"{path}:{asked}")


def test_file_that_is_not_text_is_refused(path: Path) -> None:
    path.write_bytes(b"x = '\xff'\n")
    with pytest.raises(ValueError, match=r"mine\.py is not in UTF-8"):
        resolve(f"{path}:x")


def test_something_of_another_kind_is_refused_with_its_line(path: Path) -> None:
    name = resolve(f"{path}:half")
    with pytest.raises(ValueError, match=r"mine\.py:11: half must be of type int, got one of type Fraction"):
        get_own(name, int)
    with pytest.raises(ValueError, match=r"mine\.py:11: half must be a function"):
        get_own(name)
    assert callable(get_own(resolve(f"{path}:fail")))


def test_name_reads_no_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    name = f"mine.py:half@{SHA256[:8]}"
    with pytest.raises(ValueError, match=r"is in a file that is not loaded; name it as PATH\.py:NAME"):
        get_own(resolve(name))


def test_sha256_beside_a_name_is_that_of_the_file(path: Path) -> None:
    name = f"mine.py:half@{SHA256[:8]}"
    assert check_sha256(name, SHA256) == SHA256  # as a store has it
    with pytest.raises(ValueError, match="not loaded"):
        check_sha256(name, None)
    resolve(f"{path}:half")
    assert check_sha256(name, None) == check_sha256(name, SHA256) == SHA256
    for stated in ("0" * 64, SHA256[:8] + "0" * 56):
        with pytest.raises(ValueError, match="does not match file_sha256"):
            check_sha256(name, stated)
    with pytest.raises(ValueError, match="goes with a file of your own, and 'none' is not in one"):
        check_sha256("none", SHA256)


def test_what_a_description_needs_is_found_handed_on_and_taken_in(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = resolve(f"{path}:half")
    described = [{"method": {"name": name, "file_sha256": SHA256}, "others": ["none", {"name": "none"}]}]
    assert list(list_needed(described)) == [(name, SHA256)]
    handed = hand_on([described, described])
    assert handed == [{"path": str(path), "source": SOURCE}]
    assert hand_on({"method": {"name": "none"}}) == []
    path.unlink()
    monkeypatch.setattr(own_file, "_AT_HAND", {})
    take_in(handed)
    take_in(handed)
    assert get_own(name, object).top == 1


def test_description_whose_file_is_not_at_hand_is_refused_by_its_sha256(path: Path) -> None:
    described = {
        "classifier": {"architecture": f"mine.py:build@{SHA256[:8]}", "file_sha256": SHA256},
        "method": {"name": "none"},
    }
    with pytest.raises(
        ValueError, match=f"a file mine.py with sha256 {SHA256}, and code is never loaded from a"
    ):
        require_at_hand(described)
    bring(str(path))
    assert require_at_hand(described)
    assert not require_at_hand({"method": {"name": "none"}})
    other = "1" * 64
    described["classifier"] = {"architecture": "mine.py:build@11111111", "file_sha256": other}
    with pytest.raises(ValueError, match=rf"{other}.*; {path} has sha256 {SHA256}"):
        require_at_hand(described)


def test_file_that_is_brought_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    bring(str(tmp_path / "mine.py"))
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ValueError, match="does not define 'x'"):
        resolve(f"{tmp_path}/mine.py:x")
    assert (tmp_path / "ran").exists()


def test_error_is_the_users_where_their_file_raised_it_and_shows_their_line(path: Path) -> None:
    fail = get_own(resolve(f"{path}:fail"))
    path.unlink()
    with pytest.raises(LookupError) as raised:
        fail("no luck")
    assert find_place(raised.value) == f"{path}:15"
    assert describe_own(raised.value) == f"{path}:15: LookupError: no luck"
    assert "    raise LookupError(reason)\n" in "".join(traceback.format_exception(raised.value))

    def fail_in_other_words() -> None:
        try:
            fail("no luck")
        except LookupError as error:
            raise ValueError(f"cell x: {error}") from None

    with pytest.raises(ValueError, match="cell x") as told:
        fail_in_other_words()
    assert describe_own(told.value) == f"{path}:15: ValueError: cell x: no luck"
    assert find_place(LookupError("ours")) is None and describe_own(LookupError("ours")) is None
