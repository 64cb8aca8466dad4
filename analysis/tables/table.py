"""What a table is: raw numbers for machines, text for people, and a sentence that says what it means."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

Row = Mapping[str, Any]  # Any: names and numbers


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column as people see it."""

    head: str
    text: Callable[[Row], str]
    value: Callable[[Row], Any]
    """what to sort by: a number, a text, or nan for what is absent"""
    is_row_head: bool = False
    """names the row, alone or with others"""
    is_long: bool = False
    """holds prose, which wraps"""
    is_more: bool = False
    """stands on a page only where all columns are asked for"""
    is_beside_paper: bool = False
    """compares with the paper, and so is left out of a page where the paper did not run these cells"""
    is_higher_better: bool | None = None
    """whether the best value is the highest or the lowest; None where none is better than another"""


def more(*columns: Column) -> tuple[Column, ...]:
    """Return columns that a page shows only where all are asked for."""
    return tuple(dataclasses.replace(column, is_more=True) for column in columns)


@dataclass(frozen=True)
class Cell:
    """One cell as people see it."""

    text: str
    value: str
    """what to sort by; empty where it is absent"""
    is_number: bool


@dataclass(frozen=True)
class Block:
    """The rows of one setting."""

    setting: str
    """empty where the table has no settings"""
    frame: pd.DataFrame
    rows: list[list[Cell]]
    places: tuple[int, ...]
    """of the columns that a page has here"""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table, whatever it is written as."""

    name: str
    """of its files"""
    title: str
    frame: pd.DataFrame
    """raw numbers: all that the CSV file holds"""
    columns: tuple[Column, ...]
    meaning: str
    """what it says and what it does not, in plain language"""
    notes: tuple[str, ...] = ()
    """methods of intervals and corrections, units, words"""
    shown: pd.DataFrame | None = None
    """rows of the frame that people see; all of them where None"""
    sample: tuple[str, str] = ("n", "run")
    """column of the frame that counts what a row rests on, and what it counts"""

    @property
    def heads(self) -> list[str]:
        """The heads of the columns."""
        return [column.head for column in self.columns]

    @property
    def num_more(self) -> int:
        """How many columns a page hides until they are asked for."""
        return sum(column.is_more for column in self.columns)

    @property
    def is_empty(self) -> bool:
        """Whether there is no row to see."""
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
        """Yield the rows that people see, one block for each setting."""
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
