"""Make a stage from flat hyperparameters: names and values, as a user's Tuner samples them."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from lt_rebalance.data.at_hand import allow_flips
from lt_rebalance.data.catalog import is_location, require_set
from lt_rebalance.data.long_tail import choose_validation
from lt_rebalance.ground.own_file import is_own, resolve
from lt_rebalance.ground.plain import require_known
from lt_rebalance.ground.values import (
    MisfitError,
    Shape,
    either,
    flag,
    inside,
    number,
    optional,
    text,
    whole,
)
from lt_rebalance.images.options import OWN_FIELDS, OwnOptions
from lt_rebalance.methods.registry import get_method, resolve_method, split_options
from lt_rebalance.networks.generators.registry import GENERATORS
from lt_rebalance.studies.flips import require_allowed_flips
from lt_rebalance.studies.overrides import change_cell, make_overrides
from lt_rebalance.studies.protocols import Protocol, get_protocol, make_cell
from lt_rebalance.studies.stage import AnyStage
from lt_rebalance.studies.study import Cell
from lt_rebalance.studies.workload import require_workable
from lt_rebalance.training.configs import ClassifierConfig, GeneratorConfig
from lt_rebalance.training.device import AUTO, count_gpus, resolve_execution

Hyperparameters = Mapping[str, Any]  # Any: numbers and words

_OWN_IMAGES: Hyperparameters = {**dataclasses.asdict(OwnOptions()), "flip": False}
_COMMON: Hyperparameters = {
    "dataset": "fashion_mnist_mini",
    "c": "1/2",
    "protocol": "sound",
    "seed": 0,
    "validation_per_class": None,
    "device": AUTO,
    "precision": AUTO,
    "threads": 1,
    **_OWN_IMAGES,
}
CLASSIFIER_DEFAULTS: Hyperparameters = {
    **_COMMON,
    "method": "none",
    "generator": None,
    "fill_fraction": None,
    "measured_on": "validation",
}
"""defaults of `CNNTrainable`; fields of a configuration that are left out have those of the protocol

`dataset` is a name or the location of images of your own; `c` as --c, or a profile with its ratio, "exp 100";
`method` as --methods; `seed` sets every random stream. `measured_on` "validation" sets images of each class
aside before the long-tailed cut, `validation_per_class` of them, and uses no test image; "test" is for the
chosen hyperparameters, and sets none aside. `image_size`, `grey`, `test_fraction`, `validation_fraction`,
`relabel` and `flip` are for images of your own. `generator`, `fill_fraction`, `generator_learning_rate` and
the like change nothing for methods without made images, so that one search can try both.
"""
GENERATOR_DEFAULTS: Hyperparameters = {**_COMMON, "method": "cgan", "generator": "mlp_cgan_relu"}
"""defaults of `CGANTrainable`; a generator sets images aside only if `validation_per_class` says so"""
PLACES = ("storage", "data_dir")
"""names of locations, which are not part of a result"""
MEASURED_ON = ("validation", "test")


def _place(value: Any) -> None:
    """Fit a path or a URL."""
    if not isinstance(value, str | os.PathLike):
        raise MisfitError("a path or a URL", value)


_SHAPES: Mapping[str, Shape] = {
    **dict.fromkeys(("dataset", "method", "protocol", "measured_on", "device", "precision"), text),
    **dict.fromkeys(PLACES, optional(_place)),
    **dict.fromkeys(("grey", "relabel", "flip"), flag),
    **dict.fromkeys(("test_fraction", "validation_fraction"), optional(number(0, 1))),
    **dict.fromkeys(("validation_per_class", "image_size"), optional(whole())),
    "c": optional(either(text, number(0, 1))),
    "generator": optional(text),
    "seed": whole(),
    "fill_fraction": optional(number(0, 1)),
    "threads": whole(1),
}
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
    filled = _fill_in(values, CLASSIFIER_DEFAULTS, names)
    require_known("measured_on", filled["measured_on"], MEASURED_ON)
    is_tested = filled["measured_on"] == "test"
    cell = _make_cell(filled, names, sets_aside=not is_tested)
    stage = cell.stage(filled["seed"], _execution(filled), shares_first=False)
    require_workable(stage)
    return stage if is_tested else stage.on_validation()


def build_generator_stage(values: Hyperparameters) -> AnyStage:
    """Return the stage of a generator; errors as `build_classifier_stage`."""
    names = {name: f"generator.{name}" for name in _list_fields(GeneratorConfig)}
    filled = _fill_in(values, GENERATOR_DEFAULTS, names)
    cell = _make_cell(filled, names, sets_aside=bool(filled["validation_per_class"]))
    stage = cell.stage(filled["seed"], _execution(filled)).generator_stage
    if stage is None:
        raise ValueError(f"a generator is trained for a method that needs one, got {filled['method']!r}")
    require_workable(stage)
    return stage


def _list_fields(config: type) -> list[str]:
    fields = [field.name for field in dataclasses.fields(config) if field.name not in _OWN]
    return [*fields, *_UNITS]


def _fill_in(values: Hyperparameters, defaults: Hyperparameters, names: Mapping[str, str]) -> Hyperparameters:
    """Return the values with defaults for missing ones, checked one by one."""
    known = (*defaults, *PLACES, *names)
    for name in values:
        require_known("hyperparameter", name, known)
    given = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    for name, value in given.items():
        if name in _SHAPES:
            inside(name, _SHAPES[name], value)
    for prefix in ("", "generator_"):
        if all(f"{prefix}{unit}" in values for unit in _UNITS):
            raise ValueError(
                f"a budget is in epochs or in steps, got {prefix}steps and {prefix}epochs; drop one"
            )
    return {**defaults, **given}


def _make_cell(values: Hyperparameters, names: Mapping[str, str], *, sets_aside: bool) -> Cell:
    """Return the cell of checked values; `names` has the field of each name of a configuration."""
    dataset = _bring(values)
    protocol = get_protocol(values["protocol"])
    if sets_aside:
        protocol = _set_aside(protocol, dataset, values["validation_per_class"])
    method = resolve_method(values["method"])
    generator = None if values["generator"] is None else resolve(values["generator"])
    if generator is not None and not is_own(generator):
        require_known("generator", generator, tuple(GENERATORS))
    takes_generator = get_method(split_options(method)[0]).needs_generator
    cell = make_cell(
        protocol,
        dataset=dataset,
        c=None if values["c"] is None else str(values["c"]),
        method=method,
        generator=generator if takes_generator else None,
    )
    changes = {_in_budget(field): values[name] for name, field in names.items() if name in values}
    if values.get("fill_fraction") is not None:
        changes["method.fill_fraction"] = values["fill_fraction"]
    cell = change_cell(cell, make_overrides(changes)) if changes else cell
    require_allowed_flips(cell, allow="set flip to True")
    return cell


def _in_budget(field: str) -> str:
    section, _, name = field.partition(".")
    return f"{section}.budget.{name}" if name in _UNITS else field


def _bring(values: Hyperparameters) -> str:
    """Return the name of the data set, after loading a user's images."""
    dataset: str = values["dataset"]
    require_set(dataset)
    if not is_location(dataset):
        if given := [name for name, default in _OWN_IMAGES.items() if values[name] != default]:
            raise ValueError(
                f"only images of your own take {', '.join(given)}, got dataset {dataset!r}; leave out "
                f"{', '.join(given)}"
            )
        return dataset
    from lt_rebalance.images.load import bring

    name, _ = bring(dataset, OwnOptions(**{field: values[field] for field in OWN_FIELDS}))
    if values["flip"]:
        allow_flips(name)
    return name


def _set_aside(protocol: Protocol, dataset: str, per_class: int | None) -> Protocol:
    number = choose_validation(dataset) if per_class is None else per_class
    return dataclasses.replace(protocol, validation_per_class=number)


def _execution(values: Hyperparameters) -> Any:
    has_cuda = count_gpus() > 0
    return resolve_execution(values["device"], values["precision"], values["threads"], has_cuda=has_cuda)
