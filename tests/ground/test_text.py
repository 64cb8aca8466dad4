"""Text from outside the program is shown as text at every place, whatever it contains."""

import io

import pandas as pd
import pytest
from rich.console import Console
from rich.table import Table

from lt_rebalance.ground.text import count, csv_cell, lines, one_line, rich, to_csv

HOSTILE = {
    "\x1b[31mred\x1b[0m": "\\x1b[31mred\\x1b[0m",
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "x\nplanned=9": "x\\nplanned=9",
    "x\rplanned=9": "x\\rplanned=9",
    "a\u202egpj.exe": "a\\u202egpj.exe",
    "a\u2028b": "a\\u2028b",
    "\x9b31m": "\\x9b31m",
    "\ud800": "\\ud800",
    "Zürich − 0.5 ± 0.1": "Zürich − 0.5 ± 0.1",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_line_of_a_terminal_holds_printable_characters_alone(text: str) -> None:
    assert one_line(text) == HOSTILE[text]
    assert one_line(ValueError(text)) == HOSTILE[text]
    assert one_line(text).isprintable()


@pytest.mark.parametrize(
    ("number", "noun", "plural", "said"),
    [
        (1, "run", "", "1 run"),
        (0, "run", "", "0 runs"),
        (6000, "image", "", "6,000 images"),
        (1, "class", "classes", "1 class"),
        (2, "class", "classes", "2 classes"),
    ],
)
def test_number_has_the_form_of_its_noun(number: int, noun: str, plural: str, said: str) -> None:
    assert count(number, noun, plural) == said


def test_several_lines_are_told_from_ours_by_their_indent() -> None:
    assert lines("a\n\tb\r\nplanned=9\rc\x1b[2J", indent="  ") == "  a\n      b\n  planned=9\n  c\\x1b[2J"


def test_markup_is_shown_and_not_obeyed() -> None:
    file = io.StringIO()
    table = Table(title=rich("[red]title[/red]"))
    table.add_column(rich("[b]head[/b]"))
    table.add_row(rich("[link=file:///etc]cell[/link]"))
    Console(file=file, width=80, force_terminal=True).print(table)
    for text in ("[red]title[/red]", "[b]head[/b]", "[link=file:///etc]cell[/link]"):
        assert text in file.getvalue()


@pytest.mark.parametrize("cell", ["=1+1", "+x", "-x", "@SUM(A1)", "\tx", "\rx", "\nx", "＝1", "－x", "-"])
def test_cell_that_begins_like_a_formula_gets_an_apostrophe(cell: str) -> None:
    assert csv_cell(cell) == "'" + one_line(cell)


@pytest.mark.parametrize("cell", [-1.5, 3, True, None, "-1.5", "+3e-7", "7/9", "none", "a=b", ""])
def test_numbers_and_plain_names_stay_as_they_are(cell: object) -> None:
    assert csv_cell(cell) == cell


def test_table_keeps_its_numbers_to_the_bit_and_is_read_again() -> None:
    frame = pd.DataFrame(
        {
            "=name": pd.Series(["=1+1", "x\nplanned=9", None], dtype=object),
            "kind": pd.Categorical(["@a", "b", "b"]),
            "value": [-0.1, 1 / 3, float("nan")],
            "count": [-1, 0, 7],
        }
    )
    again = pd.read_csv(io.StringIO(to_csv(frame)))
    assert list(again.columns) == ["'=name", "kind", "value", "count"]
    assert again["'=name"].tolist()[:2] == ["'=1+1", "x\\nplanned=9"] and pd.isna(again["'=name"][2])
    assert again["kind"].tolist() == ["'@a", "b", "b"]
    pd.testing.assert_frame_equal(again[["value", "count"]], frame[["value", "count"]])
    plain = pd.DataFrame({"name": ["a", "b"], "value": [0.1, 0.2]})
    assert to_csv(plain) == plain.to_csv(index=False)
