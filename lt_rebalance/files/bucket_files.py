"""Files as the objects of an S3 bucket, with the guarantees of a local file system."""

import base64
import hashlib
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from lt_rebalance.files.bucket import SCHEME, Answer, Bucket, ItemT, ResultT
from lt_rebalance.files.filesystem import check_path
from lt_rebalance.files.segments import FEWEST, Listed, read_segments, write_segments
from lt_rebalance.ground.errors import StorageError
from lt_rebalance.ground.names import is_foreign

_DELETED_AT_ONCE = 1000
_TOKEN = "write"
"""metadata by which a writer recognises its own object"""


class S3Filesystem:
    """The objects of a bucket whose keys begin with a prefix; waits as `Bucket` does."""

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        """Send nothing yet.

        Args:
            prefix: precedes every path; without slashes at its ends, may be empty.
        """
        self._bucket = bucket
        self._root = f"{prefix}/" if prefix else ""
        self._next_parts: dict[str, int] = {}

    def read(self, path: str) -> bytes:
        return self.read_tagged(path)[0]

    def read_tagged(self, path: str) -> tuple[bytes, str]:
        answer = self._bucket.ask("get_object", Key=self._key(path))
        return answer["Body"], answer.get("ETag", "")

    def read_each(self, read: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[ResultT]:
        return self._bucket.ask_each(read, items)

    def read_ahead(self, names: Sequence[str]) -> Iterator[bytes]:
        return self._bucket.ask_each(self._read_if_any, names, most_at_once=1)

    def _read_if_any(self, path: str) -> bytes:
        try:
            return self.read(path)
        except FileNotFoundError:
            return b""

    def read_gathered(self, directory: str, paths: Collection[str]) -> Iterator[Mapping[str, bytes]]:
        if len(paths) > FEWEST:
            listed = self._list_tagged(directory)
            yield from read_segments(self, {path: listed[path] for path in paths if path in listed})

    def gather(self, directory: str, name: str) -> None:
        listed = self._list_tagged(directory)
        write_segments(self, {path: each for path, each in listed.items() if path.endswith(f"/{name}")})

    def has_content(self, path: str, sha256: str, num_bytes: int) -> bool:
        head = self._bucket.ask("head_object", Key=self._key(path), ChecksumMode="ENABLED")
        if head["ContentLength"] != num_bytes:
            return False
        kept: str = head.get("ChecksumSHA256", "")
        if not kept or "-" in kept:  # the service stores no hash, or one of the parts of an upload
            kept = _checksum(self.read(path))
        return kept == base64.b64encode(bytes.fromhex(sha256)).decode()

    def create(self, path: str, content: bytes) -> bool:
        token = uuid.uuid4().hex
        condition = {"IfNoneMatch": "*", "Metadata": {_TOKEN: token}}
        try:
            self._put(path, content, **condition)
        except FileExistsError:
            # A put whose answer was lost has created the object, so its repetition conflicts.
            return self._read_token(path) == token
        return True

    def replace(self, path: str, content: bytes) -> None:
        self._put(path, content)

    def append(self, path: str, content: bytes) -> None:
        number = self._next_parts.get(check_path(path))
        if number is None:
            number = self._count_parts(path)
        while not self.create(f"{path}.{number:08d}", content):
            number = max(number + 1, self._count_parts(path))
        self._next_parts[path] = number + 1

    def read_appended(self, path: str) -> bytes:
        if not (names := self._list_parts(check_path(path))):
            raise FileNotFoundError(path)
        return b"".join(self.read_each(self.read, names))

    def list(self, path: str) -> list[str]:
        start = self._below(path)
        names = set()
        for page in self._list_pages(start, delimiter="/"):
            names |= {each["Prefix"][len(start) : -1] for each in page.get("CommonPrefixes", ())}
            names |= {each["Key"][len(start) :] for each in page.get("Contents", ())}
        return sorted(name for name in names if not is_foreign(name))

    def move(self, path: str, target: str) -> None:
        source = {"Bucket": self._bucket.name, "Key": self._key(path)}
        self._bucket.ask("copy_object", Key=self._key(target), CopySource=source)
        self.remove(path)

    def remove(self, path: str) -> None:
        self._bucket.ask("delete_object", Key=self._key(path))

    def remove_tree(self, path: str) -> None:
        self.remove(path)
        keys = list(self._sizes(self._below(path)))
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            listed = [{"Key": key} for key in keys[start : start + _DELETED_AT_ONCE]]
            answer = self._bucket.ask("delete_objects", Delete={"Objects": listed, "Quiet": True})
            if errors := answer.get("Errors"):
                raise StorageError(f"{SCHEME}{self._bucket.name}: {errors[0]['Key']} cannot be deleted")

    def is_behind_link(self, path: str) -> bool:
        check_path(path)
        return False  # a bucket has none

    def count_bytes(self, path: str) -> int:
        try:
            size: int = self._bucket.ask("head_object", Key=self._key(path))["ContentLength"]
        except FileNotFoundError:
            return sum(self._sizes(self._below(path)).values())
        return size

    def list_unfinished(self) -> Sequence[str]:
        # A put either creates the whole object or nothing; there are no uploads in parts here.
        return ()

    def check_access(self) -> None:
        """Write, read, list and delete an object, as a store will need.

        Raises:
            StorageError: one of these is not allowed, or the bucket lets two writers create the same object.
        """
        path = f"running/access-{uuid.uuid4().hex}"
        try:
            outcomes = (self.create(path, b""), self.create(path, b""))
            self.read(path)
            self.list("running")
        finally:
            self.remove(path)
        if outcomes != (True, False):
            raise StorageError(
                f"{SCHEME}{self._bucket.name} ignores conditional writes (If-None-Match), so two workers "
                "could commit one result; use a bucket of a service that has them"
            )

    def _put(self, path: str, content: bytes, **condition: Any) -> None:  # Any: arguments of boto3
        """Write an object; the service checks its sha256 and stores it if it can."""
        checksum = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": _checksum(content)}
        self._bucket.ask("put_object", Key=self._key(path), Body=content, **checksum, **condition)

    def _key(self, path: str) -> str:
        return self._root + check_path(path)

    def _below(self, path: str) -> str:
        """Return the common prefix of all keys in a directory."""
        return f"{self._key(path)}/" if path else self._root

    def _read_token(self, path: str) -> str | None:
        try:
            head = self._bucket.ask("head_object", Key=self._key(path))
        except FileNotFoundError:  # moved meanwhile
            return None
        token: str | None = head["Metadata"].get(_TOKEN)
        return token

    def _count_parts(self, path: str) -> int:
        names = self._list_parts(path)
        return 1 + int(names[-1].rpartition(".")[2]) if names else 0

    def _list_parts(self, path: str) -> Sequence[str]:
        keys = (key[len(self._root) :] for key in self._sizes(self._key(f"{path}.")))
        return sorted(key for key in keys if re.fullmatch(r"\d{8}", key[len(path) + 1 :]))

    def _sizes(self, start: str) -> dict[str, int]:
        """Return the size in bytes of every object with a prefix, by key."""
        pages = self._list_pages(start)
        return {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", ())}

    def _list_tagged(self, directory: str) -> Listed:
        """Return ETag and size of everything in a directory, by path, if the service gives ETags."""
        return {
            each["Key"][len(self._root) :]: (each["ETag"], each["Size"])
            for page in self._list_pages(self._below(directory))
            for each in page.get("Contents", ())
            if each.get("ETag")
        }

    def _list_pages(self, start: str, delimiter: str = "") -> Iterator[Answer]:
        request = {"Prefix": start, "Delimiter": delimiter}
        while True:
            page = self._bucket.ask("list_objects_v2", **request)
            yield page
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]


def _checksum(content: bytes) -> str:
    """Return the sha256 of some content in S3's encoding."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode()
