"""Open a store in a directory or a bucket, and check that it is one and can be used."""

import errno
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_rebalance.files.archive import ARCHIVE, is_published, read_published
from lt_rebalance.files.bucket import SCHEME, Bucket, parse_address
from lt_rebalance.files.bucket_files import S3Filesystem
from lt_rebalance.files.filesystem import Filesystem, LocalFilesystem, ReadOnlyFilesystem
from lt_rebalance.ground.errors import StorageError, StoreError
from lt_rebalance.ground.names import is_foreign
from lt_rebalance.ground.values import as_object, parse_json
from lt_rebalance.store.documents import REPUBLISH
from lt_rebalance.store.store import Store

STORE_FORMAT = 1
PLAN = "plan.toml"
"""plan of a study that is to be published, in its folder"""
UNPUBLISHED = ("weights",)
"""roles of artefacts that are left out of published studies: large, and reproduced when a stage is run
again"""
WITH_IMAGES = ("samples",)
"""roles that contain real images: left out, too, where these are a user's own"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """The location of a store, or of a future one."""

    location: str
    """by which other processes find it too"""
    files: Filesystem
    directory: Path | None
    """its path on this machine; None in a bucket, and for a published study"""
    left_out: tuple[str, ...] = ()
    """roles of artefacts that are not stored here"""

    def read_version(self, wanted: int | None) -> int | None:
        """Return the results version of the store at this place; None if the place is empty.

        Args:
            wanted: the only accepted version; None for any.

        Raises:
            StoreError: this is not a store, or one that is damaged or of another version.
        """
        try:
            found = as_object(parse_json(self.files.read("store.json")))
        except FileNotFoundError:
            others = [name for name in self.files.list("") if not is_foreign(name)]
            if "store.json" in others:  # another process has just created it
                return self.read_version(wanted)
            if PLAN in others:
                raise StoreError(
                    f"{self.location} holds the plan of a study, and no {ARCHIVE}: it has not been published "
                    "yet; name the --storage of its sweep"
                ) from None
            if others:
                raise StoreError(
                    f"{self.location} is not empty and not a store (it holds {others[0]!r}); "
                    "name another directory"
                ) from None
            return None
        except ValueError as error:
            raise StoreError(
                f"{self.location}/store.json is damaged ({error}); restore it or use another store"
            ) from None
        return self._check_version(found, wanted)

    def _check_version(self, found: Mapping[str, Any], wanted: int | None) -> int:
        version = found.get("results_version") if wanted is None else wanted
        expected = {"format": STORE_FORMAT, "results_version": version}
        # As `True == 1`, comparing values is not enough.
        if found != expected or {type(each) for each in found.values()} != {int}:
            takes = {"format": STORE_FORMAT, "results_version": "any" if wanted is None else version}
            raise StoreError(
                f"{self.location} holds results of version {found}, this code takes {takes}; "
                "use another store, or the code that made it"
            )
        assert isinstance(version, int)
        return version

    def write_version(self, version: int, *, is_new: bool) -> None:
        """Write what `read_version` reads, and so find out whether the place can be written."""
        content = json.dumps({"format": STORE_FORMAT, "results_version": version}).encode()
        if not is_new:
            self.files.replace("store.json", content)
        elif not self.files.create("store.json", content):  # another process was faster
            self.read_version(version)
        if isinstance(self.files, S3Filesystem):
            self.files.check_access()
        elif not is_new:  # whether results can be committed; the first file of a new store has tested this
            path = f"running/access-{uuid.uuid4().hex}"
            self.files.create(path, b"")
            self.files.remove(path)

    def explain(self, error: OSError) -> StoreError:
        """Return in words why the place cannot be used."""
        if isinstance(error, StorageError):
            return StoreError(f"{self.location} cannot be used as a store: {error}")
        reason = errno.errorcode.get(error.errno or 0, "") if not error.strerror else error.strerror
        return StoreError(
            f"{self.location} cannot be used as a store: {reason}; name a writable directory; sweeps take it "
            "as --storage"
        )


def find_place(location: str) -> Place:
    """Return the place of a location; the path of a directory becomes absolute.

    Raises:
        StoreError: it is neither a directory nor s3://BUCKET/PREFIX, or boto3 is missing for the latter.
    """
    if location.startswith(SCHEME):
        try:
            name, prefix = parse_address(location)
            files = S3Filesystem(Bucket(name), prefix)
        except (ValueError, StorageError) as error:
            raise StoreError(f"--storage: {error}") from None
        return Place(location=f"{SCHEME}{name}/{prefix}".rstrip("/"), files=files, directory=None)
    if "://" in location:
        raise StoreError(f"--storage must be a directory or s3://BUCKET/PREFIX, got {location!r}")
    root = Path(location).expanduser().absolute()
    if is_published(root):
        try:
            archive = read_published(root)
        except (ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StoreError(f"{root} cannot be read as a published study: {reason}; {REPUBLISH}") from None
        absent = tuple(role for role in (*UNPUBLISHED, *WITH_IMAGES) if not archive.has_role(role))
        return Place(location=str(root), files=ReadOnlyFilesystem(archive), directory=None, left_out=absent)
    return Place(location=str(root), files=LocalFilesystem(root), directory=root)


def open_store(
    location: str, results_version: int | None, *, create: bool, is_read_only: bool = False
) -> Store | None:
    """Open the store at a location, and create it if asked to.

    Args:
        location: a directory, or s3://BUCKET/PREFIX.
        results_version: the required version; None to read any version.
        create: create a missing store, and check that it can be written.
        is_read_only: change nothing; unreadable files count as missing and stay.

    Returns:
        The store; None if there is none and `create` is False.

    Raises:
        StoreError: not a store, of another version, not writable, or not reachable.
    """
    assert results_version is not None or not create
    assert not (create and is_read_only)
    place = find_place(location)
    if isinstance(place.files, ReadOnlyFilesystem) and not is_read_only:
        raise StoreError(
            f"{place.location} is a published study, which is read-only; to continue from a copy, unpack it "
            f"(python -m zipfile -e {place.location}/{ARCHIVE} COPY) and name COPY"
        )
    try:
        found = place.read_version(results_version)
        if found is None and not create:
            return None
        version = results_version if found is None else found
        assert version is not None
        if create:
            place.write_version(version, is_new=found is None)
    except OSError as error:
        raise place.explain(error) from None
    files = ReadOnlyFilesystem(place.files) if is_read_only else place.files
    return Store(files, place.location, version, place.directory, place.left_out)
