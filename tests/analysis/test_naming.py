"""Names of cells: what shares a setting, what sets settings apart, matched cells."""

import dataclasses
from pathlib import Path

import pytest

from analysis import naming
from analysis.collect import read_results
from analysis.compare import compare
from analysis.naming import data_rank, in_order, matched_cells
from lt_rebalance.studies.plan import compile_study
from lt_rebalance.studies.protocols import Protocol, get_protocol, grid
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Budget
from tests.analysis.synthetic import make_store, plan_study


def read_protocols(root: Path, *protocols: Protocol, cs: tuple[str | None, ...] = (None, "1/2")):  # type: ignore[no-untyped-def]
    cells = grid(protocols, dataset="fashion_mnist", cs=cs, methods=["none", "oversample"], generators=[])
    study = Study(name="named", cells=cells, seeds=(0,))
    plan = compile_study(study, plan_study(num_seeds=1).execution)
    return read_results(make_store(root, plan).location)


def test_a_setting_holds_all_cs_and_methods_of_a_protocol(tmp_path: Path) -> None:
    results = read_protocols(tmp_path, get_protocol("sound"), get_protocol("paper"))
    settings = ["sound, cross entropy, 18,000 steps", "paper, double softmax, 30 epochs"]
    assert list(dict.fromkeys(results.cells["setting"])) == settings
    assert (results.cells.groupby("setting").size() == 3).all()


def test_settings_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    sound = get_protocol("sound")
    slower = dataclasses.replace(sound, name="sound", classifier_learning_rate=1e-4)
    permuted = dataclasses.replace(sound, name="permuted", class_order="permuted")
    results = read_protocols(tmp_path / "a", sound, permuted)
    assert list(dict.fromkeys(results.cells["setting"])) == [
        "sound, cross entropy, 18,000 steps",
        "permuted, cross entropy, 18,000 steps",
    ]
    with pytest.raises(ValueError, match="different cells that tables would both name"):
        read_protocols(tmp_path / "b", sound, slower)


def test_a_change_that_the_name_tells_in_words_is_not_told_again(tmp_path: Path) -> None:
    sound = get_protocol("sound")
    changed = dataclasses.replace(
        sound,
        name="sound+classifier.loss=double_softmax+classifier.learning_rate=0.01",
        loss="double_softmax",
        classifier_learning_rate=0.01,
    )
    results = read_protocols(tmp_path, sound, changed)
    assert list(dict.fromkeys(results.cells["setting"])) == [
        "sound, cross entropy, 18,000 steps",
        "sound+classifier.learning_rate=0.01, double softmax, 18,000 steps",
    ]


def test_two_studies_under_one_protocol_name_have_different_settings(tmp_path: Path) -> None:
    sound = get_protocol("sound")
    short = dataclasses.replace(sound, classifier_budget=Budget(steps=1200, rounds=12))
    slow = dataclasses.replace(short, classifier_learning_rate=1e-4)
    for name, protocol in {"first": short, "second": slow}.items():
        cells = grid([protocol], dataset="fashion_mnist", cs=["1/2"], methods=["none"], generators=[])
        plan = compile_study(Study(name=name, cells=cells, seeds=(0,)), plan_study(num_seeds=1).execution)
        store = make_store(tmp_path / "store", plan)
    assert list(read_results(store.location).cells["setting"]) == [
        "sound, cross entropy, 1,200 steps, learning_rate 0.0005",
        "sound, cross entropy, 1,200 steps, learning_rate 0.0001",
    ]


def test_two_generators_under_one_name_are_told_apart(tmp_path: Path) -> None:
    sound = get_protocol("sound")
    for index, steps in enumerate((200, 400)):
        protocol = dataclasses.replace(sound, generator_budget=Budget(steps=steps, rounds=2))
        cells = grid(
            [protocol],
            dataset="fashion_mnist",
            cs=["1/2"],
            methods=["none", "cgan"],
            generators=["mlp_cgan_relu"],
        )
        study = Study(name=f"study-{index}", cells=cells, seeds=(0, 1))
        plan = compile_study(study, plan_study(num_seeds=1).execution)
        store = make_store(tmp_path / "store", plan)
    results = read_results(store.location)
    methods = ["none", "mlp_cgan_relu, budget.steps 200", "mlp_cgan_relu, budget.steps 400"]
    assert list(results.cells["method"]) == methods
    contrasts = compare(results.runs)
    assert list(zip(contrasts["method"], contrasts["comparator"], strict=True)) == [
        (methods[1], "none"),
        (methods[2], "none"),
        (methods[2], methods[1]),
    ]


def test_matched_cells_differ_in_nothing_else(tmp_path: Path) -> None:
    sound = get_protocol("sound")
    other = dataclasses.replace(sound, name="double", loss="double_softmax")
    results = read_protocols(tmp_path, sound, other)
    groups = matched_cells(results.cells, "classifier.loss")
    assert len(groups) == 3  # original, and two methods at C = 1/2
    for _, pairs in groups:
        assert sorted(value for value, _ in pairs) == ["cross_entropy", "double_softmax"]
        methods = {results.cells.set_index("cell").loc[cell, "method"] for _, cell in pairs}
        assert len(methods) == 1
    assert matched_cells(results.cells, "classifier.beta1") == []


def test_order_is_the_papers() -> None:
    assert in_order(["dccgan_leaky", "oversample", "none", "none"]) == ["none", "oversample", "dccgan_leaky"]
    assert sorted(["1/2", "7/9", "original"], key=data_rank) == ["original", "7/9", "1/2"]


def test_values_that_differ_have_different_names() -> None:
    """A name of a setting is a key: two of one name would be compared as one."""
    values = [0.0005, 0.0005000001, 1 / 3, 0.333333, 1234567.0, 1234568.0]
    assert len({naming._say(value) for value in values}) == len(values) and naming._say(0.0005) == "0.0005"
