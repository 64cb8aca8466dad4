"""Describe the code and the machine of a result."""

import functools
import importlib.metadata
import platform
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lt_rebalance.stages.provenance import package_version, source_of_result
from lt_rebalance.training.configs import Execution

DESCRIBED_PACKAGES = ("torch", "numpy", "ray")


def describe_machine(execution: Execution, driver: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the origin of a result: code, versions, host, processor; unknown values are None.

    Args:
        driver: the code of the main process of the sweep, as `provenance.driver_source` returns it.
    """
    import torch  # here: the process of a sweep imports this module, and no torch

    device = torch.cuda.get_device_name() if execution.device == "cuda" else _processor_name()
    return {
        **source_of_result(driver),
        "versions": {"lt_rebalance": package_version(), "python": platform.python_version()}
        | {name: _version(name) for name in DESCRIBED_PACKAGES},
        "torch_build": str(torch.__version__),
        "host": socket.gethostname(),
        "device": device,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
