"""Event files of one run: values that they contain already are not written again, and none is left out.

Each attempt appends to its own file. Records have TensorFlow's framing: length, checksum of the length,
content, checksum of the content.
"""

import itertools
import struct
import time
import uuid
from collections.abc import Iterable, Iterator

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from lt_rebalance.files.filesystem import Filesystem
from lt_rebalance.monitoring.tensorboard.protos import Value

FILE_PREFIX = "events.out.tfevents."
_HEADER = struct.Struct("<QI")
_FOOTER_BYTES = 4
_FILE_VERSION = "brain.Event:2"


class EventLog:
    """The events of one run; append-only."""

    def __init__(self, files: Filesystem, directory: str) -> None:
        """Read the events of earlier attempts in the directory; nothing is written yet."""
        self._files = files
        names = list_event_files(files, directory)
        contents = (files.read(f"{directory}/{name}") for name in names)
        self._present = {
            (event.step, value.tag)
            for event in itertools.chain.from_iterable(map(parse_events, contents))
            for value in event.summary.value
        }
        # Numbered rather than dated: readers sort files by name, and clocks differ.
        self._path = f"{directory}/{FILE_PREFIX}{len(names):010d}.{uuid.uuid4().hex[:8]}"
        self._is_new = True
        self._buffer: list[bytes] = []

    def has(self, step: int, tag: str) -> bool:
        """Whether a tag has a value at a step."""
        return (step, tag) in self._present

    def add(self, step: int, values: Iterable[Value]) -> None:
        """Collect the values of a step, except those that exist already."""
        fresh = [value for value in values if not self.has(step, value.tag)]
        if not fresh:
            return
        self._present |= {(step, value.tag) for value in fresh}
        summary = summary_pb2.Summary(value=fresh)
        event = event_pb2.Event(wall_time=time.time(), step=step, summary=summary)
        self._buffer.append(frame(event.SerializeToString()))

    def flush(self) -> None:
        """Append the collected values."""
        if not self._buffer:
            return
        if self._is_new:
            version = event_pb2.Event(wall_time=time.time(), file_version=_FILE_VERSION)
            self._buffer.insert(0, frame(version.SerializeToString()))
        self._files.append(self._path, b"".join(self._buffer))
        self._is_new = False
        self._buffer.clear()


def list_event_files(files: Filesystem, directory: str) -> list[str]:
    """Return the names of the event files in a directory, in the order of their creation."""
    return [name for name in files.list(directory) if name.startswith(FILE_PREFIX)]


def frame(content: bytes) -> bytes:
    """Return a record of an event file."""
    length = struct.pack("<Q", len(content))
    checksums = (struct.pack("<I", masked_crc32c(part)) for part in (length, content))
    return b"".join([length, next(checksums), content, next(checksums)])


def parse_events(content: bytes) -> Iterator[event_pb2.Event]:
    """Yield the events of a file, up to the point where an attempt was interrupted."""
    position = 0
    while position + _HEADER.size <= len(content):
        length, checksum = _HEADER.unpack_from(content, position)
        start = position + _HEADER.size
        position = start + length + _FOOTER_BYTES
        if checksum != masked_crc32c(struct.pack("<Q", length)) or position > len(content):
            return
        body = content[start : start + length]
        if content[start + length : position] != struct.pack("<I", masked_crc32c(body)):
            return
        try:
            yield event_pb2.Event.FromString(body)
        except DecodeError:
            return
