"""Sweeps over rebalancing methods for long-tailed image classification."""

import importlib
import os
import sys
from typing import Any

HANDED_ON = {
    **{name: "lt_rebalance.trainables.trainables" for name in ("CGANTrainable", "CNNTrainable")},
    "CGANSampler": "lt_rebalance.generation.samplers.cgan",
    "CVAESampler": "lt_rebalance.generation.samplers.cvae",
}
"""the package's own names, and the module that is imported on access"""

# Under `uv run` Ray would have every worker build its own environment, gigabytes each. It reads this switch
# when imported, which may have been before this package was.
if os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0") == "0" and "ray" in sys.modules:
    constants: Any = importlib.import_module("ray._private.ray_constants")
    constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False
# Ray cannot be imported if this user has no home, as in a container with an arbitrary user id.
if os.path.expanduser("~") == "~":
    os.environ["HOME"] = "/nonexistent"


def __getattr__(name: str) -> Any:  # Any: attributes of a module
    if name not in HANDED_ON:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(HANDED_ON[name]), name)
