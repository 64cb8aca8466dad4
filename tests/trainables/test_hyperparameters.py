"""Flat hyperparameters: the stages that they make, and trials of them as Tune drives them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import Store, open_store
from lt_rebalance.studies.stage import RESULTS_VERSION, ClassifierStage, GeneratorStage, ValidationStage
from lt_rebalance.trainables.hyperparameters import (
    CLASSIFIER_DEFAULTS,
    GENERATOR_DEFAULTS,
    PLACES,
    build_classifier_stage,
    build_generator_stage,
)
from lt_rebalance.trainables.trainables import CGANTrainable, CNNTrainable
from lt_rebalance.training.configs import Budget
from tests.tiny import TINY

ROOT = Path(__file__).parents[2]
SMALL = {"dataset": TINY, "device": "cpu", "precision": "float32", "steps": 4, "batch_size": 8}

pytestmark = pytest.mark.usefixtures("one_thread")


def open_at(directory: Path) -> Store:
    store = open_store(str(directory), RESULTS_VERSION, create=True)
    assert store is not None
    return store


def run_out(trainable: CNNTrainable | CGANTrainable) -> list[dict[str, Any]]:
    results = [trainable.train()]
    while not results[-1]["done"]:
        results.append(trainable.train())
    return results


def test_names_reach_the_fields_that_they_name() -> None:
    values = {
        "dataset": "fashion_mnist_mini",
        "c": "exp 100",
        "method": "ldam:max_margin=0.3",
        "learning_rate": np.float64(0.002),  # as Tune draws them
        "steps": np.int64(700),
        "seed": np.int64(3),
        "measured_on": "test",
        "device": "cpu",
    }
    stage = build_classifier_stage(values)
    assert type(stage) is ClassifierStage
    assert (stage.seed, stage.data.label, stage.method.label) == (3, "exp 100", "ldam:max_margin=0.3")
    assert (stage.classifier.learning_rate, stage.classifier.budget) == (0.002, Budget(steps=700, rounds=7))
    assert stage.classifier.architecture == "paper_cnn"


def test_validation_images_are_set_aside_unless_the_test_is_asked_for() -> None:
    stage = build_classifier_stage({"dataset": "fashion_mnist_mini", "device": "cpu"})
    smallest = min(get_dataset_spec("fashion_mnist_mini").train_counts_K)
    assert type(stage) is ValidationStage
    assert stage.data.validation_per_class == smallest // 12
    given = build_classifier_stage({"dataset": TINY, "device": "cpu", "validation_per_class": 2})
    assert isinstance(given, ValidationStage) and given.data.validation_per_class == 2


def test_generator_of_a_classifier_is_reached_by_its_prefix() -> None:
    values = SMALL | {"method": "cgan", "generator": "mlp_cgan_relu", "fill_fraction": 0.5}
    stage = build_classifier_stage(values | {"generator_learning_rate": 0.01, "generator_steps": 5})
    assert isinstance(stage, ClassifierStage) and stage.generator_stage is not None
    assert stage.method.fill_fraction == 0.5
    assert stage.generator_stage.generator.learning_rate == 0.01
    assert stage.generator_stage.generator.budget == Budget(steps=5, rounds=1)
    alone = build_generator_stage(SMALL | {"learning_rate": 0.01, "generator": "dccgan_leaky"})
    assert isinstance(alone, GeneratorStage)
    assert (alone.generator.architecture, alone.generator.learning_rate) == ("dccgan_leaky", 0.01)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rat": 0.1}, "unknown hyperparameter 'learning_rat'; known: .*learning_rate"),
        ({"learning_rate": -1.0}, "learning_rate must be above 0, got -1"),
        ({"method": "no_such"}, "unknown method 'no_such'"),
        ({"method": "cgan"}, "method 'cgan' needs a generator"),
        ({"generator": "mlp_cgan_rleu"}, "unknown generator 'mlp_cgan_rleu'"),
        ({"method": "ldam_drw:deferred=0.99"}, "deferred"),
        ({"measured_on": "train"}, "unknown measured_on 'train'; known: validation, test"),
        ({"steps": 3, "epochs": 3}, "a budget is in epochs or in steps"),
        ({"validation_per_class": 0}, "a validation stage needs validation_per_class above 0"),
        ({"c": "3"}, "C must"),
        ({"c": 3}, "c must be a number from 0 to 1, got 3"),
        ({"seed": 1.0}, "seed must be a whole number .* got 1.0"),
        ({"seed": None}, "seed must be a whole number .* got None"),
        ({"method": None}, "method must be a text, got None"),
        ({"dataset": 5}, "dataset must be a text, got 5"),
        ({"generator": 5}, "generator must be a text, got 5"),
        ({"threads": 1.5}, "threads must be a whole number .* got 1.5"),
        ({"validation_per_class": 2.5}, "validation_per_class must be a whole number .* got 2.5"),
        ({"storage": 5}, "storage must be a path or a URL, got 5"),
        ({"grey": 1}, "grey must be true or false, got 1"),
        (
            {"image_size": 32, "grey": True},
            f"only images of your own take image_size, grey, got dataset '{TINY}'; leave out ",
        ),
        ({"image_size": 32, "dataset": "picturs"}, "unknown data set 'picturs', and nothing is at that path"),
        ({"augmentation": "crop+flip", "dataset": "mnist"}, "mnist does not allow flip"),
        ({"method": "augmentation:flip=true", "dataset": "mnist"}, "mnist does not allow flip"),
    ],
)
def test_wrong_values_are_refused_with_the_rule(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build_classifier_stage(SMALL | {"steps": 4} | changes)


@pytest.mark.parametrize("name", sorted(CLASSIFIER_DEFAULTS.keys() | GENERATOR_DEFAULTS.keys() | set(PLACES)))
def test_every_name_refuses_a_value_of_another_type(name: str) -> None:
    for build, defaults in (
        (build_classifier_stage, CLASSIFIER_DEFAULTS),
        (build_generator_stage, GENERATOR_DEFAULTS),
    ):
        if name in defaults or name in PLACES:
            with pytest.raises(ValueError, match=f"^{name} must be "):
                build({"dataset": TINY, "device": "cpu", name: ["a"]})


@pytest.mark.parametrize("name", ["measured_on", "fill_fraction"])
def test_generator_refuses_what_only_a_classifier_has(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown hyperparameter '{name}'"):
        build_generator_stage(SMALL | {name: CLASSIFIER_DEFAULTS[name]})


def test_one_space_holds_methods_with_and_without_made_images() -> None:
    space = SMALL | {"generator": "mlp_cgan_relu", "generator_learning_rate": 0.01, "fill_fraction": 0.5}
    of_none, of_cgan = (build_classifier_stage(space | {"method": each}) for each in ("none", "cgan"))
    assert of_none.key == build_classifier_stage(SMALL).key and of_none.upstreams == ()
    assert of_cgan.training_method.fill_fraction == 0.5 and len(of_cgan.upstreams) == 1


@pytest.mark.parametrize(("given", "expected"), [({}, 0.5), ({"fill_fraction": 1.0}, 1.0)])
def test_share_that_is_given_replaces_that_of_the_method(given: dict[str, float], expected: float) -> None:
    stage = build_classifier_stage(SMALL | {"method": "smote:fill_fraction=0.5"} | given)
    assert stage.training_method.fill_fraction == expected


def test_generator_sets_images_aside_if_it_is_told_to() -> None:
    for given, expected in (({}, 0), ({"validation_per_class": 2}, 2)):
        assert build_generator_stage(SMALL | given).data.validation_per_class == expected


def test_ratio_may_be_a_number() -> None:
    as_number, as_text = (build_classifier_stage(SMALL | {"c": c}) for c in (0.5, "0.5"))
    assert as_number == as_text and as_number.data.c is not None


def test_trial_refuses_the_checkpoint_of_another(tmp_path: Path) -> None:
    """As population-based training would hand it on: no stage trains so, and its record would be false."""
    values = SMALL | {"steps": 200, "measured_on": "test", "storage": str(tmp_path / "store")}
    donor = CNNTrainable(values | {"learning_rate": 0.01})
    donor.train()
    (tmp_path / "checkpoint").mkdir()
    donor.save_checkpoint(str(tmp_path / "checkpoint"))
    taker = CNNTrainable(values | {"learning_rate": 0.001})
    taker.load_checkpoint(str(tmp_path / "checkpoint"))
    with pytest.raises(RuntimeError, match="resumes from its own checkpoint, got one of stage"):
        taker.train()
    again = CNNTrainable(values | {"learning_rate": 0.01})
    again.load_checkpoint(str(tmp_path / "checkpoint"))
    assert [result["round"] for result in run_out(again)] == [2]
    stage = build_classifier_stage(values | {"learning_rate": 0.001})
    assert open_at(tmp_path / "store").load_record(stage.key) is None


@pytest.mark.slow
def test_trial_trains_what_the_stage_is_and_what_it_builds_on(tmp_path: Path) -> None:
    values = SMALL | {"method": "cgan", "generator": "mlp_cgan_relu", "generator_steps": 3}
    values |= {"generator_batch_size": 8, "measured_on": "test"}
    results = run_out(CNNTrainable(values | {"storage": str(tmp_path / "store")}))
    stage = build_classifier_stage(values)
    assert isinstance(stage, ClassifierStage) and stage.generator_stage is not None
    store, plain = open_at(tmp_path / "store"), open_at(tmp_path / "plain")
    run_stage(stage.generator_stage, plain)
    found = store.load_record(stage.key)
    assert found is not None
    assert found.deterministic() == run_stage(stage, plain).deterministic()
    assert results[-1]["test_accuracy"] == found.metrics["accuracy"]
    again = run_out(CNNTrainable(values | {"storage": str(tmp_path / "store")}))
    assert [each["test_accuracy"] for each in again] == [found.metrics["accuracy"]]


@pytest.mark.slow
def test_trial_reports_validation_each_round_and_never_the_test(tmp_path: Path) -> None:
    values = SMALL | {"steps": 250, "validation_per_class": 2, "learning_rate": 1e-3}
    results = run_out(CNNTrainable(values | {"storage": str(tmp_path)}))
    assert [result["round"] for result in results] == [1, 2]
    assert all("validation_macro_f1" in result for result in results)
    assert not [name for name in results[-1] if name.startswith("test_")]


def test_paths_are_relative_to_where_tune_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune has changed into the directory of the trial when the trial begins."""
    start, trial = tmp_path / "start", tmp_path / "trial"
    start.mkdir()
    trial.mkdir()
    (start / "mine.py").write_text(
        "from lt_rebalance.methods.contract import Method\nplain = Method(description='as none')\n"
    )
    monkeypatch.setenv("TUNE_ORIG_WORKING_DIR", str(start))
    monkeypatch.chdir(trial)
    values = SMALL | {"method": "mine.py:plain", "measured_on": "test", "storage": "store"}
    (row,) = run_out(CNNTrainable(values))
    assert row["outcome"] == "finished" and (start / "store" / "store.json").exists()


def test_generator_reports_its_curves(tmp_path: Path) -> None:
    (result,) = run_out(CGANTrainable(SMALL | {"generator": "mlp_cgan_relu", "storage": str(tmp_path)}))
    assert result["outcome"] == "finished" and result["generator_loss"] > 0


def test_trial_that_goes_wrong_raises_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="failed: ValueError: unknown method 'no_such'"):
        CNNTrainable(SMALL | {"method": "no_such", "storage": str(tmp_path)}).train()
    values = SMALL | {"learning_rate": 1e30, "validation_per_class": 2, "storage": str(tmp_path)}
    with pytest.raises(RuntimeError, match="diverged after"):
        run_out(CNNTrainable(values))


@pytest.mark.slow
def test_example_searches_with_a_tuner_of_its_own_under_uv_run_with_ray_imported_first() -> None:
    """Ray would have every worker build an environment of its own, had it its way."""
    uv = os.environ.get("UV") or shutil.which("uv")
    command = [uv, "run"] if uv is not None else [sys.executable, "-m", "uv", "run"]
    done = subprocess.run(
        [*command, "--no-sync", "python", "examples/own_tuner.py", "20"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "macro F1 on validation images 0." in done.stdout, done.stdout[-3000:]
