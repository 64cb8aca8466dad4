"""Named documents of a store, replaced by each write: plans, tables, files of searches."""

import errno
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lt_rebalance.files.filesystem import Filesystem, ReadOnlyFilesystem, telling_unreadable
from lt_rebalance.ground.errors import NoDirectoryError, StoreError, UnreadableError
from lt_rebalance.ground.names import check_name, is_foreign, is_name
from lt_rebalance.ground.values import MisfitError, parse_json
from lt_rebalance.store.account_values import check_account
from lt_rebalance.store.records import Failure
from lt_rebalance.store.study_document import StudyDocument, parse_study

_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
REPUBLISH = "restore its files, or publish it again"
"""remedy for a published study, on which no sweep works"""
_REMEDY = "restore it, or move it away and repeat the command that wrote it"


class StoreDocuments:
    """The named documents of a store; the last write wins."""

    def __init__(self, filesystem: Filesystem, location: str, directory: Path | None) -> None:
        self._files = filesystem
        self.location = location
        self.directory = directory
        """the store's path in this machine's file system; None in a bucket, and for a published study"""

    @property
    def files(self) -> Filesystem:
        """The files under the location, for views that are stored beside results: events, logs, notes."""
        return self._files

    @property
    def is_read_only(self) -> bool:
        """Whether the store is read-only."""
        return isinstance(self._files, ReadOnlyFilesystem)

    def _read(self, path: str) -> bytes:
        """Return the content of a file; errors as `telling_unreadable`."""
        with telling_unreadable():
            return self._files.read(path)

    def _replace(self, path: str, content: bytes) -> None:
        """Write or replace a file; StoreError if something blocks the path."""
        try:
            self._files.replace(path, content)
        except OSError as error:
            raise self._explain(path, error) from None

    def _explain(self, path: str, error: OSError) -> Exception:
        """Return the StoreError that names what blocks the path of a file; any other error unchanged."""
        if isinstance(error, NoDirectoryError):
            return StoreError(f"{self.location}: {path} cannot be written: {error}")
        return self._in_the_way(path, error.strerror) if error.errno in _IN_THE_WAY else error

    def _in_the_way(self, path: str, reason: str | None) -> StoreError:
        return StoreError(
            f"{self.location}: {path} cannot be written: {reason}; move what blocks this path away, and run "
            "the same command again"
        )

    # Studies

    def write_study(self, study: StudyDocument) -> None:
        """Write the plan of a study, replacing an earlier one of the same name."""
        check_name("a study's name", study.name)
        content = json.dumps(study.to_plain(), indent=1, allow_nan=False).encode()
        self._replace(f"studies/{study.name}.json", content)

    def list_studies(self) -> list[str]:
        """Return the names of the studies planned in this store."""
        names = [name.removesuffix(".json") for name in self._files.list("studies") if name.endswith(".json")]
        return [name for name in names if is_name(name)]

    def load_study(self, name: str) -> StudyDocument:
        """Return the plan of a study.

        Raises:
            StoreError: no such study, or its file is damaged.
        """
        path = f"studies/{name}.json"
        try:
            if is_name(name):
                return parse_study(parse_json(self._read(path)), name)
        except FileNotFoundError:
            pass
        except ValueError as error:
            raise self._is_damaged(path, error) from None
        known = ", ".join(self.list_studies()) or "none"
        raise StoreError(f"{self.location}: no study {name!r}; known: {known}")

    def require_planned(self, study: StudyDocument, key: str, stage: Mapping[str, Any]) -> None:
        """Raise a StoreError unless the stage of the record under a key is the one that a study describes."""
        try:
            study.stages[key].require(stage)
        except MisfitError as error:
            words = f"stages/{key}/result.json is of another run, whose {error}"
            raise self._is_damaged(f"studies/{study.name}.json", words) from None

    def _is_damaged(self, path: str, error: object) -> StoreError:
        return StoreError(f"{self.location}: {path} is damaged: {error}; {self._mend(_REMEDY)}")

    def _mend(self, remedy: str) -> str:
        """Return the remedy for a damaged file of a store, or that for one of a published study."""
        return REPUBLISH if self.directory is None and "://" not in self.location else remedy

    def write_table(self, study: str, name: str, text: str) -> str:
        """Write a table of a study as CSV, replacing an earlier one, and return its path."""
        check_name("a study's name", study)
        path = f"tables/{study}/{name}.csv"
        self._replace(path, text.encode())
        return f"{self.location}/{path}"

    # Searches

    def search_directory(self, name: str) -> Path | None:
        """Return the directory of a search, created if missing; None if the store is not local."""
        if self.directory is None:
            return None
        assert not self.is_read_only
        path = self.directory / search_path(name)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def write_search(self, name: str, account: Mapping[str, Any]) -> None:
        """Write the account of a search, replacing an earlier one."""
        content = json.dumps(account, indent=1, allow_nan=False).encode()
        self._replace(f"{search_path(name)}/account.json", content)

    def list_searches(self) -> list[str]:
        """Return the names of the searches that have an account in this store."""
        names = filter(is_name, self._files.list("searches"))
        return [name for name in names if "account.json" in self._files.list(search_path(name))]

    def load_search(self, name: str) -> dict[str, Any]:
        """Return the account of a search.

        Raises:
            StoreError: no such search, or its account is damaged.
        """
        path = f"{search_path(name)}/account.json"
        try:
            account = parse_json(self._read(path))
            check_account(account, name)
        except FileNotFoundError:
            known = ", ".join(self.list_searches()) or "none"
            raise StoreError(f"{self.location}: no search {name!r}; known: {known}") from None
        except ValueError as error:
            raise self._is_damaged(path, error) from None
        return dict(account)

    def save_member(self, name: str, member: int, content: bytes) -> None:
        """Write the state from which a member of a population resumes, replacing an earlier one."""
        self._replace(_member_path(name, member), content)

    def load_member(self, name: str, member: int) -> bytes | None:
        """Return the state of a member of a population, or None."""
        path = _member_path(name, member)
        try:
            return self._read(path)
        except FileNotFoundError:
            return None
        except UnreadableError as error:
            raise self._is_damaged(path, error) from None

    def discard_member(self, name: str, member: int) -> None:
        """Remove the state of a member of a population that has ended."""
        self._files.remove(_member_path(name, member))

    def note_member_error(self, name: str, member: int, failure: Failure) -> None:
        """Record the error of an attempt at a member of a population; it outlives the member."""
        self._add_failure(_member_errors_path(name, member), failure)

    def load_member_errors(self, name: str, member: int) -> list[Failure]:
        """Return the errors of attempts at a member of a population that raised, in order.

        Raises:
            StoreError: one is damaged; it names the file.
        """
        errors = []
        for path in self._list_failures(_member_errors_path(name, member)):
            try:
                errors.append(Failure.from_json(self._read(path)))
            except ValueError as error:
                raise self._is_damaged(path, error) from None
        return errors

    def _list_failures(self, directory: str) -> list[str]:
        """Return the paths of the failures in a directory, in order."""
        names = self._files.list(directory)
        return [f"{directory}/{name}" for name in names if name.endswith(".json") and not is_foreign(name)]

    def _add_failure(self, directory: str, failure: Failure) -> None:
        """Write a failure into a directory, after the existing ones."""
        name = f"{len(self._list_failures(directory)):04d}-{uuid.uuid4().hex}.json"
        self._replace(f"{directory}/{name}", failure.to_json())

    def write_best(self, name: str, text: str) -> str:
        """Write the configuration that a search chose, replacing an earlier one, and return its path."""
        path = f"{search_path(name)}/best.toml"
        self._replace(path, text.encode())
        return f"{self.location}/{path}"


def search_path(name: str) -> str:
    """Return the directory of a search in a store; ValueError for a name that would lead out of it."""
    check_name("a search's name", name)
    return f"searches/{name}"


def _member_path(name: str, member: int) -> str:
    return f"{search_path(name)}/members/{member}.safetensors"


def _member_errors_path(name: str, member: int) -> str:
    return f"{search_path(name)}/errors/{member}"
