"""Prepare torch on a device, and resolve "auto"."""

import ctypes
import functools
import importlib.metadata
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from lt_rebalance.ground.plain import require_known
from lt_rebalance.training.configs import DEVICES, PRECISIONS, Execution

if TYPE_CHECKING:  # a plan names torch's version, and imports it only where there may be a GPU
    import torch

AUTO = "auto"

# Parameters of mallopt, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_LARGEST_HEAP_BLOCK = 2**25
"""blocks up to this size come from the heap; the most that glibc documents"""

_KEPT_BYTES = 2**30
"""free memory at the end of the heap that is kept"""


def torch_version() -> str:
    """Return torch's version without its build name."""
    return importlib.metadata.version("torch").partition("+")[0]


def count_gpus() -> int:
    """Return how many GPUs torch can use here."""
    if not may_have_gpu():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def may_have_gpu() -> bool:
    """Whether there is a driver of a GPU for torch: NVIDIA's library, or AMD's device."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Path("/dev/kfd").exists()
    return True


def resolve_execution(device: str, precision: str, num_threads: int, *, has_cuda: bool) -> Execution:
    """Return an execution, with every "auto" replaced by the best choice for the machine.

    Args:
        device: "cpu", "cuda" or "auto", which uses a GPU if there is one.
        precision: one of `PRECISIONS`, or "auto", which uses bfloat16 if the processor computes in it.
        num_threads: CPU threads of one training.
        has_cuda: whether the trainings can have a GPU.

    Raises:
        ValueError: unknown names, or cuda where there is none.
    """
    require_known("device", device, (*DEVICES, AUTO))
    require_known("precision", precision, (*PRECISIONS, AUTO))
    if device == "cuda" and not has_cuda:
        raise ValueError("--device cuda needs a GPU that torch or the Ray cluster can see, and found none")
    if device == AUTO:
        device = "cuda" if has_cuda else "cpu"
    if precision == AUTO:
        precision = "bfloat16" if device == "cuda" or cpu_computes_bfloat16() else "float32"
    return Execution(
        device=device, precision=precision, num_threads=num_threads, torch_version=torch_version()
    )


def cpu_computes_bfloat16() -> bool:
    """Whether the processor has bfloat16 arithmetic, rather than an emulation that is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def prepare_torch(execution: Execution) -> "torch.device":
    """Configure torch for an execution and return its device.

    Raises:
        ValueError: this process has another torch than the execution names.
    """
    import torch

    version = str(torch.__version__).partition("+")[0]
    if execution.torch_version != version:
        raise ValueError(
            f"this run was planned for torch {execution.torch_version}, this worker has {version}; "
            "install the same version on every node"
        )
    torch.set_num_threads(execution.num_threads)
    if execution.device == "cpu":
        _keep_freed_memory()
    # Otherwise torch rounds the inputs of a GPU's convolutions even where float32 is asked for.
    in_float32 = "tf32" if execution.precision == "tensorfloat32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = in_float32
    torch.backends.cudnn.conv.fp32_precision = in_float32  # type: ignore[attr-defined]  # made at run time
    return torch.device(execution.device)


@functools.cache
def _keep_freed_memory() -> None:
    """Make glibc keep freed memory instead of returning it and faulting it in again at every step."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
