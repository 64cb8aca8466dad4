"""List a folder of pictures, `train/CLASS/*.png` or `CLASS/*.png`; nothing is decoded.

Folders inside a class are groups: pictures in folders of one name, in any class, stay together when a split
is drawn.
"""

import glob
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lt_rebalance.ground.errors import DataError
from lt_rebalance.ground.names import is_foreign
from lt_rebalance.ground.text import count, one_line
from lt_rebalance.images.pictures import ENDINGS
from lt_rebalance.images.pool import sum_up

_SPLIT_FOLDERS = {"train": "train", "val": "validation", "test": "test"}
_MEANT = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "val", "valid": "val", "validation": "val"},
}
"""the folder of a split that a name means, by that name in small letters"""
_OTHER_PICTURES = (
    *(".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".ppm", ".pgm"),
    *(".jfif", ".jpe", ".svg", ".ico", ".tga", ".dcm"),
)
"""suffixes of pictures that must not be left out silently"""
_BY_DESKTOPS = ("._", ".thumb", ".Trash", ".Spotlight-V100", ".fseventsd", ".TemporaryItems")
LAYOUT = "train/CLASS/*.png (or jpg, webp) with test/CLASS and, if you like, val/CLASS"


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One picture of the folder."""

    name: str
    """path in the folder, with slashes"""
    split: str
    class_name: str
    group: str | None
    state: tuple[int, int, int, int]
    """size, mtime_ns, ctime_ns and inode, which change with the content"""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """All pictures of a folder, in an order that follows from their names."""

    root: str
    pictures: tuple[Listed, ...]
    class_names: tuple[str, ...]
    warnings: tuple[str, ...]

    def fingerprint(self) -> bytes:
        """Return a value that is the same as long as no picture is changed."""
        rows = [(each.name, each.split, each.class_name, each.group, each.state) for each in self.pictures]
        return json.dumps([self.class_names, rows], separators=(",", ":")).encode()


def list_folder(root: Path) -> Folder:
    """List the pictures of a folder.

    Raises:
        DataError: it has no pictures in this layout, or one of its entries cannot be used.
    """
    return _Lister(os.path.realpath(root)).list()


class _Lister:
    def __init__(self, root: str) -> None:
        self._root = root.removesuffix("/")  # empty for that of all files
        self._pictures: list[Listed] = []
        self._left_out: list[str] = []
        self._misplaced: list[str] = []
        self._foreign: list[str] = []
        self._hidden: set[str] = set()
        self._unknown: list[str] = []

    def list(self) -> Folder:
        if not self._root:
            raise DataError(f"/ holds all files; name a folder of pictures, laid out as {LAYOUT}")
        top = {entry.name: entry for entry in self._scan(self._root)}
        folders = {name: entry for name, entry in top.items() if entry.is_dir()}
        others = [name for name in top if name not in folders]
        loose = [name for name in others if _is_picture(name)]
        self._left_out += [name for name in others if not _is_picture(name)]
        self._require_names_of_splits(folders)
        classes = {}
        if not folders.keys() & _SPLIT_FOLDERS.keys():
            classes["train"] = self._list_split("train", folders)
        else:
            self._unknown = [f"{name}/" for name in folders if name not in _SPLIT_FOLDERS]
            for name, split in _SPLIT_FOLDERS.items():
                if name in folders:
                    inner = {entry.name: entry for entry in self._scan(folders[name].path)}
                    classes[split] = self._list_split(split, inner)
        self._check(classes)
        left_out = (
            (self._unknown, "folder", "folders", "not train, val or test"),
            (self._left_out, "file", "files", "not png, jpg or webp"),
            (loose, "picture", "pictures", "outside a class folder"),
            (sorted(self._hidden), "folder or picture", "folders or pictures", "hidden by ~ or a dot"),
        )
        return Folder(
            root=self._root,
            pictures=tuple(self._pictures),
            class_names=tuple(classes["train"]),
            warnings=tuple(
                f"{count(len(names), one, several)} left out, {why}: {_some(names)}"
                for names, one, several, why in left_out
                if names
            ),
        )

    def _require_names_of_splits(self, folders: Mapping[str, os.DirEntry[str]]) -> None:
        """Refuse a folder of folders whose name means a split but is another one."""
        others = [name for name in folders if name not in _SPLIT_FOLDERS and name.lower() in _MEANT]
        wrong = {name: _MEANT[name.lower()] for name in others if self._has_folders(folders[name])}
        if wrong:
            remedies = [
                f"merge {name} into {split}" if split in folders else f"rename {name} to {split}"
                for name, split in wrong.items()
            ]
            raise DataError(
                f"folders of splits must be named {', '.join(_SPLIT_FOLDERS)}, got {', '.join(wrong)}; "
                f"{' and '.join(remedies)}; a class of such a name must be in train"
            )

    def _has_folders(self, folder: os.DirEntry[str]) -> bool:
        return any(entry.is_dir() for entry in self._scan(folder.path))

    def _check(self, classes: Mapping[str, Mapping[str, int]]) -> None:
        aside = "; if {} is a class like {}, put both into a folder train" if self._unknown else ""
        faults = [
            f"a picture must be in the folder of its class, got {one_line(name)}; move it into one, or out "
            f"of {os.path.dirname(name)}{aside.format(os.path.dirname(name), *self._unknown[:1])}"
            for name in self._misplaced
        ] or [
            f"a picture must be png, jpg or webp, got {one_line(name)}; convert or remove it"
            for name in self._foreign
        ]
        if faults:
            raise DataError(sum_up(faults))
        if not self._pictures:
            raise DataError(f"{self._root} has no class folders with pictures; lay them out as {LAYOUT}")
        if "train" not in classes:
            raise DataError(f"{self._root} has no folder train; lay it out as {LAYOUT}")
        for split, counts in classes.items():
            unknown = [name for name in counts if name not in classes["train"]]
            if unknown and any(counts[name] for name in unknown):
                self._require_one_spelling(split, unknown, classes["train"])
                raise DataError(
                    f"every class must be in train, got {len(unknown)} in {split} alone, such as "
                    f"{unknown[0]!r}; add pictures of it to train, or remove it"
                )
        if empty := [name for name, count in classes["train"].items() if not count]:
            raise DataError(
                f"every class must have pictures to learn from, got none of {empty[0]!r}; add some, or "
                "remove its folder"
            )

    def _require_one_spelling(self, split: str, unknown: Sequence[str], known: Iterable[str]) -> None:
        """Refuse a class whose name differs from one in train in its Unicode form alone, as on macOS."""
        by_form = {unicodedata.normalize("NFC", name): name for name in known}
        for name in unknown:
            if twin := by_form.get(unicodedata.normalize("NFC", name)):
                raise DataError(
                    f"a class must have one name in all splits, got {name!r} spelled with other Unicode "
                    f"characters in {split} ({name!a}) than in train ({twin!a}); rename one, as with "
                    "`convmv --nfc`"
                )

    def _list_split(self, split: str, entries: Mapping[str, os.DirEntry[str]]) -> dict[str, int]:
        """Add the classes of a split; return how many pictures each has."""
        counts = {}
        for name, entry in entries.items():
            if not entry.is_dir():
                (self._misplaced if _is_picture(name) else self._left_out).append(self._below(entry))
                continue
            before = len(self._pictures)
            self._list_class(split, name, entry.path)
            counts[name] = len(self._pictures) - before
        return counts

    def _list_class(self, split: str, class_name: str, path: str) -> None:
        has_loose, has_groups = False, False
        for entry in self._scan(path):
            if not entry.is_dir():
                has_loose |= self._take(entry, split, class_name, None)
                continue
            has_groups = True
            for inner in self._scan(entry.path):
                if inner.is_dir():
                    raise DataError(
                        f"a class holds pictures, or folders that are groups of them, got a folder in a "
                        f"group: {self._below(inner)}; lay it out as {LAYOUT}"
                    )
                self._take(inner, split, class_name, entry.name)
        if has_loose and has_groups:
            raise DataError(
                "a class holds either pictures or folders that are groups of them, got both in "
                f"{path[len(self._root) + 1 :]}; put every picture of it into a group, or none"
            )

    def _take(self, entry: os.DirEntry[str], split: str, class_name: str, group: str | None) -> bool:
        if not entry.name.lower().endswith(ENDINGS) or not entry.is_file():
            is_foreign_picture = entry.name.lower().endswith(_OTHER_PICTURES)
            (self._foreign if is_foreign_picture else self._left_out).append(self._below(entry))
            return False
        found = os.stat(entry.path)
        state = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        self._pictures.append(
            Listed(name=self._below(entry), split=split, class_name=class_name, group=group, state=state)
        )
        return True

    def _scan(self, path: str) -> Iterator[os.DirEntry[str]]:
        """Yield the entries of a folder, sorted by name, without files of desktops and editors."""
        try:
            with os.scandir(path) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"{one_line(path)} cannot be read ({error.strerror})") from None
        for entry in found:
            if is_foreign(entry.name):
                if _may_be_meant(entry):
                    self._hidden.add(self._below(entry))
                continue
            name = self._below(entry)
            if not name.isprintable():
                raise DataError(f"names must be of letters that can be printed, got {name!r}; rename it")
            if entry.is_symlink():
                self._check_link(entry, name)
            yield entry

    def _check_link(self, entry: os.DirEntry[str], name: str) -> None:
        target = os.path.realpath(entry.path)
        if os.path.commonpath([target, self._root]) != self._root:
            raise DataError(
                f"a link must stay in the folder, got {name}, which leads to {one_line(target)}; copy what "
                "it leads to into its place"
            )
        if not os.path.exists(target):
            raise DataError(f"a link must lead to something, got {name}; remove it")

    def _below(self, entry: os.DirEntry[str]) -> str:
        return entry.path[len(self._root) + 1 :]


def _is_picture(name: str) -> bool:
    return name.lower().endswith((*ENDINGS, *_OTHER_PICTURES))


def _may_be_meant(entry: os.DirEntry[str]) -> bool:
    """Whether an entry with a dot or ~ in its name is a picture, or holds some as a split or a class does."""
    name = entry.name.removesuffix("~")
    if entry.name == name and (not name.startswith(".") or name.startswith(_BY_DESKTOPS)):
        return False
    if not entry.is_dir(follow_symlinks=False):
        return _is_picture(name)
    inside = (each for pattern in ("*", "*/*") for each in glob.iglob(pattern, root_dir=entry.path))
    return any(map(_is_picture, inside))


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3]))
