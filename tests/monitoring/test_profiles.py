"""Checks of TensorBoard and status on profiles and on unbalanced test sets."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from lt_rebalance.cli.status import render
from lt_rebalance.ground.metrics import HEADLINE, METRICS
from lt_rebalance.ground.text import make_console
from lt_rebalance.monitoring.status import read_status
from lt_rebalance.monitoring.tensorboard.content import show_round
from lt_rebalance.monitoring.tensorboard.means import write_means
from lt_rebalance.monitoring.tensorboard.naming import is_ceiling, name_data, name_runs
from lt_rebalance.monitoring.tensorboard.overview import _categories, _metric_titles, hparam_domains
from lt_rebalance.store.study_document import parse_study
from lt_rebalance.studies.plan import describe_plan
from tests.analysis.synthetic import Truth, make_store, plan_study

UNBALANCED = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)


def describe(*cs: str | None, dataset: str = "fashion_mnist") -> dict[str, Any]:
    return describe_plan(plan(*cs, dataset=dataset))


def plan(*cs: str | None, dataset: str = "fashion_mnist") -> Any:
    return plan_study(cs=cs, methods=["none", "oversample"], generators=[], num_seeds=1, dataset=dataset)


def test_profile_is_named_in_paths_without_a_space() -> None:
    assert [name_data(each) for each in ("7/9", "exp 100", "original")] == ["C=7/9", "exp=100", "original"]
    directories = [run.directory for run in name_runs(describe("exp 100", "step 3/2", "natural")).values()]
    assert len(set(directories)) == 6
    assert {path.split("/")[4] for path in directories} == {"exp=100", "step=3-2", "original"}
    assert not any(" " in path for path in directories)


def test_original_set_under_all_methods_is_no_ceiling(tmp_path: Path) -> None:
    beside, among = describe(None, "exp 100"), describe("natural", "exp 100")
    assert is_ceiling(beside) and not is_ceiling(among)
    assert [title.rpartition(", ")[2] for title in _categories(beside)][:-1] == ["exp=100"]
    assert [title.rpartition(", ")[2] for title in _categories(among)][:-1] == ["original", "exp=100"]
    for name, study, expected in (
        ("beside", plan(None, "exp 100"), ["none", "original", "oversample"]),
        ("among", plan("natural", "exp 100"), ["none", "oversample"]),
    ):
        store = make_store(tmp_path / name, study)
        write_means(store, describe_plan(study))
        assert sorted(store.files.list("events/synthetic/means")) == expected


def test_table_of_hyperparameters_shows_profile_and_ratio() -> None:
    domains = hparam_domains(describe("exp 100", "exp 10"))
    assert (domains["data.profile"], domains["data.ratio"]) == (["exp"], ["10", "100"])
    assert "data.profile" not in hparam_domains(describe("1/2"))


def test_study_says_that_its_test_set_is_unbalanced() -> None:
    document = describe("1/2", dataset="mnist").to_plain()
    assert document["datasets"]["mnist"]["is_test_balanced"] is False
    assert parse_study(document, document["study"]).unbalanced == ("mnist",)
    assert "is_test_balanced" not in describe("1/2").to_plain()["datasets"]["fashion_mnist"]


def test_macro_f1_and_balanced_accuracy_lead_on_an_unbalanced_test_set() -> None:
    titles = list(_metric_titles(describe("1/2", dataset="mnist")).values())
    assert [title.partition(",")[0] for title in titles[:4]] == [
        "macro F1",
        "balanced accuracy",
        "accuracy",
        "loss",
    ]
    titles = list(_metric_titles(describe("1/2")).values())
    assert [title.partition(",")[0] for title in titles[:3]] == ["accuracy", "macro F1", "loss"]


def test_balanced_accuracy_is_shown_where_it_is_not_the_accuracy() -> None:
    row = {"step": 1, "test_accuracy": 0.5, "test_macro_f1": 0.4, "test_balanced_accuracy": 0.5}
    tags = [value.tag for value in show_round("classifier", row, ["a", "b"])]
    assert "classifier/test_balanced_accuracy" not in tags
    tags = [
        value.tag for value in show_round("classifier", row | {"test_balanced_accuracy": 0.4}, ["a", "b"])
    ]
    assert "classifier/test_balanced_accuracy" in tags


def test_status_of_an_unbalanced_test_set_begins_with_macro_f1(tmp_path: Path, capsys: Any) -> None:
    heads = {}
    for dataset, truth in (("mnist", Truth(test_counts_K=UNBALANCED)), ("fashion_mnist", Truth())):
        store = make_store(tmp_path / dataset, plan("exp 10", dataset=dataset), truth)
        status = read_status(store, "synthetic", 0.0)
        make_console().print(render([status], None), soft_wrap=True)
        heads[dataset] = next(
            line for line in capsys.readouterr().out.splitlines() if "device time" in line and ":" not in line
        )
        assert status.cells[0].means["macro_f1"] is not None
    words = heads["mnist"]
    assert 0 < words.index("macro F1") < words.index("balanced accuracy") < words.rindex(" accuracy")
    assert 0 < heads["fashion_mnist"].index("accuracy") < heads["fashion_mnist"].index("macro F1")
    assert "balanced" not in heads["fashion_mnist"]


def test_metric_of_every_table_is_in_status_and_its_json(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    further = METRICS["worst_class_recall"]
    monkeypatch.setitem(METRICS, "worst_class_recall", dataclasses.replace(further, shown=HEADLINE))
    status = read_status(make_store(tmp_path / "store", plan("1/2"), Truth()), "synthetic", 0.0)
    make_console().print(render([status], None), soft_wrap=True)
    assert "worst-class recall" in capsys.readouterr().out
    (cell, *_) = status.to_dict()["cells"]
    assert cell["worst_class_recall"] == status.cells[0].means["worst_class_recall"] is not None
    assert {"accuracy", "balanced_accuracy", "macro_f1"} < set(cell) and "means" not in cell
