"""What a real sweep and a real search print at each level of --verbosity, in a log and on a terminal."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import linear_network

ROOT = Path(__file__).parents[2]
SWEEP = "sweeps/full_grid.py --methods none --c 1/2 --seeds 1 --steps 4 --device cpu --precision float32"
SEARCH = (
    "sweeps/tune_classifier.py --preset quick --steps 9 --confirm-seeds 1 --device cpu --precision float32"
)
TITLE = "classifier 1/2 none seed 0"


def run_in_log(command: str, storage: Path, *arguments: str) -> list[str]:
    """Return the lines that a command writes to a file, what it says of errors among them."""
    log = storage.with_suffix(".log")
    without = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "COLUMNS")}
    options = [*linear_network.OPTIONS, "--storage", str(storage), *arguments]
    words = [sys.executable, *command.split(), *options]
    with log.open("wb") as file:
        done = subprocess.run(words, stdout=file, stderr=file, cwd=ROOT, env=without, check=False)
    content = log.read_text(encoding="utf-8")
    assert done.returncode == 0, content
    assert "\x1b" not in content and "\r" not in content
    return content.splitlines()


@pytest.mark.slow
def test_log_of_a_sweep_has_nothing_of_its_stages_or_all_of_them(tmp_path: Path) -> None:
    """The level between them is that of a command that is asked for none: see test_resume.py."""
    quiet = run_in_log(SWEEP, tmp_path / "quiet", "--verbosity", "0")
    assert quiet[0].startswith("full_grid-quick: ") and quiet[-1].startswith("planned=1 complete=1 ")
    assert not any(TITLE in line for line in quiet)
    detailed = run_in_log(SWEEP, tmp_path / "detailed", "--verbosity", "2")
    told = detailed[: detailed.index(quiet[0])]
    assert "starting Ray" in told and told[-1].startswith(f"1/1 {TITLE}: accuracy ")
    more = [line for line in told if line.startswith(f"{TITLE}: ")]
    assert more[0] == f"{TITLE}: begins" and len(more) == 2
    assert re.match(rf"{TITLE}: round 1/1, [\d.]+ s: train_loss [\d.]+, test_accuracy ", more[1])


@pytest.mark.slow
def test_log_of_a_search_has_more_from_level_to_level(tmp_path: Path) -> None:
    quiet = run_in_log(SEARCH, tmp_path / "store", "--verbosity", "0", "--trials", "1")
    assert not any(line.startswith("trial ") for line in quiet)
    assert any(line.startswith("best, trial 0: ") for line in quiet)
    detailed = run_in_log(SEARCH, tmp_path / "store", "--verbosity", "2", "--trials", "2")
    begins, *further = [line for line in detailed if line.startswith("trial ")]
    assert begins.startswith("trial 1 begins (")
    assert further and all(re.match("trial 1 (running|complete|pruned), round ", line) for line in further)


@pytest.mark.slow
def test_narrow_terminal_without_colours_gets_neither_long_lines_nor_colours(tmp_path: Path) -> None:
    width = 60
    reader, writer = pty.openpty()
    variables = {"NO_COLOR": "1", "COLUMNS": str(width), "TERM": "xterm-256color"}
    words = [sys.executable, *SWEEP.split(), *linear_network.OPTIONS, "--storage", str(tmp_path / "store")]
    without = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
    with subprocess.Popen(
        words, stdin=writer, stdout=writer, stderr=writer, cwd=ROOT, env=without | variables
    ) as process:
        os.close(writer)
        shown = b""
        while chunk := read_some(reader):
            shown += chunk
    os.close(reader)
    assert process.returncode == 0, shown
    text = shown.decode()
    assert "running: " in text and "\x1b[" in text
    codes = {each for code in re.findall(r"\x1b\[([0-9;]*)m", text) for each in code.split(";")}
    assert codes <= {"", "0", "1", "22"}  # bold, and its end
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))
    table = [line for line in lines if re.match(r"  none |sound, C|.*macro F1|[█░]", line)]
    assert table and max(map(len, table)) <= width


def read_some(reader: int) -> bytes:
    """Return what a terminal has been sent since; nothing when nobody is left to write to it."""
    try:
        return os.read(reader, 65536)
    except OSError:
        return b""
