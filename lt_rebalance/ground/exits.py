"""Turn errors of all commands into an exit code, a message and a way to continue.

A command has two parts. Its preparation checks everything and starts nothing; an error there means exit code
2. Its work comes after that; the same command resumes it.
"""

import argparse
import contextlib
import errno
import logging
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from lt_rebalance.ground.disk import cannot_be_written
from lt_rebalance.ground.errors import ClusterError, DataError, LeaseLostError, StorageError, StoreError
from lt_rebalance.ground.interrupts import Interrupted
from lt_rebalance.ground.own_file import describe_own
from lt_rebalance.ground.streams import output_failure, settle_streams
from lt_rebalance.ground.text import lines, one_line

EXIT_INCOMPLETE = 1
"""the work failed or could not be completed; the same command resumes it"""
EXIT_USER_ERROR = 2
"""refused: nothing was started"""

Work = Callable[[], int]
"""does the work of a command and returns its exit code"""
Preparation = Callable[[argparse.Namespace, contextlib.ExitStack], Work | int]


class Parser(argparse.ArgumentParser):
    """Raises a ValueError for wrong arguments, including texts that are empty or not printable."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # Any: as in argparse
        tokens = sys.argv[1:] if args is None else args
        for token in tokens:
            if token.endswith("=--"):  # which argparse reads as no value
                raise ValueError(f"{token.removesuffix('=--')} takes a value, got '--'")
        parsed = super().parse_args(tokens, namespace)
        for name, value in vars(parsed).items():
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and not (text.strip() and text.isprintable()):
                    option = f"--{name.replace('_', '-')}"
                    is_option = any(token.partition("=")[0] == option for token in tokens)
                    named = option if is_option else name.upper()
                    raise ValueError(f"{named} takes at least one printable character, got {text!r}")
        return parsed


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a command ends after an error or a signal."""

    cause: str
    """one of: input, own file, storage, system, cluster, lease, signal, memory or code"""
    words: str
    """what happened, in one line"""
    exit_code: int
    go_on: str = ""
    """what to do; empty if the words say it"""


def run_command(
    parser: argparse.ArgumentParser, prepare: Preparation, arguments: Sequence[str] | None = None
) -> int:
    """Parse a command line, prepare the command, do its work and return the exit code.

    Args:
        prepare: checks everything and raises ValueError; returns the function that does the work, or the exit
            code of a command without work. Contexts that it enters into the stack are closed at the end.

    Returns:
        The exit code of the work, or that of `explain`.
    """
    settle_streams()
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # torch makes a directory for compiled code among temporary files, under a name that another user may have
    # taken. Nothing is compiled here, so any existing trusted directory will do.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", sys.prefix)
    try:
        with contextlib.ExitStack() as stack:
            code = _run(parser, prepare, arguments, stack)
    except (Exception, Interrupted, KeyboardInterrupt) as error:  # while contexts were closed
        code = _report(error, has_begun=True)
    if (failure := output_failure()) is not None:
        print(f"error: standard output could not be written ({failure.strerror})", file=sys.stderr)
        return code or EXIT_INCOMPLETE
    return code


class _Plain(logging.Formatter):
    """Writes a message as one line; nothing in it or in a traceback acts on a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # a name of logging
        return one_line(record.message)

    def formatException(self, ei: Any) -> str:  # Any: as in logging
        return lines(super().formatException(ei))


def _run(
    parser: argparse.ArgumentParser,
    prepare: Preparation,
    arguments: Sequence[str] | None,
    stack: contextlib.ExitStack,
) -> int:
    """Return the exit code; contexts of the stack are still open while the end is reported."""
    has_begun = False
    try:
        require_utf8()
        work = prepare(parser.parse_args(arguments), stack)
        if isinstance(work, int):
            return work
        has_begun = True
        return work()
    except (Exception, Interrupted, KeyboardInterrupt) as error:
        return _report(error, has_begun=has_begun)


def explain(error: BaseException, *, has_begun: bool) -> Ending:
    """Return how a command ends after an error.

    Args:
        has_begun: the work has begun; False during preparation.

    Returns:
        Exit code 2: refused, nothing was started. 1: the work could not continue. 130, 143: stopped by Ctrl-C
            or SIGTERM. An unknown error counts as a bug of this program.
    """
    if isinstance(error, KeyboardInterrupt):
        if not has_begun:
            code = Interrupted(signal.SIGINT).exit_code
            return Ending(cause="signal", words="stopped before anything was started", exit_code=code)
        error = Interrupted(signal.SIGINT)
    if isinstance(error, Interrupted):
        words = f"stopped by {error.signal.name}; finished results are kept. To resume: {this_command()}"
        return Ending(cause="signal", words=words, exit_code=error.exit_code)
    if isinstance(error, LeaseLostError):
        return Ending(cause="lease", words=f"stopped: {error}", exit_code=EXIT_INCOMPLETE)
    cause, words = _name_cause(error, has_begun=has_begun)
    is_lost = isinstance(error, ClusterError) and error.was_lost
    is_refused = cause != "code" and not has_begun and not is_lost
    is_refused = is_refused or (cause == "cluster" and not is_lost)
    if is_refused:
        return Ending(cause=cause, words=f"error: {words}", exit_code=EXIT_USER_ERROR)
    return Ending(
        cause=cause,
        words=f"error: {words}",
        exit_code=EXIT_INCOMPLETE,
        go_on=f"stopped; finished results are kept. To resume once that is fixed: {this_command()}",
    )


def _name_cause(error: BaseException, *, has_begun: bool) -> tuple[str, str]:
    """Return the cause of an error that is not a stop signal, and its message with a remedy."""
    words = str(error)
    if isinstance(error, ClusterError):
        return "cluster", words
    if isinstance(error, StoreError | StorageError):
        return "storage", words
    if cannot_be_written(error):
        return "storage", f"{words}; free space, or give another store"
    if (own := describe_own(error)) is not None:
        return "own file", own
    if isinstance(error, OSError) and error.errno is not None:
        return "system", describe_os_error(error)
    if isinstance(error, MemoryError):
        return "memory", (
            "this machine has no memory left; stop other processes, or run fewer trials at a time"
        )
    if isinstance(error, DataError) or (isinstance(error, ValueError) and not has_begun):
        return "input", words
    return "code", f"a bug in this program ({type(error).__name__}), shown above; please report it"


def describe_os_error(error: OSError) -> str:
    """Return which operation the system refused, and for which file."""
    if error.errno is None:
        return str(error)
    reason = error.strerror or os.strerror(error.errno)
    if error.errno == errno.EFBIG:
        reason += " for this process (to lift the limit: ulimit -f unlimited)"
    if isinstance(error, FileNotFoundError) and not error.filename:  # only the current directory has no name
        return f"{reason}: the current directory; change to one that exists"
    return f"{reason}: {error.filename}" if error.filename else reason


def _report(error: BaseException, *, has_begun: bool) -> int:
    """Print how a command ends and return its exit code."""
    ending = explain(error, has_begun=has_begun)
    if ending.cause == "code":
        print(lines("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    for line in filter(None, (ending.words, ending.go_on)):
        print(one_line(line), file=sys.stderr)
    return ending.exit_code


def note(text: str) -> None:
    """Print a note to the user of a command that continues."""
    print(f"note: {one_line(text)}", file=sys.stderr)


def require_utf8() -> None:
    """Raise a ValueError unless paths are UTF-8: Ray and the tables need it."""
    if (encoding := sys.getfilesystemencoding()) != "utf-8":
        raise ValueError(
            f"Python must use UTF-8 for paths and output, got {encoding}; set PYTHONUTF8=1, or a locale such "
            "as LC_ALL=C.UTF-8"
        )


def this_command(flag: str | None = None, value: object = None) -> str:
    """Return the command line that started this process, with another value of one of its options."""
    words = ["python", *sys.orig_argv[1:]]
    if flag is not None:
        while flag in words[:-1]:
            del words[words.index(flag) : words.index(flag) + 2]
        words = [*(word for word in words if not word.startswith(f"{flag}=")), flag, str(value)]
    return say_command(*words)


def say_command(*words: str) -> str:
    """Return a command line, after "uv run" if this process was started so: python may be another one."""
    # uv sets this variable for its children.
    return shlex.join([*(["uv", "run"] if "UV_RUN_RECURSION_DEPTH" in os.environ else []), *words])
