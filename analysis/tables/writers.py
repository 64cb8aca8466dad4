"""Write tables as CSV (raw numbers), plain text, Markdown and LaTeX (as people read them)."""

import io
from collections.abc import Iterator

import rich.table
from rich.console import Console

from analysis.tables.table import Block, Cell, Table
from lt_rebalance.ground import text

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "√": r"$\surd$",
}
_MARKDOWN = {character: f"\\{character}" for character in "\\`*_[]<>|#"} | {"\n": " "}


def to_csv(table: Table) -> str:
    """Return the raw numbers; what is absent or cannot be estimated is empty."""
    return text.to_csv(table.frame)


def to_markdown(table: Table) -> str:
    """Return the table in Markdown, one block after the other, with its meaning and notes."""
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
    """Return the table for a terminal of so many characters a line."""
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


def to_latex(table: Table) -> str:
    """Return a LaTeX table for each block, for booktabs; the caption holds title, setting and meaning."""
    if table.is_empty:
        return f"% {table.title}: {table.meaning}\n"
    blocks = list(table.blocks())
    return "\n".join(_latex_table(table, block, number) for number, block in enumerate(blocks, start=1))


def _latex_table(table: Table, block: Block, number: int) -> str:
    caption = ". ".join(text.rstrip(".") for text in (table.title, block.setting, table.meaning) if text)
    aligned = "".join("r" if _is_numeric(block, index) else "l" for index in range(len(table.columns)))
    notes = [rf"\par\footnotesize {_escape(note, _LATEX)}" for note in table.notes]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{_escape(caption, _LATEX)}.}}",
        rf"\label{{tab:{table.name}-{number}}}",
        rf"\begin{{tabular}}{{{aligned}}}",
        r"\toprule",
        _latex_line(table.heads),
        r"\midrule",
        *(_latex_line([cell.text for cell in row]) for row in block.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *notes,
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _is_numeric(block: Block, column: int) -> bool:
    cells: list[Cell] = [row[column] for row in block.rows]
    return all(cell.is_number for cell in cells)


def _latex_line(texts: list[str]) -> str:
    return " & ".join(_escape(text, _LATEX) for text in texts) + r" \\"


def _escape(text: str, escapes: dict[str, str]) -> str:
    return "".join(escapes.get(character, character) for character in text)
