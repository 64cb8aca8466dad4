"""Text from elsewhere, escaped for the place where it is shown: one function a place.

What a store holds, or a user types, may carry sequences that move the cursor, lines that look like ours,
markup or formulas. HTML is escaped by its templates, JSON by its encoder, LaTeX and Markdown by the writers
of the analysis.
"""

import re
from typing import Any

from rich.text import Text

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""what makes a spreadsheet take a cell for a formula, also in its wide form"""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def one_line(text: object) -> str:
    """Return a text for a line of a terminal or a log: what moves the cursor or turns text is spelled out."""
    given = str(text)
    if given.isprintable():
        return given
    return "".join(each if each.isprintable() else _spell(each) for each in given)


def _spell(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def lines(text: str, indent: str = "") -> str:
    """Return a text of several lines for a terminal; `indent` tells its lines from ours."""
    return "\n".join(indent + one_line(line.replace("\t", "    ")) for line in re.split("\r\n|\r|\n", text))


def rich(text: object) -> Text:
    """Return a line for rich, which takes nothing in it for markup."""
    return Text(one_line(text))


def csv_cell(value: Any) -> Any:  # Any: a cell of a table
    """Return a cell of a CSV file that no spreadsheet takes for a formula; numbers stay as they are.

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
