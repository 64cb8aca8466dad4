"""The plain pipeline is the paper's, benchmarks measure in turn, and their commands work."""

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from benchmarks import (
    bucket_scan,
    chaos,
    images,
    lanes,
    lean,
    methods,
    orchestration,
    order,
    precision,
    report,
    startup,
    status,
    tensorboard,
    wide,
)
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


@pytest.mark.parametrize("fails", [False, True])
def test_chaos_leaves_neither_its_directory_nor_its_variable(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def run(*_: object) -> chaos.Account:
        used.append(Path(os.environ["RAY_TMPDIR"]))
        assert used[0].is_dir()
        if fails:
            raise KeyboardInterrupt
        return chaos.Account()

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(chaos, "run_chaos", run)
    with pytest.raises(KeyboardInterrupt) if fails else contextlib.nullcontext():
        assert chaos.main(["--kills", "0"]) == 0
    assert os.environ["RAY_TMPDIR"] == str(tmp_path) and not used[0].exists()


def test_bucket_of_a_benchmark_is_the_only_one_and_only_while_it_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "the user's")
    before = dict(os.environ)
    with bucket_scan._serve(tmp_path, 0.0):
        assert os.environ["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
        assert "AWS_PROFILE" not in os.environ
    assert dict(os.environ) == before


SMALLEST: list[tuple[Callable[[Sequence[str]], int], list[str], int]] = [
    (lanes.main, ["--device", "cpu", "--lanes", "2", "--images", "256", "--kinds", "cgan"], 4),
    (methods.main, ["--methods", "focal", "mixup", "--steps", "1", "--repetitions", "1"], 2),
    (status.main, ["--records", "10"], 1),
    (tensorboard.main, ["--runs", "10"], 1),
    (orchestration.main, ["--bucket", "--records", "101"], 7),
    (order.main, ["--slots", "2"], 2),
    (wide.main, ["--classes", "10"], 1),
    (images.main, ["--images", "100"], 2),
    (lean.main, ["--kinds", "classifier", "--images", "100"], 1),
    (report.main, ["--classes", "3"], 1),
    (startup.main, [], 10),
    (precision.main, ["--seeds", "2", "--steps", "2"], 1),
]
"""of benchmarks that take seconds there: the rest of its command, and the number of rows that it writes"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("main", "arguments", "num_rows"), SMALLEST, ids=[main.__module__ for main, _, _ in SMALLEST]
)
def test_benchmark_measures_at_its_smallest_size(
    main: Callable[[Sequence[str]], int], arguments: list[str], num_rows: int, tmp_path: Path
) -> None:
    answer = tmp_path / "answer.json"
    assert main([*arguments, "--repetitions", "1", "--json", str(answer)]) == 0
    rows = json.loads(answer.read_text(encoding="utf-8"))["rows"]
    assert len(rows) == num_rows
    assert all(any(isinstance(value, float) and value > 0 for value in row.values()) for row in rows)
