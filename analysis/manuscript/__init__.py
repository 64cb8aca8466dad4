"""What a manuscript takes from a store: three tables, three figures, how their numbers were made, and a file
that includes all."""

from pathlib import Path

from analysis.collect import Results
from analysis.drawing import own_settings
from analysis.figures.style import Drawn, to_pdf
from analysis.manuscript.choice import Choice, choose
from analysis.manuscript.figures import draw_figures
from analysis.manuscript.numbers import describe_numbers
from analysis.manuscript.tables import make_tables
from analysis.tables import Frames, Table, to_csv, to_latex
from analysis.tables.latex import ONE_COLUMN, TWO_COLUMNS, escape

__all__ = ["FOLDER", "LAYOUTS", "Choice", "choose", "make_manuscript"]

FOLDER = "paper"
LAYOUTS = {"two": TWO_COLUMNS, "one": ONE_COLUMN}
_POINTS_PER_INCH = 72.27
_HEAD = r"""\documentclass[10pt%s]{article}
\usepackage[letterpaper,textwidth=%gpt,textheight=648pt%s]{geometry}
\usepackage[T1]{fontenc}
\usepackage{mathptmx}
\usepackage{graphicx}
\usepackage{booktabs,siunitx,tabularx}
\begin{document}
\section*{Tables and figures}
numbers.txt says how each number was made.
"""


@own_settings()
def make_manuscript(
    results: Results, frames: Frames, choice: Choice, columns: str, command: str
) -> dict[str, bytes]:
    """Return files by name: tables in LaTeX and CSV, figures in PDF, `numbers.txt` and `paper.tex`.

    Args:
        columns: of `LAYOUTS`. command: by which this is made.
    """
    layout = LAYOUTS[columns]
    column, text = (width / _POINTS_PER_INCH for width in (layout.column_pt, layout.text_pt))
    tables = make_tables(choice, frames.estimates, frames.contrasts, frames.collapse, frames.generators)
    figures = list(draw_figures(results, choice, column, text))
    files: dict[str, bytes] = {}
    for table in tables:
        files[f"{table.name}.tex"] = to_latex(table, layout).encode()
        files[f"{table.name}.csv"] = to_csv(table).encode()
    for drawn in figures:
        files[f"{drawn.name}.pdf"] = to_pdf(drawn)
    files["numbers.txt"] = describe_numbers(results, frames, choice, tables, figures, command).encode()
    files["paper.tex"] = _write_paper(tables, figures, columns).encode()
    return {str(Path(FOLDER) / name): content for name, content in files.items()}


def _write_paper(tables: list[Table], figures: list[Drawn], columns: str) -> str:
    """Return a document that includes every table and figure, and compiles."""
    layout = LAYOUTS[columns]
    is_two = columns == "two"
    parts = [_HEAD % (",twocolumn" if is_two else "", layout.text_pt, ",columnsep=19pt" if is_two else "")]
    parts += [rf"\input{{{table.name}}}" for table in tables]
    for drawn in figures:
        width = drawn.figure.get_size_inches()[0] * _POINTS_PER_INCH
        kind = "figure*" if is_two and width > layout.column_pt + 1 else "figure"
        parts.append(
            f"\\begin{{{kind}}}[tbp]\n\\centering\n\\includegraphics{{{drawn.name}}}\n"
            f"\\caption{{{escape(f'{drawn.title}. {drawn.caption}')}}}\n"
            f"\\label{{fig:{drawn.name}}}\n\\end{{{kind}}}"
        )
    return "\n".join([*parts, r"\end{document}"]) + "\n"
