"""Write tables as CSV (raw numbers), plain text and Markdown (formatted)."""

import io
from collections.abc import Iterator

import pandas as pd
import rich.table
from rich.console import Console

from analysis.tables.table import Block, Cell, Table
from lt_rebalance.ground import text

_MARKDOWN = {character: f"\\{character}" for character in "\\`*_[]<>|#"} | {"\n": " "}


def to_csv(table: Table) -> str:
    """Return the raw numbers; values that are absent or cannot be estimated are empty.

    An empty table that does not know its columns has the heads of those that readers see.
    """
    frame = table.frame if len(table.frame.columns) else pd.DataFrame(columns=list(table.heads))
    return text.to_csv(frame)


def to_markdown(table: Table) -> str:
    """Return the table in Markdown, block by block, with its meaning and notes."""
    parts = [f"## {_escape(table.title, _MARKDOWN)}"]
    if not table.is_empty:
        for block in table.blocks():
            if block.setting:
                parts.append(f"**{_escape(block.setting, _MARKDOWN)}**")
            parts.append("\n".join(_markdown_lines(table, block)))
    parts += [_escape(text, _MARKDOWN) for text in (table.meaning, *table.notes)]
    return "\n\n".join(parts) + "\n"


def _markdown_lines(table: Table, block: Block) -> Iterator[str]:
    yield _markdown_line(table.heads)
    yield _markdown_line(["---"] * len(table.heads), escaped=False)
    for row in block.rows:
        yield _markdown_line([cell.text for cell in row])


def _markdown_line(texts: list[str], *, escaped: bool = True) -> str:
    return "| " + " | ".join(_escape(text, _MARKDOWN) if escaped else text for text in texts) + " |"


def to_text(table: Table, width: int) -> str:
    """Return the table as text of `width` characters per line."""
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, markup=False, emoji=False)
    for block in () if table.is_empty else table.blocks():
        title = f"{table.title} ({block.setting})" if block.setting else table.title
        shown = rich.table.Table(title=title, title_justify="left", show_lines=True)
        for index, head in enumerate(table.heads):
            shown.add_column(head, justify="right" if _is_numeric(block, index) else "left", overflow="fold")
        for row in block.rows:
            shown.add_row(*(cell.text for cell in row))
        console.print(shown)
    for sentence in (table.meaning, *table.notes):
        console.print(sentence)
    return file.getvalue()


def _is_numeric(block: Block, column: int) -> bool:
    cells: list[Cell] = [row[column] for row in block.rows]
    return all(cell.is_number for cell in cells)


def _escape(text: str, escapes: dict[str, str]) -> str:
    return "".join(escapes.get(character, character) for character in text)
