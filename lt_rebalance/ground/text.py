"""Escape outside text for the place where it is shown: one function per place.

Text from a store or a user may contain sequences that move the cursor, lines that look like ours, markup or
formulas. HTML is escaped by its templates, JSON by its encoder, LaTeX and Markdown by the writers of the
analysis.
"""

import math
import os
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:  # rich takes longer to import than a wrong option to refuse
    from rich.console import Console
    from rich.text import Text

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""first characters that make a spreadsheet read a cell as a formula, also in full width"""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def one_line(text: object) -> str:
    """Return a text for one line of a terminal or a log: control and bidirectional characters are escaped."""
    given = str(text)
    if given.isprintable():
        return given
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in given)


def lines(text: str, indent: str = "") -> str:
    """Return a text of several lines for a terminal; `indent` distinguishes its lines from ours."""
    return "\n".join(indent + one_line(line.replace("\t", "    ")) for line in re.split("\r\n|\r|\n", text))


def rich(text: object) -> "Text":
    """Return a line for rich, without any markup."""
    from rich.text import Text

    return Text(one_line(text))


def csv_cell(value: Any) -> Any:  # Any: a cell of a table
    """Return a cell of a CSV file that no spreadsheet reads as a formula; numbers are unchanged.

    A text that begins like a formula gets an apostrophe before it, which spreadsheets do not show.
    """
    if not isinstance(value, str):
        return value
    shown = one_line(value)
    is_formula = value.startswith(_FORMULA) and not _NUMBER.fullmatch(value)
    return f"'{shown}" if is_formula else shown


def to_csv(frame: Any) -> str:  # Any: a DataFrame, which is not imported here
    """Return a table as CSV."""
    texts = [column for column in frame.columns if frame[column].dtype.kind not in "biufcmM"]
    escaped = {column: frame[column].astype(object).map(csv_cell) for column in texts}
    names = {column: csv_cell(column) for column in frame.columns}
    text: str = frame.assign(**escaped).rename(columns=names).to_csv(index=False, lineterminator="\n")
    return text


def count(number: int, noun: str, plural: str = "") -> str:
    """Return "1 run" or "6,000 runs"; with a plural, "2 classes"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def format_bytes(num_bytes: float) -> str:
    """Return "12 MB" or "3.4 GB"."""
    return f"{num_bytes / 1e6:.0f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:.1f} GB"


PLAIN_WIDTH = 140
NARROWEST = 40


def make_console(file: TextIO | None = None) -> "Console":
    """Return the console for standard output or a file; wide enough for the tables without a terminal.

    It shows texts literally: a name such as "[red]" or ":tada:" is not markup. Without a terminal the cursor
    does not move, also under FORCE_COLOR, which asks for colours.
    """
    from rich.console import Console

    plain: dict[str, Any] = {"file": file, "highlight": False, "markup": False, "emoji": False}
    if not (sys.stdout if file is None else file).isatty():
        plain["force_interactive"] = False
    console = Console(**plain)
    if not console.is_terminal:
        asked = os.environ.get("COLUMNS", "")
        return Console(**plain, width=int(asked) if asked.isdecimal() and int(asked) else PLAIN_WIDTH)
    # No table is readable below this width: the terminal breaks its lines.
    return Console(**plain, width=max(console.width, NARROWEST))


def format_duration(seconds: float) -> str:
    """Return "45 s", "12 min", "3.4 h" or "2.1 days"."""
    if seconds < 90:
        return f"{round(seconds) or math.ceil(seconds)} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
