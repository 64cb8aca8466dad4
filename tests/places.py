"""Where a store is in a test, seen without the code under test: a directory, or a bucket by plain boto3."""

import contextlib
import uuid
from pathlib import Path
from typing import Any, Protocol


class Place(Protocol):
    """Files by relative path, as they are."""

    location: str

    def read_all(self) -> dict[str, bytes]:
        """Return the content of all files, by path, without those that go while they are read."""
        ...

    def write(self, path: str, content: bytes) -> None:
        """Write a file, over what is there."""
        ...

    def delete(self, path: str) -> None:
        """Delete a file that exists."""
        ...


class DirectoryPlace:
    """A directory, which may not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.location = str(root)

    def read_all(self) -> dict[str, bytes]:
        found = {}
        for path in sorted(path for path in self.root.rglob("*") if path.is_file()):
            with contextlib.suppress(FileNotFoundError):
                found[path.relative_to(self.root).as_posix()] = path.read_bytes()
        return found

    def write(self, path: str, content: bytes) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(content)

    def delete(self, path: str) -> None:
        (self.root / path).unlink()


class BucketPlace:
    """A prefix of a bucket that is made for it; the environment says of which server."""

    def __init__(self, prefix: str) -> None:
        self.bucket = f"bucket-{uuid.uuid4().hex[:8]}"
        self.prefix = prefix
        self.location = f"s3://{self.bucket}/{prefix}"
        import boto3  # here, so that tests without a bucket need it not

        self.client: Any = boto3.client("s3")
        self.client.create_bucket(Bucket=self.bucket)

    def list_keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def read_all(self) -> dict[str, bytes]:
        found = {}
        for key in self.list_keys():
            with contextlib.suppress(self.client.exceptions.NoSuchKey):
                content = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
                found[key.removeprefix(f"{self.prefix}/")] = content
        return dict(sorted(found.items()))

    def write(self, path: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"{self.prefix}/{path}", Body=content)

    def delete(self, path: str) -> None:
        assert path in self.read_all()
        self.client.delete_object(Bucket=self.bucket, Key=f"{self.prefix}/{path}")
