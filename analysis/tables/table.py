"""A table: raw numbers for files, text for readers, and an explanation."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

Row = Mapping[str, Any]  # Any: names and numbers


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column as readers see it."""

    head: str
    text: Callable[[Row], str]
    value: Callable[[Row], Any]
    """sort key: a number, a text, or nan if absent"""
    is_row_head: bool = False
    """whether it names the row, alone or with others"""
    is_long: bool = False
    """whether it is prose, which wraps"""
    is_more: bool = False
    """whether a page hides it until all columns are asked for"""
    is_beside_paper: bool = False
    """whether it compares with the paper; a page omits it if the paper did not run these cells"""
    is_higher_better: bool | None = None
    """whether the best value is the highest or the lowest; None if no value is better than another"""


def more(*columns: Column) -> tuple[Column, ...]:
    """Return columns that a page hides until all columns are asked for."""
    return tuple(dataclasses.replace(column, is_more=True) for column in columns)


@dataclass(frozen=True)
class Cell:
    """One cell as readers see it."""

    text: str
    value: str
    """sort key; empty if absent"""
    is_number: bool


@dataclass(frozen=True)
class Block:
    """The rows of one setting."""

    setting: str
    """empty if the table has no settings"""
    frame: pd.DataFrame
    rows: list[list[Cell]]
    places: tuple[int, ...]
    """of the columns that a page shows here"""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table in any output format."""

    name: str
    """of its files"""
    title: str
    frame: pd.DataFrame
    """raw numbers: the content of the CSV file"""
    columns: tuple[Column, ...]
    meaning: str
    """what it shows and what it does not, in plain language"""
    notes: tuple[str, ...] = ()
    """methods of intervals and corrections, units, words"""
    shown: pd.DataFrame | None = None
    """rows of the frame that readers see; all if None"""
    sample: tuple[str, str] = ("n", "run")
    """column of the frame with the sample size of a row, and the noun of what it counts"""
    sizes: tuple[str, ...] = ()
    """columns with the sample sizes of a row whose numbers have one each, 0 for a number that is absent"""

    @property
    def heads(self) -> list[str]:
        """The heads of the columns."""
        return [column.head for column in self.columns]

    @property
    def num_more(self) -> int:
        """Number of columns that a page hides until they are asked for."""
        return sum(column.is_more for column in self.columns)

    @property
    def is_empty(self) -> bool:
        """Whether there is no row to show."""
        return len(self.frame if self.shown is None else self.shown) == 0

    def _make_block(self, setting: str, frame: pd.DataFrame) -> Block:
        rows = self._present(frame)
        places = (
            place
            for place, column in enumerate(self.columns)
            if not column.is_beside_paper or any(row[place].value for row in rows)
        )
        return Block(setting, frame, rows, tuple(places))

    def blocks(self) -> Iterator[Block]:
        """Yield the rows that readers see, one block for each setting."""
        shown = self.frame if self.shown is None else self.shown
        if "setting" not in shown:
            yield self._make_block("", shown)
        else:
            for setting, rows in shown.groupby("setting", sort=False, observed=True):
                yield self._make_block(str(setting), rows)

    def _present(self, frame: pd.DataFrame) -> list[list[Cell]]:
        rows: list[dict[str, Any]] = frame.to_dict("records")
        return [[_cell(column, row) for column in self.columns] for row in rows]


def _cell(column: Column, row: Row) -> Cell:
    value = column.value(row)
    if isinstance(value, str):
        return Cell(column.text(row), value, False)
    is_absent = value is None or pd.isna(value)
    return Cell(column.text(row), "" if is_absent else repr(float(value)), True)
