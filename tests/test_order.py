"""The longest tests begin first, in every process of a run."""

import re
from pathlib import Path

from tests.conftest import LONGEST_FIRST, deal


def test_each_worker_begins_with_its_share_of_the_longest_tests() -> None:
    """Nine tests in two parts, of four and five."""
    first, second, third = LONGEST_FIRST[:3]
    names = ["a", "b", third, "c", "d", first, "e", first, second]
    # By place: 5 and 7 are the first, 8 the second, 2 the third.
    assert deal(names, 2) == [5, 8, 0, 1, 7, 2, 3, 4, 6]
    assert deal(names, 1) == [5, 7, 8, 2, 0, 1, 3, 4, 6]
    assert deal(["a", "b", "c"], 2) == [0, 1, 2] and deal([first], 4) == [0] and deal([], 2) == []


def test_names_of_the_longest_tests_are_those_of_tests() -> None:
    texts = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    assert set(LONGEST_FIRST) <= set(re.findall(r"^def (test_\w+)", texts, re.MULTILINE))
