"""Sweeps over rebalancing methods for long-tailed image classification."""

import os

# Under `uv run` Ray would have every worker build an environment of its own, gigabytes each. It reads this
# switch when it is imported, which is never before this package is.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
# Ray cannot be imported where this user has no home, as in a container under a number of its own.
if os.path.expanduser("~") == "~":
    os.environ["HOME"] = "/nonexistent"
