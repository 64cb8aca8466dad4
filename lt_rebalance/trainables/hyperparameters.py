"""Make a stage from flat hyperparameters: names and values, as a user's Tuner samples them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from lt_rebalance.data.catalog import is_location
from lt_rebalance.data.long_tail import choose_validation
from lt_rebalance.ground.own_file import resolve
from lt_rebalance.ground.plain import require_known
from lt_rebalance.images.options import OWN_FIELDS, OwnOptions
from lt_rebalance.methods.registry import resolve_method
from lt_rebalance.studies.overrides import change_cell, make_overrides
from lt_rebalance.studies.protocols import Protocol, get_protocol, make_cell
from lt_rebalance.studies.stage import AnyStage
from lt_rebalance.studies.study import Cell
from lt_rebalance.training.configs import ClassifierConfig, GeneratorConfig
from lt_rebalance.training.device import AUTO, count_gpus, resolve_execution

Hyperparameters = Mapping[str, Any]  # Any: numbers and words

DEFAULTS: Hyperparameters = {
    "dataset": "fashion_mnist_mini",
    "c": "1/2",
    "method": "none",
    "generator": None,
    "protocol": "sound",
    "seed": 0,
    "fill_fraction": 1.0,
    "validation_per_class": None,
    "measured_on": "validation",
    "device": AUTO,
    "precision": AUTO,
    "threads": 1,
    **dataclasses.asdict(OwnOptions()),
}
"""defaults of names that are left out; the fields of a configuration have those of the protocol

`dataset` is a name or the location of images of your own; `c` as --c, or a profile with its ratio, "exp 100";
`method` as --methods; `seed` sets every random stream. `measured_on` "validation" sets images of each class
aside before the long-tailed cut and uses no test image; "test" is for the chosen hyperparameters.
"""
PLACES = ("storage", "data_dir")
"""names of locations, which are not part of a result"""
MEASURED_ON = ("validation", "test")
_UNITS = ("steps", "epochs")
_OWN = ("architecture", "budget", "training_method", "file_sha256")
"""fields that are set by other names, or that follow from others"""


def build_classifier_stage(values: Hyperparameters) -> AnyStage:
    """Return the stage of a classifier; names such as `generator_learning_rate` are for its generator.

    Raises:
        ValueError: an unknown name, or values that are out of range or incompatible.
        DataError: a user's images that cannot be used for training.
    """
    names = {name: f"classifier.{name}" for name in _list_fields(ClassifierConfig)}
    names |= {f"generator_{name}": f"generator.{name}" for name in _list_fields(GeneratorConfig)}
    names["classifier"] = "classifier.architecture"
    cell, values = _make_cell(values, names, needs_validation=values.get("measured_on") != "test")
    stage = cell.stage(values["seed"], _execution(values), shares_first=False)
    return stage if values["measured_on"] == "test" else stage.on_validation()


def build_generator_stage(values: Hyperparameters) -> AnyStage:
    """Return the stage of a generator; errors as `build_classifier_stage`."""
    names = {name: f"generator.{name}" for name in _list_fields(GeneratorConfig)}
    values = {"method": "cgan", "generator": "mlp_cgan_relu", "measured_on": "test", **values}
    cell, values = _make_cell(values, names, needs_validation=False)
    stage = cell.stage(values["seed"], _execution(values)).generator_stage
    if stage is None:
        raise ValueError(f"a generator is trained for a method that needs one, got {values['method']!r}")
    return stage


def _list_fields(config: type) -> list[str]:
    fields = [field.name for field in dataclasses.fields(config) if field.name not in _OWN]
    return [*fields, *_UNITS]


def _make_cell(
    values: Hyperparameters, names: Mapping[str, str], *, needs_validation: bool
) -> tuple[Cell, Hyperparameters]:
    """Return a cell, and the values with defaults for missing ones."""
    known = (*DEFAULTS, *PLACES, *names)
    for name in values:
        require_known("hyperparameter", name, known)
    values = {
        name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()
    }
    filled = {**DEFAULTS, **values}
    require_known("measured_on", filled["measured_on"], MEASURED_ON)
    for prefix in ("", "generator_"):
        if all(f"{prefix}{unit}" in values for unit in _UNITS):
            raise ValueError(
                f"a budget is in epochs or in steps, got {prefix}steps and {prefix}epochs; drop one"
            )
    dataset = _bring(filled)
    protocol = get_protocol(filled["protocol"])
    if needs_validation:
        protocol = _set_aside(protocol, dataset, filled["validation_per_class"])
    cell = make_cell(
        protocol,
        dataset=dataset,
        c=filled["c"],
        method=resolve_method(filled["method"]),
        generator=None if filled["generator"] is None else resolve(filled["generator"]),
    )
    changes = {field: values[name] for name, field in names.items() if name in values}
    changes = {_in_budget(field): value for field, value in changes.items()}
    if filled["fill_fraction"] != 1:
        changes["method.fill_fraction"] = filled["fill_fraction"]
    return change_cell(cell, make_overrides(changes)) if changes else cell, filled


def _in_budget(field: str) -> str:
    section, _, name = field.partition(".")
    return f"{section}.budget.{name}" if name in _UNITS else field


def _bring(values: Hyperparameters) -> str:
    """Return the name of the data set, after loading a user's images."""
    dataset: str = values["dataset"]
    if not is_location(dataset):
        return dataset
    from lt_rebalance.images.load import bring

    name, _ = bring(dataset, OwnOptions(**{field: values[field] for field in OWN_FIELDS}))
    return name


def _set_aside(protocol: Protocol, dataset: str, per_class: int | None) -> Protocol:
    number = choose_validation(dataset) if per_class is None else per_class
    return dataclasses.replace(protocol, validation_per_class=number)


def _execution(values: Hyperparameters) -> Any:
    has_cuda = count_gpus() > 0
    return resolve_execution(values["device"], values["precision"], values["threads"], has_cuda=has_cuda)
