"""Checks of stages and their keys, cells, studies, grids, and of the two protocols line by line."""

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from lt_rebalance.data.catalog import DATASETS
from lt_rebalance.data.long_tail import DataConfig
from lt_rebalance.methods import registry
from lt_rebalance.methods.registry import MethodConfig
from lt_rebalance.store.records import stage_key
from lt_rebalance.studies.protocols import PROTOCOLS, Protocol, get_protocol, grid, make_cell
from lt_rebalance.studies.stage import (
    RESULTS_VERSION,
    AnyStage,
    ClassifierStage,
    GeneratorStage,
    stage_from_dict,
)
from lt_rebalance.studies.study import Cell, Study
from lt_rebalance.training.configs import Budget, Execution

EXECUTION = Execution(device="cpu", precision="float32", num_threads=1, torch_version="2.15.0")
GENERATORS = ("small_mlp_cgan_leaky", "mlp_cgan_relu", "mlp_cgan_leaky", "big_mlp_cgan_leaky")
METHODS = ("none", "undersample", "oversample", "cgan")
PAPER, SOUND = PROTOCOLS["paper"], PROTOCOLS["sound"]


def cgan_cell(protocol: Protocol = PAPER, generator: str = "small_mlp_cgan_leaky") -> Cell:
    return make_cell(protocol, dataset="fashion_mnist", c="7/9", method="cgan", generator=generator)


def plain_cell(protocol: Protocol = PAPER, method: str = "oversample", c: str | None = "1/2") -> Cell:
    return make_cell(protocol, dataset="fashion_mnist", c=c, method=method, generator=None)


def cgan_stages(seed: int = 0) -> tuple[GeneratorStage, ClassifierStage]:
    stage = cgan_cell().stage(seed, EXECUTION)
    assert stage.generator_stage is not None
    return stage.generator_stage, stage


STAGES: dict[str, AnyStage] = {
    "generator": cgan_stages()[0],
    "classifier with generator": cgan_stages()[1],
    "classifier without": plain_cell().stage(0, EXECUTION),
    "classifier on the original set": plain_cell(SOUND, "none", None).stage(0, EXECUTION),
}


# Stages as plain values


@pytest.mark.parametrize("name", STAGES)
def test_stage_survives_json_with_its_key(name: str) -> None:
    stage = STAGES[name]
    again = stage_from_dict(json.loads(json.dumps(stage.to_dict())))
    assert again == stage
    assert type(again) is type(stage)
    assert again.key == stage.key


@pytest.mark.parametrize("kind", ["cnn", "None", ""])
def test_stage_from_dict_of_unknown_kind_names_the_known(kind: str) -> None:
    values = STAGES["generator"].to_dict() | {"kind": kind}
    with pytest.raises(ValueError, match=f"unknown kind of stage '{kind}'; known: generator, classifier"):
        stage_from_dict(values)


def test_validation_stage_is_another_stage_that_can_be_read_again() -> None:
    cell = make_cell(
        dataclasses.replace(PROTOCOLS["sound"], validation_per_class=5),
        dataset="fashion_mnist_mini",
        c="1/2",
        method="cgan",
        generator="mlp_cgan_relu",
    )
    stage = cell.stage(0, EXECUTION)
    validation = stage.on_validation()
    assert (validation.kind, validation.key != stage.key) == ("validation", True)
    assert validation.generator_stage == stage.generator_stage
    assert stage_from_dict(json.loads(json.dumps(validation.to_dict()))) == validation
    assert validation.with_seed(1) == cell.stage(1, EXECUTION).on_validation()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_per_class": 0}, "needs validation_per_class above 0, got 0"),
        ({"selection": "oracle_best_test"}, 'cannot use selection "oracle_best_test"'),
    ],
)
def test_validation_stage_that_could_not_do_without_test_images_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    protocol = dataclasses.replace(PROTOCOLS["sound"], **({"validation_per_class": 5} | changes))
    cell = make_cell(protocol, dataset="fashion_mnist_mini", c="1/2", method="none", generator=None)
    with pytest.raises(ValueError, match=message):
        cell.stage(0, EXECUTION).on_validation()


def test_stage_from_dict_without_kind_is_refused() -> None:
    values = {name: value for name, value in STAGES["generator"].to_dict().items() if name != "kind"}
    with pytest.raises(ValueError, match="unknown kind of stage"):
        stage_from_dict(values)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ((), "unknown key of ClassifierStage 'extra'"),
        (("data",), "unknown key of DataConfig 'extra'"),
        (("execution",), "unknown key of Execution 'extra'"),
        (("classifier", "budget"), "unknown key of Budget 'extra'"),
        (("generator_stage",), "unknown key of GeneratorStage 'extra'"),
        (("generator_stage", "generator", "training_method"), "unknown key of MethodConfig 'extra'"),
    ],
)
def test_stage_from_dict_of_an_unknown_key_anywhere_is_refused(path: tuple[str, ...], message: str) -> None:
    values = json.loads(json.dumps(STAGES["classifier with generator"].to_dict()))
    inner = values
    for name in path:
        inner = inner[name]
    inner["extra"] = 1
    with pytest.raises(ValueError, match=message):
        stage_from_dict(values)


@pytest.mark.parametrize(
    ("path", "name", "message"),
    [
        ((), "seed", "ClassifierStage needs seed"),
        (("data",), "c", "DataConfig needs c"),
        (("generator_stage", "generator"), "beta1", "GeneratorConfig needs beta1"),
    ],
)
def test_stage_from_dict_without_a_key_is_refused(path: tuple[str, ...], name: str, message: str) -> None:
    values = json.loads(json.dumps(STAGES["classifier with generator"].to_dict()))
    inner = values
    for part in path:
        inner = inner[part]
    del inner[name]
    with pytest.raises(ValueError, match=message):
        stage_from_dict(values)


@pytest.mark.parametrize("name", STAGES)
def test_stage_of_negative_seed_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a seed must be at least 0, got -1"):
        dataclasses.replace(STAGES[name], seed=-1)


@pytest.mark.parametrize("name", STAGES)
def test_stage_with_seed_changes_the_seed_everywhere_and_nothing_else(name: str) -> None:
    moved = STAGES[name].with_seed(7)
    assert moved.seed == 7
    if isinstance(moved, ClassifierStage) and moved.generator_stage is not None:
        assert moved.generator_stage.seed == 7
    assert moved != STAGES[name]
    assert moved.with_seed(0) == STAGES[name]


# Keys


def test_key_is_the_sha256_of_sorted_json_without_spaces() -> None:
    expected = {
        "kind": "generator",
        "seed": 0,
        "data": {
            "dataset": "fashion_mnist",
            "c": "7/9",
            "subset_draw": "paper",
            "class_order": "label",
            "validation_per_class": 0,
        },
        "dataset_identity": DATASETS["fashion_mnist"].identity,
        "execution": {
            "device": "cpu",
            "precision": "float32",
            "num_threads": 1,
            "torch_version": "2.15.0",
        },
        "results_version": RESULTS_VERSION,
        "generator": {
            "architecture": "small_mlp_cgan_leaky",
            "training_method": {"name": "oversample", "draw": "cyclic"},
            "budget": {"epochs": 96, "steps": None, "rounds": None},
            "batch_size": 256,
            "learning_rate": 0.0002,
            "beta1": 0.9,
            "beta2": 0.999,
        },
    }
    stage = STAGES["generator"]
    assert stage.to_dict() == expected
    text = json.dumps(expected, sort_keys=True, separators=(",", ":"))
    assert stage.key == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("name", STAGES)
def test_stage_key_of_what_a_record_keeps_equals_the_key(name: str) -> None:
    stage = STAGES[name]
    assert stage_key(json.loads(json.dumps(stage.to_dict()))) == stage.key


# A change of one of these loses every stored result, unless RESULTS_VERSION is raised knowingly.
GOLDEN_KEYS = {
    "generator": "6df52cc4ab17c27dd58679355b6eb5a4018a5cfe5d6126f2b049dab085ce2c6e",
    "classifier with generator": "14827416ecd9ea7ab9357ecc56a42f726a3bbce1af2b52d1b90fce51cd74e9ac",
}


@pytest.mark.parametrize("name", GOLDEN_KEYS)
def test_key_equals_its_golden_value(name: str) -> None:
    assert STAGES[name].key == GOLDEN_KEYS[name]


PRINT_KEYS = """
import json, sys
from lt_rebalance.studies.stage import stage_from_dict
print(json.dumps([stage_from_dict(values).key for values in json.load(sys.stdin)]))
"""


def reverse_keys(value: Any) -> Any:
    """Return plain values with the keys of every dict in reverse order."""
    if isinstance(value, dict):
        return {name: reverse_keys(value[name]) for name in reversed(value)}
    return value


def test_key_in_a_fresh_process_and_from_other_key_order_is_the_same() -> None:
    values = [reverse_keys(stage.to_dict()) for stage in STAGES.values()]
    assert list(values[0]) != list(next(iter(STAGES.values())).to_dict())
    result = subprocess.run(
        [sys.executable, "-c", PRINT_KEYS],
        input=json.dumps(values),
        env=os.environ | {"PYTHONHASHSEED": "4321"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout) == [stage.key for stage in STAGES.values()]


def change_classifier(stage: ClassifierStage, **changes: Any) -> ClassifierStage:
    return dataclasses.replace(stage, classifier=dataclasses.replace(stage.classifier, **changes))


def change_generator(stage: ClassifierStage, **changes: Any) -> ClassifierStage:
    assert stage.generator_stage is not None
    generator = dataclasses.replace(stage.generator_stage.generator, **changes)
    inner = dataclasses.replace(stage.generator_stage, generator=generator)
    return dataclasses.replace(stage, generator_stage=inner)


def change_data(stage: ClassifierStage, **changes: Any) -> ClassifierStage:
    return dataclasses.replace(stage, data=dataclasses.replace(stage.data, **changes))


def change_execution(stage: ClassifierStage, **changes: Any) -> ClassifierStage:
    return dataclasses.replace(stage, execution=dataclasses.replace(stage.execution, **changes))


CHANGES: dict[str, Callable[[ClassifierStage], ClassifierStage]] = {
    "seed": lambda stage: stage.with_seed(1),
    "classifier seed": lambda stage: dataclasses.replace(stage, seed=1, subset_seed=0),
    "subset and generator seed": lambda stage: dataclasses.replace(stage.with_seed(1), seed=0, subset_seed=1),
    "generator seed": lambda stage: dataclasses.replace(
        stage,
        generator_stage=dataclasses.replace(stage.generator_stage, seed=1, subset_seed=0),  # type: ignore[type-var]
    ),
    "fill fraction": lambda stage: dataclasses.replace(
        stage, method=dataclasses.replace(stage.method, fill_fraction=0.5)
    ),
    "dataset identity": lambda stage: dataclasses.replace(stage, dataset_identity="0" * 64),
    "results version": lambda stage: dataclasses.replace(stage, results_version=RESULTS_VERSION + 1),
    "device": lambda stage: change_execution(stage, device="cuda"),
    "precision": lambda stage: change_execution(stage, precision="bfloat16"),
    "threads": lambda stage: change_execution(stage, num_threads=2),
    "torch": lambda stage: change_execution(stage, torch_version="2.16.0"),
    "data set": lambda stage: change_data(stage, dataset="kmnist"),
    "C": lambda stage: change_data(stage, c="1/2"),
    "subset draw": lambda stage: change_data(stage, subset_draw="per_seed"),
    "class order": lambda stage: change_data(stage, class_order="permuted"),
    "validation": lambda stage: change_data(stage, validation_per_class=500),
    "classifier epochs": lambda stage: change_classifier(stage, budget=Budget(epochs=31)),
    "classifier steps": lambda stage: change_classifier(stage, budget=Budget(steps=30, rounds=1)),
    "loss": lambda stage: change_classifier(stage, loss="cross_entropy"),
    "batch size": lambda stage: change_classifier(stage, batch_size=99),
    "learning rate": lambda stage: change_classifier(stage, learning_rate=5.0000001e-4),
    "beta1": lambda stage: change_classifier(stage, beta1=0.99),
    "beta2": lambda stage: change_classifier(stage, beta2=0.99),
    "evaluation mode": lambda stage: change_classifier(stage, evaluation_mode="running_statistics"),
    "selection": lambda stage: change_classifier(stage, selection="oracle_best_test"),
    "generator epochs": lambda stage: change_generator(stage, budget=Budget(epochs=100)),
    "generator architecture": lambda stage: change_generator(stage, architecture="mlp_cgan_relu"),
    "generator learning rate": lambda stage: change_generator(stage, learning_rate=1e-4),
    "generator training set": lambda stage: change_generator(
        stage, training_method=MethodConfig(name="none", draw=None)
    ),
}


def test_key_differs_between_all_stages_that_differ() -> None:
    stage = STAGES["classifier with generator"]
    changed = {name: change(stage).key for name, change in CHANGES.items()} | {"as it was": stage.key}
    assert len(set(changed.values())) == len(changed)


def test_key_of_generator_and_classifier_differs() -> None:
    generator_stage, classifier_stage = cgan_stages()
    assert generator_stage.key != classifier_stage.key


def test_key_does_not_depend_on_the_name_of_the_protocol() -> None:
    renamed = dataclasses.replace(PAPER, name="my own")
    assert cgan_cell(renamed) != cgan_cell()
    assert cgan_cell(renamed).stage(0, EXECUTION).key == cgan_cell().stage(0, EXECUTION).key


def test_key_of_a_generator_does_not_depend_on_the_classifier() -> None:
    other = dataclasses.replace(PAPER, loss="cross_entropy", classifier_budget=Budget(epochs=1))
    stages = [cgan_cell(protocol).stage(0, EXECUTION) for protocol in (PAPER, other)]
    assert stages[0].generator_stage.key == stages[1].generator_stage.key
    assert stages[0].key != stages[1].key


def test_key_changes_with_the_budget_of_the_generator_for_both_stages() -> None:
    longer = dataclasses.replace(PAPER, generator_budget=Budget(epochs=97))
    stages = [cgan_cell(protocol).stage(0, EXECUTION) for protocol in (PAPER, longer)]
    assert stages[0].generator_stage.key != stages[1].generator_stage.key
    assert stages[0].key != stages[1].key


@pytest.mark.parametrize(
    ("whole", "fraction"), [({"learning_rate": 1}, {"learning_rate": 1.0}), ({"beta1": 0}, {"beta1": 0.0})]
)
def test_key_of_equal_stages_is_equal_however_their_numbers_are_written(
    whole: dict[str, int], fraction: dict[str, float]
) -> None:
    stages = [change_classifier(STAGES["classifier without"], **numbers) for numbers in (whole, fraction)]
    assert stages[0] == stages[1]
    assert stages[0].key == stages[1].key


def test_key_of_a_replaced_stage_is_computed_anew() -> None:
    stage = STAGES["generator"]
    assert stage.key
    assert dataclasses.replace(stage, seed=3).key != stage.key


# Cells and studies


def test_cell_of_a_method_that_needs_a_generator_is_refused_without() -> None:
    with pytest.raises(ValueError, match="method 'cgan' needs a generator"):
        dataclasses.replace(cgan_cell(), generator=None)
    with pytest.raises(ValueError, match="method 'none' takes no generator"):
        dataclasses.replace(cgan_cell(), method=MethodConfig(name="none", draw=None))


def test_cell_that_selects_on_validation_is_refused_without_validation_images() -> None:
    classifier = dataclasses.replace(plain_cell().classifier, selection="best_validation")
    with pytest.raises(ValueError, match="validation_per_class"):
        dataclasses.replace(plain_cell(), classifier=classifier)


def test_cell_label_of_the_method_is_the_generator_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert cgan_cell().method_label == "small_mlp_cgan_leaky"
    assert plain_cell().method_label == "oversample"
    monkeypatch.setitem(registry.METHODS, "half_filled", registry.METHODS["cgan"])
    another = dataclasses.replace(cgan_cell(), method=MethodConfig(name="half_filled", draw=None))
    assert another.method_label == "half_filled small_mlp_cgan_leaky"


def test_cell_as_text_names_protocol_data_and_method() -> None:
    assert str(cgan_cell()) == "paper 7/9 small_mlp_cgan_leaky"
    assert str(plain_cell(SOUND, "none", None)) == "sound original none"


def test_cell_stage_hands_everything_to_the_stages_of_the_seed() -> None:
    cell = cgan_cell()
    stage = cell.stage(4, EXECUTION)
    inner = stage.generator_stage
    assert (stage.seed, stage.data, stage.method, stage.classifier) == (
        4,
        cell.data,
        cell.method,
        cell.classifier,
    )
    assert (inner.seed, inner.data, inner.generator, inner.execution) == (
        4,
        cell.data,
        cell.generator,
        EXECUTION,
    )
    assert stage.dataset_identity == inner.dataset_identity == DATASETS["fashion_mnist"].identity
    assert plain_cell().stage(4, EXECUTION).generator_stage is None


def test_study_yields_every_cell_at_every_seed_with_seeds_outermost() -> None:
    one, other = plain_cell(), cgan_cell()
    study = Study(name="s", cells=(one, other), seeds=(3, 1))
    assert list(study.runs()) == [(one, 3), (other, 3), (one, 1), (other, 1)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cells": ()}, "study 's' has no cells: its axes select no cell"),
        ({"seeds": ()}, "study 's' needs at least one seed, got 0"),
        ({"seeds": (1, 2, 1)}, "study 's' repeats some of its seeds"),
        ({"cells": (plain_cell(), plain_cell())}, "study 's' repeats some of its cells"),
        ({"seeds": (0, -1)}, "seed must be at least 0, got -1"),
    ],
)
def test_study_with_bad_axes_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Study(**({"name": "s", "cells": (plain_cell(),), "seeds": (0,)} | changes))


@pytest.mark.parametrize("name", ["", "../escape", "a/b", "/absolute"])
def test_study_name_that_cannot_name_a_file_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Study(name=name, cells=(plain_cell(),), seeds=(0,))


# Grids


def make_grid(protocols: tuple[Protocol, ...] = (PAPER,), **changes: Any) -> tuple[Cell, ...]:
    axes: dict[str, Any] = {
        "dataset": "fashion_mnist",
        "cs": [None, "7/9", "1/2"],
        "methods": METHODS,
        "generators": GENERATORS,
    }
    return grid(protocols, **(axes | changes))


def test_grid_of_the_paper_has_its_15_rows() -> None:
    cells = make_grid()
    rows = ["none", "undersample", "oversample", *GENERATORS]
    expected = [("original", "none")] + [(c, row) for c in ("7/9", "1/2") for row in rows]
    assert [(cell.data.c or "original", cell.method_label) for cell in cells] == expected
    assert len(cells) == 15


def test_grid_of_the_paper_at_10_seeds_has_150_classifiers_and_80_generators() -> None:
    study = Study(name="s", cells=make_grid(), seeds=tuple(range(10)))
    stages = [cell.stage(seed, EXECUTION) for cell, seed in study.runs()]
    generator_stages = [stage.generator_stage for stage in stages if stage.generator_stage is not None]
    assert len({stage.key for stage in stages}) == len(stages) == 150
    assert len({stage.key for stage in generator_stages}) == len(generator_stages) == 80


def test_grid_has_no_duplicates_where_axes_repeat() -> None:
    cells = make_grid(cs=[None, "1/2", "0.5", None, "2/4"], methods=["none", "oversample", "none"])
    assert [(cell.data.c, cell.method.name) for cell in cells] == [
        (None, "none"),
        ("1/2", "none"),
        ("1/2", "oversample"),
    ]


def test_grid_keeps_the_original_set_for_the_method_none_alone() -> None:
    (cell,) = make_grid(cs=[None], methods=["oversample", "cgan"])
    assert (cell.data.c, cell.method.name, cell.generator) == (None, "none", None)


def test_grid_multiplies_generators_only_into_the_methods_that_need_them() -> None:
    cells = make_grid(cs=["1/2"], methods=["none", "cgan"])
    assert [cell.generator is None for cell in cells] == [True] + [False] * 4


def test_grid_of_two_protocols_holds_both() -> None:
    assert [cell.protocol for cell in make_grid((PAPER, SOUND))] == ["paper"] * 15 + ["sound"] * 15


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "fashion"}, "unknown data set 'fashion'"),
        ({"cs": ["3/2"]}, "C must be strictly between 0 and 1"),
        ({"methods": ["smite"]}, "unknown method 'smite'"),
        ({"generators": ["mpl_cgan"]}, "unknown generator 'mpl_cgan'"),
        ({"generators": ["mpl_cgan"], "methods": ["none"]}, "unknown generator 'mpl_cgan'"),
        ({"generators": []}, "generator"),
    ],
)
def test_grid_skips_nothing_it_cannot_make(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_grid(**changes)


# Protocols, line by line. Each matter on which text, code and good practice part is a field: the values of
# `paper` and `sound`, and the choices that it must offer beyond these.
MATTERS = [
    ("1 loss of the classifier", "loss", "double_softmax", "cross_entropy", []),
    ("2 Adam beta1", "classifier_beta1", 0.9, 0.9, [0.99]),
    ("3 evaluation mode", "evaluation_mode", "batch_statistics", "running_statistics", []),
    ("4 reported epoch", "selection", "last", "last", ["oracle_best_test"]),
    ("5 budget", "classifier_budget", Budget(epochs=30), Budget(steps=18_000, rounds=30), []),
    ("6 oversampling", "oversampling", "cyclic", "random", []),
    ("7 undersampling", "undersampling", "first", "random", []),
    ("8 subset", "subset_draw", "paper", "per_seed", []),
    ("9 class order", "class_order", "label", "label", ["permuted"]),
    ("10 set the CGAN learns from", "generator_training_method", "oversample", "oversample", ["none"]),
    (
        "11 CGAN weights",
        "generator_budget",
        Budget(epochs=96),
        Budget(steps=23_500, rounds=100),
        [Budget(epochs=100)],
    ),
]


@pytest.mark.parametrize(("matter", "field", "paper", "sound", "others"), MATTERS, ids=lambda v: str(v)[:30])
def test_protocol_takes_its_side_and_offers_the_others(
    matter: str, field: str, paper: Any, sound: Any, others: list[Any]
) -> None:
    assert (getattr(PAPER, field), getattr(SOUND, field)) == (paper, sound), matter
    for value in [paper, sound, *others]:
        for protocol in (PAPER, SOUND):
            changed = dataclasses.replace(protocol, **{field: value})
            methods = ("oversample", "undersample", "none")
            cells = [plain_cell(changed, method) for method in methods] + [cgan_cell(changed)]
            # What is asked for reaches the stage: the cells hold the value.
            assert any(repr(value) in repr(cell.stage(0, EXECUTION)) for cell in cells), (matter, value)
            if value != getattr(protocol, field):
                before = [plain_cell(protocol, method) for method in methods] + [cgan_cell(protocol)]
                assert cells != before


def test_protocols_agree_where_text_and_code_agree() -> None:
    for protocol in (PROTOCOLS["paper"], PROTOCOLS["sound"]):
        assert protocol.classifier_architecture == "paper_cnn"
        assert (protocol.classifier_batch_size, protocol.classifier_learning_rate) == (100, 5e-4)
        assert (protocol.generator_batch_size, protocol.generator_learning_rate) == (256, 2e-4)
        assert (protocol.generator_beta1, protocol.generator_beta2) == (0.9, 0.999)
        assert protocol.validation_per_class == 0


def test_sound_protocol_gives_every_method_18000_steps_and_generators_100_published_epochs() -> None:
    for num_items in (60_000, 24_817, 120):
        assert SOUND.classifier_budget.round_ends(-(-num_items // 100))[-1] == 18_000
    # An epoch of 60,000 items in batches of 256 has 235 steps.
    assert SOUND.generator_budget.round_ends(235) == [235 * (index + 1) for index in range(100)]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocol_goes_by_its_own_name(name: str) -> None:
    assert get_protocol(name).name == name


def test_get_protocol_of_unknown_name_names_the_known() -> None:
    with pytest.raises(ValueError, match="unknown protocol 'papers'; known: paper, sound"):
        get_protocol("papers")


@pytest.mark.parametrize("c", ["0.5", "1/2", "2/4", " 1/2"])
def test_make_cell_writes_c_in_lowest_terms(c: str) -> None:
    assert plain_cell(c=c).data == DataConfig(
        dataset="fashion_mnist", c="1/2", subset_draw="paper", class_order="label", validation_per_class=0
    )


def test_make_cell_of_a_generator_for_a_method_that_takes_none_is_refused() -> None:
    message = re.escape("method 'none' takes no generator")
    with pytest.raises(ValueError, match=message):
        make_cell(PAPER, dataset="fashion_mnist", c="1/2", method="none", generator="mlp_cgan_relu")
