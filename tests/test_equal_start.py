"""Checks that no test depends on random numbers that tests before it have drawn."""

import random

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
