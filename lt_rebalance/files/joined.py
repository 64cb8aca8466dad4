"""Read the files of several places as those of one."""

import errno
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from lt_rebalance.files.filesystem import ItemT, ReadableFilesystem, ReadOnlyFilesystem, ResultT


class JoinedFiles(ReadOnlyFilesystem):
    """The files of several places, read-only; if several places have a path, it is that of the first."""

    def __init__(self, places: Sequence[ReadableFilesystem]) -> None:
        super().__init__(_Places(places))
        self._places = places

    def list_shared(self, path: str) -> list[str]:
        """Return the sorted names in a directory that several of the places have."""
        counts = Counter(name for place in self._places for name in place.list(path))
        return sorted(name for name, number in counts.items() if number > 1)


class _Places:
    """The operations of a `ReadableFilesystem` on several of them."""

    def __init__(self, places: Sequence[ReadableFilesystem]) -> None:
        self._places = places

    def read(self, path: str) -> bytes:
        return self._first(path, lambda place: place.read(path))

    def read_each(self, read: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[ResultT]:
        return self._places[0].read_each(read, items)

    def read_gathered(self, directory: str, paths: Collection[str]) -> Iterator[Mapping[str, bytes]]:
        return iter(())  # a later place may have gathered what counts as an earlier one's

    def has_content(self, path: str, sha256: str, num_bytes: int) -> bool:
        return self._first(path, lambda place: place.has_content(path, sha256, num_bytes))

    def read_appended(self, path: str) -> bytes:
        return self._first(path, lambda place: place.read_appended(path))

    def list(self, path: str) -> list[str]:
        return sorted({name for place in self._places for name in place.list(path)})

    def is_behind_link(self, path: str) -> bool:
        return any(place.is_behind_link(path) for place in self._places)

    def count_bytes(self, path: str) -> int:
        return sum(place.count_bytes(path) for place in self._places)

    def list_unfinished(self) -> Sequence[str]:
        return sorted({path for place in self._places for path in place.list_unfinished()})

    def _first(self, path: str, read: Callable[[ReadableFilesystem], ResultT]) -> ResultT:
        for place in self._places:
            try:
                return read(place)
            except FileNotFoundError:
                continue
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
