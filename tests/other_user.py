"""What another user of the machine can do, tried by a process of another number; only root can make one."""

import json
import os
from collections.abc import Callable, Mapping

import pytest

OTHER = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def try_as_other(attempts: Mapping[str, Callable[[], object]]) -> dict[str, str]:
    """Return what came of each attempt: "done", or the name of the error."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(OTHER)
            os.setuid(OTHER)
            outcomes = {name: _outcome(attempt) for name, attempt in attempts.items()}
            os.write(writing, json.dumps(outcomes).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    outcomes: dict[str, str] = json.loads(text)
    return outcomes


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return type(error).__name__
    return "done"
