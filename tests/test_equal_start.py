"""Checks that no test depends on random numbers that tests before it have drawn."""

import ast
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fixtures import START


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002


@pytest.mark.parametrize("turn", ["first", "second"])
def test_every_test_draws_the_same_numbers(turn: str) -> None:
    drawn = draw()
    random.seed(START)
    np.random.seed(START)  # noqa: NPY002
    torch.manual_seed(START)
    assert drawn == draw()
    draw()


STREAMS = ("default_rng", "Generator", "Random", "RandomState", "manual_seed")
"""what makes a stream of random numbers of its own"""


def list_shared_streams(code: str) -> list[str]:
    """Return the names in a module that are bound to a stream, which all of its tests would share."""
    found = []
    for statement in ast.parse(code).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(
            made := statement.value, ast.Call
        ):
            maker = made.func.attr if isinstance(made.func, ast.Attribute) else ast.unparse(made.func)
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            found += [ast.unparse(target) for target in targets if maker in STREAMS]
    return found


def test_no_module_has_a_stream_that_its_tests_share() -> None:
    shared = "A = np.random.default_rng(0)\nB: int = torch.Generator().manual_seed(1)\nC = random.Random(2)"
    assert list_shared_streams(shared) == ["A", "B", "C"]
    assert (
        list_shared_streams("A = np.random.default_rng(0).random(3)\ndef f():\n    b = random.Random()") == []
    )
    paths = Path(__file__).parent.rglob("*.py")
    found = {str(path): names for path in paths if (names := list_shared_streams(path.read_text("utf-8")))}
    assert found == {}
