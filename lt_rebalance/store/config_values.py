"""Shapes of configurations as stages and studies describe them; no torch, and no list of known names.

`configs` checks the meaning of a configuration when it is about to be run. This module only checks the types
that readers rely on, also for configurations of other versions of this code.
"""

import re
from typing import Any

from lt_rebalance.ground.values import (
    LARGEST,
    MisfitError,
    Shape,
    digest,
    fields,
    label,
    mapping_of,
    name,
    number,
    optional,
    scalar,
    whole,
)

_FRACTION = re.compile(r"[1-9][0-9]{0,8}(/[1-9][0-9]{0,8})?")
SEED = whole()


def fraction(value: Any) -> None:
    """Fit a positive fraction such as "7/9"."""
    if not isinstance(value, str) or not _FRACTION.fullmatch(value):
        raise MisfitError('a fraction such as "7/9"', value)


def budget(value: Any) -> None:
    """Fit a budget, in epochs or in steps with rounds."""
    _BUDGET(value)
    epochs, steps, rounds = (value[each] for each in ("epochs", "steps", "rounds"))
    if (epochs is None) == (steps is None) or (steps is None) != (rounds is None):
        raise MisfitError("a budget in epochs, or else in steps with rounds", value)


_BUDGET = fields({**dict.fromkeys(("epochs", "rounds"), optional(whole(1))), "steps": optional(whole())})
_OPTIMIZATION: dict[str, Shape] = {
    "architecture": name,
    "budget": budget,
    "batch_size": whole(1),
    "learning_rate": number(0, LARGEST),
    "beta1": number(0, 1),
    "beta2": number(0, 1),
}
_DATA = fields(
    {
        "dataset": name,
        "c": optional(fraction),
        "subset_draw": optional(label),
        "class_order": optional(label),
        "validation_per_class": whole(),
    },
    {"profile": label, "ratio": fraction},
    scalar,
)


def data(value: Any) -> None:
    """Fit training data, whose profile and ratio name it together."""
    _DATA(value)
    profile = value.get("profile", "")
    if " " in profile or (profile == "") != ("ratio" not in value):
        raise MisfitError("of a profile, without spaces, with a ratio, or of neither", value)


METHOD = fields(
    {"name": name, "draw": optional(label)},
    {
        **dict.fromkeys(("fill_fraction", "synthetic_weight"), number(0, 1)),
        "options": mapping_of(scalar, name),
        "file_sha256": digest,
    },
    scalar,
)
GENERATOR = fields({**_OPTIMIZATION, "training_method": METHOD}, others=scalar)
CLASSIFIER = fields(
    {**_OPTIMIZATION, "loss": label, "evaluation_mode": label, "selection": label},
    {"file_sha256": digest},
    scalar,
)
EXECUTION = fields(
    {"device": label, "precision": label, "num_threads": whole(1), "torch_version": label}, others=scalar
)
_STAGE: dict[str, Shape] = {
    "seed": SEED,
    "data": data,
    "dataset_identity": digest,
    "execution": EXECUTION,
    "results_version": whole(),
}
_LATER: dict[str, Shape] = {"subset_seed": SEED}
_GENERATOR: dict[str, Shape] = {**_STAGE, "generator": GENERATOR}
_CLASSIFIER: dict[str, Shape] = {
    **_STAGE,
    "method": METHOD,
    "generator_stage": optional(fields(_GENERATOR, _LATER, scalar)),
    "classifier": CLASSIFIER,
}
GENERATOR_STAGE = fields({"kind": label, **_GENERATOR}, _LATER, scalar)
_FIRST_STAGE = fields(_CLASSIFIER, _LATER, scalar)
CLASSIFIER_STAGE = fields(
    {"kind": label, **_CLASSIFIER}, {**_LATER, "first_stage": optional(_FIRST_STAGE)}, scalar
)
