"""What is worrying is found, and said in words."""

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from lt_rebalance.monitoring.concerns import advise_on, find_concerns, find_disk_concern
from tests.store.test_store import make_record

NAMES = ("cat", "dog", "owl")
Usage = namedtuple("Usage", "total used free")


def test_dead_classes_are_named() -> None:
    record = make_record(confusion=tuple(np.array([[0, 5, 0], [0, 5, 0], [2, 3, 0]]).tolist()))
    (concern,) = find_concerns(record, NAMES)
    assert concern.kind == "dead classes"
    assert concern.text == "has dead classes: no test image is recognised of cat, owl"


def test_class_whose_diversity_is_unknown_has_not_collapsed() -> None:
    record = make_record(kind="generator", confusion=(), quality_per_class={"diversity": [0.09, None, 0.1]})
    (concern,) = find_concerns(record, NAMES)
    assert (concern.kind, concern.text) == (
        "collapsed generator",
        "collapsed: it draws almost the same image for cat",
    )


def test_diverged_result_says_when() -> None:
    record = make_record(state="diverged", metrics={}, confusion=(), num_steps=7)
    assert [concern.kind for concern in find_concerns(record, NAMES)] == ["diverged"]
    assert "after 7 steps" in find_concerns(record, NAMES)[0].text


@pytest.mark.parametrize(
    ("total_gib", "free_gib", "is_concern"),
    [
        (100, 4.9, True),
        (100, 5.0, False),
        (10_000, 100, False),
        (10_000, 4, True),
        (1, 0.04, True),
        (1, 0.2, False),
    ],
)
def test_disk_is_nearly_full_when_little_is_left_of_it(
    total_gib: float, free_gib: float, is_concern: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = Usage(total_gib * 2**30, 0, free_gib * 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    concern = find_disk_concern(str(tmp_path))
    assert (concern is not None) == is_concern
    assert concern is None or f"{free_gib:.1f} of {total_gib} GiB free" in concern.text


@pytest.mark.parametrize(
    ("causes", "end"),
    [
        (["own file"], "then: python it"),
        (["own file", "code"], "to retry what failed: python it --retry-failed"),
        (["code"], "else it fails again; to retry what failed: python it --retry-failed"),
        (["infrastructure"], "to retry what failed: python it --retry-failed"),
    ],
)
def test_advice_ends_with_a_command_that_can_go_on(causes: list[str], end: str) -> None:
    """A fixed file is another file: its runs are new, and the runs of the old file would fail again."""
    advice = advise_on(causes, "python it")
    assert advise_on(causes, "python it", " --name ANOTHER") == advice.replace(
        "then: python it", "then: python it --name ANOTHER"
    )
    assert advice.endswith(end) and ("fix the file of your own" in advice) == ("own file" in causes)
