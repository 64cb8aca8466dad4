"""The plain pipeline is the paper's, and benchmarks measure in turn."""

import numpy as np
from torch import nn

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


def test_plain_classifier_trains_and_tests() -> None:
    """Black images of class 0 and white ones of class 1 are told apart after some steps."""
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
