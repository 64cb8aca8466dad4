"""Resolve arguments: a store, studies in it, a stage by the first letters of its key."""

import argparse
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lt_rebalance.cli.parser import DEFAULT_STORE, SHORTEST_PREFIX
from lt_rebalance.files.archive import ARCHIVE
from lt_rebalance.files.bucket import SCHEME
from lt_rebalance.store import Store, StoreError, open_store

_NAMED = 5


def open_existing(location: str, *, is_read_only: bool = True) -> Store:
    """Open a store of any results version, read-only by default.

    Raises:
        StoreError: there is none.
    """
    store = open_store(location, None, create=False, is_read_only=is_read_only) if location else None
    if store is None:
        raise StoreError(f"there is no store at {location!r}; name the place given to a sweep as --storage")
    return store


def choose_studies(store: Store, names: Sequence[str]) -> list[str]:
    """Return the given names, each once, or those of all studies.

    Raises:
        StoreError: no study at all, or an unknown one.
    """
    known = store.list_studies()
    if not known:
        raise StoreError(f"{store.location}: no study has been started here; run a sweep first")
    for name in names:
        if name not in known:
            raise StoreError(f"{store.location}: no study {name!r}; known: {', '.join(known)}")
    return list(dict.fromkeys(names)) or known


def choose_study(store: Store, name: str | None) -> str:
    """Return the study of a name, or the only one.

    Raises:
        StoreError: as `choose_studies`, or the name is missing and there are several.
    """
    names = choose_studies(store, [] if name is None else [name])
    if len(names) > 1:
        raise StoreError(f"{store.location} has several studies; name one with --study: {', '.join(names)}")
    return names[0]


def find_stage(options: argparse.Namespace) -> tuple[Store, str]:
    """Return the store and the key of the stage that the options `store`, `record` and `storage` name.

    The record is a key, its first letters, or the path or address of a stage's directory or result.json. The
    latter names the store, too; without a store it is the default one.

    Raises:
        StoreError: no store, two stores, or not exactly one such stage.
    """
    if None not in (options.store, options.storage):
        raise StoreError(f"{options.store!r} and --storage {options.storage} both name the store; give one")
    record, location = options.record, options.storage if options.store is None else options.store
    scheme = SCHEME if record.startswith(SCHEME) else ""
    path = Path(record.removeprefix(scheme))
    if len(path.parts) > 1:
        if location is not None:
            raise StoreError(f"a path names its store itself: {record!r}; give the path alone, or a key")
        folder = path.parent if path.name == "result.json" else path
        if folder.parent.name != "stages":
            raise StoreError(
                f"there is no store and no stage at {record!r}; name a store, or STORE/stages/KEY"
            )
        location, record = f"{scheme}{folder.parent.parent}", folder.name
    store = open_existing(DEFAULT_STORE if location is None else location)
    if len(record) < SHORTEST_PREFIX:
        raise StoreError(
            f"give at least {SHORTEST_PREFIX} letters of a key, got {record!r}; `lt-rebalance show STORE` "
            "lists all keys"
        )
    keys = [key for key in store.list_keys() if key.startswith(record)]
    if not keys:
        raise StoreError(f"{store.location}: no stage has a key that begins with {record!r}")
    if len(keys) > 1:
        some = ", ".join(key[:12] for key in keys[:_NAMED])
        raise StoreError(
            f"{store.location}: {len(keys)} keys begin with {record!r}: {some}; give more letters"
        )
    return store, keys[0]


def is_store(place: str) -> bool:
    """Whether a text names a store, and not a stage in one."""
    if place.startswith(SCHEME):
        return "/stages/" not in place
    with contextlib.suppress(OSError):  # a name that is too long
        return any((Path(place) / name).is_file() for name in ("store.json", ARCHIVE))
    return False


def print_json(value: Any) -> None:
    """Print plain values as JSON."""
    print(json.dumps(value, indent=2, default=str))
