"""Sweeps over rebalancing methods for long-tailed image classification."""

import importlib
import os
from typing import Any

HANDED_ON = {
    **{name: "lt_rebalance.cluster.trainable" for name in ("CGANTrainable", "CNNTrainable")},
    "CGANSampler": "lt_rebalance.sampling.cgan",
}
"""what the package itself offers, and the module that is imported when it is asked for"""

# Under `uv run` Ray would have every worker build an environment of its own, gigabytes each. It reads this
# switch when it is imported, which is never before this package is.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
# Ray cannot be imported where this user has no home, as in a container under a number of its own.
if os.path.expanduser("~") == "~":
    os.environ["HOME"] = "/nonexistent"


def __getattr__(name: str) -> Any:  # Any: what a module holds
    if name not in HANDED_ON:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(HANDED_ON[name]), name)
