"""What a store keeps under a name, written anew each time: plans, tables, what searches leave."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lt_rebalance.filesystem import Filesystem, ReadOnlyFilesystem
from lt_rebalance.records import Failure, parse_json


class StoreError(ValueError):
    """The store cannot be used as asked: unwritable, foreign, or of another version."""


class StoreDocuments:
    """The named documents of a store; what is written last stands."""

    def __init__(self, filesystem: Filesystem, location: str, directory: Path | None) -> None:
        self._files = filesystem
        self.location = location
        self.directory = directory
        """where the store lies on this machine's file system; None where it does not"""

    @property
    def files(self) -> Filesystem:
        """The files under the location, for views that are kept beside results: events, logs, notes."""
        return self._files

    @property
    def is_read_only(self) -> bool:
        """Whether nothing here can be changed."""
        return isinstance(self._files, ReadOnlyFilesystem)

    # Studies

    def write_study(self, name: str, plan: Mapping[str, Any]) -> None:
        """Keep what a study plans, over an earlier plan of the same name."""
        self._files.replace(f"studies/{name}.json", json.dumps(plan, indent=1, allow_nan=False).encode())

    def list_studies(self) -> list[str]:
        """Return the names of the studies planned here."""
        names = self._files.list("studies")
        return [name.removesuffix(".json") for name in names if name.endswith(".json") and name[0] != "."]

    def load_study(self, name: str) -> dict[str, Any]:
        """Return what a study plans.

        Raises:
            StoreError: no such study, or its file is damaged.
        """
        try:
            return self._read_document(f"studies/{name}.json", "a plan")
        except FileNotFoundError:
            known = ", ".join(self.list_studies()) or "none"
            raise StoreError(f"{self.location}: no study {name!r}; known: {known}") from None

    def _read_document(self, path: str, what: str) -> dict[str, Any]:
        """Return a JSON object; FileNotFoundError where there is none, StoreError where it is damaged."""
        try:
            document = parse_json(self._files.read(path))
        except ValueError as error:
            raise StoreError(f"{self.location}: {path} is damaged ({error})") from None
        if not isinstance(document, dict):
            raise StoreError(f"{self.location}: {path} is not {what}")
        return document

    def write_table(self, study: str, name: str, text: str) -> str:
        """Write a table of a study as CSV, over an earlier one, and return where it lies."""
        path = f"tables/{study}/{name}.csv"
        self._files.replace(path, text.encode())
        return f"{self.location}/{path}"

    # Searches

    def search_directory(self, name: str) -> Path | None:
        """Return the directory of a search, made if it is new; None where the store does not lie in one."""
        if self.directory is None:
            return None
        assert not self.is_read_only
        path = self.directory / search_path(name)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def write_search(self, name: str, account: Mapping[str, Any]) -> None:
        """Write the account of a search, over an earlier one."""
        content = json.dumps(account, indent=1, allow_nan=False).encode()
        self._files.replace(f"{search_path(name)}/account.json", content)

    def list_searches(self) -> list[str]:
        """Return the names of the searches that have an account here."""
        names = self._files.list("searches")
        return [name for name in names if "account.json" in self._files.list(search_path(name))]

    def load_search(self, name: str) -> dict[str, Any]:
        """Return the account of a search.

        Raises:
            StoreError: no such search, or its account is damaged.
        """
        try:
            return self._read_document(f"{search_path(name)}/account.json", "an account")
        except FileNotFoundError:
            known = ", ".join(self.list_searches()) or "none"
            raise StoreError(f"{self.location}: no search {name!r}; known: {known}") from None

    def save_member(self, name: str, member: int, content: bytes) -> None:
        """Keep what a member of a population needs to go on, over what it kept before."""
        self._files.replace(_member_path(name, member), content)

    def load_member(self, name: str, member: int) -> bytes | None:
        """Return what a member of a population keeps, or None."""
        try:
            return self._files.read(_member_path(name, member))
        except FileNotFoundError:
            return None

    def discard_member(self, name: str, member: int) -> None:
        """Remove what a member of a population keeps, when it has ended."""
        self._files.remove(_member_path(name, member))

    def note_member_error(self, name: str, member: int, failure: Failure) -> None:
        """Keep the error of an attempt at a member of a population; it stays when the member has ended."""
        self._add_failure(_member_errors_path(name, member), failure)

    def load_member_errors(self, name: str, member: int) -> list[Failure]:
        """Return the errors of attempts at a member of a population that raised, in their order.

        Raises:
            StoreError: one is damaged; it names the file.
        """
        directory = _member_errors_path(name, member)
        errors = []
        for path in (f"{directory}/{each}" for each in self._files.list(directory)):
            try:
                errors.append(Failure.from_json(self._files.read(path)))
            except ValueError as error:
                raise StoreError(f"{self.location}: {path} is damaged ({error})") from None
        return errors

    def _add_failure(self, directory: str, failure: Failure) -> None:
        """Keep a failure in a directory, after those that are there."""
        name = f"{len(self._files.list(directory)):04d}-{uuid.uuid4().hex}.json"
        self._files.replace(f"{directory}/{name}", failure.to_json())

    def write_best(self, name: str, text: str) -> str:
        """Write the configuration that a search chose, over an earlier one, and return where it lies."""
        path = f"{search_path(name)}/best.toml"
        self._files.replace(path, text.encode())
        return f"{self.location}/{path}"


def search_path(name: str) -> str:
    """Return the directory of a search in a store."""
    return f"searches/{name}"


def _member_path(name: str, member: int) -> str:
    return f"{search_path(name)}/members/{member}.safetensors"


def _member_errors_path(name: str, member: int) -> str:
    return f"{search_path(name)}/errors/{member}"
