"""Files of the user's own: named by path, known by content, run only where their user's command asks for it.

A user gives "path/to/mine.py:my_method". Configurations, records and tables hold
"mine.py:my_method@3f9a2b1c", with the first digits of the sha256 of the content, and the whole of it beside
the name as `file_sha256`. Such a name is looked up among the files at hand: those that the command line of
this process gave or, in a worker, that its driver handed on. No name makes a file be read, so nothing that
lies in a store is ever run.
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
    """What is not as its contract has it, though no line raised: a value that a function returned."""

    def __init__(self, function: Any, words: str) -> None:  # Any: whatever was called
        """Say it with the line that the function is defined in."""
        self.path, self.line = _find_definition(function)
        super().__init__(f"{self.path}:{self.line}: {words}" if self.path else words)


def _find_definition(function: Any) -> tuple[str, int]:  # Any: as above
    """Return file and line of what was called; no file where that is not known, as of what C defines."""
    function = getattr(function, "func", function)  # of a partial
    function = getattr(function, "__wrapped__", function)
    code = getattr(function, "__code__", None) or getattr(
        getattr(function, "__init__" if isinstance(function, type) else "__call__", None), "__code__", None
    )
    if code is not None:
        return code.co_filename, code.co_firstlineno
    for file in _AT_HAND.values():
        if file.sha256 in getattr(function, "__module__", ""):
            return file.path, file.list_defined().get(getattr(function, "__name__", ""), 1)
    return "", 0


@dataclass(frozen=True, kw_only=True)
class OwnFile:
    """A file of a user's, as it was read."""

    path: str
    """as its user gave it; errors and tracebacks show it"""
    source: str

    @cached_property
    def sha256(self) -> str:
        """The identity of its content."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @property
    def place(self) -> tuple[str, str]:
        """Where it stands among the files at hand: its own name, and the first digits of its hash."""
        return Path(self.path).name, self.sha256[:DIGITS]

    @cached_property
    def module(self) -> types.ModuleType:
        """What it defines; it is run once in a process.

        Raises:
            ValueError: it cannot be run, with the line and the error.
        """
        module = types.ModuleType(f"lt_rebalance_own_{self.sha256}")
        module.__file__ = self.path
        # Tracebacks show its lines also where there is no such file.
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
        """Return what it defines itself, by name the line of the last definition."""
        lines = {}
        for node in ast.parse(self.source.encode()).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
            for target in targets:
                if name := getattr(target, "id", getattr(target, "name", "")):
                    lines[name] = node.lineno
        return lines


_AT_HAND: dict[tuple[str, str], OwnFile] = {}
"""by place; filled by command lines and by drivers alone"""


def resolve(asked: str) -> str:
    """Return the name of what a user asks for as "PATH.py:NAME", whose file is read and run; else unchanged.

    Raises:
        ValueError: no such file, one that cannot be run, or one that does not define the name.
    """
    match = _ASKED.fullmatch(asked)
    if match is None:
        return asked
    file = bring(match["path"])
    if not match["taken"] or match["taken"] not in vars(file.module):
        asked_for = f"does not define {match['taken']!r}" if match["taken"] else "is a file"
        raise ValueError(
            f"{file.path} {asked_for}; say what to take of it as {file.path}:NAME, of "
            f"{', '.join(file.list_defined()) or 'which it has nothing'}"
        )
    name, digits = file.place
    return check_name("a name in a file of your own", f"{name}:{match['taken']}@{digits}")


def bring(path: str) -> OwnFile:
    """Read a file, which is at hand from now on; nothing of it is run yet.

    Raises:
        ValueError: it cannot be read, or another with these first digits of its hash is at hand.
    """
    try:
        if not Path(path).is_file():  # a pipe or a device may have no end
            raise ValueError(f"there is no file {path!r}")
        content = Path(path).read_bytes()
        if len(content) > MAX_FILE_BYTES:
            raise ValueError(
                f"{path} has more than {MAX_FILE_BYTES:,} bytes, too many for a file of your own"
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
    """Whether a name is that of something in a file of a user's own."""
    return _NAME.fullmatch(name) is not None


def is_at_hand(name: str) -> bool:
    """Whether what has this name can be used here; True for whatever is not a user's own."""
    return not is_own(name) or _place_of(name) in _AT_HAND


def get_own(name: str, kind: type | None = None) -> Any:
    """Return what has this name in a file at hand.

    Args:
        kind: what it has to be; None for something that can be called.

    Raises:
        ValueError: its file is not at hand, or it is something else.
    """
    if not is_at_hand(name):
        raise ValueError(f"{name} is in a file that is not at hand; name it as PATH.py:NAME")
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
    """Return the sha256 that belongs into a configuration beside a name; None beside what is no user's own.

    Raises:
        ValueError: another is stated, or none where the file is not at hand.
    """
    if not is_own(name):
        if stated is not None:
            raise ValueError(f"file_sha256 goes with a file of your own, and {name!r} is none")
        return None
    file = _AT_HAND.get(_place_of(name))
    if stated is None and file is None:
        raise ValueError(f"{name} is in a file that is not at hand; name it as PATH.py:NAME")
    known = stated if file is None else file.sha256
    if stated not in (None, known) or known is None or not known.startswith(_place_of(name)[1]):
        raise ValueError(f"{name} does not go with file_sha256 {stated}")
    return known


# What a stage needs, and how it comes to its worker


def list_needed(values: Any) -> Iterator[tuple[str, str]]:  # Any: walks down JSON values
    """Yield name and sha256 of all that is a user's own in a description such as `Stage.to_dict` gives."""
    if isinstance(values, Mapping):
        if "file_sha256" in values:
            yield values.get("name") or values["architecture"], values["file_sha256"]
        for inner in values.values():
            yield from list_needed(inner)
    elif isinstance(values, list | tuple):
        for inner in values:
            yield from list_needed(inner)


def require_at_hand(values: Any) -> bool:  # Any: as above
    """Return whether a description needs files of a user's own.

    Raises:
        ValueError: one of them is not at hand; it is named with its sha256.
    """
    needed = dict(list_needed(values))
    for name, sha256 in needed.items():
        if _place_of(name) not in _AT_HAND:
            file, _ = _place_of(name)
            others = [each for each in _AT_HAND.values() if each.place[0] == file]
            got = "".join(f"; {each.path} has sha256 {each.sha256}" for each in others)
            raise ValueError(
                f"{name} is code of a file {file} with sha256 {sha256}, and no code is taken from a store; "
                f"give that file with --own-file{got}"
            )
    return bool(needed)


def hand_on(values: Any) -> list[dict[str, str]]:  # Any: as above
    """Return the files that a description needs, as `take_in` takes them in another process."""
    files = [_AT_HAND[place] for place in sorted({_place_of(name) for name, _ in list_needed(values)})]
    return [{"path": file.path, "source": file.source} for file in files]


def take_in(files: Sequence[Mapping[str, str]]) -> None:
    """Have files at hand that a driver has handed on."""
    for file in files:
        _keep(OwnFile(path=file["path"], source=file["source"]))


# Errors of a user's code


def find_place(error: BaseException) -> str | None:
    """Return where in a user's own file an error arose, as "path/to/mine.py:12"; None elsewhere."""
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
    """Return an error of a user's code in a line: where it arose, type and message; None for any other."""
    place, words = find_place(error), say_error(error)
    if place is None:
        return None
    # An error of reading such a file says the place itself.
    message = words.partition(": ")[2]
    return message if message.startswith(f"{place}: ") else f"{place}: {words}"


def say_error(error: BaseException) -> str:
    """Return the type and the message of an error, whatever its class."""
    try:
        message = str(error.msg if isinstance(error, SyntaxError) else error)
    except Exception:  # of a class that a user wrote
        message = "an error that cannot say what it is"
    return f"{type(error).__name__}: {message}"
