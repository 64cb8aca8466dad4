"""Output that is unread, closed, full or of few letters: the work continues and its exit code is kept."""

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from lt_rebalance.ground.streams import LEGIBLE, Outlet, settle_streams
from tests.commands.test_full_grid import Finished

ROOT = Path(__file__).parents[2]
GOLDEN = "tests/golden/store"
LOOK = f"{sys.executable} -m lt_rebalance"


def run(line: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a line of a shell, in which `look` is the command, with nothing else in its environment."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("look", LOOK)],
        env=kept | dict(environment or {}),
        cwd=ROOT,
        capture_output=True,
        check=False,
    )


def test_letters_that_an_encoding_lacks_are_written_in_others() -> None:
    settle_streams()
    assert "0.67 ± 0.02 × 3 – é…".encode("ascii", LEGIBLE) == b"0.67 +- 0.02 x 3 - \\xe9..."


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code", "environment"),
    [
        (f"look status {GOLDEN}", 0, {"PYTHONIOENCODING": "ascii"}),
        (f"look status {GOLDEN} | head -1", 0, {}),
        (f"look export {GOLDEN} | head -1", 0, {}),
        (f"look status {GOLDEN} >&-", 0, {}),
        (f"look status {GOLDEN} <&- >&- 2>&-", 0, {}),
        ("look status nowhere >&-", 2, {}),
        ("look status nowhere 2>&-", 2, {}),
        ("look status nowhere 2>/dev/full", 2, {}),
        ("look status nowhere | head -0", 2, {}),
        (f"look status {GOLDEN}", 0, {"COLUMNS": "1", "TERM": "dumb"}),
        (f"look status {GOLDEN}", 0, {"COLUMNS": "nonsense", "LC_ALL": "de_DE.UTF-8"}),
        (f"look status {GOLDEN}", 2, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}),
    ],
)
def test_exit_code_is_that_of_the_work_whoever_reads(
    line: str, code: int, environment: Mapping[str, str]
) -> None:
    done = run(line, environment)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr and b"Error" not in done.stderr
    if not environment and code == 0 and "|" in line:
        assert done.stdout.count(b"\n") == 1


@pytest.mark.slow
def test_output_that_is_lost_is_said_and_no_success() -> None:
    done = run(f"look export {GOLDEN} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == b"error: standard output could not be written (No space left on device)\n"


def test_file_that_is_opened_next_does_not_become_standard_output(tmp_path: Path) -> None:
    script = (
        "from lt_rebalance.ground.streams import settle_streams\n"
        "settle_streams()\n"
        "file = open(__import__('sys').argv[1], 'w')\n"
        "print('not for the file', flush=True)\n"
        "__import__('os').write(2, b'nor this')\n"
        "file.write('content')\n"
    )
    (tmp_path / "script.py").write_text(script)
    done = run(f"{sys.executable} {tmp_path}/script.py {tmp_path}/file >&- 2>&-", {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "content"


def test_outlet_drops_all_after_the_first_write_that_fails() -> None:
    reader, writer = os.pipe()
    outlet = Outlet(writer)
    os.write(writer, b"")
    assert outlet.write(b"read") == 4 and os.read(reader, 9) == b"read"
    os.close(reader)
    stream = io.TextIOWrapper(io.BufferedWriter(outlet), line_buffering=True)
    for _ in range(3):
        print("nobody reads this", file=stream)
    assert outlet.failure is None
    os.close(writer)
    full = os.open("/dev/full", os.O_WRONLY)
    outlet = Outlet(full)
    assert outlet.write(b"lost") == 4 and outlet.failure is not None
    os.close(full)


@pytest.mark.slow
def test_sweep_whose_reader_leaves_still_shows_and_writes_all_of_its_work(tmp_path: Path) -> None:
    """A study that is finished, so that nothing is left but its tables: read by one who takes no letters."""
    finished = Finished(tmp_path / "results")
    for stage in finished.stages:
        finished.commit(stage)
    sweep = f"{sys.executable} {ROOT}/sweeps/full_grid.py {' '.join(finished.arguments)}"
    first, second = (  # one after the other: each takes the lease to write its study
        subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        for line in (sweep, f"{sweep} --name other | head -0")
    )
    assert (first.returncode, first.stderr) == (0, b"")
    assert b"mean +- standard deviation" in first.stdout
    assert first.stdout.endswith(b"planned=4 complete=4 failed=0 diverged=0 missing=0\n")
    assert (second.returncode, second.stdout, second.stderr) == (0, b"", b"")
    assert (tmp_path / "results" / "tables" / "other" / "cells.csv").exists()
