"""Copies of many small objects of a bucket in few large ones, so that readers send few requests.

    segments/index.json     by name of a segment: path, ETag and size of each object that it holds
    segments/<sha256>       their bytes, one after another

This is a view: it may be deleted, and the bucket takes precedence. An object is read from a segment only if
the bucket currently lists the same ETag and size, and a segment is used only if its name is the sha256 of its
index entry and its bytes.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from lt_rebalance.files.filesystem import Filesystem
from lt_rebalance.ground.values import MisfitError, digest, list_of, mapping_of, parse_json

DIRECTORY = "segments"
_INDEX = f"{DIRECTORY}/index.json"
SEGMENT_BYTES = 8 * 2**20
"""size from which a segment is full; one with less than half of that in use is rewritten with new objects"""
FEWEST = 64
"""number of objects in no segment for which a segment is made; fewer are read one by one"""

Listed = Mapping[str, tuple[str, int]]
"""ETag and size in bytes of objects, by path"""
Index = Mapping[str, Sequence[tuple[str, str, int]]]


class TaggedFilesystem(Filesystem, Protocol):
    """Files that have a tag that changes with their content."""

    def read_tagged(self, path: str) -> tuple[bytes, str]:
        """Return the content, and the ETag of exactly this content; FileNotFoundError if nothing is there."""
        ...

    def read_ahead(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the content of few large files in order, reading a handful ahead."""
        ...


def read_segments(files: TaggedFilesystem, listed: Listed) -> Iterator[Mapping[str, bytes]]:
    """Yield the content of listed objects that segments contain, one segment at a time, each once."""
    index, left = _read_index(files), dict(listed)
    wanted = [name for name, entries in index.items() if _count_bytes(entries, listed)]
    paths = [f"{DIRECTORY}/{name}" for name in wanted]
    for name, content in zip(wanted, files.read_ahead(paths), strict=True):
        if _name(index[name], content) == name:
            yield dict(_cut(content, index[name], left))


def _cut(
    content: bytes, entries: Sequence[tuple[str, str, int]], left: dict[str, tuple[str, int]]
) -> Iterator[tuple[str, bytes]]:
    start = 0
    for path, etag, size in entries:
        if left.get(path) == (etag, size):
            del left[path]
            yield path, content[start : start + size]
        start += size


def write_segments(files: TaggedFilesystem, listed: Listed) -> None:
    """Update the segments to the listed objects, if that is worthwhile; for one process at a time.

    Two concurrent updates, or an interrupted one, leave unused objects, but never mislead a reader.
    """
    there = set(files.list(DIRECTORY))
    index = {name: entries for name, entries in _read_index(files).items() if name in there}
    if len(listed.keys() - _list_held(index, listed)) < FEWEST:
        return
    full = {
        name: entries for name, entries in index.items() if 2 * _count_bytes(entries, listed) >= SEGMENT_BYTES
    }
    paths = sorted(listed.keys() - _list_held(full, listed))
    entries: list[tuple[str, str, int]] = []
    contents: list[bytes] = []
    made: dict[str, Sequence[tuple[str, str, int]]] = dict(full)

    def close() -> None:
        content = b"".join(contents)
        name = _name(entries, content)
        files.replace(f"{DIRECTORY}/{name}", content)
        made[name] = list(entries)
        entries.clear()
        contents.clear()

    for path, found in zip(paths, files.read_each(partial(_read_tagged, files), paths), strict=True):
        if found is not None:
            contents.append(found[0])
            entries.append((path, found[1], len(found[0])))
        if sum(size for _, _, size in entries) >= SEGMENT_BYTES:
            close()
    if entries:
        close()
    files.replace(_INDEX, json.dumps(made, separators=(",", ":")).encode())
    for name in files.list(DIRECTORY):
        if name not in made and f"{DIRECTORY}/{name}" != _INDEX:
            files.remove(f"{DIRECTORY}/{name}")


def _read_tagged(files: TaggedFilesystem, path: str) -> tuple[bytes, str] | None:
    try:
        return files.read_tagged(path)
    except FileNotFoundError:  # set aside since the listing
        return None


def _list_held(index: Index, listed: Listed) -> set[str]:
    return {
        path for entries in index.values() for path, etag, size in entries if listed.get(path) == (etag, size)
    }


def _count_bytes(entries: Sequence[tuple[str, str, int]], listed: Listed) -> int:
    """Return how many bytes of a segment belong to objects as they are listed."""
    return sum(size for path, etag, size in entries if listed.get(path) == (etag, size))


def _name(entries: Sequence[Sequence[str | int]], content: bytes) -> str:
    head = json.dumps([list(entry) for entry in entries], separators=(",", ":")).encode()
    return hashlib.sha256(head + b"\n" + content).hexdigest()


def _entry(value: Any) -> None:  # Any: a JSON value
    if not isinstance(value, list) or [type(each) for each in value] != [str, str, int] or value[2] < 0:
        raise MisfitError("a path, an ETag and a size", value)


_SHAPE = mapping_of(list_of(_entry), digest)


def _read_index(files: Filesystem) -> Index:
    """Return the index of the segments; empty if it is unreadable."""
    try:
        values = parse_json(files.read(_INDEX))
        _SHAPE(values)
    except (FileNotFoundError, ValueError):
        return {}
    return {name: [(path, etag, size) for path, etag, size in entries] for name, entries in values.items()}
