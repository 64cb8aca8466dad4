"""Checks of the configurations: what each refuses and how it says so, budgets, plain values and back."""

import dataclasses
import json
import re
from typing import Any

import pytest

from lt_rebalance.data.long_tail import DataConfig
from lt_rebalance.ground.plain import config_from_dict, require_known, require_positive, to_plain
from lt_rebalance.methods.registry import MethodConfig
from lt_rebalance.training.configs import Budget, ClassifierConfig, Execution, GeneratorConfig

# Valid values of every configuration, and the changes that each must refuse with its message.
VALID: dict[type, dict[str, Any]] = {
    DataConfig: {
        "dataset": "fashion_mnist",
        "c": "7/9",
        "subset_draw": "paper",
        "class_order": "label",
        "validation_per_class": 0,
    },
    MethodConfig: {"name": "oversample", "draw": "cyclic"},
    GeneratorConfig: {
        "architecture": "mlp_cgan_relu",
        "training_method": MethodConfig(name="oversample", draw="cyclic"),
        "budget": Budget(epochs=96),
        "batch_size": 256,
        "learning_rate": 2e-4,
        "beta1": 0.9,
        "beta2": 0.999,
    },
    ClassifierConfig: {
        "architecture": "paper_cnn",
        "loss": "double_softmax",
        "budget": Budget(epochs=30),
        "batch_size": 100,
        "learning_rate": 5e-4,
        "beta1": 0.9,
        "beta2": 0.999,
        "evaluation_mode": "batch_statistics",
        "selection": "last",
    },
    Execution: {"device": "cpu", "precision": "float32", "num_threads": 1, "torch_version": "2.15.0"},
}
REFUSED: list[tuple[type, dict[str, Any], str]] = [
    (DataConfig, {"dataset": "fashion"}, "unknown data set 'fashion'; known: fashion_mnist, "),
    (DataConfig, {"c": "9/7"}, "C must be strictly between 0 and 1, got 9/7"),
    (DataConfig, {"c": "14/18"}, "C must be given in lowest terms, '7/9', got '14/18'"),
    (DataConfig, {"c": "0.5"}, "C must be given in lowest terms, '1/2', got '0.5'"),
    (DataConfig, {"subset_draw": "fixed"}, "unknown subset draw 'fixed'; known: paper, per_seed"),
    (DataConfig, {"subset_draw": None}, "unknown subset draw 'None'; known: paper, per_seed"),
    (DataConfig, {"class_order": "random"}, "unknown class order 'random'; known: label, permuted"),
    (DataConfig, {"class_order": None}, "unknown class order 'None'; known: label, permuted"),
    (DataConfig, {"c": None}, "the original set has neither a subset draw nor a class order"),
    (DataConfig, {"validation_per_class": -1}, "validation_per_class must be at least 0 and below"),
    (MethodConfig, {"name": "smite"}, "unknown method 'smite'; known: none, undersample, oversample, cgan"),
    (MethodConfig, {"draw": "first"}, "unknown draw 'first' of method 'oversample'; known: cyclic, random"),
    (MethodConfig, {"draw": None}, "unknown draw None of method 'oversample'; known: cyclic, random"),
    (GeneratorConfig, {"architecture": "mpl"}, "unknown generator 'mpl'; known: small_mlp_cgan_leaky, "),
    (
        GeneratorConfig,
        {"training_method": MethodConfig(name="cgan", draw=None)},
        "a CGAN cannot learn from a set made by method 'cgan'",
    ),
    (ClassifierConfig, {"architecture": "resnet"}, "unknown classifier 'resnet'; known: paper_cnn"),
    (ClassifierConfig, {"loss": "mse"}, "unknown loss 'mse'; known: cross_entropy, double_softmax"),
    (
        ClassifierConfig,
        {"evaluation_mode": "eval"},
        "unknown evaluation mode 'eval'; known: running_statistics, batch_statistics",
    ),
    (
        ClassifierConfig,
        {"selection": "best"},
        "unknown selection 'best'; known: last, best_validation, oracle_best_test",
    ),
    *[
        (cls, change, message)
        for cls in (GeneratorConfig, ClassifierConfig)
        for change, message in [
            ({"batch_size": 0}, "batch_size must be above 0, got 0"),
            ({"batch_size": -8}, "batch_size must be above 0, got -8"),
            ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
            ({"learning_rate": -0.1}, "learning_rate must be above 0, got -0.1"),
            ({"learning_rate": float("nan")}, "learning_rate must be a finite number, got nan"),
            ({"beta1": 1.0}, "beta1 must be at least 0 and below 1, got 1.0"),
            ({"beta1": -0.1}, "beta1 must be at least 0 and below 1, got -0.1"),
            ({"beta2": 1.5}, "beta2 must be at least 0 and below 1, got 1.5"),
            ({"beta2": float("nan")}, "beta2 must be a finite number, got nan"),
        ]
    ],
    (Execution, {"device": "gpu"}, "unknown device 'gpu'; known: cpu, cuda"),
    (
        Execution,
        {"precision": "float16"},
        "unknown precision 'float16'; known: float32, tensorfloat32",
    ),
    (Execution, {"precision": "tensorfloat32"}, "tensorfloat32 is arithmetic of a GPU, got device 'cpu'"),
    (Execution, {"num_threads": 0}, "num_threads must be above 0, got 0"),
]


@pytest.mark.parametrize("cls", VALID)
def test_config_is_frozen_keyword_only_and_hashable(cls: type) -> None:
    config = cls(**VALID[cls])
    name = next(iter(VALID[cls]))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, name, None)
    with pytest.raises(TypeError):
        cls(*VALID[cls].values())
    assert hash(config) == hash(cls(**VALID[cls]))


@pytest.mark.parametrize(
    ("cls", "change", "message"), REFUSED, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_config_with_a_bad_value_is_refused(cls: type, change: dict[str, Any], message: str) -> None:
    cls(**VALID[cls])
    with pytest.raises(ValueError, match=re.escape(message)):
        cls(**(VALID[cls] | change))


@pytest.mark.parametrize("cls", VALID)
def test_config_has_no_defaults(cls: type) -> None:
    for name in VALID[cls]:
        with pytest.raises(TypeError, match=name):
            cls(**{key: value for key, value in VALID[cls].items() if key != name})


@pytest.mark.parametrize("cls", VALID)
def test_config_of_an_unknown_field_is_refused(cls: type) -> None:
    with pytest.raises(TypeError, match="epoch"):
        cls(**VALID[cls], epoch=1)


def test_data_config_of_the_original_set_needs_no_draw() -> None:
    config = DataConfig(
        dataset="fashion_mnist", c=None, subset_draw=None, class_order=None, validation_per_class=0
    )
    assert config.c is None


def test_require_known_accepts_the_known() -> None:
    require_known("loss", "a", ("a", "b"))
    with pytest.raises(ValueError, match="unknown loss 'c'; known: a, b"):
        require_known("loss", "c", ("a", "b"))


def test_require_positive_ignores_none_and_names_what_is_not() -> None:
    require_positive(epochs=None, steps=1)
    with pytest.raises(ValueError, match="steps must be above 0, got 0"):
        require_positive(epochs=1, steps=0)


# Budgets


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "a budget is in epochs or in steps, got epochs=None steps=None"),
        ({"epochs": 1, "steps": 1, "rounds": 1}, "a budget is in epochs or in steps, got epochs=1 steps=1"),
        ({"steps": 10}, "rounds belong to a budget in steps, and such a budget needs them"),
        ({"epochs": 10, "rounds": 2}, "rounds belong to a budget in steps"),
        ({"epochs": 0}, "epochs must be above 0, got 0"),
        ({"epochs": -1}, "epochs must be above 0, got -1"),
        ({"steps": -1, "rounds": 1}, "steps must be above 0, got -1"),
        ({"steps": 0, "rounds": 2}, "rounds must be at most steps, got 2 rounds in 0 steps"),
        ({"steps": 5, "rounds": 0}, "rounds must be above 0, got 0"),
        ({"steps": 5, "rounds": 6}, "rounds must be at most steps, got 6 rounds in 5 steps"),
    ],
)
def test_budget_with_bad_values_is_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Budget(**values)


def test_budget_in_epochs_ends_each_round_with_a_pass() -> None:
    assert Budget(epochs=3).round_ends(3) == [3, 6, 9]
    assert Budget(epochs=2).round_ends(2) == [2, 4]
    assert Budget(epochs=2).round_ends(1) == [1, 2]


def test_budget_in_steps_spreads_rounds_evenly_whatever_the_set() -> None:
    assert Budget(steps=10, rounds=3).round_ends(3) == [3, 6, 10]
    assert Budget(steps=10, rounds=3).round_ends(9999) == [3, 6, 10]
    assert Budget(steps=4, rounds=4).round_ends(3) == [1, 2, 3, 4]


@pytest.mark.parametrize("rounds", range(1, 31))
def test_budget_in_steps_has_no_empty_round(rounds: int) -> None:
    ends = Budget(steps=30, rounds=rounds).round_ends(3)
    assert len(ends) == rounds
    assert ends[-1] == 30
    lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    assert min(lengths) >= 1
    assert max(lengths) - min(lengths) <= 1


def test_budget_as_text_names_its_unit() -> None:
    assert str(Budget(epochs=30)) == "30 epochs"
    assert str(Budget(steps=18_000, rounds=30)) == "18000 steps"


# Plain values


@pytest.mark.parametrize("cls", VALID)
def test_config_survives_json(cls: type) -> None:
    config = cls(**VALID[cls])
    assert config_from_dict(cls, json.loads(json.dumps(to_plain(config)))) == config


def test_to_plain_holds_only_json_values() -> None:
    plain = to_plain(GeneratorConfig(**VALID[GeneratorConfig]))
    assert plain == {
        "architecture": "mlp_cgan_relu",
        "training_method": {"name": "oversample", "draw": "cyclic"},
        "budget": {"epochs": 96, "steps": None, "rounds": None},
        "batch_size": 256,
        "learning_rate": 2e-4,
        "beta1": 0.9,
        "beta2": 0.999,
    }


@pytest.mark.parametrize("cls", VALID)
def test_config_from_dict_of_an_unknown_key_names_the_known(cls: type) -> None:
    plain = to_plain(cls(**VALID[cls])) | {"epoch": 1}
    known = ", ".join(each.name for each in dataclasses.fields(cls))
    message = f"unknown key of {cls.__name__} 'epoch'; known: {known}"
    with pytest.raises(ValueError, match=re.escape(message)):
        config_from_dict(cls, plain)


@pytest.mark.parametrize("cls", VALID)
def test_config_from_dict_without_a_key_names_it(cls: type) -> None:
    for name in VALID[cls]:
        plain = {key: value for key, value in to_plain(cls(**VALID[cls])).items() if key != name}
        with pytest.raises(ValueError, match=f"{cls.__name__} needs {name}"):
            config_from_dict(cls, plain)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("budget", {"epochs": 1, "epoch": 2}, "unknown key of Budget 'epoch'; known: epochs, steps, rounds"),
        ("budget", {}, "a budget is in epochs or in steps"),
        ("training_method", {"name": "none"}, "MethodConfig needs draw"),
        ("training_method", {"name": "none", "draw": None, "k": 1}, "unknown key of MethodConfig 'k'"),
        ("training_method", {"name": "cgan", "draw": None}, "a CGAN cannot learn"),
    ],
)
def test_config_from_dict_refuses_bad_keys_of_a_nested_configuration(
    name: str, values: dict[str, Any], message: str
) -> None:
    plain = to_plain(GeneratorConfig(**VALID[GeneratorConfig])) | {name: values}
    with pytest.raises(ValueError, match=re.escape(message)):
        config_from_dict(GeneratorConfig, plain)


@pytest.mark.parametrize("value", [None, 5, "epochs", ["epochs", 30]])
def test_config_from_dict_of_something_else_than_a_nested_configuration_is_refused(value: Any) -> None:
    plain = to_plain(GeneratorConfig(**VALID[GeneratorConfig])) | {"budget": value}
    with pytest.raises(ValueError, match="Budget"):
        config_from_dict(GeneratorConfig, plain)
