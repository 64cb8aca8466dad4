"""A metric is one entry of a dict: its verdicts, tables and events follow, of results from before it too."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lt_rebalance.ground.metrics import METRICS, is_better, is_higher_better, metric_names

ROOT = Path(__file__).parents[2]
ADD = """
import runpy, sys, types
from lt_rebalance.ground.metrics import METRICS, Metric

# Not the package of this name that a dependency may have installed.
sys.modules["tests"] = types.ModuleType("tests")
sys.modules["tests"].__path__ = ["tests"]
METRICS["error_rate"] = Metric(
    label="error rate",
    is_higher_better=False,
    of_confusion=lambda confusion: 1 - float(confusion.hits_K.sum() / confusion.num_images),
    low=0,
    high=1,
)
METRICS["sharpness"] = Metric(
    label="mean sharpness",
    is_higher_better=True,
    of_probabilities=lambda probabilities_NK, labels_N: float((probabilities_NK**2).sum(axis=1).mean()),
    low=0,
    high=1,
)
runpy.run_module("tests.analysis.new_metrics", run_name="__main__")
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process says in whose registry there are two more metrics."""
    folder = str(tmp_path_factory.mktemp("new"))
    command = [sys.executable, "-c", ADD, folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("when", ["new", "old"])
def test_verdicts_of_a_metric_where_less_is_better_point_the_right_way(
    found: dict[str, Any], when: str
) -> None:
    expected = {
        "undersample - none": "worse",
        "oversample - none": "better",
        "oversample - undersample": "better",
        "ablation": "worse",
    }
    assert found[when]["verdicts"] == {"accuracy": expected, "error_rate": expected}


@pytest.mark.parametrize("when", ["new", "old"])
def test_new_metric_is_in_every_table_also_of_results_from_before_it(
    found: dict[str, Any], when: str
) -> None:
    of = found[when]
    assert of["error_rate"] == of["of runs"] == pytest.approx(1 - of["accuracy"])
    assert of["shown"] == [f"error_rate: {of['error_rate']:.6g}"]
    assert of["estimates"] == 2 * 3  # subsets and cells
    assert "error rate: mean (95% t interval)" in of["further"]
    (falling,) = [line for line in of["further"].splitlines() if "Lower is better for" in line]
    assert "error rate" in falling and "sharpness" not in falling
    assert ("mean sharpness: mean" in of["further"]) == (when == "new")


@pytest.mark.parametrize("when", ["new", "old"])
def test_new_metric_is_in_tensorboard(found: dict[str, Any], when: str) -> None:
    tags = set(found[when]["tags"])
    assert "result/last_error_rate" in tags
    assert {name for name in tags if name.startswith("error rate in ")} == {
        "error rate in _hparams_/experiment",
        "error rate in custom_scalars__config__",
    }
    of_rounds = {"classifier/test_error_rate", "classifier/test_sharpness"}
    assert tags & of_rounds == (of_rounds if when == "new" else set())
    means = [tag for tag in tags if tag.startswith("means/") and tag.endswith("/test_error_rate")]
    assert len(means) == (when == "new")


def test_new_metrics_are_measured_in_every_round(found: dict[str, Any]) -> None:
    assert {"error_rate", "sharpness"} <= set(found["columns"])


def test_directions_are_those_of_the_registry() -> None:
    assert {name: is_higher_better(name) for name in METRICS} == {
        name: metric.is_higher_better for name, metric in METRICS.items()
    }
    assert sorted(metric_names()) == sorted(METRICS)
    assert is_higher_better("recall_tail")
    assert is_better("loss", 1, 2) and not is_better("loss", 2, 2) and is_better("accuracy", 2, 1)
    with pytest.raises(ValueError, match=r"unknown metric 'f2', .* known: accuracy"):
        is_higher_better("f2")
