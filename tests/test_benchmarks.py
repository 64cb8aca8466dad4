"""The plain pipeline is the paper's, benchmarks measure in turn, and their commands work."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from benchmarks import lanes, methods, orchestration, order, status, tensorboard
from benchmarks.measure import alternate, median
from benchmarks.plain import (
    PlainClassifier,
    PlainDiscriminator,
    PlainGenerator,
    build_classifier,
    make_loader,
)


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_plain_networks_have_the_published_number_of_parameters() -> None:
    counts = [count_parameters(each) for each in (build_classifier(), PlainGenerator(), PlainDiscriminator())]
    assert counts == [454_042, 1_489_012, 1_470_565]


@pytest.mark.slow
def test_plain_classifier_trains_and_tests() -> None:
    """The classifier distinguishes black images of class 0 from white images of class 1 after some steps."""
    labels_N = np.arange(200) % 2
    images_NHW = np.repeat(np.repeat((255 * labels_N).astype(np.uint8)[:, None, None], 28, 1), 28, 2)
    loader = make_loader(images_NHW, labels_N, 20, shuffle=True)
    classifier = PlainClassifier(loader, loader)
    for _ in range(4):
        classifier.run_epoch()
    loss, accuracy, f1 = classifier.test()
    assert accuracy > 0.9 and f1 > 0.9 and 1.4 < loss < 2.4


def test_work_is_measured_in_turn() -> None:
    order: list[str] = []
    seconds = alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repetitions=3)
    assert order == ["a", "b"] * 3
    assert [len(each) for each in seconds.values()] == [3, 3]
    assert median([3.0, 1.0, 2.0]) == 2.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("main", "arguments", "num_rows"),
    [
        (lanes.main, ["--device", "cpu", "--lanes", "2", "--images", "256", "--kinds", "cgan"], 4),
        (methods.main, ["--methods", "focal", "mixup", "--steps", "1", "--repetitions", "1"], 2),
        (status.main, ["--records", "10"], 1),
        (tensorboard.main, ["--runs", "10"], 1),
        (orchestration.main, ["--bucket", "--records", "101"], 7),
        (order.main, ["--slots", "2"], 2),
    ],
    ids=["lanes", "methods", "status", "tensorboard", "bucket", "order"],
)
def test_benchmark_measures_at_its_smallest_size(
    main: Callable[[Sequence[str]], int], arguments: list[str], num_rows: int, tmp_path: Path
) -> None:
    answer = tmp_path / "answer.json"
    assert main([*arguments, "--repetitions", "1", "--json", str(answer)]) == 0
    rows = json.loads(answer.read_text(encoding="utf-8"))["rows"]
    assert len(rows) == num_rows
    assert all(any(isinstance(value, float) and value > 0 for value in row.values()) for row in rows)
