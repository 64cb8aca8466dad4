"""Any over-sampler of imbalanced-learn as a method, by import path: "imblearn.over_sampling.KMeansSMOTE".

Its options are the sampler's parameters that are numbers or words, with the sampler's defaults. A parameter
that is "auto" or a number is a word here, and a number again for the sampler.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from lt_rebalance.ground.plain import field_types
from lt_rebalance.ground.text import one_line
from lt_rebalance.methods.contract import OPTION_TYPES, Method
from lt_rebalance.methods.filling import fill_up
from lt_rebalance.methods.smote import read_parameters, synthesize_by

PREFIX = "imblearn."
_NOT_OPTIONS = ("sampling_strategy", "random_state", "n_jobs")
"""the first two are set by plan and seed; results do not depend on the third"""


def is_sampler(name: str) -> bool:
    """Whether a method's name is the import path of something in imbalanced-learn."""
    return name.startswith(PREFIX)


def numbers_as_words(declared: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options in which a number for a field of words is a word: 0.1 and "0.10" are the same one."""
    words = {name for name, kind in field_types(declared).items() if kind is str}
    return {name: _as_word(each) if name in words else each for name, each in given.items()}


def _as_word(value: Any) -> Any:  # Any: whatever was given for an option
    if type(value) in (int, float, str):
        with contextlib.suppress(ValueError, OverflowError):
            return repr(float(value))
    return value


@functools.cache
def find_sampler(name: str) -> Method:
    """Return a sampler as a method.

    Raises:
        ValueError: there is no such sampler, or it has a parameter without a default.
    """
    rule = "a sampler of imbalanced-learn is named as imblearn.over_sampling.KMeansSMOTE"
    module, _, taken = name.rpartition(".")
    # Here, not above: 2 s, and only where one is asked for by import path.
    from imblearn import over_sampling

    if module != over_sampling.__name__ or taken not in over_sampling.__all__:
        raise ValueError(f"{rule}, got {name!r}; it has {', '.join(over_sampling.__all__)}")
    sampler = getattr(over_sampling, taken)
    try:
        parameters = sampler().get_params(deep=False)
    except TypeError as error:
        raise ValueError(f"{rule} where it needs no setting, got {name!r}: {one_line(error)}") from None
    defaults: dict[str, Any] = {
        each: default
        for each, default in parameters.items()
        if each not in _NOT_OPTIONS and isinstance(default, OPTION_TYPES)
    }
    options = dataclasses.make_dataclass(
        f"{taken}Options",
        [(each, type(default), dataclasses.field(default=default)) for each, default in defaults.items()],
        namespace={"__post_init__": lambda chosen: sampler(**read_parameters(chosen))._validate_params()},
        frozen=True,
        kw_only=True,
    )
    return Method(
        description=f"fill every class with what {taken} of imbalanced-learn makes",
        options=options if defaults else None,
        plan=fill_up,
        synthesize=synthesize_by(name),
    )
