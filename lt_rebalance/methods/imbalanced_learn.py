"""Any over-sampler of imbalanced-learn as a method, by import path: "imblearn.over_sampling.KMeansSMOTE".

Its options are the sampler's parameters that are numbers or words, with its own defaults.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from typing import Any

from lt_rebalance.methods.contract import OPTION_TYPES, Method
from lt_rebalance.methods.filling import fill_up
from lt_rebalance.methods.smote import synthesize_by

PREFIX = "imblearn."
_NOT_OPTIONS = ("sampling_strategy", "random_state", "n_jobs")
"""the first two are the plan's and the seed's; results do not depend on the third"""


def is_sampler(name: str) -> bool:
    """Whether a method's name is the import path of something in imbalanced-learn."""
    return name.startswith(PREFIX)


@functools.cache
def find_sampler(name: str) -> Method:
    """Return the method that a sampler is.

    Raises:
        ValueError: there is none of this name, or it is no over-sampler.
    """
    rule = "a sampler of imbalanced-learn is named by import path, such as imblearn.over_sampling.KMeansSMOTE"
    module, _, taken = name.rpartition(".")
    from imblearn.base import BaseSampler  # 2 s: only where a sampler is asked for by import path

    try:
        sampler = getattr(importlib.import_module(module), taken)
    except (ImportError, AttributeError):
        raise ValueError(f"{rule}, got {name!r}, which it does not have") from None
    is_sampler_class = isinstance(sampler, type) and issubclass(sampler, BaseSampler)
    if not is_sampler_class or getattr(sampler, "_sampling_type", "") != "over-sampling":
        raise ValueError(f"{rule}, got {name!r}, which is no over-sampler")
    defaults: dict[str, Any] = {
        each: default
        for each, default in sampler().get_params(deep=False).items()
        if each not in _NOT_OPTIONS and isinstance(default, OPTION_TYPES)
    }
    options = dataclasses.make_dataclass(
        f"{taken}Options",
        [(each, type(default), dataclasses.field(default=default)) for each, default in defaults.items()],
        frozen=True,
        kw_only=True,
    )
    return Method(
        description=f"fill every class with what {taken} of imbalanced-learn makes",
        options=options if defaults else None,
        plan=fill_up,
        synthesize=synthesize_by(name),
    )
