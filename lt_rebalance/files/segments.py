"""Many small objects of a bucket together in few large ones, so that whoever reads them all asks seldom.

    segments/index.json     by name of a segment: path, ETag and size of each object that it holds
    segments/<sha256>       their bytes, one after another

This is a view, needed by none: it may be deleted, and nothing in it is believed against the bucket. An object
is taken from a segment only where ETag and size are those that the bucket lists of it at that moment, and the
segment only where its name is the sha256 of what the index says of it and of its bytes.
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
"""from which a segment is full; one that holds less than half of that is made anew with what is new"""
FEWEST = 64
"""objects in no segment for which one is made; as few are read one by one"""

Listed = Mapping[str, tuple[str, int]]
"""ETag and size in bytes of objects, by path"""
Index = Mapping[str, Sequence[tuple[str, str, int]]]


class TaggedFilesystem(Filesystem, Protocol):
    """Files of which the place keeps a tag that changes with their content."""

    def read_tagged(self, path: str) -> tuple[bytes, str]:
        """Return the content, and the ETag of just this content; FileNotFoundError when nothing is there."""
        ...

    def read_ahead(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the content of few large files in their order, no more than a handful ahead."""
        ...


def read_segments(files: TaggedFilesystem, listed: Listed) -> Iterator[Mapping[str, bytes]]:
    """Yield the content of listed objects as far as segments hold it, a segment at a time, each once."""
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
    """Bring the segments up to date with what is listed, where that is worth it; for one driver at a time.

    Two at once, or an end half way, leave objects that are passed over, and no reader with anything wrong.
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
    except FileNotFoundError:  # set aside since it was listed
        return None


def _list_held(index: Index, listed: Listed) -> set[str]:
    return {
        path for entries in index.values() for path, etag, size in entries if listed.get(path) == (etag, size)
    }


def _count_bytes(entries: Sequence[tuple[str, str, int]], listed: Listed) -> int:
    """Return how many bytes of a segment are of objects as they are listed."""
    return sum(size for path, etag, size in entries if listed.get(path) == (etag, size))


def _name(entries: Sequence[Sequence[str | int]], content: bytes) -> str:
    head = json.dumps([list(entry) for entry in entries], separators=(",", ":")).encode()
    return hashlib.sha256(head + b"\n" + content).hexdigest()


def _entry(value: Any) -> None:  # Any: a JSON value
    if not isinstance(value, list) or [type(each) for each in value] != [str, str, int] or value[2] < 0:
        raise MisfitError("a path, an ETag and a size", value)


_SHAPE = mapping_of(list_of(_entry), digest)


def _read_index(files: Filesystem) -> Index:
    """Return what the segments hold; nothing where that is not known."""
    try:
        values = parse_json(files.read(_INDEX))
        _SHAPE(values)
    except (FileNotFoundError, ValueError):
        return {}
    return {name: [(path, etag, size) for path, etag, size in entries] for name, entries in values.items()}
