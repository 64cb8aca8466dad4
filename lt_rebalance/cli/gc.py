"""`lt-rebalance gc`: delete files that no result needs."""

import argparse
import dataclasses
from collections.abc import Collection, Sequence

from lt_rebalance.cli.cleanup import Garbage, find_garbage, remove_garbage
from lt_rebalance.cli.stores import open_existing, print_json
from lt_rebalance.ground.errors import StorageError
from lt_rebalance.ground.exits import EXIT_INCOMPLETE, note
from lt_rebalance.ground.text import count, one_line
from lt_rebalance.images.upload import list_uploads
from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.lease import Lease, find_holder
from lt_rebalance.store.presence import read_notes

TITLE = "lt-rebalance gc"


def run(options: argparse.Namespace) -> int:
    """Delete garbage, or list it; 1 if some of it could not be deleted."""
    store = open_existing(options.store, is_read_only=options.dry_run)
    if options.dry_run:
        holder = find_holder(store.files)
        if holder is not None:
            note(f"{store.location} is held by {holder}; gc would be refused while it is at work")
        return _show(_find(store, options, is_held=holder is not None), options)
    try:
        # No process may begin to need a file during its deletion, so this process takes the lease.
        with Lease(store.files, store.location, TITLE) as lease:
            garbage = _find(store, options, is_held=False)
            return _show(remove_garbage(store, garbage, lease.confirm), options)
    except StorageError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"{store.location}: nothing can be deleted here ({reason})") from None


def _find(store: Store, options: argparse.Namespace, *, is_held: bool) -> Sequence[Garbage]:
    if not options.orphans:
        return find_garbage(store, owned=None, is_held=is_held)
    if not options.dry_run:
        _require_nobody(store)
    from lt_rebalance.search.owners import list_named_sets, list_owned  # here, since it needs Optuna

    owned = list_owned(store)
    named: Collection[str] | None = None
    if list_uploads(store.files):
        try:
            named = list_named_sets(store)
        except StoreError as error:
            note(f"images in the store are kept, since it is unknown what needs them: {error}")
    return find_garbage(store, owned=owned, named=named, is_held=is_held)


def _require_nobody(store: Store) -> None:
    """Raise a StoreError if a process of this machine is at work on the store, with a lease or without."""
    for each in read_notes(store.files):
        if each.is_visible and not each.has_died:
            raise StoreError(
                f"{store.location}: a sweep is at work, process {each.pid}; look for orphans when it is "
                f"done, or delete running/{each.name} if that process is another"
            )


def _show(found: Sequence[Garbage], options: argparse.Namespace) -> int:
    """List garbage and what of it is kept; return the exit code."""
    garbage = [each for each in found if not each.hindrance]
    left = [each for each in found if each.hindrance]
    num_bytes = sum(each.num_bytes for each in garbage)
    code = EXIT_INCOMPLETE if left and not options.dry_run else 0
    if options.json:
        listed = [_describe(each, "path", "num_bytes", "reason") for each in garbage]
        hindered = [_describe(each, "path", "reason", "hindrance") for each in left]
        answer = {"is_dry_run": options.dry_run, "num_bytes": num_bytes, "garbage": listed, "left": hindered}
        print_json(answer)
        return code
    for each in garbage:
        print(one_line(f"{each.path}: {each.reason}, {each.num_bytes} bytes"))
    for each in left:
        print(one_line(f"left: {each.path}: {each.reason}, but {each.hindrance}"))
    done = "would delete" if options.dry_run else "deleted"
    print(f"{done}: {count(len(garbage), 'thing')}, {num_bytes} bytes")
    return code


def _describe(garbage: Garbage, *names: str) -> dict[str, object]:
    values = dataclasses.asdict(garbage)
    return {name: values[name] for name in names}
