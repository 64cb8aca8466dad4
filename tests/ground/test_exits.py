"""Every error ends a command with its cause, words, exit code and a way to go on."""

import argparse
import contextlib
import errno
import getpass
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lt_rebalance.ground.errors import (
    ClusterError,
    DataError,
    LeaseError,
    LeaseLostError,
    StorageError,
    StoreError,
    attempt,
)
from lt_rebalance.ground.exits import Parser, Work, explain, run_command, this_command
from lt_rebalance.ground.interrupts import Interrupted

ROOT = Path(__file__).parents[2]
FULL = OSError(errno.ENOSPC, "No space left on device", "/store/x")
TOO_MANY_FILES = OSError(errno.EMFILE, "Too many open files", "/store/y")
TOO_LARGE = OSError(errno.EFBIG, "File too large", "/store/z")
REFUSED = ClusterError("Ray did not start", remedy="lower --threads")
LOST = ClusterError("Ray was lost", was_lost=True)
GO_ON = "stopped; finished results are kept. To resume once that is fixed: "

ENDINGS: list[tuple[BaseException, bool, tuple[str, int, str, bool]]] = [
    # error, whether the work has begun: cause, exit code, words, whether the same command goes on
    (ValueError("wrong"), False, ("input", 2, "error: wrong", False)),
    (LeaseError("in use"), False, ("input", 2, "error: in use", False)),
    (StoreError("foreign"), False, ("storage", 2, "error: foreign", False)),
    (StoreError("gone"), True, ("storage", 1, "error: gone", True)),
    (StorageError("silent"), False, ("storage", 2, "error: silent", False)),
    (StorageError("silent"), True, ("storage", 1, "error: silent", True)),
    (DataError("no images"), True, ("input", 1, "error: no images", True)),
    (FULL, False, ("storage", 2, "free space, or give another store", False)),
    (FULL, True, ("storage", 1, "No space left on device", True)),
    (TOO_MANY_FILES, False, ("system", 2, "error: Too many open files: /store/y", False)),
    (TOO_MANY_FILES, True, ("system", 1, "error: Too many open files: /store/y", True)),
    (TOO_LARGE, True, ("system", 1, "limit: ulimit -f unlimited): /store/z", True)),
    (PermissionError(errno.EACCES, "Permission denied", "/x"), False, ("system", 2, "denied: /x", False)),
    (FileNotFoundError(errno.ENOENT, "No such file"), False, ("system", 2, "the current directory;", False)),
    (REFUSED, False, ("cluster", 2, "error: Ray did not start; lower --threads", False)),
    (REFUSED, True, ("cluster", 2, "error: Ray did not start; lower --threads", False)),
    (LOST, False, ("cluster", 1, "error: Ray was lost", True)),
    (LOST, True, ("cluster", 1, "error: Ray was lost", True)),
    (LeaseLostError("taken over"), True, ("lease", 1, "stopped: taken over", False)),
    (MemoryError(), False, ("memory", 2, "no memory left", False)),
    (MemoryError(), True, ("memory", 1, "no memory left", True)),
    (KeyboardInterrupt(), False, ("signal", 130, "stopped before anything was started", False)),
    (KeyboardInterrupt(), True, ("signal", 130, "stopped by SIGINT; finished results are kept", False)),
    (
        Interrupted(signal.SIGTERM),
        True,
        ("signal", 143, "stopped by SIGTERM; finished results are kept", False),
    ),
    (KeyError("x"), False, ("code", 1, "a bug in this program (KeyError)", True)),
    (ValueError("x"), True, ("code", 1, "a bug in this program (ValueError)", True)),
    (OSError("of no number"), True, ("code", 1, "a bug in this program (OSError)", True)),
    (RecursionError("deep"), True, ("code", 1, "a bug in this program (RecursionError)", True)),
]


@pytest.mark.parametrize(("error", "has_begun", "expected"), ENDINGS, ids=lambda each: repr(each)[:40])
def test_every_error_has_a_cause_words_an_exit_code_and_a_way_to_go_on(
    error: BaseException, has_begun: bool, expected: tuple[str, int, str, bool]
) -> None:
    cause, code, words, goes_on = expected
    ending = explain(error, has_begun=has_begun)
    assert (ending.cause, ending.exit_code) == (cause, code)
    assert words in ending.words and "\n" not in ending.words
    assert ending.go_on == (f"{GO_ON}{this_command()}" if goes_on else "")


Ends = Callable[[BaseException], tuple[int, list[str], str]]


@pytest.fixture
def ends(capsys: pytest.CaptureFixture[str]) -> Ends:
    """Return what lets the work of a command raise an error: exit code, what it held, what it said."""

    def ends_(error: BaseException) -> tuple[int, list[str], str]:
        held: list[str] = []

        @contextlib.contextmanager
        def lease() -> Iterator[None]:
            held.append("taken")
            try:
                yield
            finally:
                held.append("released")

        def work() -> int:
            raise error

        def prepare(_: argparse.Namespace, stack: contextlib.ExitStack) -> Work:
            stack.enter_context(lease())
            return work

        code = run_command(Parser(), prepare, [])
        return code, held, capsys.readouterr().err

    return ends_


@pytest.mark.parametrize(
    ("error", "expected"), [(error, each) for error, begun, each in ENDINGS if begun], ids=repr
)
def test_command_tells_its_end_in_one_line_or_two_and_lets_go_of_all_it_holds(
    error: BaseException, expected: tuple[str, int, str, bool], ends: Ends
) -> None:
    cause, code, words, goes_on = expected
    found, held, shown = ends(error)
    assert (found, held) == (code, ["taken", "released"])
    lines = shown.splitlines()
    assert words in lines[-2 if goes_on else -1]
    assert lines[-1].startswith(GO_ON) == goes_on
    assert ("Traceback" in shown) == (cause == "code")


def test_ctrl_c_while_contexts_close_ends_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    @contextlib.contextmanager
    def slow_to_close() -> Iterator[None]:
        yield
        raise KeyboardInterrupt

    def prepare(_: argparse.Namespace, stack: contextlib.ExitStack) -> Work:
        stack.enter_context(slow_to_close())
        return lambda: 0

    assert run_command(Parser(), prepare, []) == 130
    assert "stopped by SIGINT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([""], "STORE"),
        (["x", "--out", " "], "--out"),
        (["x", "--out=\t"], "--out"),
        (["x", "--ou", ""], "OUT"),
    ],
)
def test_empty_argument_is_named_as_it_was_written(arguments: list[str], named: str) -> None:
    parser = Parser()
    parser.add_argument("store")
    parser.add_argument("--out")
    with pytest.raises(ValueError, match=f"^{named} takes at least one printable character, got "):
        parser.parse_args(arguments)


def test_words_of_an_error_are_one_line_that_does_nothing_to_a_terminal(ends: Ends) -> None:
    _, _, shown = ends(StoreError("red \x1b[31m\nplanned=1 complete=1\u202e"))
    assert shown.splitlines()[0] == "error: red \\x1b[31m\\nplanned=1 complete=1\\u202e"


def test_log_is_lines_that_do_nothing_to_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])

    def prepare(_: argparse.Namespace, stack: contextlib.ExitStack) -> int:
        log = logging.getLogger("lt_rebalance.x")
        log.warning("held by %s", "red \x1b[31m\nplanned=1")
        attempt(lambda: int("\x1b[31mred"))
        raise KeyError("\x9b31m")

    assert run_command(Parser(), prepare, []) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("held by red \\x1b[31m\\nplanned=1\ncould not be shown\nTraceback (most recent")
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "\nKeyError: '\\x9b31m'\nerror: a bug" in shown


def test_command_that_is_to_go_on_is_the_one_that_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", "-m", "analysis", "my store", "--out", "x"])
    assert this_command() == "python -m analysis 'my store' --out x"
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert this_command() == "uv run python -m analysis 'my store' --out x"


@pytest.mark.slow
def test_command_typed_behind_uv_run_is_told_with_it() -> None:
    uv = os.environ.get("UV") or shutil.which("uv")
    command = [uv, "run"] if uv is not None else [sys.executable, "-m", "uv", "run"]
    script = "from lt_rebalance.ground.exits import this_command; print(this_command())"
    done = subprocess.run(
        [*command, "--no-sync", "python", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"uv run python -c '{script}'\n"


@pytest.mark.parametrize("given", [[], ["--seeds", "3"], ["--seeds=3"], ["--seeds", "2", "--seeds", "3"]])
def test_command_with_another_value_gives_it_once(monkeypatch: pytest.MonkeyPatch, given: list[str]) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python3", "grid.py", *given, "--steps", "9"])
    assert this_command("--seeds", 6) == "python grid.py --steps 9 --seeds 6"


@pytest.mark.slow
def test_directory_that_torch_makes_is_none_that_another_user_may_have_taken(tmp_path: Path) -> None:
    taken = tmp_path / f"torchinductor_{getpass.getuser()}"
    taken.touch()
    script = (
        "from lt_rebalance.ground.exits import Parser, run_command; run_command(Parser(), lambda *_: 0, [])\n"
        "from torch._inductor.runtime.cache_dir_utils import cache_dir; print(cache_dir())"
    )
    variables = {key: value for key, value in os.environ.items() if key != "TORCHINDUCTOR_CACHE_DIR"}
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=variables | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert not result.stdout.startswith(str(tmp_path)) and list(tmp_path.iterdir()) == [taken]


TELLING = ('print(f"error:', "EXIT_USER_ERROR", "print_exc", "interrupt.exit_code")


def test_errors_are_told_in_one_place() -> None:
    """No command prints an error, or knows the exit code of one, by itself."""
    folders = ("lt_rebalance", "analysis", "sweeps")
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        told = [part for part in TELLING if part in text]
        assert not told or path.name == "exits.py", (path, told)
