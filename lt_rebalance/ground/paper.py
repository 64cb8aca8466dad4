"""The paper's results as data: its grid, its Table 1, and the configurations behind its numbers.

Source: Mankikar, Patel, Zhang, "Re-Balancing of Long-Tailed Datasets Using CGAN Generation", Table 1. Every
number is a single run on the Fashion-MNIST test set.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lt_rebalance.ground.imbalance import name_data

PAPER_CS = ("7/9", "1/2")
PAPER_METHODS = ("none", "undersample", "oversample", "cgan")
PAPER_GENERATORS = ("mlp_cgan_relu", "small_mlp_cgan_leaky", "mlp_cgan_leaky", "big_mlp_cgan_leaky")
MIN_COMPARED = 5
"""with fewer runs of ours, nothing is said about the position of the paper's number among them"""


@dataclass(frozen=True)
class PaperRow:
    """One single run of Table 1."""

    loss: float
    """test loss under double softmax"""
    accuracy: float
    f1: float
    """weighted, which equals macro F1 on the balanced test set"""


# By training data ("original" or C) and method (its generator, for a CGAN).
TABLE_1 = {
    ("original", "none"): PaperRow(1.540, 0.921, 0.921),
    ("7/9", "none"): PaperRow(1.571, 0.890, 0.884),
    ("7/9", "undersample"): PaperRow(1.584, 0.876, 0.873),
    ("7/9", "oversample"): PaperRow(1.561, 0.900, 0.898),
    ("7/9", "mlp_cgan_relu"): PaperRow(1.585, 0.876, 0.872),
    ("7/9", "small_mlp_cgan_leaky"): PaperRow(1.574, 0.887, 0.882),
    ("7/9", "mlp_cgan_leaky"): PaperRow(1.670, 0.791, 0.751),
    ("7/9", "big_mlp_cgan_leaky"): PaperRow(1.586, 0.875, 0.868),
    ("1/2", "none"): PaperRow(1.983, 0.476, 0.342),
    ("1/2", "undersample"): PaperRow(1.763, 0.698, 0.670),
    ("1/2", "oversample"): PaperRow(1.648, 0.812, 0.799),
    ("1/2", "mlp_cgan_relu"): PaperRow(1.727, 0.733, 0.715),
    ("1/2", "small_mlp_cgan_leaky"): PaperRow(1.775, 0.686, 0.658),
    ("1/2", "mlp_cgan_leaky"): PaperRow(1.766, 0.696, 0.668),
    ("1/2", "big_mlp_cgan_leaky"): PaperRow(1.806, 0.654, 0.623),
}

_DATA = {"data.dataset": "fashion_mnist", "data.validation_per_class": 0}
_SUBSET = {"data.subset_draw": "paper", "data.class_order": "label"}
_DRAWS = {"undersample": "first", "oversample": "cyclic"}
_GENERATOR = {
    "generator.training_method.name": "oversample",
    "generator.training_method.draw": "cyclic",
    "generator.budget.epochs": 96,
    "generator.budget.steps": None,
    "generator.budget.rounds": None,
    "generator.batch_size": 256,
    "generator.learning_rate": 2e-4,
    "generator.beta1": 0.9,
    "generator.beta2": 0.999,
}
_CLASSIFIER = {
    "classifier.architecture": "paper_cnn",
    "classifier.loss": "double_softmax",
    "classifier.budget.epochs": 30,
    "classifier.budget.steps": None,
    "classifier.budget.rounds": None,
    "classifier.batch_size": 100,
    "classifier.learning_rate": 5e-4,
    "classifier.beta1": 0.9,
    "classifier.beta2": 0.999,
    "classifier.evaluation_mode": "batch_statistics",
    "classifier.selection": "last",
}
_NOT_COMPARED = ("protocol", "execution.")
"""a title, and arithmetic that changes results only within rounding"""
_NAMES = {
    "data.dataset": "data set",
    "data.subset_draw": "draw of the subset",
    "data.validation_per_class": "images set aside",
    "method.draw": "draw of the method",
}
NO_ROW = "row not in Table 1"


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested configuration with dotted names, such as "classifier.budget.epochs"."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def papers_configuration(data: str, method: str) -> dict[str, Any]:
    """Return the paper's configuration for a row of Table 1, with dotted names, as plain values."""
    has_generator = method in PAPER_GENERATORS
    config = {**_DATA, **_CLASSIFIER, "data.c": None if data == "original" else data}
    config |= dict.fromkeys(_SUBSET) if data == "original" else _SUBSET
    config |= {"method.name": "cgan" if has_generator else method, "method.draw": _DRAWS.get(method)}
    return config | (
        {"generator.architecture": method, **_GENERATOR} if has_generator else {"generator": None}
    )


def find_departures(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the differences between a cell and the paper's configuration, by name; empty if there are none.

    This is the one rule for showing the paper's numbers: every field of the configuration equals the paper's.
    Only then are the paper's single run and ours draws of one procedure.

    Args:
        config: of a cell, nested as a study keeps it or with dotted names.
    """
    flat = {name: value for name, value in flatten(config).items() if not name.startswith(_NOT_COMPARED)}
    data = name_data({name: flat.get(f"data.{name}") for name in ("c", "profile", "ratio")})
    method = flat.get("generator.architecture") or flat.get("method.name")
    if (data, method) not in TABLE_1:
        return (NO_ROW,)
    papers = papers_configuration(data, str(method))
    names = dict.fromkeys([*papers, *flat])
    absent = object()
    return tuple(
        dict.fromkeys(_name(name) for name in names if flat.get(name, absent) != papers.get(name, absent))
    )


def _name(field: str) -> str:
    """Return the name of a field in sentences; all fields of a budget are one choice."""
    section, _, rest = field.partition(".")
    name = _NAMES.get(field) or rest.partition(".")[0].replace("_", " ") or section
    return f"{name} of the generator" if section == "generator" and rest else name


def say_departures(departures: Iterable[str]) -> str:
    """Return differences as text for tables; empty if there are none."""
    return ", ".join(departures)


def find_row(data: str, method: str, departures: str) -> PaperRow | None:
    """Return the paper's row for a cell, or None; `departures` as `say_departures` gives them."""
    return None if departures else TABLE_1.get((data, method))


def explain_absence(departures: Iterable[str]) -> str:
    """Return why the paper's numbers are missing beside some or all cells; empty if all have them.

    Args:
        departures: of every cell, as `say_departures` gives them.
    """
    said = list(departures)
    different = [each for each in said if each]
    if not different:
        return ""
    named = list(dict.fromkeys(name for each in different for name in each.split(", ")))
    differ = [name for name in named if name != NO_ROW]
    reasons = ["Table 1 has no such row"] if NO_ROW in named else []
    reasons += [f"its runs differ in {', '.join(differ)}"] if differ else []
    which = (
        "none of these cells"
        if len(different) == len(said)
        else f"{len(said) - len(different)} of {len(said)} cells, and not for the others"
    )
    return f"The paper's numbers are shown for {which}: {' or '.join(reasons)}."
