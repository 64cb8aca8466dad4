"""How every command ends: the one place that turns an error into cause, words, exit code and how to go on.

A command has two parts. What prepares it checks all that can be wrong and starts nothing; what goes wrong
there is refused. Its work comes after that, and can be taken up again by the same command.
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

from lt_rebalance.ground.disk import takes_no_more
from lt_rebalance.ground.errors import ClusterError, LeaseLostError, StorageError, StoreError
from lt_rebalance.ground.interrupts import Interrupted
from lt_rebalance.ground.own_file import describe_own
from lt_rebalance.ground.streams import output_failure, settle_streams
from lt_rebalance.ground.text import one_line

EXIT_INCOMPLETE = 1
"""it did not come out well, or could not go on; the same command goes on"""
EXIT_USER_ERROR = 2
"""refused: nothing was started"""

Work = Callable[[], int]
"""does what a command is for and returns its exit code"""
Preparation = Callable[[argparse.Namespace, contextlib.ExitStack], Work | int]


class Parser(argparse.ArgumentParser):
    """Raises a ValueError for wrong arguments, among them texts that are empty or cannot be printed."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # Any: as argparse has it
        tokens = sys.argv[1:] if args is None else args
        for token in tokens:
            if token.endswith("=--"):  # which argparse takes for no value at all
                raise ValueError(f"{token.removesuffix('=--')} takes a value, got '--'")
        parsed = super().parse_args(tokens, namespace)
        for name, value in vars(parsed).items():
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and not (text.strip() and text.isprintable()):
                    rule = f"--{name.replace('_', '-')} takes letters that can be printed, at least one"
                    raise ValueError(f"{rule}, got {text!r}")
        return parsed


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a command ends that did not come to its own end."""

    cause: str
    """a word: input, own file, storage, system, cluster, lease, signal, memory or code"""
    words: str
    """what happened, in one line"""
    exit_code: int
    go_on: str = ""
    """what to do; empty where the words say it"""


def run_command(
    parser: argparse.ArgumentParser, prepare: Preparation, arguments: Sequence[str] | None = None
) -> int:
    """Read a command line, prepare what it asks for, do it and return its exit code.

    Args:
        prepare: checks everything that can be wrong, raising ValueError, and returns what does the work, or
            the exit code of a command that only looks. What it enters into the stack is left in the end.

    Returns:
        What the work returns; else as `explain` says.
    """
    settle_streams()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # torch makes a directory for what it compiles, in that of temporary files and under a name that another
    # user may have taken. Nothing is compiled here, so one that is there and trusted will do.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", sys.prefix)
    try:
        with contextlib.ExitStack() as stack:
            code = _run(parser, prepare, arguments, stack)
    except Exception as error:  # what was opened could not be closed
        code = _tell(error, has_begun=True)
    if (failure := output_failure()) is not None:
        print(f"error: standard output could not be written ({failure.strerror})", file=sys.stderr)
        return code or EXIT_INCOMPLETE
    return code


def _run(
    parser: argparse.ArgumentParser,
    prepare: Preparation,
    arguments: Sequence[str] | None,
    stack: contextlib.ExitStack,
) -> int:
    """Return the exit code; what was entered into the stack is still held while the end is told."""
    has_begun = False
    try:
        require_utf8()
        work = prepare(parser.parse_args(arguments), stack)
        if isinstance(work, int):
            return work
        has_begun = True
        return work()
    except (Exception, Interrupted, KeyboardInterrupt) as error:
        return _tell(error, has_begun=has_begun)


def explain(error: BaseException, *, has_begun: bool) -> Ending:
    """Return how a command ends that an error ends.

    Args:
        has_begun: the work; False while it is prepared.

    Returns:
        Exit code 2: refused, nothing was started. 1: the work could not go on. 130, 143: stopped by Ctrl-C or
        SIGTERM. What is no known error is one of the code.
    """
    if isinstance(error, KeyboardInterrupt):
        if not has_begun:
            code = Interrupted(signal.SIGINT).exit_code
            return Ending(cause="signal", words="stopped before anything was started", exit_code=code)
        error = Interrupted(signal.SIGINT)
    if isinstance(error, Interrupted):
        words = f"stopped by {error.signal.name}; nothing finished is lost. To go on: {this_command()}"
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
        go_on=f"stopped; nothing finished is lost. To go on, once that is mended: {this_command()}",
    )


def _name_cause(error: BaseException, *, has_begun: bool) -> tuple[str, str]:
    """Return the cause of an error that is no wish to stop, and what it says with what to do about it."""
    words = str(error)
    if isinstance(error, ClusterError):
        return "cluster", words
    if isinstance(error, StoreError | StorageError):
        return "storage", words
    if takes_no_more(error):
        return "storage", f"{words}; make room, or name another --storage"
    if (own := describe_own(error)) is not None:
        return "own file", own
    if isinstance(error, OSError) and error.errno is not None:
        return "system", describe_os_error(error)
    if isinstance(error, MemoryError):
        return "memory", "this machine has no memory left; end what else runs on it, or run less at a time"
    if isinstance(error, ValueError) and not has_begun:
        return "input", words
    return "code", f"a fault of this program ({type(error).__name__}), told above; please report it"


def describe_os_error(error: OSError) -> str:
    """Return in words what the system refused, and of which file."""
    if error.errno is None:
        return str(error)
    reason = error.strerror or os.strerror(error.errno)
    if error.errno == errno.EFBIG:
        reason += " for this process (to lift the limit: ulimit -f unlimited)"
    if isinstance(error, FileNotFoundError) and not error.filename:  # only the question where one is
        return f"{reason}: the current directory; change to one that is there"
    return f"{reason}: {error.filename}" if error.filename else reason


def _tell(error: BaseException, *, has_begun: bool) -> int:
    """Say how a command ends and return its exit code."""
    ending = explain(error, has_begun=has_begun)
    if ending.cause == "code":
        traceback.print_exception(error)
    for line in filter(None, (ending.words, ending.go_on)):
        print(one_line(line), file=sys.stderr)
    return ending.exit_code


def note(text: str) -> None:
    """Say what a user should know of a command that goes on."""
    print(f"note: {one_line(text)}", file=sys.stderr)


def require_utf8() -> None:
    """Raise a ValueError unless paths are UTF-8: Ray and the tables cannot be had otherwise."""
    if (encoding := sys.getfilesystemencoding()) != "utf-8":
        raise ValueError(
            f"Python must use UTF-8 for paths and output, got {encoding}; set PYTHONUTF8=1, or a locale such "
            "as LC_ALL=C.UTF-8"
        )


def this_command(flag: str | None = None, value: object = None) -> str:
    """Return the command line by which this process was started, with another value of one of its options."""
    # uv tells those that it runs how deep they are in each other; without it, python may be another one.
    runner = ["uv", "run"] if "UV_RUN_RECURSION_DEPTH" in os.environ else []
    words = [*runner, "python", *sys.orig_argv[1:]]
    if flag is not None:
        while flag in words[:-1]:
            del words[words.index(flag) : words.index(flag) + 2]
        words = [*(word for word in words if not word.startswith(f"{flag}=")), flag, str(value)]
    return shlex.join(words)
