"""The table of cells at every width: numbers are whole, what matters most stays, what goes is named."""

import io
import re

import pytest
from rich.console import Console

from lt_rebalance.monitoring.cell_table import CellRow, CellTable, name_group

NUMBERS = {"n": "3/3", "accuracy": "0.471 ± 0.017", "paper": "0.476", "macro F1": "0.365 ± 0.020"}


def show(width: int, *methods: str) -> list[str]:
    rows = [CellRow(group="sound, C = 1/2", method=method, numbers=NUMBERS) for method in methods]
    columns = ["n", "accuracy", "paper", "macro F1", "collapsed"]
    table = CellTable(
        rows=rows, columns=columns, by_importance=["n", "accuracy", "collapsed", "paper", "macro F1"]
    )
    screen = io.StringIO()
    Console(file=screen, width=width).print(table)
    return [line.rstrip() for line in screen.getvalue().splitlines()]


def test_wide_table_has_all_columns_in_their_order() -> None:
    head, group, row = show(75, "small_mlp_cgan_leaky")
    assert re.split(" {2,}", head.strip()) == ["n", "accuracy", "paper", "macro F1", "collapsed"]
    assert group == "sound, C = 1/2"
    assert re.split(" {2,}", row.strip()) == ["small_mlp_cgan_leaky", *NUMBERS.values(), "-"]


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (74, "macro F1"),  # 22 of the name and, each with 2 between, 3, 13, 9, 5 and 13
        (60, "macro F1"),
        (59, "paper, macro F1"),
        (52, "paper, macro F1, collapsed"),
        (30, "paper, macro F1, collapsed"),
    ],
)
def test_narrow_table_leaves_out_the_least_important_and_says_so(width: int, left_out: str) -> None:
    lines = show(width, "small_mlp_cgan_leaky", "none")
    assert max(map(len, lines)) <= width
    assert "0.471 ± 0.017" in "".join(lines)
    said = " ".join(" ".join(lines).split())
    assert f"No room for: {left_out}." in said


def test_name_that_is_too_long_is_folded_and_whole() -> None:
    name = "class_balanced_sampling:deferred=0.8,of_a_long_name=0.123456789"
    lines = show(60, name)
    assert name in "".join(line[:40].split("  3/3")[0].strip() for line in lines)
    assert "0.471 ± 0.017" in "".join(lines)


def test_rows_stand_under_their_group_in_the_order_of_their_first_row() -> None:
    rows = [
        CellRow(group=name_group("sound", data), method=method, numbers={})
        for data, method in (("1/2", "a"), ("7/9", "b"), ("1/2", "c"))
    ]
    screen = io.StringIO()
    Console(file=screen, width=60).print(CellTable(rows=rows, columns=["n"], by_importance=["n"]))
    first = [line.split("  -")[0].strip() for line in screen.getvalue().splitlines()[1:]]
    assert [each.replace("-", "").strip() for each in first] == [
        *("sound, C = 1/2", "a", "c"),
        *("sound, C = 7/9", "b"),
    ]


@pytest.mark.parametrize(
    ("named", "heading"),
    [
        (("paper", "7/9"), "paper, C = 7/9"),
        (("sound", "exp 100", "cifar10"), "sound, cifar10, exp 100"),
        (("sound", "original"), "sound, the original set"),
    ],
)
def test_heading_says_the_data_as_a_sentence_does(named: tuple[str, ...], heading: str) -> None:
    assert name_group(*named) == heading
