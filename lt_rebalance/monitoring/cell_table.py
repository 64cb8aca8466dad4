"""The table of cells on a terminal: grouped by protocol and data, with as many columns as fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from lt_rebalance.ground.imbalance import say_data
from lt_rebalance.ground.metrics import headline_metrics
from lt_rebalance.ground.text import one_line, rich

DEAD_CLASS = "dead class"
"""head of the column "2/12": complete runs in which a class is never predicted correctly, of all complete"""
_GAP = 2
_INDENT = 2
_WIDEST_NAME = 40
"""width of a method name for which columns are left out; longer names are folded"""
_NARROWEST_NAME = 8


def name_group(protocol: str, data: str, dataset: str | None = None) -> str:
    """Return the heading for cells of one protocol and data: "sound, C = 1/2"; with a data set if given."""
    parts = (protocol, dataset, say_data(data))
    return ", ".join(part for part in parts if part)


def tabled_metrics(*, is_test_balanced: bool) -> list[str]:
    """Return the metrics of a table, the leading one first; two loss functions are not comparable."""
    return [name for name in headline_metrics(is_test_balanced=is_test_balanced) if name != "loss"]


@dataclass(frozen=True, kw_only=True)
class CellRow:
    """A line of the table."""

    group: str
    method: str
    numbers: Mapping[str, str]
    """by column"""


@dataclass(frozen=True, kw_only=True)
class CellTable:
    """A table for rich; texts are shown literally.

    Columns that do not fit are left out, the least important first, and named below.
    """

    rows: Sequence[CellRow]
    columns: Sequence[str]
    """from left to right"""
    by_importance: Sequence[str]
    """the same columns; the first two always stay"""
    title: str | None = None
    notes: Sequence[str] = field(default=())
    """sentences below the table"""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table for this width."""
        shown = self._choose(options.max_width)
        notes = list(self.notes)
        if left_out := [name for name in self.columns if name not in shown]:
            notes.append(f"No room for: {', '.join(left_out)}.")
        table = Table(
            box=None,
            pad_edge=False,
            padding=(0, _GAP, 0, 0),
            title=rich(self.title) if self.title else None,
            title_justify="left",
            caption=Text("\n".join(notes)) if notes else None,
            caption_justify="left",
        )
        table.add_column("", overflow="fold", min_width=_NARROWEST_NAME)
        for name in shown:
            table.add_column(name, justify="right", no_wrap=True)
        for group in dict.fromkeys(row.group for row in self.rows):
            table.add_row(Text(one_line(group), style="bold"))
            for row in self.rows:
                if row.group == group:
                    method = Text(" " * _INDENT + one_line(row.method))
                    table.add_row(method, *(rich(row.numbers.get(column, "-")) for column in shown))
        yield table

    def _choose(self, width: int) -> list[str]:
        names = max((cell_len(row.method) for row in self.rows), default=0)
        left = width - _INDENT - min(names, _WIDEST_NAME)
        chosen: set[str] = set()
        for place, column in enumerate(self.by_importance):
            texts = (column, *(row.numbers.get(column, "-") for row in self.rows))
            left -= _GAP + max(map(cell_len, texts))
            if left < 0 and place > 1:
                break
            chosen.add(column)
        return [column for column in self.columns if column in chosen]
