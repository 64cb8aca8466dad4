"""Users' own Python files: given by path, identified by content, run only if a command line names them.

A user gives "path/to/mine.py:my_method". Configurations, records and tables hold
"mine.py:my_method@3f9a2b1c", with the first digits of the sha256 of the content; `file_sha256` beside the
name holds the full hash. Names are looked up among loaded files: those that the command line of this process
named or, in a worker, that the main process passed on. A name never causes a file to be read, so nothing from
a store is ever run.
"""

import ast
import hashlib
import linecache
import re
import sys
import traceback
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lt_rebalance.ground.global_streams import watched_streams
from lt_rebalance.ground.names import check_name

MAX_FILE_BYTES = 1_000_000
DIGITS = 8
"""of the sha256 that a name shows"""
_ASKED = re.compile(r"(?P<path>.+\.py)(:(?P<taken>[^:/@]*))?")
_NAME = re.compile(rf"(?P<file>[^/]+\.py):(?P<taken>\w+)@(?P<digits>[0-9a-f]{{{DIGITS}}})")


class WrongReturnError(ValueError):
    """A result that breaks its contract although no line raised: a value that a function returned."""

    def __init__(self, function: Any, words: str) -> None:  # Any: the function that was called
        """Make the error, with the line where the function is defined."""
        self.path, self.line = _find_definition(function)
        super().__init__(f"{self.path}:{self.line}: {words}" if self.path else words)


def _find_definition(function: Any) -> tuple[str, int]:  # Any: as above
    """Return file and line of a function; no file if that is unknown, as for functions in C."""
    function = getattr(function, "func", function)  # of a partial
    function = getattr(function, "__wrapped__", function)
    code = getattr(function, "__code__", None) or getattr(
        getattr(function, "__init__" if isinstance(function, type) else "__call__", None), "__code__", None
    )
    if code is not None and code.co_filename != "<string>":  # as what a dataclass makes
        return code.co_filename, code.co_firstlineno
    for file in _AT_HAND.values():
        if file.sha256 in getattr(function, "__module__", ""):
            return file.path, file.list_defined().get(getattr(function, "__name__", ""), 1)
    return "", 0


@dataclass(frozen=True, kw_only=True)
class OwnFile:
    """A user's file, as it was read."""

    path: str
    """as the user gave it; shown in errors and tracebacks"""
    source: str

    @cached_property
    def sha256(self) -> str:
        """The hash of its content."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @property
    def place(self) -> tuple[str, str]:
        """Its place among loaded files: its name, and the first digits of its hash."""
        return Path(self.path).name, self.sha256[:DIGITS]

    @cached_property
    def module(self) -> types.ModuleType:
        """The names that it defines; it is run once per process.

        Raises:
            ValueError: running it failed; the message has the line and the error.
        """
        module = types.ModuleType(f"lt_rebalance_own_{self.sha256}")
        module.__file__ = self.path
        # Tracebacks show its lines even if the file does not exist here.
        linecache.cache[self.path] = (len(self.source), None, self.source.splitlines(True), self.path)
        sys.modules[module.__name__] = module  # dataclasses look up the module that defines them
        try:
            with watched_streams() as touched:
                exec(compile(self.source.encode(), self.path, "exec", dont_inherit=True), module.__dict__)
        except (Exception, SystemExit) as error:
            del sys.modules[module.__name__]
            raise ValueError(f"{self._locate(error)}: {say_error(error)}") from error
        if touched:
            del sys.modules[module.__name__]
            raise ValueError(
                f"{self.path}: a file must not draw from or set the global random stream of "
                f"{' and '.join(touched)} when it is run, as {touched[0]}'s seed or random functions do; "
                "leave that out"
            )
        return module

    def _locate(self, error: BaseException) -> str:
        if isinstance(error, SyntaxError) and error.filename == self.path:
            return f"{self.path}:{error.lineno}"
        return _find_line(error, {self.path}) or self.path

    def list_defined(self) -> dict[str, int]:
        """Return the names that it defines itself, with the line of the last definition."""
        lines = {}
        for node in ast.parse(self.source.encode()).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
            for target in targets:
                if name := getattr(target, "id", getattr(target, "name", "")):
                    lines[name] = node.lineno
        return lines


_AT_HAND: dict[tuple[str, str], OwnFile] = {}
"""by place; filled only by command lines and main processes"""


def resolve(asked: str) -> str:
    """Return the name for "PATH.py:NAME", after its file is read and run; other names unchanged.

    Raises:
        ValueError: the file does not exist, cannot be run, or does not define the name.
    """
    match = _ASKED.fullmatch(asked)
    if match is None:
        return asked
    file = bring(match["path"])
    if not match["taken"] or match["taken"] not in vars(file.module):
        asked_for = f"does not define {match['taken']!r}" if match["taken"] else "is a file"
        raise ValueError(
            f"{file.path} {asked_for}; name what to use as {file.path}:NAME, of "
            f"{', '.join(file.list_defined()) or 'which it defines nothing'}"
        )
    name, digits = file.place
    return check_name("a name in a file of your own", f"{name}:{match['taken']}@{digits}")


def bring(path: str) -> OwnFile:
    """Read a file and register it as loaded; it is not run yet.

    Raises:
        ValueError: it cannot be read, or a loaded file with other content has the same first digits of the
            hash.
    """
    try:
        if not Path(path).is_file():  # a pipe or a device may be endless
            raise ValueError(f"there is no file {path!r}")
        content = Path(path).read_bytes()
        if len(content) > MAX_FILE_BYTES:
            raise ValueError(
                f"{path} has more than {MAX_FILE_BYTES:,} bytes, the limit for a file of your own"
            )
        return _keep(OwnFile(path=path, source=content.decode()))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not in UTF-8") from None


def _keep(file: OwnFile) -> OwnFile:
    kept = _AT_HAND.setdefault(file.place, file)
    if kept.sha256 != file.sha256:
        raise ValueError(
            f"{kept.path} and {file.path} would both be named {'@'.join(file.place)}; rename one"
        )
    return kept


def is_own(name: str) -> bool:
    """Whether a name refers to a user's file."""
    return _NAME.fullmatch(name) is not None


def is_at_hand(name: str) -> bool:
    """Whether a name can be used here; True for all names that do not refer to a user's file."""
    return not is_own(name) or _place_of(name) in _AT_HAND


def get_own(name: str, kind: type | None = None) -> Any:
    """Return the object that a name refers to, from a loaded file.

    Args:
        kind: its required type; None for a callable.

    Raises:
        ValueError: its file is not loaded, or the object has another type.
    """
    if not is_at_hand(name):
        raise ValueError(f"{name} is in a file that is not loaded; name it as PATH.py:NAME")
    file, taken = _AT_HAND[_place_of(name)], name.rpartition("@")[0].rpartition(":")[2]
    found = getattr(file.module, taken)
    if not (callable(found) if kind is None else isinstance(found, kind)):
        wanted = "a function" if kind is None else f"of type {kind.__name__}"
        where = f"{file.path}:{file.list_defined().get(taken, 1)}"
        raise ValueError(f"{where}: {taken} must be {wanted}, got one of type {type(found).__name__}")
    return found


def _place_of(name: str) -> tuple[str, str]:
    match = _NAME.fullmatch(name)
    assert match is not None
    return match["file"], match["digits"]


def check_sha256(name: str, stated: str | None) -> str | None:
    """Return the sha256 that a configuration holds beside a name; None for names of no user's file.

    Raises:
        ValueError: another hash is given, or none is given and the file is not loaded.
    """
    if not is_own(name):
        if stated is not None:
            raise ValueError(f"file_sha256 goes with a file of your own, and {name!r} is not in one")
        return None
    file = _AT_HAND.get(_place_of(name))
    if stated is None and file is None:
        raise ValueError(f"{name} is in a file that is not loaded; name it as PATH.py:NAME")
    known = stated if file is None else file.sha256
    if stated not in (None, known) or known is None or not known.startswith(_place_of(name)[1]):
        raise ValueError(f"{name} does not match file_sha256 {stated}")
    return known


# What a stage needs, and how it reaches workers


def list_needed(values: Any) -> Iterator[tuple[str, str]]:  # Any: walks down JSON values
    """Yield name and sha256 of every reference to a user's file in a description of a stage."""
    if isinstance(values, Mapping):
        name = str(values.get("name") or values.get("architecture"))
        if "file_sha256" in values and is_own(name):
            yield name, values["file_sha256"]
        for inner in values.values():
            yield from list_needed(inner)
    elif isinstance(values, list | tuple):
        for inner in values:
            yield from list_needed(inner)


def require_at_hand(values: Any) -> bool:  # Any: as above
    """Return whether a description needs users' files.

    Raises:
        ValueError: one of them is not loaded; the message names it and its sha256.
    """
    needed = dict(list_needed(values))
    for name, sha256 in needed.items():
        if _place_of(name) not in _AT_HAND:
            file, _ = _place_of(name)
            others = [each for each in _AT_HAND.values() if each.place[0] == file]
            got = "".join(f"; {each.path} has sha256 {each.sha256}" for each in others)
            raise ValueError(
                f"{name} is code of a file {file} with sha256 {sha256}, and code is never loaded from a "
                f"store; give the file with --own-file{got}"
            )
    return bool(needed)


def hand_on(values: Any) -> list[dict[str, str]]:  # Any: as above
    """Return the files that a description needs, in the form that `take_in` reads in another process."""
    files = [_AT_HAND[place] for place in sorted({_place_of(name) for name, _ in list_needed(values)})]
    return [{"path": file.path, "source": file.source} for file in files]


def take_in(files: Sequence[Mapping[str, str]]) -> None:
    """Load files that a main process has passed on."""
    for file in files:
        _keep(OwnFile(path=file["path"], source=file["source"]))


# Errors of a user's code


def find_place(error: BaseException) -> str | None:
    """Return the line of a user's file where an error arose, "path/to/mine.py:12"; else None."""
    paths = {file.path for file in _AT_HAND.values()}
    following: BaseException | None = error
    while following is not None and paths:
        if isinstance(following, WrongReturnError) and following.path in paths:
            return f"{following.path}:{following.line}"
        if (line := _find_line(following, paths)) is not None:
            return line
        following = following.__cause__ or following.__context__
    return None


def _find_line(error: BaseException, paths: set[str]) -> str | None:
    """Return the innermost line of these files in the traceback of an error."""
    way = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [f"{path}:{line}" for path, line in way if path in paths]
    return own[-1] if own else None


def describe_own(error: BaseException) -> str | None:
    """Return an error of a user's code in one line: place, type and message; None for other errors."""
    place, words = find_place(error), say_error(error)
    if place is None:
        return None
    # The message of an error of reading such a file names the place itself.
    message = words.partition(": ")[2]
    return message if message.startswith(f"{place}: ") else f"{place}: {words}"


def say_error(error: BaseException) -> str:
    """Return the type and the message of an error of any class."""
    try:
        message = str(error.msg if isinstance(error, SyntaxError) else error)
    except Exception:  # of a class that a user wrote
        message = "an error without a readable message"
    return f"{type(error).__name__}: {message}"
