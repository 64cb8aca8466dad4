"""`lt-rebalance tensorboard`: update the events of a study and become TensorBoard."""

import argparse
import os
import shlex
import sys

from lt_rebalance.cli.stores import choose_study, open_existing, print_json
from lt_rebalance.ground.errors import StorageError
from lt_rebalance.ground.text import count
from lt_rebalance.monitoring.tensorboard.naming import study_directory
from lt_rebalance.monitoring.tensorboard.server import LOOPBACK, server_command
from lt_rebalance.store import Store, StoreError

LOOPBACKS = (LOOPBACK, "localhost", "::1")
MAX_PORT = 65535
RELOAD_S = 2
RELOAD_FROM_BUCKET_S = 30
"""every reload takes two requests for each object with events"""


def run(options: argparse.Namespace) -> int:
    """Write missing events, then replace this process by the server."""
    if options.host not in LOOPBACKS and not options.listen_publicly:
        raise ValueError(
            f"--host {options.host} can be reached by others, and TensorBoard has no password; use a tunnel "
            "to 127.0.0.1 instead, or allow it with --listen-publicly"
        )
    if options.host in LOOPBACKS and options.listen_publicly:
        raise ValueError(f"--listen-publicly allows another --host, but {options.host} is this machine")
    if not 0 <= options.port <= MAX_PORT:
        raise ValueError(f"--port must be at least 0 and at most {MAX_PORT}, got {options.port}")
    store = open_existing(options.store, is_read_only=False)
    study = choose_study(store, options.study)
    from lt_rebalance.monitoring.tensorboard.means import DIRECTORY as MEANS

    num_made = _refresh(store, study)
    logdir = f"{store.location}/{study_directory(study)}"
    reload_s = RELOAD_FROM_BUCKET_S if store.directory is None else RELOAD_S
    command = server_command(logdir, host=options.host, port=options.port, reload_s=reload_s)
    if options.json:
        print_json({"study": study, "logdir": logdir, "runs_made": num_made, "command": command})
    else:
        made = f"made events of {count(num_made, 'finished run')}" if num_made else "events are up to date"
        print(f"{study}: {made}; {logdir}")
        if options.no_server:
            print(f"to start the server: {shlex.join(command)}")
        elif options.port:
            url = f"http://{f'[{options.host}]' if ':' in options.host else options.host}:{options.port}"
            print(f"all runs: {url}; methods side by side: {url}/#custom_scalars&regexInput={MEANS}/")
            print(
                "with more than 40 runs none is selected at first: filter them, for example by C=1-2/.*seed-0"
            )
    if options.no_server:
        return 0
    sys.stdout.flush()
    os.execv(command[0], command)


def _refresh(store: Store, study: str) -> int:
    """Write missing events, if they can be written; return for how many runs.

    Raises:
        StoreError: they cannot be written, and there are no events to show.
    """
    from lt_rebalance.monitoring.tensorboard.overview import refresh_events

    try:
        return refresh_events(store, store.load_study(study))
    except StorageError:
        raise
    except OSError as error:
        reason = f"{store.location}: no events can be written here ({error.strerror or error})"
        if not store.files.list(study_directory(study)):
            remedy = "and there are none; copy the store to a writable place, and open it there"
            raise StoreError(f"{reason}, {remedy}") from None
        print(f"note: {reason}; existing events are shown", file=sys.stderr)
        return 0
