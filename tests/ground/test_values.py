"""JSON is read strictly, in a time that its length explains."""

import json
import time

import pytest

from lt_rebalance.ground.values import parse_json


def test_name_that_comes_twice_is_found_quickly_among_many() -> None:
    pairs = ", ".join(f'"{number}": 0' for number in [*range(30_000), 29_999])
    started = time.monotonic()
    with pytest.raises(ValueError, match="an object that has '29999' more than once"):
        parse_json(f"{{{pairs}}}")
    assert time.monotonic() - started < 2.0
    assert len(parse_json(json.dumps(dict.fromkeys(map(str, range(100)))))) == 100
