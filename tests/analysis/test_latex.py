"""Tables in LaTeX: what is marked, what wraps, what a caption says, and that pdflatex sets them."""

import dataclasses
import re
from pathlib import Path

import pandas as pd
import pytest

from analysis.collect import read_results
from analysis.report import write_report
from analysis.tables import Table, build_tables, compute_frames, to_latex
from analysis.tables.formats import (
    DATA_COLUMN,
    METHOD_COLUMN,
    decimals,
    estimate_column,
    number_column,
    p_value,
    points,
    rate_column,
    share,
    text_column,
    whole,
)
from analysis.tables.table import Column, more
from tests.analysis.latex import compile_tables, count_pages
from tests.analysis.synthetic import Truth, make_store, plan_study

GOLDEN = Path(__file__).parents[1] / "golden" / "store"
HOSTILE = '\\&%$#_{}~^<>|"é−–“”×√\n中\x07'
NAN = float("nan")


def make_table(*columns: Column, **values: list[object]) -> Table:
    """Return a table of C = 1/2 with methods a, b, c and so on, and columns of these values."""
    (num_rows,) = {len(each) for each in values.values()}
    frame = pd.DataFrame({"data": "1/2", "method": [*"abcdefgh"][:num_rows], **values})
    return Table(
        name="t9-made",
        title="T9. Made up",
        frame=frame,
        columns=(DATA_COLUMN, METHOD_COLUMN, *columns),
        meaning="It means.",
        notes=("A note.",),
    )


def rows_of(table: Table) -> list[list[str]]:
    """Return the cells of all rows below the heads, as LaTeX has them."""
    body = to_latex(table).partition("\\midrule\n")[2].partition("\\bottomrule")[0]
    return [line.removesuffix(r" \\").split(" & ") for line in body.splitlines() if line != r"\addlinespace"]


def marks_of(values: list[object], *, is_higher_better: bool) -> list[str]:
    """Return "best", "second" or "" for each value of a column."""
    column = number_column("x", "x", share, is_higher_better=is_higher_better)
    cells = [row[2] for row in rows_of(make_table(column, x=values))]
    return ["best" if "bfseries" in cell else "second" if "runnerup" in cell else "" for cell in cells]


# What is marked


def test_best_is_bold_and_second_underlined_by_the_direction_of_the_metric() -> None:
    values: list[object] = [0.5, 0.9, 0.7, 0.1]
    assert marks_of(values, is_higher_better=True) == ["", "best", "second", ""]
    assert marks_of(values, is_higher_better=False) == ["second", "", "", "best"]


def test_values_that_look_alike_are_marked_alike() -> None:
    assert marks_of([0.9001, 0.9002, 0.5, 0.4], is_higher_better=True) == ["best", "best", "", ""]
    assert marks_of([0.9, 0.7001, 0.7002, 0.4], is_higher_better=True) == ["best", "second", "second", ""]


def test_rates_are_compared_and_not_their_numerators() -> None:
    """1 of 2 is worse than 1 of 10, and as bad as 5 of 10."""
    counts = [(1, 10), (1, 2), (5, 10), (6, 10)]
    column = rate_column("rate", "k", "n", "low", "high", is_higher_better=False)
    k, n = zip(*counts, strict=True)
    marked = rows_of(make_table(column, k=[*k], n=[*n], low=[0.0] * 4, high=[1.0] * 4))
    assert ["bfseries" in row[2] for row in marked] == [True, False, False, False]
    assert ["runnerup" in row[2] for row in marked] == [False, True, True, False]


def test_counts_of_runs_are_compared_as_rates_and_none_of_none_is_not_the_best() -> None:
    counts = ["1 of 2", "2 of 10", "3 of 10", "0 of 0", "5 of 10"]
    column = Column(
        head="x",
        text=lambda row: row["x"],
        value=lambda row: int(row["x"].partition(" ")[0]),
        is_higher_better=False,
    )
    rows = rows_of(make_table(column, x=[*counts]))
    assert ["bfseries" in row[2] for row in rows] == [False, True, False, False, False]
    assert ["runnerup" in row[2] for row in rows] == [False, False, True, False, False]


@pytest.mark.slow
def test_names_that_begin_as_options_of_latex_are_set(tmp_path: Path) -> None:
    table = make_table(number_column("x", "x", share), x=[0.5, 0.6, 0.7])
    named = table.frame.assign(method=["[own] a", "*b", "\u4e2d"])
    without_data = dataclasses.replace(table, frame=named, columns=table.columns[1:])
    compile_tables([to_latex(without_data)], tmp_path)


def test_nothing_is_marked_where_most_are_alike_nor_a_second_of_two() -> None:
    assert marks_of([0.0, 0.0, 0.0, 0.4], is_higher_better=False) == [""] * 4
    assert marks_of([0.5, 0.5], is_higher_better=True) == ["", ""]
    assert marks_of([0.5, 0.6], is_higher_better=True) == ["", "best"]
    assert marks_of([0.5, NAN], is_higher_better=True) == ["", ""]


def test_marks_are_those_of_each_training_set() -> None:
    column = number_column("x", "x", share, is_higher_better=True)
    table = make_table(column, x=[0.1, 0.2, 0.8, 0.9])
    table.frame["data"] = ["7/9", "7/9", "1/2", "1/2"]
    assert rows_of(table) == [
        ["7/9", "a", "0.100"],
        ["", "b", r"\bfseries 0.200"],
        ["1/2", "c", "0.800"],
        ["", "d", r"\bfseries 0.900"],
    ]


def test_columns_without_a_direction_have_no_marks_and_the_caption_names_none() -> None:
    text = to_latex(make_table(number_column("x", "x", share), x=[0.1, 0.2, 0.3]))
    assert "bfseries" not in text and "Bold" not in text
    marked = to_latex(make_table(number_column("x", "x", share, is_higher_better=True), x=[0.1, 0.2, 0.3]))
    assert "Bold: the best of each training set; underlined: the second; this is not a test." in marked


# Numbers


def test_numbers_are_siunitx_columns_with_their_intervals_behind_them() -> None:
    column = estimate_column("gain (95% t interval)", "x", "low", "high", points, is_higher_better=True)
    table = make_table(column, x=[0.1, -0.02, NAN], low=[0.05, NAN, NAN], high=[0.15, NAN, NAN])
    assert [row[2] for row in rows_of(table)] == [
        r"\bfseries +10.00 {\mdseries{}~[+5.00,~+15.00]}",
        "-2.00 {~[--]}",
        "{not~estimable}",
    ]
    text = to_latex(table)
    assert r"S[table-format=+2.2, table-space-text-post={\mdseries{}~[+5.00,~+15.00]}]" in text
    assert "& {gain} " in text and r"In brackets: 95\% t interval." in text


def test_caption_tells_the_interval_of_each_column_where_they_differ() -> None:
    columns = (
        estimate_column("gain (95% t interval)", "x", "x", "x", share),
        estimate_column("rate (90% bootstrap interval)", "x", "x", "x", share),
    )
    assert r"In brackets: of gain, 95\% t interval; of rate, 90\% bootstrap interval." in to_latex(
        make_table(*columns, x=[0.5])
    )


@pytest.mark.parametrize(
    ("numbers", "said"),
    [([3, 3], "n = 3 runs per row."), ([8, 10], "n = 8 to 10 runs per row."), ([1], "n = 1 run per row.")],
)
def test_caption_says_n(numbers: list[object], said: str) -> None:
    assert said in to_latex(make_table(n=numbers))


def test_relations_are_no_numbers_for_siunitx() -> None:
    table = make_table(
        number_column("p", "p", p_value), number_column("k", "k", whole), p=[0.0001], k=[12345]
    )
    assert rows_of(table) == [["1/2", "a", "{$<$~0.001}", "12345"]]


# Columns, width and length


def test_columns_that_a_page_hides_are_in_the_csv_alone() -> None:
    text = to_latex(make_table(*more(number_column("hidden", "x", share)), x=[0.5]))
    assert "hidden" not in text and "t9-made.csv has all columns" in text


def test_no_more_than_six_columns() -> None:
    columns = [number_column(f"c{index}", "x", share) for index in range(8)]
    text = to_latex(make_table(*columns, x=[0.5]))
    assert [len(row) for row in rows_of(make_table(*columns, x=[0.5]))] == [6] and "c4" not in text


def test_table_that_fits_a_column_takes_one_and_a_wider_one_both() -> None:
    narrow, wide = (
        make_table(*(estimate_column(f"c{index}", "x", "x", "x", share) for index in range(number)), x=[0.5])
        for number in (1, 3)
    )
    assert r"\begin{table}[tbp]" in to_latex(narrow) and r"\begin{table*}[tbp]" in to_latex(wide)


def test_rows_that_need_two_pages_are_two_tables_and_name_their_training_set_again() -> None:
    table = make_table(number_column("x", "x", share), x=[0.5])
    frame = pd.DataFrame({"data": "1/2", "method": [f"m{index}" for index in range(80)], "x": 0.5})
    text = to_latex(Table(**{**vars(table), "frame": frame}))
    assert text.count(r"\begin{table}") == 2 and text.count("\n1/2 & ") == 2
    assert "Part 2 of 2" in text and text.count("A note.") == 1
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert labels == ["tab:t9-made-1-1", "tab:t9-made-1-2"]


def test_latex_escapes_every_special_character() -> None:
    text = to_latex(make_table(text_column(HOSTILE, "x"), x=[HOSTILE]))
    escaped = (
        r"\textbackslash{}\&\%\$\#\_\{\}\textasciitilde{}\textasciicircum{}$<$$>$\textbar{}''é$-$--``''"
        r"$\times$$\surd$ [U+4E2D][U+0007]"
    )
    assert text.count(escaped) == 2  # head and cell
    assert text.count("{") == text.count("}")


def test_an_empty_table_is_a_comment() -> None:
    table = make_table(number_column("x", "x", share), x=[0.5])
    empty = Table(**{**vars(table), "frame": table.frame.iloc[:0], "meaning": "Nothing\nto see."})
    assert to_latex(empty) == "% T9. Made up: Nothing to see.\n"


# pdflatex


@pytest.mark.slow
def test_hostile_names_and_long_words_compile(tmp_path: Path) -> None:
    word = "w" * 200
    table = make_table(
        text_column(HOSTILE, "x", is_long=True),
        text_column("a word", "word", is_long=True),
        number_column("y", "y", lambda value: decimals(value, 1), is_higher_better=True),
        x=[HOSTILE, f"{word} {HOSTILE}", "_" * 80],
        word=[word, "short", ""],
        y=[1.5, -2.5, 12345.0],
    )
    table.frame["method"] = [HOSTILE, "a_very_long_name_of_a_method_of_my_own, with options=3", word]
    assert count_pages(compile_tables([to_latex(table)], tmp_path)) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_every_table_of_the_golden_report_compiles(tmp_path: Path) -> None:
    report = write_report(read_results(str(GOLDEN)), tmp_path / "report").parent
    texts = [path.read_text(encoding="utf-8") for path in sorted((report / "tables").glob("*.tex"))]
    assert len(texts) > 15 and all(text.startswith("%") for text in texts)
    # Every table begins a page of its own, and the empty ones none.
    assert count_pages(compile_tables(texts, tmp_path)) >= sum("\\toprule" in text for text in texts)


@pytest.mark.slow
def test_every_table_of_two_protocols_compiles(tmp_path: Path) -> None:
    plan = plan_study(protocols=("paper", "sound"))
    truth = Truth(collapse_rate=lambda run: 0.5 * (run.cell.method_label == "none"))
    results = read_results(make_store(tmp_path / "store", plan, truth).location)
    texts = [to_latex(table) for table in build_tables(results, compute_frames(results)).values()]
    heads = re.findall(r"\\toprule\n(.*) \\\\\n\\midrule", "\n".join(texts))
    assert len(heads) > 30 and max(head.count(" & ") for head in heads) == 5
    compile_tables(texts, tmp_path)
